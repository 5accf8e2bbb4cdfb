//! A training: AdamW with warm-up and cosine decay, held-out loss, samples, checkpoints, a plot.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use diff_flash_attn::burn::DiffTransformer;
use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoint::{Checkpoint, Progress, all};
use crate::device::{Backend, Open, is_software};
use crate::model::{Kind, Precision, Size, config, held_out_loss, loss};
use crate::plot;
use crate::sample::{Choice, continue_text};
use crate::schedule::learning_rate;
use crate::text::Text;

/// What to train, on what, for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Text to learn [default: the sources and documentation of this repository]
    #[arg(long)]
    text: Option<PathBuf>,
    /// The attention.
    #[arg(long, value_enum, default_value_t = Kind::Diff)]
    model: Kind,
    /// Steps of the whole training [default: 600 for the small size, 5000 for the large one]
    #[arg(long)]
    steps: Option<usize>,
    /// Stop after this step; the same command goes on from there.
    #[arg(long)]
    until: Option<usize>,
    /// Sizes [default: large on a GPU, small on a software driver]
    #[arg(long, value_enum)]
    size: Option<Size>,
    /// What the attention computes in; the rest of the model is f32.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    attention_dtype: Precision,
    /// What computes.
    #[arg(long, value_enum, default_value_t = Backend::Wgpu)]
    device: Backend,
    /// Where checkpoints and the plot go.
    #[arg(long, default_value = "target/train")]
    folder: PathBuf,
    /// Start over instead of going on from the checkpoint.
    #[arg(long)]
    fresh: bool,
}

/// A training under way.
struct Training {
    model: DiffTransformer,
    optimizer: ModuleOptimizer,
    progress: Progress,
    text: Text,
    device: Device,
}

/// Trains until the last step or the one asked for.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Open { device, name, .. } = options.device.open()?;
    let size = options.size.unwrap_or(if is_software(&name) {
        Size::Small
    } else {
        Size::Large
    });
    ensure!(
        options.attention_dtype.is_on(&device),
        "{name} has no {}",
        options.attention_dtype
    );
    let [_, context] = size.batch_and_context();
    let text = Text::read(options.text.as_deref(), context)?;
    let unigram = text.unigram_entropy();
    println!(
        "{name}; {} bytes of text, byte frequencies alone lose {unigram:.3} nats",
        text.len()
    );
    let wanted = Progress {
        kind: options.model,
        size,
        precision: options.attention_dtype,
        steps: options.steps.unwrap_or(size.steps()),
        text: (text.len(), text.checksum()),
        step: 0,
        training: vec![],
        held_out: vec![],
    };
    let checkpoint = Checkpoint::new(&options.folder, options.model);
    let mut training = Training::start(options, &checkpoint, wanted, text, device)?;
    let last = training
        .progress
        .steps
        .min(options.until.unwrap_or(usize::MAX));
    training.advance(last, &checkpoint)?;
    training.show_sample();
    draw(&options.folder, unigram)
}

fn draw(folder: &Path, unigram: f64) -> Result<()> {
    let path = folder.join("loss.png");
    plot::draw(&all(folder)?, unigram, &path)?;
    println!(
        "the losses of the models trained so far: {}",
        path.display()
    );
    Ok(())
}

impl Training {
    /// From the checkpoint, or from random parameters that are the same in every training.
    fn start(
        options: &Options,
        checkpoint: &Checkpoint,
        wanted: Progress,
        text: Text,
        device: Device,
    ) -> Result<Self> {
        device.seed(0);
        let model =
            config(wanted.kind, wanted.size, wanted.precision).init(&device.clone().autodiff());
        println!("{} model, {} parameters", wanted.kind, model.num_params());
        let optimizer = AdamWConfig::new()
            .with_beta_2(0.95)
            .with_weight_decay(0.1)
            .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
            .init();
        if options.fresh {
            checkpoint.forget()?;
        }
        let found = checkpoint.resume(&wanted)?;
        let (progress, (model, optimizer)) = match found {
            None => (wanted, (model, optimizer)),
            Some(found) => {
                let step = found.step;
                println!("going on from step {step}");
                (found, checkpoint.load(step, model, optimizer)?)
            }
        };
        Ok(Self {
            model,
            optimizer,
            progress,
            text,
            device,
        })
    }

    /// Steps up to the `last`, with a look at the held-out loss and a checkpoint every twentieth of the training.
    fn advance(&mut self, last: usize, checkpoint: &Checkpoint) -> Result<()> {
        let style = "{bar:30} {pos}/{len} [{elapsed}, {eta} left] {msg}";
        let bar = ProgressBar::new(self.progress.steps as u64)
            .with_style(ProgressStyle::with_template(style)?)
            .with_position(self.progress.step as u64);
        let pause = (self.progress.steps / 20).max(1);
        while self.progress.step < last {
            let loss = self.step();
            bar.inc(1);
            bar.set_message(format!("loss {loss:.3}"));
            if self.progress.step.is_multiple_of(pause) || self.progress.step == last {
                let held_out = self.look();
                let step = self.progress.step;
                bar.suspend(|| println!("step {step}: loss {loss:.3}, held out {held_out:.3}"));
                checkpoint.save(&self.progress, &self.model, &self.optimizer)?;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn step(&mut self) -> f64 {
        let Progress {
            size, step, steps, ..
        } = self.progress;
        let [batch, context] = size.batch_and_context();
        let batch = self
            .text
            .batch(step, batch, context, &self.device.clone().autodiff());
        let loss = loss(&self.model, batch);
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        let rate = learning_rate(size.learning_rate(), step, steps);
        self.model = self.optimizer.step(rate, self.model.clone(), gradients);
        let loss = loss.into_scalar::<f64>();
        self.progress.training.push(loss);
        self.progress.step += 1;
        loss
    }

    /// Measures the held-out loss.
    fn look(&mut self) -> f64 {
        let [batch, context] = self.progress.size.batch_and_context();
        let batches = self.text.held_out(4, batch, context, &self.device);
        let loss = held_out_loss(&self.model, batches);
        self.progress.held_out.push((self.progress.step, loss));
        loss
    }

    fn show_sample(&self) {
        let prompt = self.text.prompt(48);
        let ids: Vec<u32> = prompt.iter().map(|byte| u32::from(*byte)).collect();
        let choice = Choice::Random {
            temperature: 0.8,
            seed: 0,
        };
        let model = self.model.clone().valid();
        let sample = continue_text(&model, &ids, 160, choice, &self.device);
        let bytes: Vec<u8> = sample.iter().map(|id| *id as u8).collect();
        let [prompt, sample] =
            [prompt, &bytes].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        println!("---\n{prompt}»{sample}\n---");
    }
}
