//! Safetensors files: finding them, and reading their tensors as `f64` and their metadata.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// The `*.safetensors` files of a folder (not of its subfolders), by name.
///
/// # Errors
/// If the folder cannot be read or has no such file.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    let is_case = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "safetensors")
    };
    let mut files: Vec<PathBuf> = paths.into_iter().filter(is_case).collect();
    ensure!(
        !files.is_empty(),
        "{} has no *.safetensors file",
        folder.display()
    );
    files.sort();
    Ok(files)
}

/// A tensor as the file has it: row-major values of a shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

/// Everything in one file.
pub(crate) struct File {
    tensors: BTreeMap<String, Array>,
    metadata: HashMap<String, String>,
}

impl File {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).context("not a safetensors file")?;
        let named = SafeTensors::deserialize(bytes)
            .context("not a safetensors file")?
            .tensors();
        let read = |(name, view): (String, TensorView)| {
            let array = array(&view).with_context(|| format!("tensor {name}"))?;
            Ok((name, array))
        };
        let tensors = named.into_iter().map(read).collect::<Result<_>>()?;
        Ok(Self {
            tensors,
            metadata: header.metadata().clone().unwrap_or_default(),
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Array> {
        self.tensors.get(name)
    }

    pub(crate) fn need(&self, name: &str) -> Result<&Array> {
        self.get(name)
            .with_context(|| format!("has no tensor {name}"))
    }

    /// A tensor that must have this shape if it is there.
    pub(crate) fn get_shaped(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f64>>> {
        let Some(array) = self.get(name) else {
            return Ok(None);
        };
        ensure!(
            array.shape == shape,
            "{name}: has shape {:?}, expected {shape:?}",
            array.shape
        );
        Ok(Some(array.values.clone()))
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        let parse = |text| {
            f64::from_str(text).with_context(|| format!("metadata {key} is {text:?}, no number"))
        };
        self.text(key).map(parse).transpose()
    }

    pub(crate) fn flag(&self, key: &str) -> Result<bool> {
        let text = self
            .text(key)
            .with_context(|| format!("has no metadata {key}"))?;
        let parsed = text.to_lowercase().parse();
        parsed.with_context(|| format!("metadata {key} is {text:?}, expected true or false"))
    }
}

fn array(view: &TensorView) -> Result<Array> {
    let data = view.data();
    let values = match view.dtype() {
        Dtype::F64 => elements(data, f64::from_le_bytes),
        Dtype::F32 => elements(data, |bytes| f32::from_le_bytes(bytes).into()),
        Dtype::F16 => elements(data, |bytes| f16::from_le_bytes(bytes).into()),
        Dtype::BF16 => elements(data, |bytes| bf16::from_le_bytes(bytes).into()),
        other => bail!("has type {other}, expected F64, F32, F16 or BF16"),
    };
    Ok(Array {
        shape: view.shape().to_vec(),
        values,
    })
}

fn elements<const SIZE: usize>(data: &[u8], element: impl Fn([u8; SIZE]) -> f64) -> Vec<f64> {
    data.as_chunks::<SIZE>()
        .0
        .iter()
        .map(|bytes| element(*bytes))
        .collect()
}
