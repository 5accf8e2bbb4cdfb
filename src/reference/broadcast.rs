//! λ between its own shape and the `[B, Nq, H]` that it is broadcast to.

use crate::error::{Error, Result};

/// Repeats `values` of a `shape` to `target` `[B, Nq, H]`: axes are aligned from the right, and one that is absent or
/// of size 1 is repeated.
///
/// # Errors
/// [`Error::Rank`] or [`Error::Size`] if `shape` cannot be broadcast to `target`, [`Error::Length`] if `values` has not
/// its size.
///
/// ```
/// use diff_flash_attn::reference::expand;
/// assert_eq!(expand(&[0.1, 0.2], &[2], [1, 2, 2])?, [0.1, 0.2, 0.1, 0.2]);
/// # Ok::<(), diff_flash_attn::Error>(())
/// ```
pub fn expand(values: &[f64], shape: &[usize], target: [usize; 3]) -> Result<Vec<f64>> {
    let sources = sources(shape, target)?;
    super::check_len(values, shape)?;
    Ok(sources.map(|at| values[at]).collect())
}

/// Sums a gradient of shape `full` `[B, Nq, H]` to the `shape` that was broadcast to it: what [`expand`] passes back.
///
/// # Errors
/// [`Error::Rank`] or [`Error::Size`] if `shape` cannot be broadcast to `full`, [`Error::Length`] if `gradient` has not
/// its size.
///
/// ```
/// use diff_flash_attn::reference::reduce_to;
/// assert_eq!(reduce_to(&[1.0, 2.0, 3.0, 4.0], [1, 2, 2], &[2])?, [4.0, 6.0]);
/// assert_eq!(reduce_to(&[1.0, 2.0, 3.0, 4.0], [1, 2, 2], &[])?, [10.0]);
/// # Ok::<(), diff_flash_attn::Error>(())
/// ```
pub fn reduce_to(gradient: &[f64], full: [usize; 3], shape: &[usize]) -> Result<Vec<f64>> {
    let sources = sources(shape, full)?;
    super::check_len(gradient, &full)?;
    let mut sums = vec![0.0; shape.iter().product()];
    for (grad, at) in gradient.iter().zip(sources) {
        sums[at] += grad;
    }
    Ok(sums)
}

/// For each element of `full`, row-major, the element of `shape` that is broadcast to it.
fn sources(shape: &[usize], full: [usize; 3]) -> Result<impl Iterator<Item = usize>> {
    let [batch, query, head] = strides(shape, full)?;
    let rows = (0..full[0]).flat_map(move |b| (0..full[1]).map(move |i| b * batch + i * query));
    Ok(rows.flat_map(move |row| (0..full[2]).map(move |h| row + h * head)))
}

/// Strides of `shape` seen as `full`: 0 along the axes that it repeats.
fn strides(shape: &[usize], full: [usize; 3]) -> Result<[usize; 3]> {
    let absent = full.len().checked_sub(shape.len()).ok_or(Error::Rank {
        tensor: "lambda",
        got: shape.len(),
        expected: "up to 3, broadcastable to [batch, query, head]",
    })?;
    let mut strides = [0; 3];
    let mut stride = 1;
    for (axis, &got) in shape.iter().enumerate().rev() {
        let expected = full[absent + axis];
        if got != 1 {
            strides[absent + axis] = stride;
        }
        if got != 1 && got != expected {
            let axis = ["batch", "query", "head"][absent + axis];
            return Err(Error::Size {
                tensor: "lambda",
                axis,
                got,
                expected,
                shape: shape.to_vec(),
            });
        }
        stride *= got;
    }
    Ok(strides)
}
