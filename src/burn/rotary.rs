//! Rotary position embedding: element i of a head turns with element i + d/2, as in Llama.

use burn::tensor::{Device, Tensor, TensorData};

/// Cosines and sines, `[N, 1, d/2]`, of the angles that N neighbouring positions turn by.
#[derive(Debug, Clone)]
pub(super) struct RotaryTable {
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl RotaryTable {
    /// For `len` positions from `start` on. Angles are computed on the host in `f64`: the sines of a GPU may be rough.
    pub(super) fn new(base: f64, dim: usize, start: usize, len: usize, device: &Device) -> Self {
        let half = dim / 2;
        let table = |function: fn(f64) -> f64| {
            let values = (start..start + len).flat_map(|position| {
                (0..half).map(move |i| {
                    let frequency = base.powf(-(i as f64) / half as f64);
                    function(position as f64 * frequency) as f32
                })
            });
            let data = TensorData::new(values.collect::<Vec<_>>(), [len, 1, half]);
            Tensor::from_data(data, device)
        };
        Self {
            cos: table(f64::cos),
            sin: table(f64::sin),
        }
    }

    /// Turns every head of `[B, N, heads·d]`.
    pub(super) fn apply(&self, projected: Tensor<3>) -> Tensor<3> {
        let [batch, len, width] = projected.dims();
        let half = self.cos.dims()[2];
        let heads = projected.reshape([batch, len, width / (2 * half), 2 * half]);
        let dtype = heads.dtype();
        let [cos, sin] =
            [&self.cos, &self.sin].map(|table| table.clone().cast(dtype).unsqueeze::<4>());
        let [x, y] = [0, half].map(|at| heads.clone().narrow(3, at, half));
        let turned = [
            x.clone() * cos.clone() - y.clone() * sin.clone(),
            y * cos + x * sin,
        ];
        Tensor::cat(turned.into(), 3).reshape([batch, len, width])
    }
}
