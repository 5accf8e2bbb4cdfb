//! The operation's gradient: saved tensors only where a gradient is asked for, inputs through Burn's checkpoints.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

use super::ops::{AttentionOps, AttentionTrainingOps, Maybe};
use crate::attention::Options;

/// The backward step. Its parents are query, key, value, λ and γ.
#[derive(Debug)]
struct FlashAttention;

/// What the backward step finds: its inputs' checkpoints and what the forward step saved.
#[derive(Debug, Clone)]
struct State<B: Backend> {
    inputs: [NodeId; 3],
    lambda: Option<NodeId>,
    gamma: Option<NodeId>,
    outputs: FloatTensor<B>,
    lse: FloatTensor<B>,
    options: Options,
}

impl<B: Backend + AttentionTrainingOps> Backward<B, 5> for FlashAttention {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 5>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let state = ops.state;
        let mut input = |id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id);
        let [query, key, value] = state.inputs.map(&mut input);
        let [lambda, gamma] = [state.lambda, state.gamma]
            .map(|id| id.map_or(Maybe::Absent, |id| Maybe::Given(input(id))));
        let (outputs, lse, options) = (state.outputs, state.lse, state.options);
        let gradients = B::flash_attention_backward(
            query, key, value, lambda, gamma, outputs, lse, grad, options,
        );
        let gradients = [
            Maybe::Given(gradients.query),
            Maybe::Given(gradients.key),
            Maybe::Given(gradients.value),
            gradients.lambda,
            gradients.gamma,
        ];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Maybe::Given(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + AttentionOps + AttentionTrainingOps, C: CheckpointStrategy> AttentionOps
    for Autodiff<B, C>
{
    fn flash_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        lambda: Maybe<Self>,
        gamma: Maybe<Self>,
        options: Options,
    ) -> FloatTensor<Self> {
        // The operation has five parents whatever is absent: an input that stands in is none that asks for a gradient.
        let constant = Self::from_inner(query.primitive().clone());
        let node = |tensor: &Maybe<Self>| match tensor {
            Maybe::Absent => constant.node(),
            Maybe::Given(tensor) => tensor.node(),
        };
        let nodes = [
            query.node(),
            key.node(),
            value.node(),
            node(&lambda),
            node(&gamma),
        ];
        match FlashAttention
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let inputs = [&query, &key, &value].map(|tensor| prep.checkpoint(tensor));
                let [lambda_id, gamma_id] = [&lambda, &gamma].map(|tensor| match tensor {
                    Maybe::Absent => None,
                    Maybe::Given(tensor) => Some(prep.checkpoint(tensor)),
                });
                let [query, key, value] = [query, key, value].map(|tensor| tensor.into_primitive());
                let [lambda, gamma] = [lambda, gamma].map(inner);
                let saved = B::flash_attention_saved(query, key, value, lambda, gamma, options);
                let state = State {
                    inputs,
                    lambda: lambda_id,
                    gamma: gamma_id,
                    outputs: saved.outputs,
                    lse: saved.lse,
                    options,
                };
                prep.finish(state, saved.output)
            }
            OpsKind::UnTracked(prep) => {
                let [query, key, value] = [query, key, value].map(|tensor| tensor.into_primitive());
                let [lambda, gamma] = [lambda, gamma].map(inner);
                prep.finish(B::flash_attention(
                    query, key, value, lambda, gamma, options,
                ))
            }
        }
    }
}

/// The tensor without its place in the graph.
fn inner<B: Backend, C: CheckpointStrategy>(tensor: Maybe<Autodiff<B, C>>) -> Maybe<B> {
    match tensor {
        Maybe::Absent => Maybe::Absent,
        Maybe::Given(tensor) => Maybe::Given(tensor.into_primitive()),
    }
}
