//! The device's buffers, found by CubeCL's names for them.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use cubecl_server::memory_management::ManagedMemoryId;
use cubecl_server::server::{BufferBinding, CopyDescriptor};
use ptxsim::{Buffer, Device};

/// Global memory. Buffers live as long as it does.
pub(crate) struct Memory {
    pub device: Device,
    buffers: HashMap<ManagedMemoryId, Buffer>,
}

impl Memory {
    /// Of a device whose CTAs can have so many bytes of shared memory.
    pub fn new(shared_memory: usize) -> Self {
        Self {
            device: Device::with_shared_memory(shared_memory),
            buffers: HashMap::new(),
        }
    }

    pub fn allocate(&mut self, id: ManagedMemoryId, bytes: usize) {
        let buffer = self.device.alloc(bytes);
        self.buffers.insert(id, buffer);
    }

    /// The bytes that a binding names.
    pub fn buffer(&self, binding: &BufferBinding) -> Result<Buffer> {
        let buffer = self.buffers.get(&binding.memory.id());
        let buffer = buffer.context("a buffer that was never allocated")?;
        let start = binding.offset_start.unwrap_or(0);
        let end = binding.offset_end.unwrap_or(0);
        let bytes = binding.size.checked_sub(start + end);
        let bytes = bytes.context("offsets past the end of a buffer")? as usize;
        ensure!(
            start as usize + bytes <= buffer.bytes,
            "a binding longer than its buffer"
        );
        Ok(Buffer {
            address: buffer.address + start,
            bytes,
        })
    }

    pub fn read(&self, descriptor: &CopyDescriptor) -> Result<Vec<u8>> {
        let buffer = self.described(descriptor)?;
        Ok(self.device.download(buffer)?)
    }

    pub fn write(&mut self, descriptor: &CopyDescriptor, bytes: &[u8]) -> Result<()> {
        let buffer = self.described(descriptor)?;
        ensure!(
            bytes.len() == buffer.bytes,
            "{} bytes for {}",
            bytes.len(),
            buffer.bytes
        );
        Ok(self.device.write(buffer, bytes)?)
    }

    fn described(&self, descriptor: &CopyDescriptor) -> Result<Buffer> {
        let (shape, strides) = (&descriptor.shape, &descriptor.strides);
        let mut expected = 1;
        for (n, stride) in shape.iter().zip(strides.iter()).rev() {
            ensure!(
                *n == 1 || *stride == expected,
                "a copy that is not contiguous"
            );
            expected *= n;
        }
        let buffer = self.buffer(&descriptor.handle)?;
        let len = expected * descriptor.elem_size;
        ensure!(
            len <= buffer.bytes,
            "a copy of {len} bytes of a buffer of {}",
            buffer.bytes
        );
        Ok(Buffer {
            bytes: len,
            ..buffer
        })
    }
}
