//! Differential attention as an eager framework computes it: every operation by itself, its result rounded to the
//! storage type, sums accumulated in `f32` in plain order. What it loses is what the precision costs.
//!
//! Backward keeps what any implementation keeps that does not store the maps: O, O_2 and the log-sum-exps. So
//! probabilities are `exp(S − LSE)` again, and `δ_m = rowsum(dO_m ⊙ O_m)` comes from these two; all of that loses digits
//! where logits are large or gradients cancel.

use diff_flash_attn::reference::{self, Forward, Gradients};
use diff_flash_attn::{Norm, Problem};

use crate::cases::{Case, rounding, wide};

/// Output, `O`, `O_2` and log-sum-exp.
pub fn forward(case: &Case) -> Forward {
    let plain = Plain::new(case);
    let Problem {
        batch,
        query_len,
        heads,
        value_dim,
        maps,
        ..
    } = case.problem;
    let rows = batch * query_len * heads;
    let mut result = Forward {
        output: vec![0.0; rows * value_dim],
        unnormalized: vec![0.0; rows * value_dim],
        noise_output: vec![0.0; (maps - 1) * rows * value_dim],
        lse: vec![0.0; rows * maps],
    };
    for (b, h) in plain.batch_heads() {
        let head = plain.head(b, h);
        for query in 0..query_len {
            let row = (b * query_len + query) * heads + h;
            let place = row * value_dim..(row + 1) * value_dim;
            let map_rows = plain.attend(&head, query);
            let combined = plain.combine(row, &map_rows);
            let output = plain.normalize(&combined);
            result.output[place.clone()].copy_from_slice(&wide(&output));
            result.unnormalized[place.clone()].copy_from_slice(&wide(&combined));
            for (m, map) in map_rows.iter().enumerate() {
                let line = (b * heads + h) * maps + m;
                result.lse[line * query_len + query] = f64::from(map.lse);
            }
            if let Some(noise) = map_rows.get(1) {
                result.noise_output[place].copy_from_slice(&wide(&noise.output));
            }
        }
    }
    result
}

/// Gradients, that of λ in λ's own shape.
pub fn backward(case: &Case) -> Gradients {
    let rows = backward_rows(case);
    let lambda = reduce(case, &rows.lambda);
    Gradients { lambda, ..rows }
}

/// Sums what is there for every row to the shape of λ.
pub fn reduce(case: &Case, rows: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0_f32; case.lambda.len()];
    for (row, at) in rows.iter().zip(lambda_index(case)) {
        sums[at] += *row as f32;
    }
    wide(&sums)
}

/// Gradients, that of λ for every row.
pub fn backward_rows(case: &Case) -> Gradients {
    let plain = Plain::new(case);
    let Problem {
        query_len,
        heads,
        value_dim,
        ..
    } = case.problem;
    let mut sums = Sums::zeros(case);
    for (b, h) in plain.batch_heads() {
        let head = plain.head(b, h);
        let mut grads = HeadGradients::zeros(&case.problem);
        for query in 0..query_len {
            let row = (b * query_len + query) * heads + h;
            let maps = plain.attend(&head, query);
            let output = plain.combine(row, &maps);
            let grad_output = &case.grad_output[row * value_dim..][..value_dim];
            let grad = plain.through_norm(&output, grad_output, &mut sums.gamma);
            if let Some(noise) = maps.get(1) {
                let products = plain.each(&grad, |c, g| g * noise.output[c]);
                sums.lambda[row] = -products.iter().sum::<f32>();
            }
            let deltas = plain.deltas(row, &output, &maps, &grad);
            for (m, map) in maps.iter().enumerate() {
                plain.map_backward(
                    &head,
                    m,
                    query,
                    map,
                    (&plain.weigh(row, m, &grad), deltas[m]),
                    &mut grads,
                );
            }
        }
        plain.add_head(b, h, &grads, &mut sums);
    }
    sums.finish(&plain)
}

/// Rows of one width.
type Matrix = Vec<Vec<f32>>;

/// One query head with its keys and values, and these transposed.
struct Head {
    query: Vec<Matrix>,
    key: Vec<Matrix>,
    key_transposed: Vec<Matrix>,
    value: Matrix,
    value_transposed: Matrix,
}

/// One map's row: `P_m` over all keys, its log-sum-exp, and `O_m`.
struct MapRow {
    /// `exp(S − LSE)`.
    recomputed: Vec<f32>,
    lse: f32,
    output: Vec<f32>,
}

struct Plain<'a> {
    case: &'a Case,
    problem: Problem,
    round: fn(f32) -> f32,
    lambda_index: Vec<usize>,
}

impl<'a> Plain<'a> {
    fn new(case: &'a Case) -> Self {
        let (problem, round) = (case.problem, rounding(case.problem.dtype));
        Self {
            case,
            problem,
            round,
            lambda_index: lambda_index(case),
        }
    }

    fn batch_heads(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Problem { batch, heads, .. } = self.problem;
        (0..batch).flat_map(move |b| (0..heads).map(move |h| (b, h)))
    }

    /// One elementwise operation: `round(f(index, element))`.
    fn each(&self, values: &[f32], f: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        values
            .iter()
            .enumerate()
            .map(|(i, x)| (self.round)(f(i, *x)))
            .collect()
    }

    fn rounded(&self, matrix: &Matrix) -> Matrix {
        matrix.iter().map(|row| self.each(row, |_, x| x)).collect()
    }

    /// One matrix product of a row: `round(Σ_i row_i · matrix_i)`, summed in the order of `i`.
    fn product(&self, row: &[f32], matrix: &Matrix) -> Vec<f32> {
        let mut sum = vec![0.0; matrix[0].len()];
        for (a, other) in row.iter().zip(matrix) {
            add_scaled(&mut sum, *a, other);
        }
        self.each(&sum, |_, x| x)
    }

    fn head(&self, batch: usize, head: usize) -> Head {
        let Problem {
            query_len,
            key_len,
            heads,
            kv_heads,
            head_dim,
            value_dim,
            maps,
            ..
        } = self.problem;
        let query = |m| {
            gather(
                &self.case.query,
                batch,
                head * maps + m,
                [query_len, heads * maps, head_dim],
            )
        };
        let keys = kv_heads * self.problem.key_maps();
        let key = |m| {
            gather(
                &self.case.key,
                batch,
                self.key_head(head, m),
                [key_len, keys, head_dim],
            )
        };
        let key: Vec<Matrix> = (0..maps).map(key).collect();
        let value_head = head / self.problem.group();
        let value = gather(
            &self.case.value,
            batch,
            value_head,
            [key_len, kv_heads, value_dim],
        );
        Head {
            query: (0..maps).map(query).collect(),
            key_transposed: key.iter().map(transpose).collect(),
            key,
            value_transposed: transpose(&value),
            value,
        }
    }

    fn key_head(&self, head: usize, map: usize) -> usize {
        let map = map.min(self.problem.key_maps() - 1);
        head / self.problem.group() * self.problem.key_maps() + map
    }

    fn attend(&self, head: &Head, query: usize) -> Vec<MapRow> {
        let row = |m: usize| {
            let product = self.product(&head.query[m][query], &head.key_transposed[m]);
            let scores = self.each(&product, |_, s| s * self.problem.scale);
            let (probabilities, lse) = self.softmax(query, &scores);
            let output = self.product(&probabilities, &head.value);
            let recomputed = self.each(&scores, |key, s| match probabilities[key] {
                0.0 => 0.0,
                _ => gpu_exp(s - lse),
            });
            MapRow {
                recomputed,
                lse,
                output,
            }
        };
        (0..self.problem.maps).map(row).collect()
    }

    /// Softmax over the visible keys, in `f32` inside; 0 elsewhere.
    fn softmax(&self, query: usize, scores: &[f32]) -> (Vec<f32>, f32) {
        let visible =
            self.problem
                .mask
                .visible(query, self.problem.query_len, self.problem.key_len);
        let max = scores[visible.clone()]
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max);
        let exp = |key: usize, s: f32| {
            if visible.contains(&key) {
                gpu_exp(s - max)
            } else {
                0.0
            }
        };
        let exponentials: Vec<f32> = scores
            .iter()
            .enumerate()
            .map(|(key, s)| exp(key, *s))
            .collect();
        let sum: f32 = exponentials.iter().sum();
        let divisor = if visible.is_empty() { 1.0 } else { sum };
        (self.each(&exponentials, |_, e| e / divisor), max + sum.ln())
    }

    /// `O_1 − λ O_2`
    fn combine(&self, row: usize, maps: &[MapRow]) -> Vec<f32> {
        let Some(noise) = maps.get(1) else {
            return maps[0].output.clone();
        };
        let lambda = self.lambda(row);
        let weighted = self.each(&noise.output, |_, o| lambda * o);
        self.each(&maps[0].output, |c, o| o - weighted[c])
    }

    /// `rowsum(dO_m ⊙ O_m)` of each map, from O and O_2 alone: `O_1 = O + λ O_2`. Summed from the end: in the order of
    /// dP, the difference of the two would by luck be exactly 0 where one key takes all.
    fn deltas(&self, row: usize, output: &[f32], maps: &[MapRow], grad: &[f32]) -> [f32; 2] {
        let dot = |o: &[f32]| -> f32 { grad.iter().zip(o).rev().map(|(g, o)| g * o).sum() };
        let Some(noise) = maps.get(1) else {
            return [dot(output), 0.0];
        };
        let weighted = self.lambda(row) * dot(&noise.output);
        [dot(output) + weighted, -weighted]
    }

    /// Gradient of `O_m` from that of `O_1 − λ O_2`.
    fn weigh(&self, row: usize, map: usize, grad: &[f32]) -> Vec<f32> {
        if map == 0 {
            return grad.to_vec();
        }
        let lambda = self.lambda(row);
        self.each(grad, |_, g| -g * lambda)
    }

    fn lambda(&self, row: usize) -> f32 {
        self.case.lambda[self.lambda_index[row]]
    }

    /// `1 / rms(O)` and `O / rms(O)`, in `f32`.
    fn unit_rms(&self, norm: Norm, output: &[f32]) -> (f32, Vec<f32>) {
        let mean = output.iter().map(|o| o * o).sum::<f32>() / output.len() as f32;
        // A row of zeros stays zero.
        let r = match mean + norm.eps {
            0.0 => 0.0,
            square => square.sqrt().recip(),
        };
        (r, output.iter().map(|o| o * r).collect())
    }

    fn gamma(&self, channel: usize) -> f32 {
        self.case.gamma.as_ref().map_or(1.0, |gamma| gamma[channel])
    }

    fn normalize(&self, output: &[f32]) -> Vec<f32> {
        let Some(norm) = self.problem.norm else {
            return output.to_vec();
        };
        let normalized = self.each(&self.unit_rms(norm, output).1, |_, x| x);
        let weighted = self.each(&normalized, |c, x| x * self.gamma(c));
        self.each(&weighted, |_, x| x * norm.factor())
    }

    /// Gradient of `O_1 − λ O_2` from that of the output; adds to that of γ.
    fn through_norm(&self, output: &[f32], grad: &[f32], grad_gamma: &mut [f32]) -> Vec<f32> {
        let Some(norm) = self.problem.norm else {
            return grad.to_vec();
        };
        let (r, unit) = self.unit_rms(norm, output);
        let scaled = self.each(grad, |_, g| g * norm.factor());
        let normalized = self.each(&unit, |_, x| x);
        add_scaled(
            grad_gamma,
            1.0,
            &self.each(&scaled, |c, g| g * normalized[c]),
        );
        let grad = self.each(&scaled, |c, g| g * self.gamma(c));
        let mean = grad.iter().zip(&unit).map(|(g, x)| g * x).sum::<f32>() / unit.len() as f32;
        self.each(&grad, |c, g| r * (g - unit[c] * mean))
    }

    /// One map's gradients of query, key and value from `grad`, that of `O_m`.
    fn map_backward(
        &self,
        head: &Head,
        m: usize,
        query: usize,
        map: &MapRow,
        (grad, delta): (&[f32], f32),
        sums: &mut HeadGradients,
    ) {
        let p = &map.recomputed;
        let grad_p = self.product(grad, &head.value_transposed);
        let grad_scores = self.each(&grad_p, |key, g| p[key] * (g - delta));
        let grad_products = self.each(&grad_scores, |_, g| g * self.problem.scale);
        sums.query[m][query] = self.product(&grad_products, &head.key[m]);
        add_outer(&mut sums.key[m], &grad_products, &head.query[m][query]);
        add_outer(&mut sums.value[m], p, grad);
    }

    /// Adds a head's gradients to the tensors', each rounded as the tensor of its own that it is.
    fn add_head(&self, batch: usize, head: usize, grads: &HeadGradients, sums: &mut Sums) {
        let Problem {
            query_len,
            key_len,
            heads,
            kv_heads,
            head_dim,
            value_dim,
            maps,
            ..
        } = self.problem;
        let keys = kv_heads * self.problem.key_maps();
        for m in 0..maps {
            let (query, key) = (head * maps + m, self.key_head(head, m));
            self.scatter(
                &mut sums.query,
                batch,
                query,
                [query_len, heads * maps, head_dim],
                &grads.query[m],
            );
            self.scatter(
                &mut sums.key,
                batch,
                key,
                [key_len, keys, head_dim],
                &grads.key[m],
            );
        }
        let mut value = self.rounded(&grads.value[0]);
        for noise in &grads.value[1..] {
            value
                .iter_mut()
                .zip(self.rounded(noise))
                .for_each(|(sum, row)| add_scaled(sum, 1.0, &row));
        }
        let layout = [key_len, kv_heads, value_dim];
        self.scatter(
            &mut sums.value,
            batch,
            head / self.problem.group(),
            layout,
            &value,
        );
    }

    fn scatter(
        &self,
        tensor: &mut [f32],
        batch: usize,
        head: usize,
        layout: [usize; 3],
        matrix: &Matrix,
    ) {
        for (row, values) in self.rounded(matrix).iter().enumerate() {
            let at = start(batch, row, head, layout);
            add_scaled(&mut tensor[at..at + layout[2]], 1.0, values);
        }
    }
}

/// One query head's gradients: of the query, key and value of each map.
struct HeadGradients {
    query: Vec<Matrix>,
    key: Vec<Matrix>,
    value: Vec<Matrix>,
}

impl HeadGradients {
    fn zeros(problem: &Problem) -> Self {
        let maps = |rows, width| vec![vec![vec![0.0; width]; rows]; problem.maps];
        Self {
            query: maps(problem.query_len, problem.head_dim),
            key: maps(problem.key_len, problem.head_dim),
            value: maps(problem.key_len, problem.value_dim),
        }
    }
}

/// Gradients of the whole tensors, that of λ `[B, Nq, H]`, not yet rounded.
struct Sums {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    lambda: Vec<f32>,
    gamma: Vec<f32>,
}

impl Sums {
    fn zeros(case: &Case) -> Self {
        Self {
            query: vec![0.0; case.query.len()],
            key: vec![0.0; case.key.len()],
            value: vec![0.0; case.value.len()],
            lambda: vec![0.0; case.rows().iter().product()],
            gamma: vec![0.0; case.problem.value_dim],
        }
    }

    fn finish(self, plain: &Plain) -> Gradients {
        let rounded = |values: &[f32]| wide(&plain.each(values, |_, x| x));
        Gradients {
            query: rounded(&self.query),
            key: rounded(&self.key),
            value: rounded(&self.value),
            lambda: wide(&self.lambda),
            gamma: plain.case.gamma.as_ref().map(|_| wide(&self.gamma)),
        }
    }
}

/// For each row `[B, Nq, H]`, the element of λ that is broadcast to it.
fn lambda_index(case: &Case) -> Vec<usize> {
    let numbers: Vec<f64> = (0..case.lambda.len()).map(|at| at as f64).collect();
    if numbers.is_empty() {
        return vec![];
    }
    let index = reference::expand(&numbers, &case.lambda_shape, case.rows()).unwrap();
    index.into_iter().map(|at| at as usize).collect()
}

/// Where a row of a head begins in a `[batch, len, heads, width]` tensor; `layout` is `[len, heads, width]`.
fn start(batch: usize, row: usize, head: usize, [len, heads, width]: [usize; 3]) -> usize {
    ((batch * len + row) * heads + head) * width
}

fn gather(tensor: &[f32], batch: usize, head: usize, layout: [usize; 3]) -> Matrix {
    (0..layout[0])
        .map(|row| tensor[start(batch, row, head, layout)..][..layout[2]].to_vec())
        .collect()
}

fn transpose(matrix: &Matrix) -> Matrix {
    (0..matrix[0].len())
        .map(|c| matrix.iter().map(|row| row[c]).collect())
        .collect()
}

/// `y ← y + a x`
fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// `matrix ← matrix + columnᵀ row`
fn add_outer(matrix: &mut Matrix, column: &[f32], row: &[f32]) {
    for (values, a) in matrix.iter_mut().zip(column) {
        add_scaled(values, *a, row);
    }
}

/// The exponential as shaders compute it, by that of base 2: rounding the product costs |x| / 2 ε, and `exp2` itself is
/// up to 1.5 ε too large. Measured on lavapipe and SwiftShader: for |x| < 4 an error of 3.7 and 3.3 ε at most, 0.7 ε on
/// average; for 8 < |x| < 12 of 8.3 and 1.6 ε. (Vulkan and WGSL allow 3 + 2 |x| ulp.)
fn gpu_exp(x: f32) -> f32 {
    let exponential = (x * core::f32::consts::LOG2_E).exp2();
    let scattered = x.to_bits().wrapping_mul(2_654_435_761) >> 8;
    let excess = 1.5 * scattered as f32 / 16_777_216.0;
    exponential + excess * f32::EPSILON * exponential
}
