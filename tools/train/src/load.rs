//! A published checkpoint: its logits against transformers' own, and a text that it continues.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use diff_flash_attn::burn::{DiffTransformer, hugging_face};
use safetensors::{Dtype, SafeTensors};

use crate::device::{Backend, Open};
use crate::sample::{Choice, continue_text};

/// Which checkpoint, and what to do with it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder with config.json, model*.safetensors and, to compare with, logits.safetensors: `input_ids` and `logits`.
    folder: PathBuf,
    /// Token ids to continue.
    ids: Vec<u32>,
    /// Tokens to add.
    #[arg(long, default_value_t = 20)]
    tokens: usize,
    /// Temperature; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Largest error of the logits, relative to their root mean square [default: 1e-4, or 5e-3 where the device
    /// multiplies f32 matrices in TF32, as Burn lets CUDA devices do since compute capability 8.0]
    #[arg(long)]
    tolerance: Option<f64>,
    /// What computes.
    #[arg(long, value_enum, default_value_t = Backend::Wgpu)]
    device: Backend,
}

/// Loads, compares and continues. Whether the logits agree, if there are any.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Open { device, name, tf32 } = options.device.open()?;
    let model = hugging_face::load(&options.folder, &device)?;
    println!("{name}; {} parameters", model.num_params());
    if tf32 {
        println!("matrix products round their inputs to TF32 on this device");
    }
    let expected = options.folder.join("logits.safetensors");
    let agrees = if expected.exists() {
        // Ten roundings to TF32, of 2⁻¹¹ each.
        let default = if tf32 { 5e-3 } else { 1e-4 };
        let tolerance = options.tolerance.unwrap_or(default);
        compare(&model, &expected, tolerance, &device)?
    } else {
        println!("no logits.safetensors to compare with");
        true
    };
    if !options.ids.is_empty() {
        show(&model, options, &device)?;
    }
    Ok(agrees)
}

fn show(model: &DiffTransformer, options: &Options, device: &Device) -> Result<()> {
    let [vocabulary, _] = model.embed_tokens.weight.dims();
    for id in &options.ids {
        ensure!(
            (*id as usize) < vocabulary,
            "token {id} is none of the {vocabulary} that there are"
        );
    }
    ensure!(options.temperature >= 0.0, "the temperature is negative");
    let choice = match options.temperature {
        0.0 => Choice::Greedy,
        temperature => Choice::Random {
            temperature,
            seed: 0,
        },
    };
    let found = continue_text(model, &options.ids, options.tokens, choice, device);
    let found: Vec<String> = found.iter().map(u32::to_string).collect();
    println!("continued with {}", found.join(" "));
    Ok(())
}

/// The largest error of the logits.
fn compare(model: &DiffTransformer, path: &Path, tolerance: f64, device: &Device) -> Result<bool> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes)
        .with_context(|| format!("{} is damaged", path.display()))?;
    let (ids, expected) = (file.tensor("input_ids")?, file.tensor("logits")?);
    ensure!(
        ids.dtype() == Dtype::I64 && ids.shape().len() == 2 && expected.dtype() == Dtype::F32,
        "input_ids must be a matrix of int64, logits of float32"
    );
    let tokens = ids
        .data()
        .chunks_exact(8)
        .map(|b| i64::from_le_bytes(b.try_into().unwrap_or_default()));
    let tokens = TensorData::new(tokens.collect::<Vec<_>>(), [ids.shape()[0], ids.shape()[1]]);
    let logits = model.forward(Tensor::<2, Int>::from_data(tokens, device));
    ensure!(
        logits.dims()[..] == *expected.shape(),
        "logits have another shape: {:?}",
        expected.shape()
    );
    let expected = expected
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap_or_default()));
    let (mut most, mut squares, mut count) = (0.0_f64, 0.0, 0.0);
    for (ours, theirs) in logits
        .into_data()
        .iter::<f64>()
        .zip(expected.map(f64::from))
    {
        let error = (ours - theirs).abs();
        most = if error > most || error.is_nan() {
            error
        } else {
            most
        };
        squares += theirs * theirs;
        count += 1.0;
    }
    let relative = most / f64::max(squares / count, f64::MIN_POSITIVE).sqrt();
    let verdict = if relative <= tolerance {
        "agrees"
    } else {
        "DIFFERS"
    };
    println!(
        "logits: largest error {relative:.1e} of their root mean square, {verdict} (tolerance {tolerance:.0e})"
    );
    Ok(relative <= tolerance)
}
