//! Refusals, before anything is launched and before an operation is handed to Burn's fusion, which runs it elsewhere.

use burn::backend::{DispatchTensor, TensorMetadata};
use burn::tensor::DType as BurnType;

use crate::attention::{Inputs, Options};
use crate::dtype::DType;
use crate::error::Result;
use crate::layout::{elements, row_major};
use crate::tensor::Tensor;

/// The value, or a panic with the error's message: Burn's operations have no other way to refuse.
#[track_caller]
pub(super) fn must<T>(result: Result<T>) -> T {
    // A closure would be the place that the panic names.
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// The tensors of a call, to look at their shapes and types.
pub(super) struct Operands<'a> {
    pub query: &'a DispatchTensor,
    pub key: &'a DispatchTensor,
    pub value: &'a DispatchTensor,
    pub lambda: Option<&'a DispatchTensor>,
    pub gamma: Option<&'a DispatchTensor>,
}

impl Operands<'_> {
    /// Checks the shapes alone, for any backend and any float.
    pub(super) fn check_shapes(&self, options: &Options) -> Result<()> {
        let any = |_: &'static str, _: BurnType| Ok(DType::F32);
        let inputs = self.inputs(any, nowhere)?;
        inputs.problem(options).map(drop)
    }

    /// Row-major stand-ins in the axis order of this crate.
    pub(super) fn inputs(
        &self,
        dtype: impl Fn(&'static str, BurnType) -> Result<DType>,
        tensor: impl Fn(DType, &[usize]) -> Tensor,
    ) -> Result<Inputs> {
        let stand_in = |name, of: &DispatchTensor| {
            Ok(tensor(
                dtype(name, of.dtype())?,
                &seq_before_heads(&of.shape()),
            ))
        };
        let optional =
            |name, of: Option<&DispatchTensor>| of.map(|of| stand_in(name, of)).transpose();
        Ok(Inputs {
            query: stand_in("query", self.query)?,
            key: stand_in("key", self.key)?,
            value: stand_in("value", self.value)?,
            lambda: optional("lambda", self.lambda)?,
            gamma: optional("gamma", self.gamma)?,
        })
    }
}

/// `[batch, head, …, seq, dim]` as `[batch, seq, head, …, dim]`, and λ's `[batch, head, seq]` likewise.
fn seq_before_heads(shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    match shape.len() {
        5 => shape[1..4].rotate_right(1),
        3 | 4 => shape.swap(1, 2),
        _ => {}
    }
    shape
}

/// A tensor without a device.
fn nowhere(dtype: DType, shape: &[usize]) -> Tensor {
    use burn::backend::fusion::custom::StreamId;
    use cubecl::device::DeviceId;
    use cubecl::server::Handle;
    use cubecl_common::device::ServiceId;

    let bytes = elements(shape).saturating_mul(dtype.size()) as u64;
    let service = ServiceId::of::<Operands>(DeviceId::new(0, 0));
    let handle = Handle::new(service, StreamId::current(), bytes);
    Tensor::strided(handle, dtype, 0, shape, &row_major(shape))
}
