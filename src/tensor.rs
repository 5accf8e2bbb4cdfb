//! Strided device tensors: a buffer, a storage type, a layout.

use cubecl::prelude::*;
use cubecl::server::Handle;
use half::{bf16, f16};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::{Layout, elements};

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
    layout: Layout,
}

impl Tensor {
    /// A row-major tensor that begins where `handle` begins.
    pub fn contiguous(handle: Handle, dtype: DType, shape: &[usize]) -> Self {
        let layout = Layout::row_major(shape);
        Self {
            handle,
            dtype,
            layout,
        }
    }

    /// A tensor with its own `offset` and `strides`, in elements. A stride of 0 repeats an axis.
    pub fn strided(
        handle: Handle,
        dtype: DType,
        offset: usize,
        shape: &[usize],
        strides: &[usize],
    ) -> Self {
        let layout = Layout {
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        Self {
            handle,
            dtype,
            layout,
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
        let positions = (0..self.len()).map(|i| self.layout.position(i));
        Ok(positions.map(element).collect())
    }

    /// The same elements with the axes in another order: axis `i` of the result is axis `axes[i]` of this one.
    ///
    /// # Errors
    /// [`Error::Permutation`] if `axes` is no permutation of this tensor's axes.
    pub fn permute(&self, axes: &[usize]) -> Result<Self> {
        Ok(Self {
            handle: self.handle.clone(),
            dtype: self.dtype,
            layout: self.layout.permute(axes)?,
        })
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
        self.layout.offset
    }

    /// Sizes, outermost axis first.
    pub fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// Distances between neighbours along each axis, in elements.
    pub fn strides(&self) -> &[usize] {
        &self.layout.strides
    }

    /// Number of elements; `usize::MAX` for a shape, of repeated axes, that has more.
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// Whether an axis has size zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements that the buffer holds.
    pub(crate) fn capacity(&self) -> usize {
        self.handle.size_in_used() as usize / self.dtype.size()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes that the buffer begins past a multiple of 256.
    pub(crate) fn residue(&self) -> usize {
        (self.handle.offset_start.unwrap_or(0) % 256) as usize
    }

    /// Refuses strides of another rank and elements outside the buffer.
    pub(crate) fn check_bounds(&self, tensor: &'static str) -> Result<()> {
        self.layout.check_bounds(tensor, self.capacity())
    }

    /// Refuses a tensor in which two indices name the same element, as far as sorted strides can tell.
    pub(crate) fn check_writable(&self, tensor: &'static str) -> Result<()> {
        self.layout.check_writable(tensor)
    }
}

/// Bytes that are asked for at most: more than any device has, and few enough for an allocator to add to.
const LARGEST_BUFFER: usize = isize::MAX as usize / 2;

fn upload<T: bytemuck::Pod>(client: &Client, values: &[f32], round: fn(f32) -> T) -> Handle {
    let rounded: Vec<T> = values.iter().map(|x| round(*x)).collect();
    client.create_from_slice(bytemuck::cast_slice(&rounded))
}
