//! What a training leaves on disk: parameters, the optimizer's state, and where it stands.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use diff_flash_attn::burn::DiffTransformer;
use serde::{Deserialize, Serialize};

use crate::model::{Kind, Size};

/// Where a training stands, and how it came there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The attention.
    pub(crate) kind: Kind,
    /// The sizes.
    pub(crate) size: Size,
    /// Steps of the whole training: the learning rate follows from them.
    pub(crate) steps: usize,
    /// Bytes of the text, to notice that it is another.
    pub(crate) text_len: usize,
    /// Steps done.
    pub(crate) step: usize,
    /// Loss of every step.
    pub(crate) training: Vec<f64>,
    /// Steps done and held-out loss, from time to time.
    pub(crate) held_out: Vec<(usize, f64)>,
}

/// A folder for one model's training.
pub(crate) struct Checkpoint {
    folder: PathBuf,
}

impl Checkpoint {
    pub(crate) fn new(folder: &Path, kind: Kind) -> Self {
        Self {
            folder: folder.join(kind.to_string()),
        }
    }

    /// The training in the folder, if there is one that goes on as `wanted`.
    pub(crate) fn resume(&self, wanted: &Progress) -> Result<Option<Progress>> {
        let path = self.folder.join("progress.json");
        if !path.exists() {
            return Ok(None);
        }
        let found = read(&path)?;
        let place = |of: &Progress| (of.kind, of.size, of.steps, of.text_len);
        ensure!(
            place(&found) == place(wanted),
            "{} is of another training ({:?} steps, {:?}, {} bytes of text); --fresh starts over",
            self.folder.display(),
            found.steps,
            found.size,
            found.text_len
        );
        Ok(Some(found))
    }

    /// Reads parameters and the optimizer's state.
    pub(crate) fn load(
        &self,
        model: DiffTransformer,
        optimizer: ModuleOptimizer,
    ) -> Result<(DiffTransformer, ModuleOptimizer)> {
        let record = ModuleRecord::load(self.folder.join("model.bpk"))?;
        let optimizer = optimizer.load(self.folder.join("optimizer.bpk"))?;
        Ok((model.try_load_record(record)?, optimizer))
    }

    /// Writes everything; where it stands comes last.
    pub(crate) fn save(
        &self,
        progress: &Progress,
        model: &DiffTransformer,
        optimizer: &ModuleOptimizer,
    ) -> Result<()> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        model.clone().into_record().save(folder.join("model.bpk"))?;
        optimizer.save(folder.join("optimizer.bpk"))?;
        let text = serde_json::to_string_pretty(progress)?;
        Ok(std::fs::write(folder.join("progress.json"), text)?)
    }
}

fn read(path: &Path) -> Result<Progress> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// Every training in a folder, by its kind.
pub(crate) fn all(folder: &Path) -> Result<Vec<Progress>> {
    let kinds = [Kind::Diff, Kind::V2, Kind::Standard];
    let paths = kinds.map(|kind| folder.join(kind.to_string()).join("progress.json"));
    paths
        .iter()
        .filter(|path| path.exists())
        .map(|path| read(path))
        .collect()
}
