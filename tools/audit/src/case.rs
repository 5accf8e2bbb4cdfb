//! One problem that the library is called with, forward and backward, on a device that runs nothing.

use std::fmt;

use anyhow::{Context, Result};
use diff_flash_attn::lambda::{LambdaTensors, lambda_gradient_on_device, lambda_on_device};
use diff_flash_attn::tuning::{DeviceClass, HopperSettings, Pass, Schedule, Settings, shipped};
use diff_flash_attn::{DType, Inputs, Mask, Norm, Options, Tensor, Tuning, backward, forward};

use crate::{Kernel, Recorder};

/// Sequence length, heads of the query, heads of key and value. Kernels take them at run time, so any will do.
const LEN: usize = 512;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;

/// A problem. Its `Display` names it in reports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub head_dim: usize,
    pub value_dim: usize,
    pub dtype: DType,
    pub variant: Variant,
    /// First element of each tensor in its buffer. It decides how wide loads and stores can be.
    pub offset: usize,
    /// Settings of the forward kernel for compute capability 9.0; without, the portable kernels, backward's and λ's too.
    pub hopper: Option<HopperSettings>,
}

/// What changes the code of the kernels beside dimensions and types.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    pub name: &'static str,
    /// Two for differential attention, one for standard.
    pub maps: usize,
    /// Whether both maps share the key.
    pub shared_key: bool,
    pub mask: Mask,
    pub norm: bool,
    /// λ for every token and head, not for every head only.
    pub token_lambda: bool,
}

impl Case {
    /// The kernels that the library launches for this problem, each with a name for the report: inference first, then a
    /// training step.
    pub(crate) fn launches(&self, recorder: &Recorder) -> Result<Vec<(Kernel, String)>> {
        let (client, inputs) = (recorder.client(), self.inputs(recorder));
        forward(client, &inputs, &self.options(false))?;
        let inference = recorder.take()?;
        if self.hopper.is_some() {
            forward(client, &inputs, &self.options(true))?;
            let kernels = inference.into_iter().chain(recorder.take()?);
            return Ok(["", " saving"]
                .into_iter()
                .zip(kernels)
                .map(|(saving, kernel)| self.named(kernel, saving))
                .collect());
        }

        let options = self.options(true);
        let saved = forward(client, &inputs, &options)?.saved;
        let saved = saved.context("forward saved nothing for backward")?;
        let gradient = self.empty(recorder, &[1, LEN, HEADS, self.value_dim]);
        backward(client, &inputs, &saved, &gradient, &options)?;
        let training = recorder.take()?;

        if self.variant.maps == 2 {
            self.lambda(recorder)?;
        }
        let lambda = recorder.take()?;

        let inference = inference.into_iter().map(|kernel| self.named(kernel, ""));
        let training = training
            .into_iter()
            .map(|kernel| self.named(kernel, " saving"));
        let lambda = lambda.into_iter().map(|kernel| self.named(kernel, ""));
        Ok(inference.chain(training).chain(lambda).collect())
    }

    /// λ from its vectors, and their gradients.
    fn lambda(&self, recorder: &Recorder) -> Result<()> {
        let client = recorder.client();
        let vector = || Tensor::empty(client, DType::F32, &[self.head_dim]);
        let (q1, k1, q2, k2) = (vector(), vector(), vector(), vector());
        let vectors = LambdaTensors { q1, k1, q2, k2 };
        let lambda = lambda_on_device(client, &vectors, 0.2)?;
        lambda_gradient_on_device(client, &vectors, &lambda)?;
        Ok(())
    }

    fn inputs(&self, recorder: &Recorder) -> Inputs {
        let Variant {
            maps,
            norm,
            token_lambda,
            ..
        } = self.variant;
        let query = self.tensor(recorder, HEADS, maps, self.head_dim);
        let key = self.tensor(recorder, KV_HEADS, self.key_maps(), self.head_dim);
        let value = self.empty(recorder, &[1, LEN, KV_HEADS, self.value_dim]);
        let row = |shape: &[usize]| Tensor::empty(recorder.client(), DType::F32, shape);
        let inputs = match (maps, token_lambda) {
            (1, _) => Inputs::standard(query, key, value),
            (_, true) => Inputs::differential(query, key, value, row(&[1, LEN, HEADS])),
            (_, false) => Inputs::differential(query, key, value, row(&[HEADS])),
        };
        if norm {
            inputs.with_gamma(row(&[self.value_dim]))
        } else {
            inputs
        }
    }

    /// `[B, N, heads, maps, d]`, for standard attention without the pair axis.
    fn tensor(&self, recorder: &Recorder, heads: usize, maps: usize, dim: usize) -> Tensor {
        match self.variant.maps {
            1 => self.empty(recorder, &[1, LEN, heads, dim]),
            _ => self.empty(recorder, &[1, LEN, heads, maps, dim]),
        }
    }

    /// A row-major tensor at the case's offset.
    fn empty(&self, recorder: &Recorder, shape: &[usize]) -> Tensor {
        let len = self.offset + shape.iter().product::<usize>();
        let buffer = Tensor::empty(recorder.client(), self.dtype, &[len]);
        let stride = |axis: usize| shape[axis + 1..].iter().product();
        let strides: Vec<usize> = (0..shape.len()).map(stride).collect();
        Tensor::strided(
            buffer.handle().clone(),
            self.dtype,
            self.offset,
            shape,
            &strides,
        )
    }

    fn options(&self, save_for_backward: bool) -> Options {
        let norm = Norm {
            eps: 1e-5,
            lambda_init: 0.2,
        };
        Options::default()
            .with_mask(self.variant.mask)
            .with_norm(self.variant.norm.then_some(norm))
            .with_save_for_backward(save_for_backward)
            .with_tuning(self.tuning())
    }

    /// The settings that the library would choose itself, given so that the report can name them.
    fn tuning(&self) -> Tuning {
        Tuning {
            schedule: Some(match self.hopper {
                Some(_) => Schedule::Hopper,
                None => Schedule::Portable,
            }),
            hopper_forward: self.hopper,
            forward: self.settings(Pass::Forward),
            query_gradient: self.settings(Pass::QueryGradient),
            key_value_gradient: self.settings(Pass::KeyValueGradient),
        }
    }

    fn key_maps(&self) -> usize {
        if self.variant.shared_key {
            1
        } else {
            self.variant.maps
        }
    }

    fn settings(&self, pass: Pass) -> Option<Settings> {
        let mut rows = shipped().filter(|row| row.class == DeviceClass::Nvidia && row.pass == pass);
        let Variant { maps, .. } = self.variant;
        let dims = [maps, self.key_maps(), self.head_dim, self.value_dim];
        let row = rows.find(|row| row.covers(dims))?;
        Some(row.settings)
    }

    /// The kernel, with the case and its own settings as its name; `saving` sets the forward kernel of training apart.
    fn named(&self, kernel: Kernel, saving: &str) -> (Kernel, String) {
        let settings = |pass: Pass| self.settings(pass).map(|settings| settings.to_string());
        let (settings, saving) = match kernel.id().short_name() {
            "AttentionForwardHopper" => (self.hopper.map(|settings| settings.to_string()), saving),
            "AttentionForward" => (settings(Pass::Forward), saving),
            "AttentionBackwardQuery" => (settings(Pass::QueryGradient), ""),
            "AttentionBackwardKeyValue" => (settings(Pass::KeyValueGradient), ""),
            _ => (None, ""),
        };
        let name = match settings {
            Some(settings) => format!("{self}{saving} {settings}"),
            None => self.to_string(),
        };
        (kernel, name)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case {
            head_dim,
            value_dim,
            dtype,
            variant,
            offset,
            ..
        } = self;
        write!(f, "d{head_dim} dv{value_dim} {dtype} {}", variant.name)?;
        match offset {
            0 => Ok(()),
            _ => write!(f, " offset {offset}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arch;
    use crate::catalogue::portable_cases;

    /// Kernels of a training step with these settings.
    fn step(case: &Case, recorder: &Recorder, tuning: Tuning) -> Vec<String> {
        let (client, inputs) = (recorder.client(), case.inputs(recorder));
        let options = case.options(true).with_tuning(tuning);
        let saved = forward(client, &inputs, &options).unwrap().saved.unwrap();
        let gradient = case.empty(recorder, &[1, LEN, HEADS, case.value_dim]);
        backward(client, &inputs, &saved, &gradient, &options).unwrap();
        let kernels = recorder.take().unwrap();
        let ids = kernels.iter().map(|kernel| kernel.id().stable_format());
        ids.collect()
    }

    #[test]
    fn settings_given_are_those_that_the_library_chooses() {
        for arch in Arch::ALL {
            let recorder = Recorder::new(arch).unwrap();
            for case in portable_cases() {
                let chosen = Tuning::of(Family::Portable);
                let chosen = step(&case, &recorder, chosen);
                assert_eq!(step(&case, &recorder, case.tuning()), chosen, "{case}");
            }
        }
    }
}
