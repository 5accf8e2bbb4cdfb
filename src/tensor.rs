//! Strided device tensors: a buffer, a storage type, a shape and strides.

use cubecl::prelude::*;
use cubecl::server::Handle;
use half::{bf16, f16};

use crate::error::{Error, Result};

/// Storage type of a tensor. Arithmetic is in `f32` whatever the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }

    /// The type as CubeCL names it.
    pub(crate) fn elem(self) -> ElemType {
        match self {
            DType::F32 => f32::elem_type_native(),
            DType::F16 => f16::elem_type_native(),
            DType::BF16 => bf16::elem_type_native(),
        }
    }

    /// Refuses a type that the device cannot load, store and convert.
    ///
    /// ```
    /// use diff_flash_attn::{DType, device};
    /// # fn main() -> Result<(), diff_flash_attn::Error> {
    /// DType::F32.check(&device::default_client()?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnsupportedType`].
    pub fn check(self, client: &Client) -> Result<()> {
        if client.properties().supports_type(self.elem()) {
            return Ok(());
        }
        Err(Error::UnsupportedType {
            dtype: self,
            device: client.properties().identity.name.clone(),
        })
    }
}

impl core::fmt::Display for DType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
        })
    }
}

/// A tensor on a device: `offset + Σ index · stride` is an element of `handle`, counted in elements of `dtype`.
///
/// Nothing is checked when it is made; the functions that take it check what they need and name it in their error.
///
/// ```
/// use diff_flash_attn::{DType, Tensor, device};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// // One buffer [batch, heads, seq, dim], read as [batch, seq, heads, dim] without a copy.
/// let bhnd = Tensor::from_f32(&client, DType::F32, &[1, 2, 3, 8], &[0.5; 48])?;
/// let bnhd = bhnd.permute(&[0, 2, 1, 3])?;
/// assert_eq!((bnhd.shape(), bnhd.strides()), (&[1, 3, 2, 8][..], &[48, 8, 24, 1][..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Tensor {
    handle: Handle,
    dtype: DType,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Tensor {
    /// A row-major tensor that begins where `handle` begins.
    pub fn contiguous(handle: Handle, dtype: DType, shape: &[usize]) -> Self {
        let strides = row_major(shape);
        Self::strided(handle, dtype, 0, shape, &strides)
    }

    /// A tensor with its own `offset` and `strides`, in elements. A stride of 0 repeats an axis.
    pub fn strided(
        handle: Handle,
        dtype: DType,
        offset: usize,
        shape: &[usize],
        strides: &[usize],
    ) -> Self {
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        Self {
            handle,
            dtype,
            offset,
            shape,
            strides,
        }
    }

    /// A row-major tensor with undefined contents. If the device cannot hold it, the call that uses it says so.
    pub fn empty(client: &Client, dtype: DType, shape: &[usize]) -> Self {
        let bytes = elements(shape).saturating_mul(dtype.size());
        Self::contiguous(client.empty(bytes.min(LARGEST_BUFFER)), dtype, shape)
    }

    /// A row-major tensor of the given values, rounded to `dtype`.
    ///
    /// # Errors
    /// [`Error::Length`] if `values` has not as many elements as `shape`.
    pub fn from_f32(
        client: &Client,
        dtype: DType,
        shape: &[usize],
        values: &[f32],
    ) -> Result<Self> {
        let expected = elements(shape);
        if values.len() != expected {
            let (got, shape) = (values.len(), shape.to_vec());
            return Err(Error::Length {
                got,
                expected,
                shape,
            });
        }
        let handle = match dtype {
            DType::F32 => client.create_from_slice(bytemuck::cast_slice(values)),
            DType::F16 => upload(client, values, f16::from_f32),
            DType::BF16 => upload(client, values, bf16::from_f32),
        };
        Ok(Self::contiguous(handle, dtype, shape))
    }

    /// Reads the tensor back in row-major order of its shape, whatever its strides.
    ///
    /// # Errors
    /// [`Error::OutOfBuffer`] if the strides reach past the buffer, [`Error::Launch`] if the read or a launch that
    /// should have written the tensor failed.
    pub fn to_f32(&self, client: &Client) -> Result<Vec<f32>> {
        self.check_bounds("tensor")?;
        let bytes = client
            .read_one(self.handle.clone())
            .map_err(|reason| Error::Launch {
                operation: "read",
                reason: reason.to_string(),
            })?;
        let element = |i: usize| match self.dtype {
            DType::F32 => bytemuck::pod_read_unaligned(&bytes[4 * i..][..4]),
            DType::F16 => bytemuck::pod_read_unaligned::<f16>(&bytes[2 * i..][..2]).to_f32(),
            DType::BF16 => bytemuck::pod_read_unaligned::<bf16>(&bytes[2 * i..][..2]).to_f32(),
        };
        Ok((0..self.len()).map(|i| element(self.position(i))).collect())
    }

    /// The same elements with the axes in another order: axis `i` of the result is axis `axes[i]` of this one.
    ///
    /// # Errors
    /// [`Error::Permutation`] if `axes` is no permutation of this tensor's axes.
    pub fn permute(&self, axes: &[usize]) -> Result<Self> {
        let rank = self.shape.len();
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if self.strides.len() != rank || !sorted.into_iter().eq(0..rank) {
            return Err(Error::Permutation {
                axes: axes.to_vec(),
                rank,
            });
        }
        let mut out = self.clone();
        for (to, &from) in axes.iter().enumerate() {
            out.shape[to] = self.shape[from];
            out.strides[to] = self.strides[from];
        }
        Ok(out)
    }

    /// The buffer.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Storage type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// First element, counted from the start of the buffer.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Sizes, outermost axis first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Distances between neighbours along each axis, in elements.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// Number of elements; `usize::MAX` for a shape, of repeated axes, that has more.
    pub fn len(&self) -> usize {
        elements(&self.shape)
    }

    /// Whether an axis has size zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements that the buffer holds.
    pub(crate) fn capacity(&self) -> usize {
        self.handle.size_in_used() as usize / self.dtype.size()
    }

    /// Refuses strides of another rank and elements outside the buffer.
    pub(crate) fn check_bounds(&self, tensor: &'static str) -> Result<()> {
        if self.strides.len() != self.shape.len() {
            let (got, expected) = (self.strides.len(), self.shape.len());
            return Err(Error::Strides {
                tensor,
                got,
                expected,
            });
        }
        if self.is_empty() {
            return Ok(());
        }
        let far = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |sum, (n, stride)| {
                sum.checked_add((n - 1).checked_mul(*stride)?)
            });
        let reach = far.map_or(usize::MAX, |far| far.saturating_add(1));
        let len = self.capacity();
        if reach > len {
            return Err(Error::OutOfBuffer { tensor, reach, len });
        }
        Ok(())
    }

    /// Refuses a tensor in which two indices name the same element, as far as sorted strides can tell.
    pub(crate) fn check_writable(&self, tensor: &'static str) -> Result<()> {
        let mut axes: Vec<_> = self
            .shape
            .iter()
            .zip(&self.strides)
            .filter(|(n, _)| **n > 1)
            .collect();
        axes.sort_by_key(|(_, stride)| **stride);
        let mut span = 1;
        for (&n, &stride) in axes {
            if stride < span {
                let (shape, strides) = (self.shape.clone(), self.strides.clone());
                return Err(Error::Overlap {
                    tensor,
                    shape,
                    strides,
                });
            }
            span += stride * (n - 1);
        }
        Ok(())
    }

    /// Position in the buffer of the element with row-major index `linear`.
    fn position(&self, mut linear: usize) -> usize {
        let mut at = self.offset;
        for (n, stride) in self.shape.iter().zip(&self.strides).rev() {
            at += linear % n * stride;
            linear /= n;
        }
        at
    }
}

/// Bytes that are asked for at most: more than any device has, and few enough for an allocator to add to.
const LARGEST_BUFFER: usize = isize::MAX as usize / 2;

/// Elements of a shape, at most `usize::MAX`.
pub(crate) fn elements(shape: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().fold(1, |len, n| len.saturating_mul(*n))
}

/// Strides of a row-major tensor, in elements.
pub(crate) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i]);
    }
    strides
}

fn upload<T: bytemuck::Pod>(client: &Client, values: &[f32], round: fn(f32) -> T) -> Handle {
    let rounded: Vec<T> = values.iter().map(|x| round(*x)).collect();
    client.create_from_slice(bytemuck::cast_slice(&rounded))
}
