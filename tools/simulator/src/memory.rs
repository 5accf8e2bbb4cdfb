//! The device's buffers, found by CubeCL's names for them.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use cubecl_server::memory_management::ManagedMemoryId;
use cubecl_server::server::{BufferBinding, CopyDescriptor, KernelArguments};
use ptxsim::{Buffer, Device};

/// What a buffer without contents is filled with: NaNs in every floating-point type.
const UNWRITTEN: u8 = 0xff;

/// Buffers and what they held.
pub(crate) type Snapshot = Vec<(Buffer, Vec<u8>)>;

/// Global memory. Buffers live as long as it does.
#[derive(Default)]
pub(crate) struct Memory {
    pub device: Device,
    buffers: HashMap<ManagedMemoryId, Buffer>,
}

impl Memory {
    pub fn allocate(&mut self, id: ManagedMemoryId, bytes: usize) {
        let buffer = self.device.upload(&vec![UNWRITTEN; bytes]);
        self.buffers.insert(id, buffer);
    }

    /// The bytes that a binding names.
    pub fn buffer(&self, binding: &BufferBinding) -> Result<Buffer> {
        let buffer = self.buffers.get(&binding.memory.id());
        let buffer = buffer.context("a buffer that was never allocated")?;
        let start = binding.offset_start.unwrap_or(0);
        let end = binding.offset_end.unwrap_or(0);
        let len = binding.size.checked_sub(start + end);
        let len = len.context("offsets past the end of a buffer")? as usize;
        ensure!(
            start as usize + len <= buffer.len,
            "a binding longer than its buffer"
        );
        Ok(Buffer {
            addr: buffer.addr + start,
            len,
        })
    }

    pub fn read(&self, descriptor: &CopyDescriptor) -> Result<Vec<u8>> {
        let buffer = self.described(descriptor)?;
        Ok(self.device.download(buffer))
    }

    pub fn write(&mut self, descriptor: &CopyDescriptor, bytes: &[u8]) -> Result<()> {
        let buffer = self.described(descriptor)?;
        ensure!(
            bytes.len() == buffer.len,
            "{} bytes for {}",
            bytes.len(),
            buffer.len
        );
        self.device.write(buffer, bytes);
        Ok(())
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
            len <= buffer.len,
            "a copy of {len} bytes of a buffer of {}",
            buffer.len
        );
        Ok(Buffer { len, ..buffer })
    }

    /// The contents of the whole buffers that a launch is given any part of.
    pub fn snapshot(&self, given: &KernelArguments) -> Snapshot {
        let ids: HashSet<_> = given.memory_ids().collect();
        let buffers = ids.iter().filter_map(|id| self.buffers.get(id));
        let contents = |buffer: &Buffer| (*buffer, self.device.download(*buffer));
        buffers.map(contents).collect()
    }

    pub fn restore(&mut self, snapshot: &Snapshot) {
        for (buffer, bytes) in snapshot {
            self.device.write(*buffer, bytes);
        }
    }
}
