//! Checkpoints of Hugging Face's DiffLlama: `config.json` and `*.safetensors`, read by name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::nn::Initializer;
use burn::store::{
    FloatCastAdapter, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore,
};
use burn::tensor::Device;
use serde::Deserialize;

use super::heads::Pairing;
use super::transformer::{DiffTransformer, DiffTransformerConfig};

/// Why a checkpoint was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file that cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A configuration that is none of DiffLlama's.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A configuration that asks for what the decoder does not have.
    #[error("config.json: {field} is {got}, expected {expected}")]
    Unsupported {
        /// The entry.
        field: &'static str,
        /// Its value.
        got: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A file of weights that is damaged, or whose tensors do not fit the configuration.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Weights that no file has.
    #[error("weights that no file of {} has: {}", folder.display(), names.join(", "))]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// Their names in the decoder.
        names: Vec<String>,
    },
}

/// The decoder of the checkpoint in `folder`, its weights in `f32` whatever they are stored as;
/// [`DiffTransformer::with_attention_dtype`] then sets what its attention computes in.
///
/// Where the checkpoint ties the output to the embedding, the decoder starts with two equal matrices.
///
/// Logits are those of Hugging Face's model to f32's accuracy, except on CUDA devices since compute capability 8.0: there
/// Burn multiplies f32 matrices in TF32, with 10 bits of mantissa.
///
/// ```no_run
/// use burn::tensor::{Device, Int, Tensor};
/// use diff_flash_attn::burn::hugging_face;
///
/// # fn main() -> Result<(), hugging_face::LoadError> {
/// let device = Device::default();
/// let model = hugging_face::load("checkpoints/diffllama", &device)?;
/// let logits = model.forward(Tensor::<2, Int>::from_ints([[1, 15, 27]], &device));
/// # let _ = logits;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A file that is missing or damaged, a configuration that is not DiffLlama's, weights that do not fit it.
pub fn load(folder: impl AsRef<Path>, device: &Device) -> Result<DiffTransformer, LoadError> {
    let folder = folder.as_ref();
    let checkpoint = Checkpoint::read(&folder.join("config.json"))?;
    let mut model = checkpoint.decoder()?.init(device);
    let mut missing: Option<BTreeSet<String>> = None;
    for file in weight_files(folder)? {
        let absent = apply(&mut model, &file)?;
        missing = Some(match missing {
            None => absent,
            Some(missing) => missing.intersection(&absent).cloned().collect(),
        });
    }
    let mut missing = missing.unwrap_or_default();
    if checkpoint.tie_word_embeddings && missing.remove("lm_head.weight") {
        let tied = model.embed_tokens.weight.val().transpose();
        model.lm_head.weight = model.lm_head.weight.map(|_| tied);
    }
    if missing.is_empty() {
        return Ok(model);
    }
    Err(LoadError::Missing {
        folder: folder.to_owned(),
        names: missing.into_iter().collect(),
    })
}

/// The configuration of the checkpoint in `folder` as the decoder's.
///
/// # Errors
/// As [`load`], of `config.json` alone.
pub fn config(folder: impl AsRef<Path>) -> Result<DiffTransformerConfig, LoadError> {
    Checkpoint::read(&folder.as_ref().join("config.json"))?.decoder()
}

/// The weight files of a checkpoint, in the order of their names.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let read = |source| LoadError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(read(std::io::Error::other("holds no model*.safetensors")));
    }
    files.sort();
    Ok(files)
}

/// Puts the tensors of a file into the decoder, and names those of the decoder that the file lacks.
fn apply(model: &mut DiffTransformer, file: &Path) -> Result<BTreeSet<String>, LoadError> {
    let wrong = |reason: String| LoadError::Weights {
        path: file.to_owned(),
        reason,
    };
    let mut store = SafetensorsStore::from_file(file)
        .with_key_remapping(r"^model\.", "")
        .with_from_adapter(
            PyTorchToBurnAdapter.chain(FloatCastAdapter::to(burn::tensor::DType::F32)),
        )
        .skip_enum_variants(true)
        .validate(false)
        .allow_partial(true);
    let result = model
        .load_from(&mut store)
        .map_err(|error| wrong(error.to_string()))?;
    if let Some(error) = result.errors.first() {
        return Err(wrong(error.to_string()));
    }
    if !result.unused.is_empty() {
        let names = result.unused.join(", ");
        return Err(wrong(format!(
            "tensors that the decoder does not have: {names}"
        )));
    }
    Ok(result.missing.into_iter().map(|(name, _)| name).collect())
}

/// What is read of `config.json`. Entries that are not given have the defaults of transformers.
#[derive(Debug, Deserialize)]
struct Checkpoint {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default = "rms_norm_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<serde_json::Value>,
    rope_parameters: Option<RopeParameters>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default = "lambda_std_dev")]
    lambda_std_dev: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "initializer_range")]
    initializer_range: f64,
}

#[derive(Debug, Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    #[serde(default = "default_rope")]
    rope_type: String,
}

fn silu() -> String {
    "silu".into()
}

fn rms_norm_eps() -> f64 {
    1e-5
}

fn lambda_std_dev() -> f64 {
    0.1
}

fn initializer_range() -> f64 {
    0.02
}

fn default_rope() -> String {
    "default".into()
}

impl Checkpoint {
    fn read(path: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_str(&text).map_err(|source| LoadError::Config {
            path: path.to_owned(),
            source,
        })
    }

    fn decoder(&self) -> Result<DiffTransformerConfig, LoadError> {
        self.check()?;
        let heads = self.num_attention_heads;
        let kv_heads = self.num_key_value_heads.unwrap_or(heads);
        let rope = self
            .rope_parameters
            .as_ref()
            .and_then(|rope| rope.rope_theta);
        // Half of transformers' heads are for the second map.
        Ok(DiffTransformerConfig::new(
            self.vocab_size,
            self.hidden_size,
            self.num_hidden_layers,
            heads / 2,
        )
        .with_n_kv_heads(Some(kv_heads / 2))
        .with_head_dim(Some(self.head_dim.unwrap_or(self.hidden_size / heads)))
        .with_d_hidden(Some(self.intermediate_size))
        .with_rotary_base(rope.or(self.rope_theta).unwrap_or(10000.0))
        .with_pairing(Pairing::Halves)
        .with_norm_weight(false)
        .with_norm_epsilon(self.rms_norm_eps)
        .with_lambda_std(self.lambda_std_dev)
        .with_attention_bias(self.attention_bias)
        .with_initializer(Initializer::Normal {
            mean: 0.0,
            std: self.initializer_range,
        }))
    }

    /// Refuses what the decoder would compute otherwise than transformers does, and sizes that it would panic on.
    fn check(&self) -> Result<(), LoadError> {
        let scaled = self
            .rope_scaling
            .as_ref()
            .filter(|scaling| !scaling.is_null());
        let rope = match (&self.rope_parameters, scaled) {
            (Some(rope), _) => rope.rope_type.clone(),
            (None, Some(scaling)) => scaling.to_string(),
            (None, None) => default_rope(),
        };
        let kv_heads = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        let pairs = kv_heads > 0
            && kv_heads.is_multiple_of(2)
            && self.num_attention_heads.is_multiple_of(kv_heads);
        let heads = format!("{kv_heads} for {} heads", self.num_attention_heads);
        let conditions = [
            (
                "model_type",
                self.model_type.clone(),
                "diffllama",
                self.model_type == "diffllama",
            ),
            (
                "hidden_act",
                self.hidden_act.clone(),
                "silu",
                self.hidden_act == "silu",
            ),
            ("rope_type", rope.clone(), "default", rope == "default"),
            (
                "num_key_value_heads",
                heads,
                "an even divisor of the heads",
                pairs,
            ),
        ];
        for (field, got, expected, holds) in conditions {
            if !holds {
                return Err(LoadError::Unsupported {
                    field,
                    got,
                    expected,
                });
            }
        }
        Ok(())
    }
}
