//! Golden cases of other implementations, computed on Burn tensors.

use std::path::Path;

use anyhow::Result;
use burn::tensor::{DType, Device, Tensor, TensorData};
use diff_flash_attn::Options;
use diff_flash_attn::burn::{composed, diff_attention};
use golden::{Case, Computed, ComputedGradients, Makers, Operand, Runner};

use crate::cases::{cube, values};

/// Burn's tensors on a device: the fused operation, or the composed form in `f64`.
struct Burn {
    device: Device,
    fused: bool,
}

impl Burn {
    fn upload<const D: usize>(&self, shape: [usize; D], values: &[f64]) -> Tensor<D> {
        let dtype = if self.fused { DType::F32 } else { DType::F64 };
        let data = TensorData::new(values.to_vec(), shape);
        Tensor::from_data(data, (&self.device, dtype))
    }

    /// The operand as the file has it, wanting a gradient, and its view in Burn's axis order.
    fn operand<const D: usize>(&self, operand: &Operand) -> [Tensor<D>; 2] {
        let stored = self.upload(operand.shape[..].try_into().unwrap(), &operand.values);
        let stored = stored.require_grad();
        // [batch, seq, head, pair, dim] to [batch, head, pair, seq, dim].
        let order: &[usize] = if D == 5 {
            &[0, 2, 3, 1, 4]
        } else {
            &[0, 2, 1, 3]
        };
        let axes = std::array::from_fn(|i| operand.axes[order[i]]);
        [stored.clone(), stored.permute::<usize>(axes)]
    }

    fn compute<const V: usize>(&self, case: &Case) -> Result<Computed> {
        let [query, query_view] = self.operand::<5>(&case.query);
        let [key, key_view] = self.operand::<5>(&case.key);
        let [value, value_view] = self.operand::<V>(&case.value);
        let mut lambda_shape = [1; 3];
        let shape = case.lambda.shape();
        lambda_shape[3 - shape.len()..].copy_from_slice(shape);
        let lambda = self
            .upload(lambda_shape, &case.lambda.values()?)
            .require_grad();
        let gamma = case
            .gamma
            .as_ref()
            .map(|gamma| self.upload([gamma.len()], gamma).require_grad());
        let options = Options::default()
            .with_mask(case.problem.mask)
            .with_norm(case.problem.norm);
        let function = if self.fused {
            diff_attention::<5, V, 3>
        } else {
            composed::diff_attention::<5, V, 3>
        };
        let lambda_view = lambda.clone().swap_dims(1, 2);
        let output = function(
            query_view,
            key_view,
            value_view,
            lambda_view,
            gamma.clone(),
            &options,
        );
        let output = output.swap_dims(1, 2);
        let gradients = case.grad_output.as_ref().map(|grad_output| {
            let grad_output = self.upload(case.output_shape(), grad_output);
            let gradients = (output.clone() * grad_output).sum().backward();
            ComputedGradients {
                query: values(query.grad(&gradients).unwrap()),
                key: values(key.grad(&gradients).unwrap()),
                value: values(value.grad(&gradients).unwrap()),
                lambda: values(lambda.grad(&gradients).unwrap()),
                gamma: gamma.map(|gamma| values(gamma.grad(&gradients).unwrap())),
            }
        });
        let output = values(output);
        Ok(Computed {
            output,
            gradients,
            makers: Makers::One("burn"),
        })
    }
}

impl Runner for Burn {
    fn run(&mut self, case: &Case) -> Result<Computed> {
        match case.value.shape.len() {
            5 => self.compute::<5>(case),
            _ => self.compute::<4>(case),
        }
    }
}

fn check(runner: &mut Burn, relative: f64) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures"));
    let files = golden::find(folder).unwrap();
    assert!(files.len() >= 5);
    for file in files {
        let case = Case::load(&file).unwrap();
        let rows = golden::check(&case, runner).unwrap();
        assert!(rows.len() >= 5);
        for row in rows {
            println!("{} {}: {:.1e}", case.name, row.tensor, row.relative);
            assert!(row.relative < relative, "{}: {row:?}", case.name);
        }
    }
}

#[test]
pub(crate) fn fused_operation_agrees_with_every_case() {
    let device = cube().autodiff();
    check(
        &mut Burn {
            device,
            fused: true,
        },
        1e-5,
    );
}

/// The files are `f32` roundings of `f64` results.
#[test]
fn composed_form_agrees_with_every_case() {
    let device = Device::flex().autodiff();
    check(
        &mut Burn {
            device,
            fused: false,
        },
        2e-6,
    );
}
