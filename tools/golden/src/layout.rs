//! How query, key and value lie in a file, and how the library reads them without moving them.

use core::fmt;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use diff_flash_attn::Problem;

use crate::file::{Array, File};

/// The layouts that a file may have. See the [crate] for the shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Pair axis inside the head axis.
    Official,
    /// Pair axis outside the head axis.
    DiffLlama,
    /// Pair axis of the query inside the head axis; the key has none.
    V2,
}

impl Layout {
    const ALL: [Layout; 3] = [Layout::Official, Layout::DiffLlama, Layout::V2];

    /// The layout that the file names, or the one that fits its shapes.
    pub(crate) fn recognize(file: &File) -> Result<Self> {
        if let Some(name) = file.text("layout") {
            return name.parse();
        }
        if let Some(layout) = file.text("source").and_then(|source| source.parse().ok()) {
            return Ok(layout);
        }
        let fits = |layout: &Layout| layout.operands(file).is_ok();
        match Self::ALL.into_iter().filter(fits).collect::<Vec<_>>()[..] {
            [layout] => Ok(layout),
            [] => bail!("q, k and v fit no layout (shapes {})", shapes(file)?),
            _ if file.get("gamma").is_some() => Ok(Layout::Official),
            _ => Ok(Layout::DiffLlama),
        }
    }

    /// Query, key and value, and the sizes that they agree on, with no mask and no norm.
    pub(crate) fn operands(self, file: &File) -> Result<(Problem, [Operand; 3])> {
        let [query, key, value] = [file.need("q")?, file.need("k")?, file.need("v")?];
        let fit = self
            .operand(query)
            .zip(self.key(key))
            .zip(self.operand(value));
        let fit = fit.map(|((query, key), value)| [query, key, value]);
        let problem = fit
            .as_ref()
            .and_then(|[query, key, value]| sizes(query, key, value));
        match problem.zip(fit) {
            Some(found) => Ok(found),
            None => bail!(
                "q, k and v do not fit layout {self} (shapes {})",
                shapes(file)?
            ),
        }
    }

    fn operand(self, array: &Array) -> Option<Operand> {
        let (shape, values) = (array.shape.clone(), array.values.clone());
        let axes = match (self, shape.len()) {
            (Layout::DiffLlama, 5) => vec![0, 1, 3, 2, 4],
            (_, rank @ 4..=5) => (0..rank).collect(),
            _ => return None,
        };
        Some(Operand {
            shape,
            values,
            axes,
        })
    }

    fn key(self, array: &Array) -> Option<Operand> {
        let mut array = array.clone();
        if self == Layout::V2 && array.shape.len() == 4 {
            array.shape.insert(3, 1);
        }
        self.operand(&array)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Official => "official",
            Layout::DiffLlama => "diffllama",
            Layout::V2 => "v2",
        })
    }
}

impl FromStr for Layout {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let named = Self::ALL
            .into_iter()
            .find(|layout| layout.to_string() == name);
        named.ok_or_else(|| {
            anyhow::anyhow!("layout is {name:?}, expected official, diffllama or v2")
        })
    }
}

/// A query, key or value in its file's order, and the order in which the library reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Operand {
    /// Shape in the file; where a key has no pair axis, one of size 1 is put before its last.
    pub shape: Vec<usize>,
    /// Row-major elements of `shape`.
    pub values: Vec<f64>,
    /// Axis `i` of the library's `[batch, seq, head, pair, dim]` (or `[batch, seq, head, dim]`) is `axes[i]` of `shape`.
    pub axes: Vec<usize>,
}

impl Operand {
    /// Shape in the library's order.
    pub fn library_shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| self.shape[*axis]).collect()
    }

    /// The elements in the library's order.
    pub fn to_library(&self) -> Vec<f64> {
        self.places().map(|place| self.values[place]).collect()
    }

    /// Elements in the library's order, for instance of a gradient, put into the file's order.
    ///
    /// # Errors
    /// If there are not as many as this operand has.
    pub fn to_file(&self, values: &[f64]) -> Result<Vec<f64>> {
        let (got, expected) = (values.len(), self.values.len());
        ensure!(
            got == expected,
            "{got} elements for shape {:?}, expected {expected}",
            self.shape
        );
        let mut moved = vec![0.0; expected];
        for (place, value) in self.places().zip(values) {
            moved[place] = *value;
        }
        Ok(moved)
    }

    /// For each element in the library's order, its place in the file's.
    fn places(&self) -> impl Iterator<Item = usize> {
        let stride = |axis: &usize| self.shape[axis + 1..].iter().product::<usize>();
        let sizes = self.library_shape();
        let strides: Vec<usize> = self.axes.iter().map(stride).collect();
        (0..self.values.len()).map(move |mut linear| {
            let mut place = 0;
            for (size, stride) in sizes.iter().zip(&strides).rev() {
                place += linear % size * stride;
                linear /= size;
            }
            place
        })
    }
}

/// The problem that the three agree on, if they do.
fn sizes(query: &Operand, key: &Operand, value: &Operand) -> Option<Problem> {
    let &[batch, query_len, heads, 2, head_dim] = &query.library_shape()[..] else {
        return None;
    };
    let &[key_batch, key_len, kv_heads, pair @ 1..=2, key_dim] = &key.library_shape()[..] else {
        return None;
    };
    let (value_outer, value_dim) = match value.library_shape()[..] {
        [batch, len, heads, dim] => ([batch, len, heads], dim),
        [batch, len, heads, 2, half] => ([batch, len, heads], 2 * half),
        _ => return None,
    };
    let agree =
        (key_batch, key_dim) == (batch, head_dim) && value_outer == [batch, key_len, kv_heads];
    let some = ![
        batch, query_len, key_len, heads, kv_heads, head_dim, value_dim,
    ]
    .contains(&0);
    (agree && some && heads.is_multiple_of(kv_heads)).then_some(
        Problem::differential(
            [batch, query_len, key_len],
            [heads, kv_heads],
            [head_dim, value_dim],
        )
        .with_shared_key(pair == 1)
        .with_scale((head_dim as f64).sqrt().recip() as f32),
    )
}

fn shapes(file: &File) -> Result<String> {
    let [q, k, v] = [file.need("q")?, file.need("k")?, file.need("v")?];
    Ok(format!("q {:?}, k {:?}, v {:?}", q.shape, k.shape, v.shape))
}
