//! What a training leaves on disk: parameters, the optimizer's state, and where it stands.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use diff_flash_attn::burn::DiffTransformer;
use serde::{Deserialize, Serialize};

use crate::model::{Kind, Precision, Size};

/// Where a training stands, and how it came there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The attention.
    pub(crate) kind: Kind,
    /// The sizes.
    pub(crate) size: Size,
    /// What the attention computes in.
    #[serde(default)]
    pub(crate) precision: Precision,
    /// Steps of the whole training: the learning rate follows from them.
    pub(crate) steps: usize,
    /// Bytes of the text, and their checksum, to notice that it is another.
    pub(crate) text: (usize, u32),
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
        let place = |of: &Progress| (of.kind, of.size, of.precision, of.steps, of.text);
        ensure!(
            place(&found) == place(wanted),
            "{} is of another training ({} steps, {:?}, attention in {}, a text of {} bytes); --fresh starts over",
            self.folder.display(),
            found.steps,
            found.size,
            found.precision,
            found.text.0
        );
        Ok(Some(found))
    }

    /// Reads the parameters and the optimizer's state of a step.
    pub(crate) fn load(
        &self,
        step: usize,
        model: DiffTransformer,
        optimizer: ModuleOptimizer,
    ) -> Result<(DiffTransformer, ModuleOptimizer)> {
        let [parameters, state] = self.files(step);
        let record = ModuleRecord::load(parameters)?;
        Ok((model.try_load_record(record)?, optimizer.load(state)?))
    }

    /// Writes everything. Whatever interrupts it, `progress.json` names a step whose files are whole.
    pub(crate) fn save(
        &self,
        progress: &Progress,
        model: &DiffTransformer,
        optimizer: &ModuleOptimizer,
    ) -> Result<()> {
        let folder = self.step_folder(progress.step);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let [parameters, state] = self.files(progress.step);
        model.clone().into_record().save(parameters)?;
        optimizer.save(state)?;
        let written = self.folder.join("progress.json.new");
        std::fs::write(&written, serde_json::to_string_pretty(progress)?)?;
        std::fs::rename(written, self.folder.join("progress.json"))?;
        self.keep_only(&folder)
    }

    /// Forgets the training in the folder.
    pub(crate) fn forget(&self) -> Result<()> {
        let path = self.folder.join("progress.json");
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Removes the files of steps but one.
    fn keep_only(&self, kept: &Path) -> Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let of_a_step = entry.file_name().to_string_lossy().starts_with("step-");
            if of_a_step && entry.path() != kept {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn step_folder(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step}"))
    }

    /// Parameters and the optimizer's state.
    fn files(&self, step: usize) -> [PathBuf; 2] {
        ["model.bpk", "optimizer.bpk"].map(|name| self.step_folder(step).join(name))
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
