//! The text that is learned: bytes, a held-out part, and batches that depend on the step alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Bytes to learn from and bytes to test with.
pub(crate) struct Text {
    training: Vec<u8>,
    held_out: Vec<u8>,
}

/// Inputs and the bytes that follow each, `[batch, len]`.
pub(crate) struct Batch {
    pub(crate) inputs: Tensor<2, Int>,
    pub(crate) targets: Tensor<2, Int>,
}

impl Text {
    /// Every twentieth block is held out, so that both parts are of one kind.
    pub(crate) fn new(bytes: &[u8], context: usize) -> Result<Self> {
        const BLOCK: usize = 4096;
        let blocks = || bytes.chunks(BLOCK).enumerate();
        let part = |held: bool| {
            let of_part = blocks().filter(|(i, _)| (i % 20 == 10) == held);
            of_part
                .flat_map(|(_, block)| block)
                .copied()
                .collect::<Vec<u8>>()
        };
        let (training, held_out) = (part(false), part(true));
        ensure!(
            held_out.len() > context + 1,
            "the text has {} bytes; it needs at least {}",
            bytes.len(),
            11 * BLOCK + context
        );
        Ok(Self { training, held_out })
    }

    /// A file, or the sources and documentation of this repository.
    pub(crate) fn read(file: Option<&Path>, context: usize) -> Result<Self> {
        let bytes = match file {
            Some(file) => {
                std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
            }
            None => repository()?,
        };
        Self::new(&bytes, context)
    }

    /// Bytes to learn from.
    pub(crate) fn len(&self) -> usize {
        self.training.len()
    }

    /// A checksum of all bytes.
    pub(crate) fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.training);
        hasher.update(&self.held_out);
        hasher.finalize()
    }

    /// The batch of a step: the same whenever it is asked for.
    pub(crate) fn batch(&self, step: usize, size: usize, context: usize, device: &Device) -> Batch {
        let mut random = StdRng::seed_from_u64(step as u64);
        let starts = (0..size).map(|_| random.random_range(0..self.training.len() - context));
        batch(&self.training, &starts.collect::<Vec<_>>(), context, device)
    }

    /// Held-out batches, evenly spread.
    pub(crate) fn held_out(
        &self,
        count: usize,
        size: usize,
        context: usize,
        device: &Device,
    ) -> Vec<Batch> {
        let span = self.held_out.len() - context - 1;
        let starts: Vec<usize> = (0..count * size)
            .map(|i| span * i / (count * size))
            .collect();
        let batches = starts.chunks(size);
        batches
            .map(|starts| batch(&self.held_out, starts, context, device))
            .collect()
    }

    /// What a model that knows nothing but how frequent each byte is would lose on the held-out bytes, in nats.
    pub(crate) fn unigram_entropy(&self) -> f64 {
        let count = |bytes: &[u8]| {
            let mut counts = [0_usize; 256];
            bytes
                .iter()
                .for_each(|byte| counts[usize::from(*byte)] += 1);
            counts
        };
        let (seen, held) = (count(&self.training), count(&self.held_out));
        // Half a count more, so that a byte which was never seen has a probability.
        let total = self.training.len() as f64 + 128.0;
        let loss =
            |(seen, held): (&usize, &usize)| -(*held as f64) * ((*seen as f64 + 0.5) / total).ln();
        seen.iter().zip(&held).map(loss).sum::<f64>() / self.held_out.len() as f64
    }

    /// The beginning of the held-out bytes, to continue.
    pub(crate) fn prompt(&self, len: usize) -> &[u8] {
        &self.held_out[..len]
    }
}

fn batch(bytes: &[u8], starts: &[usize], context: usize, device: &Device) -> Batch {
    let tensor = |shift: usize| {
        let windows = starts
            .iter()
            .flat_map(|start| &bytes[start + shift..][..context]);
        let ids: Vec<i32> = windows.map(|byte| i32::from(*byte)).collect();
        Tensor::from_data(TensorData::new(ids, [starts.len(), context]), device)
    };
    Batch {
        inputs: tensor(0),
        targets: tensor(1),
    }
}

/// Every source and document of this repository, in the order of their paths.
fn repository() -> Result<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = vec![root.join("README.md")];
    for folder in ["src", "tests", "tools", "benches"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut bytes = Vec::new();
    for file in files {
        bytes.extend(
            std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?,
        );
    }
    Ok(bytes)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|kind| kind == "rs" || kind == "md")
        {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Text {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i * 7919 % 251) as u8).collect();
        Text::new(&bytes, 16).unwrap()
    }

    #[test]
    fn a_step_has_one_batch() {
        let (text, device) = (text(), Device::flex());
        let ids = |step| text.batch(step, 4, 16, &device).inputs.to_data();
        assert_eq!(ids(3), ids(3));
        assert_ne!(ids(3), ids(4));
    }

    #[test]
    fn targets_follow_inputs() {
        let batch = text().batch(0, 2, 16, &Device::flex());
        let inputs = batch.inputs.narrow(1, 1, 15).to_data();
        assert_eq!(inputs, batch.targets.narrow(1, 0, 15).to_data());
    }

    #[test]
    fn entropy_of_two_equal_bytes_is_one_bit() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 2) as u8).collect();
        let entropy = Text::new(&bytes, 16).unwrap().unigram_entropy();
        assert!((entropy - 2_f64.ln()).abs() < 2e-3, "{entropy}");
    }

    #[test]
    fn short_text_is_refused() {
        let error = Text::new(&[0; 1000], 16).err().unwrap().to_string();
        assert!(error.starts_with("the text has 1000 bytes"), "{error}");
    }
}
