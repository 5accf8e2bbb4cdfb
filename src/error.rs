//! What can be wrong with a call: which tensor, what it had, what was expected or the limit.

use crate::dtype::DType;

/// Everything a call can refuse, before anything is launched unless said otherwise.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has the wrong number of axes.
    #[error("{tensor}: has {got} axes, expected {expected}")]
    Rank {
        /// Name of the tensor.
        tensor: &'static str,
        /// Axes it has.
        got: usize,
        /// Axes, by name, that it should have.
        expected: &'static str,
    },
    /// A tensor disagrees with the others about a size.
    #[error("{tensor}: axis {axis} is {got}, expected {expected} (shape {shape:?})")]
    Size {
        /// Name of the tensor.
        tensor: &'static str,
        /// Name of the axis.
        axis: &'static str,
        /// Size it has.
        got: usize,
        /// Size it should have.
        expected: usize,
        /// Whole shape of the tensor.
        shape: Vec<usize>,
    },
    /// A tensor has an axis of size zero.
    #[error("{tensor}: axis {axis} is empty (shape {shape:?})")]
    Empty {
        /// Name of the tensor.
        tensor: &'static str,
        /// Name of the axis.
        axis: &'static str,
        /// Whole shape of the tensor.
        shape: Vec<usize>,
    },
    /// Query heads do not divide evenly among the key and value heads.
    #[error("query: has {heads} heads, expected a multiple of key's {kv_heads}")]
    HeadGroup {
        /// Query heads.
        heads: usize,
        /// Key and value heads.
        kv_heads: usize,
    },
    /// A head dimension that no kernel covers.
    #[error("{tensor}: head dimension is {got}, expected a multiple of 8 up to 256")]
    HeadDim {
        /// Name of the tensor.
        tensor: &'static str,
        /// Size of its last axis (both value halves counted).
        got: usize,
    },
    /// Strides of another rank than the shape.
    #[error("{tensor}: has {got} strides for {expected} axes")]
    Strides {
        /// Name of the tensor.
        tensor: &'static str,
        /// Strides given.
        got: usize,
        /// Axes of the shape.
        expected: usize,
    },
    /// The last axis of a tensor is not contiguous.
    #[error("{tensor}: the last axis has stride {stride}, expected 1 (strides {strides:?})")]
    NotContiguous {
        /// Name of the tensor.
        tensor: &'static str,
        /// Stride of the last axis, in elements.
        stride: usize,
        /// All its strides, in elements.
        strides: Vec<usize>,
    },
    /// A tensor that must be row-major from the start of its buffer is not.
    #[error(
        "{tensor}: has offset {offset} and strides {strides:?}, expected a row-major tensor without offset"
    )]
    NotRowMajor {
        /// Name of the tensor.
        tensor: &'static str,
        /// Its first element.
        offset: usize,
        /// All its strides, in elements.
        strides: Vec<usize>,
    },
    /// A tensor that is written has elements that share memory.
    #[error("{tensor}: is written, but its axes overlap (shape {shape:?}, strides {strides:?})")]
    Overlap {
        /// Name of the tensor.
        tensor: &'static str,
        /// Whole shape of the tensor.
        shape: Vec<usize>,
        /// All its strides, in elements.
        strides: Vec<usize>,
    },
    /// Shape, strides and offset reach past the end of the buffer.
    #[error("{tensor}: reaches element {reach}, its buffer holds {len}")]
    OutOfBuffer {
        /// Name of the tensor.
        tensor: &'static str,
        /// Elements, from the start of the buffer, that the tensor spans.
        reach: usize,
        /// Elements in the buffer.
        len: usize,
    },
    /// A tensor is stored in another type than expected.
    #[error("{tensor}: is stored as {got}, expected {expected}")]
    TypeMismatch {
        /// Name of the tensor.
        tensor: &'static str,
        /// Its type.
        got: DType,
        /// The type it should have.
        expected: DType,
    },
    /// The device cannot compute with this storage type.
    #[error("{dtype} is not supported by {device}")]
    UnsupportedType {
        /// The storage type.
        dtype: DType,
        /// Name of the device.
        device: String,
    },
    /// A tensor of another framework is stored in a type that this crate has no kernels for.
    #[cfg(feature = "burn")]
    #[error("{tensor}: is stored as {got}, expected f32, f16 or bf16")]
    StorageType {
        /// Name of the tensor.
        tensor: &'static str,
        /// Its type, as the framework names it.
        got: String,
    },
    /// A tensor lives on another device than the client.
    #[error("{tensor}: lives on another device than the client")]
    OtherDevice {
        /// Name of the tensor.
        tensor: &'static str,
    },
    /// A number that must be finite (and for some, positive) is not.
    #[error("{name} is {got}, expected {expected}")]
    Number {
        /// Name of the parameter.
        name: &'static str,
        /// Its value.
        got: f64,
        /// What it should be.
        expected: &'static str,
    },
    /// A tensor is needed and missing, or given and unused.
    #[error("{tensor}: {problem}")]
    Presence {
        /// Name of the tensor.
        tensor: &'static str,
        /// What is wrong with its presence or absence.
        problem: &'static str,
    },
    /// A tensor with more elements or rows than kernels can count.
    #[error("{tensor}: has {got} {resource}, more than the {limit} that kernels can count")]
    TooLarge {
        /// The tensor.
        tensor: &'static str,
        /// What there is too much of.
        resource: &'static str,
        /// How much there is, at most `usize::MAX`.
        got: usize,
        /// Limit.
        limit: usize,
    },
    /// Axes that are no permutation of the tensor's.
    #[error("axes {axes:?} are no permutation of 0..{rank}")]
    Permutation {
        /// Axes given.
        axes: Vec<usize>,
        /// Axes of the tensor.
        rank: usize,
    },
    /// A slice of another length than the shape.
    #[error("{got} elements given for shape {shape:?}, which has {expected}")]
    Length {
        /// Elements given.
        got: usize,
        /// Elements of the shape.
        expected: usize,
        /// The shape.
        shape: Vec<usize>,
    },
    /// Settings that contradict themselves or the problem.
    #[error("settings {settings}: {problem}")]
    Settings {
        /// Name of the settings.
        settings: String,
        /// What is wrong.
        problem: String,
    },
    /// The problem or its settings need more than the device has.
    #[error("{resource}: {got} needed, the limit of {device} is {limit}")]
    DeviceLimit {
        /// What is short, with its unit.
        resource: &'static str,
        /// How much is needed.
        got: usize,
        /// How much there is.
        limit: usize,
        /// Name of the device.
        device: String,
    },
    /// A plan is run on something else than it was made for.
    #[error("{tensor}: has {got}, the plan was made for {expected}")]
    Plan {
        /// Name of the tensor, the workspace or the client.
        tensor: &'static str,
        /// Where it lies, or what it is.
        got: String,
        /// Where it was to lie, or what it was to be.
        expected: String,
    },
    /// No device to make a client for.
    #[error("{backend}: no device: {reason}")]
    NoDevice {
        /// The runtime that was asked.
        backend: &'static str,
        /// What it said.
        reason: String,
    },
    /// The device refused or lost a launch, or a read failed. The outputs are undefined.
    #[error("{operation} failed on the device: {reason}")]
    Launch {
        /// The operation.
        operation: &'static str,
        /// What the device said.
        reason: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;
