//! One head's rows cut out of a tensor, and the two vector operations that everything else is made of.

use core::ops::Range;

/// `[rows, width]`, row-major.
pub(super) struct Matrix {
    width: usize,
    data: Vec<f64>,
}

impl Matrix {
    pub(super) fn zeros(rows: usize, width: usize) -> Self {
        Self {
            width,
            data: vec![0.0; rows * width],
        }
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.width..][..self.width]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.data[row * self.width..][..self.width]
    }
}

/// Where the rows of a head lie in a row-major `[batch, len, heads, width]` tensor.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub(super) len: usize,
    pub(super) heads: usize,
    pub(super) width: usize,
}

impl Heads {
    pub(super) fn row(&self, batch: usize, head: usize, row: usize) -> Range<usize> {
        let start = ((batch * self.len + row) * self.heads + head) * self.width;
        start..start + self.width
    }

    /// Copies one head's rows together, so that the loops over them walk contiguous memory.
    pub(super) fn gather(&self, tensor: &[f64], batch: usize, head: usize) -> Matrix {
        let rows = (0..self.len).flat_map(|row| &tensor[self.row(batch, head, row)]);
        Matrix {
            width: self.width,
            data: rows.copied().collect(),
        }
    }

    /// Adds one head's rows to those of the tensor.
    pub(super) fn scatter_add(
        &self,
        matrix: &Matrix,
        tensor: &mut [f64],
        batch: usize,
        head: usize,
    ) {
        for row in 0..self.len {
            add_scaled(
                &mut tensor[self.row(batch, head, row)],
                1.0,
                matrix.row(row),
            );
        }
    }
}

/// `x · y`, summed in four lanes that do not wait for each other.
pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 {
    let (x, x_tail) = x.as_chunks::<4>();
    let (y, y_tail) = y.as_chunks::<4>();
    let mut lanes = [0.0; 4];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..4 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let tail: f64 = x_tail.iter().zip(y_tail).map(|(x, y)| x * y).sum();
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + tail
}

/// `y ← y + a x`
pub(super) fn add_scaled(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}
