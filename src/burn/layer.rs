//! What the attention layers have in common: their configuration, their projections, the two ways to call them.

use burn::nn::{Initializer, Linear};
use burn::tensor::Tensor;

use super::cache::KeyValueCache;
use super::heads::{Heads, merge};
use super::rotary::RotaryTable;

/// An attention layer.
pub(super) trait Layer {
    fn heads(&self) -> &Heads;

    fn heads_mut(&mut self) -> &mut Heads;

    /// To queries, keys and values, and from the heads' outputs.
    fn projections(&self) -> [&Linear; 4];

    /// The heads' outputs, `[B, H, N, dv]`: of the tokens in `input`, their queries, and all keys and values,
    /// `[B, N, width]` each.
    fn attention(&self, input: Tensor<3>, projected: [Tensor<3>; 3]) -> Tensor<4>;

    /// The output for tokens that turn by the angles in `rotary` and follow those in `cache`.
    fn attend(
        &self,
        input: Tensor<3>,
        rotary: Option<&RotaryTable>,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<3> {
        let [query, key, value, output] = self.projections();
        let projected = project([query, key, value], input.clone(), rotary);
        let dtype = projected[0].dtype();
        let [query, key, value] = projected.map(|tensor| self.heads().stored(tensor));
        let [key, value] = match cache {
            None => [key, value],
            Some(cache) => cache.append(key, value),
        };
        let heads = self.attention(input, [query, key, value]);
        output.forward(merge(heads).cast(dtype))
    }

    /// The same, with the angles of the positions that follow those in `cache`.
    fn call(&self, input: Tensor<3>, cache: Option<&mut KeyValueCache>) -> Tensor<3> {
        let start = cache.as_ref().map_or(0, |cache| cache.len());
        let table = self.heads().rotary(start, &input);
        self.attend(input, table.as_ref(), cache)
    }
}

/// Gives a [`Layer`] its public functions.
macro_rules! public_forward {
    ($layer:ty) => {
        impl $layer {
            /// The layer's output for whole sequences: `[B, N, d_model]` to `[B, N, d_model]`.
            ///
            /// # Panics
            /// As [`diff_attention`](crate::burn::diff_attention).
            pub fn forward(&self, input: Tensor<3>) -> Tensor<3> {
                self.call(input, None)
            }

            /// The output for the tokens that follow those in `cache`, to which they are added.
            ///
            /// # Panics
            /// As [`diff_attention`](crate::burn::diff_attention).
            pub fn forward_cached(&self, input: Tensor<3>, cache: &mut KeyValueCache) -> Tensor<3> {
                self.call(input, Some(cache))
            }
        }
    };
}

/// Declares a layer's configuration: entries that every layer has, then those of this one.
macro_rules! attention_config {
    (
        $(#[$doc:meta])*
        $name:ident {
            $(#[$heads_doc:meta])*
            n_heads,
            $(#[$dim_doc:meta])*
            head_dim = $default_dim:expr,
            $($own:tt)*
        }
    ) => {
        $(#[$doc])*
        #[derive(::burn::config::Config, Debug)]
        pub struct $name {
            /// Features of a token.
            pub d_model: usize,
            $(#[$heads_doc])*
            pub n_heads: usize,
            /// Key and value heads, a divisor of the query heads; by default as many.
            pub n_kv_heads: Option<usize>,
            $(#[$dim_doc])*
            pub head_dim: Option<usize>,
            /// Whether a token sees only those before it and itself.
            #[config(default = true)]
            pub causal: bool,
            /// How many tokens before itself (and after itself, if not causal) a token sees; by default all.
            pub window: Option<usize>,
            /// Base of the rotary position embedding, 10000 as a rule; by default there is none.
            pub rotary_base: Option<f64>,
            /// What queries, keys and values are rounded to for the attention, and kept as in a
            /// [`KeyValueCache`]($crate::burn::KeyValueCache): in a model of `f32` parameters `BF16` or `F16`
            /// halve them, and give the attention the forward kernel for compute capability 9.0 on CUDA devices of
            /// that. By default they stay as projected.
            pub attention_dtype: Option<::burn::tensor::FloatDType>,
            /// Whether projections have a bias.
            #[config(default = false)]
            pub bias: bool,
            /// What projections start from.
            #[config(default = "crate::burn::layer::default_initializer()")]
            pub initializer: ::burn::nn::Initializer,
            $($own)*
        }

        impl $name {
            /// For a layer of a decoder.
            pub(super) fn of(decoder: &$crate::burn::DiffTransformerConfig) -> Self {
                Self::new(decoder.d_model, decoder.n_heads)
                    .with_n_kv_heads(decoder.n_kv_heads)
                    .with_head_dim(decoder.head_dim)
                    .with_window(decoder.window)
                    .with_rotary_base(Some(decoder.rotary_base))
                    .with_attention_dtype(decoder.attention_dtype)
                    .with_bias(decoder.attention_bias)
                    .with_initializer(decoder.initializer.clone())
            }

            fn heads(&self) -> $crate::burn::Heads {
                let default_dim: fn(&Self) -> usize = $default_dim;
                $crate::burn::Heads {
                    n_heads: self.n_heads,
                    n_kv_heads: self.n_kv_heads.unwrap_or(self.n_heads),
                    head_dim: self.head_dim.unwrap_or_else(|| default_dim(self)),
                    causal: self.causal,
                    window: self.window,
                    rotary_base: self.rotary_base,
                    attention_dtype: self.attention_dtype,
                }
            }

            fn projection(&self, from: usize, to: usize, device: &Device) -> Linear {
                ::burn::nn::LinearConfig::new(from, to)
                    .with_bias(self.bias)
                    .with_initializer(self.initializer.clone())
                    .init(device)
            }
        }
    };
}

pub(super) use {attention_config, public_forward};

/// What projections start from unless a configuration says otherwise: uniform within `1/√fan_in`.
pub(super) fn default_initializer() -> Initializer {
    Initializer::KaimingUniform {
        gain: 1.0 / 3.0_f64.sqrt(),
        fan_out_only: false,
    }
}

/// Queries, keys and values of the tokens in `input`, `[B, N, width]` each.
fn project(
    [query, key, value]: [&Linear; 3],
    input: Tensor<3>,
    rotary: Option<&RotaryTable>,
) -> [Tensor<3>; 3] {
    let turned = |projection: &Linear| {
        let projected = projection.forward(input.clone());
        match rotary {
            None => projected,
            Some(table) => table.apply(projected),
        }
    };
    [turned(query), turned(key), value.forward(input)]
}
