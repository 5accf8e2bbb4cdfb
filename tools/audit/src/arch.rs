//! The GPU architectures that are audited, as the CUDA runtime would see a device of each.

use core::fmt;

use cubecl_core::cmma::MatrixLayout;
use cubecl_core::ir::{
    ContiguousElements, DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties,
    MemoryDeviceProperties, MmaProperties, OpaqueType, TargetProperties, VectorSize,
    features::{Plane, Tma, TypeUsage},
};
use cubecl_core::profile::TimingMethod;
use cubecl_cpp::cuda::{
    self,
    arch::CudaArchitecture,
    mma::{CudaCmmaCompiler, manual::contiguous_elements_cuda},
};
use cubecl_cpp::register_supported_types;
use cubecl_cpp::shared::{
    CompilationOptions, CppSupportedFeatures, register_mma_features, register_wmma_features,
};

/// A GPU architecture. Its `Display` is the name that NVRTC takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// Ampere (A100): the oldest with asynchronous copies and bf16.
    #[value(name = "sm_80")]
    Sm80,
    /// Hopper (H100, H200), with the instructions that only Hopper has.
    #[value(name = "sm_90a")]
    Sm90a,
}

impl Arch {
    /// Every architecture audited.
    pub const ALL: [Arch; 2] = [Arch::Sm80, Arch::Sm90a];

    /// The name that NVRTC takes where PTX is wanted and no machine code.
    pub fn virtual_name(self) -> &'static str {
        match self {
            Arch::Sm80 => "compute_80",
            Arch::Sm90a => "compute_90a",
        }
    }

    fn compute_capability(self) -> u32 {
        match self {
            Arch::Sm80 => 80,
            Arch::Sm90a => 90,
        }
    }

    /// Multiprocessors of the GPU, and the most shared memory that one cube can have there, in bytes.
    fn size(self) -> (u32, usize) {
        match self {
            Arch::Sm80 => (108, 163 * 1024),
            Arch::Sm90a => (132, 227 * 1024),
        }
    }

    /// The most shared memory that one cube can have, in bytes.
    pub(crate) fn shared_memory(self) -> usize {
        self.size().1
    }

    fn hopper(self) -> bool {
        self.compute_capability() >= 90
    }

    /// What the CUDA runtime reports of a device of this architecture.
    pub fn properties(self) -> DeviceProperties {
        let memory = MemoryDeviceProperties::new(10 << 30, 512).with_max_memory(40 << 30);
        let identity = DeviceIdentity {
            name: format!("{self} (no device)"),
            fingerprint: format!("ptx_sm{}", self.compute_capability()),
            physical: None,
        };
        let hardware = self.hardware();
        let timing = TimingMethod::Device;
        let mut properties =
            DeviceProperties::new(Default::default(), memory, hardware, timing, identity);
        self.add_features(&mut properties);
        properties
    }

    fn hardware(self) -> HardwareProperties {
        let (multiprocessors, max_shared_memory_size) = self.size();
        HardwareProperties {
            load_width: 128,
            vector_register_count: None,
            plane_size_min: 32,
            plane_size_max: 32,
            max_bindings: 1024,
            max_shared_memory_size,
            max_cube_count: (i32::MAX as u32, 65535, 65535),
            max_units_per_cube: 1024,
            max_cube_dim: (1024, 1024, 64),
            num_streaming_multiprocessors: Some(multiprocessors),
            num_tensor_cores: Some(4),
            min_tensor_cores_dim: Some(8),
            num_cpu_cores: None,
            last_level_cache_size: None,
            max_vector_size: VectorSize::MAX,
            cube_mma_reserved_shared_memory: 0,
        }
    }

    fn add_features(self, properties: &mut DeviceProperties) {
        let halves = [FloatKind::F16, FloatKind::BF16].map(ElemType::Float);
        register_supported_types(properties);
        properties.register_type_usage(ElemType::Float(FloatKind::TF32), TypeUsage::Conversion);
        properties.register_opaque_type(OpaqueType::Barrier);
        if self.hopper() {
            properties.register_opaque_type(OpaqueType::TensorMap);
        }

        let features = &mut properties.features;
        features.plane.insert(Plane::Ops);
        features.plane.insert(Plane::Sync);
        features.plane.insert(Plane::NonUniformControlFlow);
        features.memory_reinterpret = true;
        features.alignment = true;
        features.device_memory_scope = true;
        features.copy_async = true;
        features.matmul.ldmatrix.extend(halves);
        if self.hopper() {
            features.tma.insert(Tma::Base);
            features.cube_cluster = true;
            features.matmul.stmatrix.extend(halves);
        }

        let arch = self.cuda();
        let wmma = CudaCmmaCompiler::Cpp.supported_cmma_combinations(&arch);
        register_wmma_features(wmma, properties);
        register_mma_features(cuda::supported_mma_combinations(&arch), properties);
    }

    fn cuda(self) -> CudaArchitecture {
        CudaArchitecture {
            version: self.compute_capability(),
            tensor_cores: true,
        }
    }

    /// What the C++ compiler may use on this architecture.
    pub(crate) fn compilation_options(self) -> CompilationOptions {
        CompilationOptions {
            supports_features: CppSupportedFeatures {
                grid_constants: true,
                clusters: self.hopper(),
                fast_math: true,
                fast_tanh: true,
                elect_sync: self.hopper(),
                dp4a: true,
            },
            ..Default::default()
        }
    }

    /// What holds for the instructions of every NVIDIA GPU.
    pub fn target() -> TargetProperties {
        TargetProperties {
            mma: MmaProperties {
                register_size_bits: 32,
                const_plane_size: 32,
                register_layout_a: MatrixLayout::RowMajor,
                register_layout_b: MatrixLayout::ColMajor,
                register_layout_acc: MatrixLayout::RowMajor,
                register_duplication_a: 1,
                register_duplication_b: 1,
                register_duplication_acc: 1,
                contiguous_elements: ContiguousElements::new(contiguous_elements_cuda),
            },
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::Sm80 => "sm_80",
            Arch::Sm90a => "sm_90a",
        })
    }
}
