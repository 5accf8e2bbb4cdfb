//! The device, as CubeCL sees it.

use core::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, anyhow, bail};
use audit::{Arch, Kernel, Nvrtc};
use cubecl_core::bytes::Bytes;
use cubecl_core::device::{DeviceId, DeviceService, ServerUtilitiesHandle, ServiceId};
use cubecl_core::environment::stream::StreamId;
use cubecl_core::future::DynFut;
use cubecl_core::prelude::{Client, CubeCount};
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

use crate::memory::Memory;
use crate::runner::Runner;

/// A CUDA device that runs in the PTX simulator.
pub struct Simulator {
    client: Client,
}

impl Simulator {
    /// A device of the given architecture.
    ///
    /// # Errors
    /// If CubeCL does not take the device, as after 65536 of them.
    pub fn new(arch: Arch, nvrtc: Nvrtc) -> Result<Self> {
        static DEVICES: AtomicU16 = AtomicU16::new(0);

        let device = DeviceId::new(0, DEVICES.fetch_add(1, Ordering::Relaxed));
        let runner = Runner::new(arch, nvrtc);
        let server = SimulatingServer::new(device, arch, Some(runner));
        let client = Client::try_init(device, server)
            .map_err(|error| anyhow!("the simulated device is refused: {error:?}"))?;
        Ok(Self { client })
    }

    /// The client to launch on.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

struct SimulatingServer {
    utilities: Arc<ServerUtilities>,
    runner: Option<Runner>,
    memory: Memory,
    /// What went wrong first; from then on nothing can be read.
    failure: Option<String>,
}

impl SimulatingServer {
    fn new(device: DeviceId, arch: Arch, runner: Option<Runner>) -> Self {
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
        Self {
            utilities: Arc::new(utilities),
            runner,
            memory: Memory::default(),
            failure: None,
        }
    }

    fn run(&mut self, kernel: &Kernel, count: CubeCount, given: &KernelArguments) -> Result<()> {
        let CubeCount::Static(x, y, z) = count else {
            bail!("grids of sizes from a buffer are not simulated");
        };
        let Some(runner) = &mut self.runner else {
            bail!("this device was not made by `Simulator::new`");
        };
        if [x, y, z].contains(&0) {
            return Ok(());
        }
        runner.launch(kernel, [x, y, z], given, &mut self.memory)
    }

    fn note(&mut self, result: Result<()>) {
        if let (Err(error), None) = (result, &self.failure) {
            self.failure = Some(format!("{error:#}"));
        }
    }

    fn intact(&self) -> Result<(), ServerError> {
        match &self.failure {
            None => Ok(()),
            Some(reason) => Err(failed(reason.clone())),
        }
    }
}

fn failed(reason: String) -> ServerError {
    let backtrace = Default::default();
    ServerError::Generic { reason, backtrace }
}

impl fmt::Debug for SimulatingServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatingServer")
    }
}

impl Server for SimulatingServer {
    unsafe fn launch(
        &mut self,
        kernel: Kernel,
        count: CubeCount,
        arguments: KernelArguments,
        _stream: StreamId,
        mode: LaunchMode,
    ) {
        if self.failure.is_none() && !mode.is_skipped() {
            let result = self.run(&kernel, count, &arguments);
            self.note(result);
        }
    }

    fn read(
        &mut self,
        descriptors: Vec<CopyDescriptor>,
        _stream: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let read = |tensor: &CopyDescriptor| {
            let bytes = self.memory.read(tensor);
            bytes
                .map(Bytes::from_bytes_vec)
                .map_err(|error| failed(format!("{error:#}")))
        };
        let contents = self
            .intact()
            .and_then(|()| descriptors.iter().map(read).collect());
        Box::pin(async move { contents })
    }

    fn write(&mut self, contents: Vec<(CopyDescriptor, Bytes)>, _stream: StreamId) {
        for (tensor, bytes) in contents {
            let result = self.memory.write(&tensor, &bytes);
            self.note(result);
        }
    }

    fn initialize_memory(
        &mut self,
        memory: ManagedMemoryHandle,
        size: u64,
        _stream: StreamId,
    ) -> Result<(), ServerError> {
        self.memory.allocate(memory.binding().id(), size as usize);
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

impl ServerStorage for SimulatingServer {
    type Storage = BytesStorage;

    fn get_resource(
        &mut self,
        _binding: BufferBinding,
        _stream: StreamId,
    ) -> Result<ManagedResource<BytesResource>, ServerError> {
        Err(failed("simulated memory has no address here".into()))
    }
}

impl ServerCommunication for SimulatingServer {}

impl DeviceService for SimulatingServer {
    /// CubeCL asks for this when a device is used before it is registered, which [`Simulator::new`] rules out.
    fn init(device: DeviceId) -> Self {
        Self::new(device, Arch::Sm90a, None)
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}
