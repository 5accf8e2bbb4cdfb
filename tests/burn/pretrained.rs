//! A checkpoint written by Hugging Face transformers: its logits, loss and gradients.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Int, Tensor, TensorData};
use diff_flash_attn::burn::DiffTransformer;
use diff_flash_attn::burn::hugging_face::{self, LoadError};
use safetensors::SafeTensors;

use crate::cases::{cube, difference, values};
use crate::parameters::named_gradients;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/diffllama_model")
}

/// What transformers computed.
struct Expected {
    shape: [usize; 2],
    tokens: Vec<i64>,
    tensors: HashMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Expected {
    fn read() -> Self {
        let bytes = std::fs::read(folder().join("logits.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = HashMap::new();
        for (name, view) in file.tensors() {
            if view.dtype() == safetensors::Dtype::F32 {
                let elements = view.data().chunks_exact(4);
                let values = elements.map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())));
                tensors.insert(name, (view.shape().to_vec(), values.collect()));
            }
        }
        let input = file.tensor("input_ids").unwrap();
        let elements = input.data().chunks_exact(8);
        Self {
            shape: input.shape().try_into().unwrap(),
            tokens: elements
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
                .collect(),
            tensors,
        }
    }

    fn tokens(&self, device: &Device) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(self.tokens.clone(), self.shape), device)
    }

    /// A gradient in the layout of the decoder, whose matrices are transposed.
    fn gradient(&self, name: &str) -> Option<Vec<f64>> {
        let theirs = match name.strip_suffix(".gamma") {
            Some(norm) => format!("grad.model.{norm}.weight"),
            None => format!("grad.model.{name}"),
        };
        let (shape, values) = self.tensors.get(&theirs)?;
        let [rows, columns] = shape[..] else {
            return Some(values.clone());
        };
        let transposed = (0..columns).flat_map(|j| (0..rows).map(move |i| values[i * columns + j]));
        Some(transposed.collect())
    }
}

#[test]
fn logits_loss_and_gradients_are_those_of_transformers() {
    let expected = Expected::read();
    for device in [cube().autodiff(), Device::flex().autodiff()] {
        let model = hugging_face::load(folder(), &device).unwrap();
        let tokens = expected.tokens(&device);
        let logits = model.forward(tokens.clone());
        let error = difference(&values(logits.clone()), &expected.tensors["logits"].1);
        println!("logits {error:.1e}");
        assert!(error < 1e-4, "logits are off by {error:e}");

        let [batch, len, vocabulary] = logits.dims();
        let predicted = logits
            .narrow(1, 0, len - 1)
            .reshape([batch * (len - 1), vocabulary]);
        let targets = tokens.narrow(1, 1, len - 1).reshape([batch * (len - 1)]);
        let loss = CrossEntropyLossConfig::new()
            .init(&device)
            .forward(predicted, targets);
        let error = difference(&values(loss.clone()), &expected.tensors["loss"].1);
        assert!(error < 1e-5, "the loss is off by {error:e}");

        let mut gradients = loss.backward();
        let mut compared = 0;
        for (name, ours) in named_gradients(&model, &mut gradients) {
            if let Some(theirs) = expected.gradient(&name) {
                let error = difference(&ours, &theirs);
                println!("{name} {error:.1e}");
                assert!(error < 1e-3, "{name} is off by {error:e}");
                compared += 1;
            }
        }
        let given = expected
            .tensors
            .keys()
            .filter(|name| name.starts_with("grad."))
            .count();
        assert_eq!(compared, given);
    }
}

/// Loads a folder with the fixture's files, some of them changed.
fn load_changed(change: impl FnOnce(&Path)) -> Result<DiffTransformer, LoadError> {
    let copy = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(folder().join(name), copy.path().join(name)).unwrap();
    }
    change(copy.path());
    hugging_face::load(copy.path(), &Device::flex())
}

fn changed(change: impl FnOnce(&Path)) -> LoadError {
    load_changed(change).unwrap_err()
}

fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    std::fs::write(path, text.replace(from, to)).unwrap();
}

fn edited(from: &str, to: &str) -> String {
    changed(|folder| edit(folder, from, to)).to_string()
}

/// Writes the fixture's weights whose names are `wanted` into a file of `folder`.
fn write_weights(folder: &Path, file: &str, wanted: impl Fn(&str) -> bool) {
    let bytes = std::fs::read(self::folder().join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let tensors = tensors.into_iter().filter(|(name, _)| wanted(name));
    safetensors::serialize_to_file(tensors, None, &folder.join(file)).unwrap();
}

fn logits(model: &DiffTransformer) -> Vec<f64> {
    values(model.forward(Expected::read().tokens(&Device::flex())))
}

#[test]
fn weights_in_several_files_are_one_model() {
    let whole = load_changed(|_| ()).unwrap();
    let parts = load_changed(|folder| {
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
        for part in [1, 2] {
            let file = format!("model-0000{part}-of-00002.safetensors");
            write_weights(folder, &file, |name| {
                name.contains("layers.0") == (part == 1)
            });
        }
    });
    assert_eq!(logits(&parts.unwrap()), logits(&whole));
}

#[test]
fn a_tied_output_is_the_embedding() {
    let untied = |folder: &Path| {
        write_weights(folder, "model.safetensors", |name| name != "lm_head.weight");
    };
    let missing = changed(untied).to_string();
    assert!(missing.ends_with("has: lm_head.weight"), "{missing}");
    let model = load_changed(|folder| {
        untied(folder);
        let name = "\"tie_word_embeddings\": ";
        edit(folder, &format!("{name}false"), &format!("{name}true"));
    });
    let model = model.unwrap();
    let embedding = model.embed_tokens.weight.val().transpose();
    assert_eq!(values(model.lm_head.weight.val()), values(embedding));
}

#[test]
fn checkpoints_that_do_not_fit_are_refused() {
    let llama = edited("\"diffllama\"", "\"llama\"");
    assert_eq!(
        llama,
        "config.json: model_type is llama, expected diffllama"
    );
    let rope = edited("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"");
    assert_eq!(rope, "config.json: rope_type is yarn, expected default");
    let layers = edited("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    assert!(layers.starts_with("weights that no file of"), "{layers}");
    assert!(
        layers.contains("layers.2.self_attn.q_proj.weight"),
        "{layers}"
    );
    let layers = edited("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    assert!(
        layers.contains("tensors that the decoder does not have"),
        "{layers}"
    );
    let width = edited("\"intermediate_size\": 96", "\"intermediate_size\": 104");
    assert!(width.contains("mlp"), "{width}");
    let broken = edited("\"vocab_size\": 97,", "");
    assert!(broken.contains("missing field `vocab_size`"), "{broken}");
}

#[test]
fn files_that_are_missing_or_damaged_are_named() {
    let missing = changed(|folder| std::fs::remove_file(folder.join("model.safetensors")).unwrap());
    assert!(
        missing.to_string().ends_with("holds no model*.safetensors"),
        "{missing}"
    );
    let damaged = changed(|folder| {
        let path = folder.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(
        damaged.to_string().contains("model.safetensors: "),
        "{damaged}"
    );
}
