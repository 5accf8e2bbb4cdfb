//! A pretended CUDA device: to CubeCL a server like any other, whose launches and memory are whatever [`Behaviour`] makes
//! of them.

use core::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, anyhow};
use cubecl_core::bytes::Bytes;
use cubecl_core::device::{DeviceId, DeviceService, ServerUtilitiesHandle, ServiceId};
use cubecl_core::device_handle::DeviceHandle;
use cubecl_core::environment::stream::StreamId;
use cubecl_core::future::DynFut;
use cubecl_core::prelude::{Client, CubeCount, CubeKernel};
use cubecl_core::profile::ProfileDuration;
use cubecl_server::allocator::PitchedMemoryLayoutPolicy;
use cubecl_server::dry_run::LaunchMode;
use cubecl_server::logging::ServerLogger;
use cubecl_server::memory_management::{
    ManagedMemoryHandle, MemoryAllocationMode, StreamMemoryReport,
};
use cubecl_server::server::{
    BufferBinding, CopyDescriptor, KernelArguments, ProfileError, ProfilingToken, Server,
    ServerCommunication, ServerError, ServerStorage, ServerUtilities,
};
use cubecl_server::storage::{BytesResource, BytesStorage, ManagedResource};
use diff_flash_attn::device::nvidia::Gpu;

use crate::arch::Arch;

/// A kernel with everything that was fixed when it was launched: types, comptime arguments, units of a cube.
pub type Kernel = Box<dyn CubeKernel>;

/// What a pretended device does.
pub trait Behaviour: Send + 'static {
    /// Takes a kernel and its arguments, in the order of the calls.
    fn launch(&mut self, kernel: Kernel, count: CubeCount, arguments: KernelArguments);

    /// Makes a buffer of `size` bytes.
    fn allocate(&mut self, memory: ManagedMemoryHandle, size: u64);

    /// Takes what is written to a buffer.
    fn write(&mut self, tensor: &CopyDescriptor, bytes: &[u8]);

    /// The contents of a buffer.
    ///
    /// # Errors
    /// If there are none, with the reason.
    fn read(&mut self, tensor: &CopyDescriptor) -> Result<Vec<u8>>;

    /// Whether all is well so far.
    ///
    /// # Errors
    /// What went wrong first.
    fn check(&self) -> Result<()>;
}

/// A pretended device. It has no clock: nothing can be timed on it.
///
/// Its thread ends when this and every clone of its client are gone: CubeCL lets the thread of a device look for work some
/// thousand times a second, and a process may have made hundreds of devices.
pub struct Device {
    client: Client,
    id: DeviceId,
}

/// What tells pretended devices from those of CubeCL's runtimes, which number their kinds from 0.
const KIND: u16 = 1000;

impl Device {
    /// A new device of the given architecture that behaves so.
    ///
    /// # Errors
    /// If CubeCL does not take the device, as after 65536 of them.
    pub fn new<B: Behaviour>(arch: Arch, behaviour: B) -> Result<Self> {
        static DEVICES: AtomicU16 = AtomicU16::new(0);

        let id = DeviceId::new(KIND, DEVICES.fetch_add(1, Ordering::Relaxed));
        let server = PretendingServer::new(id, arch, behaviour);
        let client = Client::try_init(id, server)
            .map_err(|error| anyhow!("the pretended device is refused: {error:?}"))?;
        Ok(Self { client, id })
    }

    /// The client to launch on.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let id = self.id;
        // It waits for the last clone of the client.
        drop(std::thread::spawn(move || {
            DeviceHandle::<dyn Server>::shutdown(id);
        }));
    }
}

struct PretendingServer<B> {
    utilities: Arc<ServerUtilities>,
    behaviour: B,
}

impl<B: Behaviour> PretendingServer<B> {
    fn new(device: DeviceId, arch: Arch, behaviour: B) -> Self {
        let properties = arch.properties();
        let layout = PitchedMemoryLayoutPolicy::new(properties.memory.alignment as usize);
        let (utilities, _captures) = ServerUtilities::init(
            ServiceId::of::<Self>(device),
            "cuda",
            properties,
            Gpu::target(),
            Arc::new(ServerLogger::default()),
            layout,
        );
        let utilities = Arc::new(utilities);
        Self {
            utilities,
            behaviour,
        }
    }

    fn intact(&self) -> Result<(), ServerError> {
        self.behaviour.check().map_err(failed)
    }
}

fn failed(error: anyhow::Error) -> ServerError {
    let (reason, backtrace) = (format!("{error:#}"), Default::default());
    ServerError::Generic { reason, backtrace }
}

impl<B> Debug for PretendingServer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PretendingServer")
    }
}

impl<B: Behaviour> Server for PretendingServer<B> {
    unsafe fn launch(
        &mut self,
        kernel: Kernel,
        count: CubeCount,
        arguments: KernelArguments,
        _stream: StreamId,
        mode: LaunchMode,
    ) {
        if !mode.is_skipped() {
            self.behaviour.launch(kernel, count, arguments);
        }
    }

    fn read(
        &mut self,
        descriptors: Vec<CopyDescriptor>,
        _stream: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let read = |tensor: &CopyDescriptor| {
            let bytes = self.behaviour.read(tensor).map_err(failed)?;
            Ok(Bytes::from_bytes_vec(bytes))
        };
        let contents = descriptors.iter().map(read).collect();
        Box::pin(async move { contents })
    }

    fn write(&mut self, contents: Vec<(CopyDescriptor, Bytes)>, _stream: StreamId) {
        for (tensor, bytes) in contents {
            self.behaviour.write(&tensor, &bytes);
        }
    }

    fn initialize_memory(
        &mut self,
        memory: ManagedMemoryHandle,
        size: u64,
        _stream: StreamId,
    ) -> Result<(), ServerError> {
        self.behaviour.allocate(memory, size);
        Ok(())
    }

    fn check(&mut self, _: Vec<BufferBinding>, _stream: StreamId) -> Result<(), ServerError> {
        self.intact()
    }

    fn sync(
        &mut self,
        _handles: Vec<BufferBinding>,
        _stream: StreamId,
    ) -> DynFut<Result<(), ServerError>> {
        let intact = self.intact();
        Box::pin(async { intact })
    }

    fn flush(&mut self, _stream: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities> {
        self.utilities.clone()
    }

    fn memory_report(&mut self, _stream: StreamId) -> Option<StreamMemoryReport> {
        None
    }

    fn memory_cleanup(&mut self, _stream: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn allocation_mode(&mut self, _mode: MemoryAllocationMode, _stream: StreamId) {}

    fn start_profile(&mut self, _stream: StreamId) -> Result<ProfilingToken, ServerError> {
        Ok(ProfilingToken { id: 0 })
    }

    fn end_profile(
        &mut self,
        _stream: StreamId,
        _token: ProfilingToken,
    ) -> Result<ProfileDuration, ProfileError> {
        let backtrace = Default::default();
        Err(ProfileError::NotMeasured { backtrace })
    }
}

impl<B: Behaviour> ServerStorage for PretendingServer<B> {
    type Storage = BytesStorage;

    fn get_resource(
        &mut self,
        _binding: BufferBinding,
        _stream: StreamId,
    ) -> Result<ManagedResource<BytesResource>, ServerError> {
        Err(failed(anyhow!("pretended memory has no address here")))
    }
}

impl<B: Behaviour> ServerCommunication for PretendingServer<B> {}

impl<B: Behaviour> DeviceService for PretendingServer<B> {
    /// CubeCL asks for this when a device is used before it is registered, which [`client`] rules out.
    fn init(_device: DeviceId) -> Self {
        unreachable!("a pretended device is registered before it is used")
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}
