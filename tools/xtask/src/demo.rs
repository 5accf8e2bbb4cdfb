//! A differential attention layer on real text, computed on the device, checked, timed and drawn.

mod canvas;
mod compute;
mod layer;
mod picture;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use diff_flash_attn::{Direction, Problem, device, reference};

use crate::device::{Backend, Storage};
use crate::progress::spin;
use crate::{errors, workspace};
use compute::Attention;
use layer::{Layer, Sizes};
use picture::Maps;

/// Tokens in the picture: as many as leave each one legible.
const SHOWN: usize = 64;

/// The layer, and the device that computes it.
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
    /// The head whose maps are drawn, counted from 0.
    #[arg(long, default_value_t = 0)]
    head: usize,
    /// What computes.
    #[arg(long, value_enum, default_value_t = Backend::Wgpu)]
    device: Backend,
    /// How the device stores tensors.
    #[arg(long, value_enum, default_value_t = Storage::F32)]
    dtype: Storage,
    /// Where to write the picture [default: demo/maps.png in the target folder]
    #[arg(long)]
    picture: Option<PathBuf>,
}

impl Options {
    fn layer(&self) -> Result<Layer> {
        let Options {
            seq,
            heads,
            dim,
            depth,
            head,
            ..
        } = *self;
        ensure!(
            seq > 0 && heads > 0 && dim > 0,
            "--seq, --heads and --dim must be at least 1"
        );
        ensure!(
            head < heads,
            "--head {head}: there are {heads}, counted from 0"
        );
        let text = fs::read(workspace::root().join("README.md")).context("README.md")?;
        Layer::new(
            &text,
            Sizes {
                seq,
                heads,
                dim,
                depth,
            },
            self.dtype.dtype(),
        )
    }

    fn picture(&self) -> Result<PathBuf> {
        let path = self
            .picture
            .clone()
            .unwrap_or(workspace::target().join("demo/maps.png"));
        fs::create_dir_all(path.parent().context("--picture names no file")?)?;
        Ok(path)
    }
}

/// Runs the demo. Whether the device agrees with the reference.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let layer = options.layer()?;
    let client = options.device.client()?;
    let Problem {
        query_len,
        heads,
        head_dim,
        value_dim,
        dtype,
        ..
    } = layer.problem;
    println!("{}", device::describe(&client));
    println!(
        "causal, N = {query_len}, H = {heads}, d = {head_dim}, dv = {value_dim}, {dtype}, λ = {:.3}",
        layer.lambda
    );

    let attention = Attention::differential(&client, &layer)?;
    let rows = spin("Computing the layer, there and in f64 on the CPU", || {
        attention.errors(&layer)
    })?;
    let allowed = vec![errors::tolerance(dtype); rows.len()];
    println!("{}", errors::table(&rows, &allowed));

    let attentions = [
        ("differential", &attention),
        ("standard, same width", &attention.standard()),
    ];
    let times = spin("Measuring", || {
        attentions
            .map(|(name, attention)| Measured::new(name, attention))
            .into_iter()
            .collect::<Result<Vec<_>>>()
    })?;
    println!("{}", speed_table(&times));

    let path = options.picture()?;
    draw(&layer, options.head, &path)?;
    println!("Maps of head {}: {}", options.head, path.display());
    Ok(errors::all_within(&rows, &allowed))
}

/// Times of one kind of attention.
struct Measured {
    name: &'static str,
    problem: Problem,
    forward: Duration,
    backward: Duration,
}

impl Measured {
    fn new(name: &'static str, attention: &Attention) -> Result<Self> {
        Ok(Self {
            name,
            problem: attention.problem()?,
            forward: attention.time(Direction::Forward)?,
            backward: attention.time(Direction::Backward)?,
        })
    }

    fn cells(&self) -> [String; 5] {
        let milliseconds = |time: Duration| format!("{:.3} ms", 1e3 * time.as_secs_f64());
        let speed = |direction, time: Duration| {
            format!(
                "{:.1}",
                self.problem.flops(direction) as f64 / time.as_secs_f64() / 1e9
            )
        };
        [
            self.name.to_owned(),
            milliseconds(self.forward),
            speed(Direction::Forward, self.forward),
            milliseconds(self.backward),
            speed(Direction::Backward, self.backward),
        ]
    }
}

/// One line for each kind of attention.
fn speed_table(measured: &[Measured]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["attention", "forward", "GFLOP/s", "backward", "GFLOP/s"]);
    table.add_rows(measured.iter().map(Measured::cells));
    if let [ours, baseline] = measured {
        let ratio = |ours: Duration, baseline: Duration| {
            format!("{:.2}x", ours.as_secs_f64() / baseline.as_secs_f64())
        };
        let forward = ratio(ours.forward, baseline.forward);
        let backward = ratio(ours.backward, baseline.backward);
        table.add_row(["ratio of the times", &forward, "", &backward, ""]);
    }
    errors::right_align(&mut table, 1..5);
    table
}

/// Draws the maps of one head over the first tokens.
fn draw(layer: &Layer, head: usize, path: &Path) -> Result<()> {
    let shown = layer.text.len().min(SHOWN);
    let maps = Maps {
        title: format!(
            "Differential attention of an untrained layer, head {head}, first {shown} bytes of README.md"
        ),
        text: &layer.text[..shown],
        signal: first_map(layer, shown, head, 0)?,
        noise: first_map(layer, shown, head, 1)?,
        lambda: layer.lambda.into(),
    };
    picture::draw(&maps, path)
}

/// `P_map` over the first `len` tokens: under the causal mask, the map of the text cut there.
fn first_map(layer: &Layer, len: usize, head: usize, map: usize) -> Result<Vec<f64>> {
    let full = &layer.problem;
    let problem = (*full).with_lengths([len, len]);
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
