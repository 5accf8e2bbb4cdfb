//! A device that runs nothing: it keeps the kernels that are launched on it.

use core::fmt;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use cubecl_core::bytes::Bytes;
use cubecl_core::device::{DeviceId, DeviceService, ServerUtilitiesHandle, ServiceId};
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

use crate::arch::Arch;

/// A kernel with everything that was fixed when it was launched: types, comptime arguments, units of a cube.
pub type Kernel = Box<dyn CubeKernel>;

type Log = Arc<Mutex<Vec<Kernel>>>;

/// A pretended CUDA device. Code that launches kernels takes its [`client`](Recorder::client) for a real one: buffers
/// are allocated and written in name only, launches are kept, reads give zeros.
pub struct Recorder {
    client: Client,
    log: Log,
}

impl Recorder {
    /// A new device of the given architecture.
    ///
    /// # Errors
    /// If CubeCL does not take the device, as after 65536 of them.
    pub fn new(arch: Arch) -> Result<Self> {
        static DEVICES: AtomicU16 = AtomicU16::new(0);

        let device = DeviceId::new(0, DEVICES.fetch_add(1, Ordering::Relaxed));
        let log = Log::default();
        let server = RecordingServer::new(device, arch, log.clone());
        let client = Client::try_init(device, server)
            .map_err(|error| anyhow!("the recording device is refused: {error:?}"))?;
        Ok(Self { client, log })
    }

    /// The client to launch on.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The kernels launched since the last call, in order, one entry a launch.
    ///
    /// # Errors
    /// If the device's thread died.
    pub fn take(&self) -> Result<Vec<Kernel>> {
        self.client.flush()?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut log))
    }
}

struct RecordingServer {
    utilities: Arc<ServerUtilities>,
    log: Log,
}

impl RecordingServer {
    fn new(device: DeviceId, arch: Arch, log: Log) -> Self {
        let properties = arch.properties();
        let layout = PitchedMemoryLayoutPolicy::new(properties.memory.alignment as usize);
        let (utilities, _captures) = ServerUtilities::init(
            ServiceId::of::<Self>(device),
            "cuda",
            properties,
            Arch::target(),
            Arc::new(ServerLogger::default()),
            layout,
        );
        let utilities = Arc::new(utilities);
        Self { utilities, log }
    }
}

impl fmt::Debug for RecordingServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordingServer")
    }
}

impl Server for RecordingServer {
    unsafe fn launch(
        &mut self,
        kernel: Kernel,
        _count: CubeCount,
        _arguments: KernelArguments,
        _stream: StreamId,
        _mode: LaunchMode,
    ) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(kernel);
    }

    fn read(
        &mut self,
        descriptors: Vec<CopyDescriptor>,
        _stream: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let zeros = |tensor: &CopyDescriptor| {
            let len = tensor.shape.iter().product::<usize>() * tensor.elem_size;
            Bytes::from_bytes_vec(vec![0; len])
        };
        let contents = descriptors.iter().map(zeros).collect();
        Box::pin(async move { Ok(contents) })
    }

    fn write(&mut self, _contents: Vec<(CopyDescriptor, Bytes)>, _stream: StreamId) {}

    fn initialize_memory(
        &mut self,
        _memory: ManagedMemoryHandle,
        _size: u64,
        _stream: StreamId,
    ) -> Result<(), ServerError> {
        Ok(())
    }

    fn check(&mut self, _: Vec<BufferBinding>, _stream: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn sync(
        &mut self,
        _handles: Vec<BufferBinding>,
        _stream: StreamId,
    ) -> DynFut<Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
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

impl ServerStorage for RecordingServer {
    type Storage = BytesStorage;

    fn get_resource(
        &mut self,
        _binding: BufferBinding,
        _stream: StreamId,
    ) -> Result<ManagedResource<BytesResource>, ServerError> {
        let reason = "a recording device has no memory".into();
        let backtrace = Default::default();
        Err(ServerError::Generic { reason, backtrace })
    }
}

impl ServerCommunication for RecordingServer {}

impl DeviceService for RecordingServer {
    /// CubeCL asks for this when a device is used before it is registered, which [`Recorder::new`] rules out.
    fn init(device: DeviceId) -> Self {
        Self::new(device, Arch::Sm80, Log::default())
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}
