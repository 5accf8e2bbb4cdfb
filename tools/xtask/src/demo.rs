//! A differential attention layer on real text, computed on the device, checked, timed and drawn.

mod canvas;
mod layer;
mod picture;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use diff_flash_attn::{DType, Problem, reference};

use crate::{setup, workspace};
use layer::{Layer, Sizes};
use picture::Maps;

/// Tokens in the picture: as many as leave each one legible.
const SHOWN: usize = 64;

/// Sizes of the layer.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Bytes of text, N.
    #[arg(long, default_value_t = 1024)]
    seq: usize,
    /// Differential heads, H.
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Dimension d of a query and of a key, a multiple of 8 up to 128; a value has 2d.
    #[arg(long, default_value_t = 64)]
    dim: usize,
    /// Layers below this one, which decide λ_init.
    #[arg(long, default_value_t = 3)]
    depth: usize,
    /// The head whose maps are drawn.
    #[arg(long, default_value_t = 0)]
    head: usize,
}

/// Runs the demo. Whether the device agrees with the reference.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Options {
        seq,
        heads,
        dim,
        depth,
        head,
    } = *options;
    ensure!(
        seq > 0 && heads > 0 && dim > 0,
        "--seq, --heads and --dim must be at least 1"
    );
    ensure!(
        head < heads,
        "--head {head}: there are {heads}, counted from 0"
    );
    setup::vulkan()?;
    let text = fs::read(workspace::root().join("README.md")).context("README.md")?;
    let layer = Layer::new(
        &text,
        Sizes {
            seq,
            heads,
            dim,
            depth,
        },
        DType::F32,
    )?;
    let path = draw(&layer, head)?;
    println!("Picture of head {head}: {}", path.display());
    Ok(true)
}

/// Draws the maps of one head over the first tokens. Where the picture lies.
fn draw(layer: &Layer, head: usize) -> Result<PathBuf> {
    let folder = workspace::target().join("demo");
    fs::create_dir_all(&folder)?;
    let shown = layer.text.len().min(SHOWN);
    let map = |map| first_map(layer, shown, head, map);
    let maps = Maps {
        title: format!(
            "Differential attention of an untrained layer, head {head}, first {shown} bytes of README.md"
        ),
        text: &layer.text[..shown],
        signal: map(0)?,
        noise: map(1)?,
        lambda: layer.lambda.into(),
    };
    let path = folder.join("maps.png");
    picture::draw(&maps, &path)?;
    Ok(path)
}

/// `P_map` over the first `len` tokens: under the causal mask, the map of the text cut there.
fn first_map(layer: &Layer, len: usize, head: usize, map: usize) -> Result<Vec<f64>> {
    let full = &layer.problem;
    let problem = Problem {
        query_len: len,
        key_len: len,
        ..*full
    };
    let cut = |values: &[f64]| values[..values.len() / full.query_len * len].to_vec();
    let inputs = reference::Inputs {
        query: cut(&layer.inputs.query),
        key: cut(&layer.inputs.key),
        value: cut(&layer.inputs.value),
        lambda: cut(&layer.inputs.lambda),
        gamma: layer.inputs.gamma.clone(),
    };
    Ok(reference::attention_map(&problem, &inputs, 0, head, map)?)
}
