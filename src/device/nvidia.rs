//! NVIDIA GPUs: what a kernel may use on one, as CubeCL's CUDA runtime would report it.

use cubecl::cmma::MatrixLayout;
use cubecl::ir::{
    ContiguousElements, DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties,
    MemoryDeviceProperties, MmaProperties, OpaqueType, TargetProperties, VectorSize,
    features::{Plane, Tma, TypeUsage},
};
use cubecl::profile::TimingMethod;
use cubecl_cpp::cuda::{
    self,
    arch::CudaArchitecture,
    mma::{CudaCmmaCompiler, manual::contiguous_elements_cuda},
};
use cubecl_cpp::register_supported_types;
use cubecl_cpp::shared::{
    CompilationOptions, CppSupportedFeatures, register_mma_features, register_scaled_mma_features,
    register_wmma_features,
};

/// As `cuMemAllocPitch` aligns rows.
const ALIGNMENT: u64 = 512;

/// A GPU of compute capability 8.0 or more, as far as kernels depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gpu {
    /// Major and minor number as one: 90 is 9.0.
    pub compute_capability: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// The most shared memory that one cube can ask for, in bytes.
    pub shared_memory: usize,
    /// Global memory, in bytes.
    pub memory: u64,
}

impl Gpu {
    /// The name by which NVRTC compiles for exactly this GPU, as `sm_86` or `sm_90a`: from 9.0 on, instructions that no later
    /// GPU has are among those allowed.
    pub fn architecture(&self) -> String {
        format!("sm_{}", self.numbers())
    }

    /// The same where PTX is wanted and no machine code, as `compute_90a`.
    pub fn virtual_architecture(&self) -> String {
        format!("compute_{}", self.numbers())
    }

    fn numbers(&self) -> String {
        let specific = if self.at_least(90) { "a" } else { "" };
        format!("{}{specific}", self.compute_capability)
    }

    fn at_least(&self, compute_capability: u32) -> bool {
        self.compute_capability >= compute_capability
    }

    /// What the CUDA runtime reports of such a device under this name.
    pub fn properties(&self, name: &str) -> DeviceProperties {
        // The runtime's pools take at most a quarter at once.
        let memory = MemoryDeviceProperties::new(self.memory / 4, ALIGNMENT);
        let identity = DeviceIdentity {
            name: name.into(),
            fingerprint: format!("ptx_sm{}", self.compute_capability),
            physical: None,
        };
        let mut properties = DeviceProperties::new(
            Default::default(),
            memory.with_max_memory(self.memory),
            self.hardware(),
            TimingMethod::Device,
            identity,
        );
        self.add_types(&mut properties);
        self.add_features(&mut properties);
        self.add_products(&mut properties);
        properties
    }

    fn hardware(&self) -> HardwareProperties {
        // Which the runtime knows of these alone.
        let known = matches!(self.compute_capability, 80 | 86 | 89 | 90 | 100);
        HardwareProperties {
            load_width: 128,
            vector_register_count: None,
            plane_size_min: 32,
            plane_size_max: 32,
            max_bindings: 1024,
            max_shared_memory_size: self.shared_memory,
            max_cube_count: (i32::MAX as u32, 65535, 65535),
            max_units_per_cube: 1024,
            max_cube_dim: (1024, 1024, 64),
            num_streaming_multiprocessors: Some(self.multiprocessors),
            num_tensor_cores: known.then_some(4),
            min_tensor_cores_dim: Some(8),
            num_cpu_cores: None,
            last_level_cache_size: None,
            max_vector_size: VectorSize::MAX,
            cube_mma_reserved_shared_memory: 0,
        }
    }

    fn add_types(&self, properties: &mut DeviceProperties) {
        register_supported_types(properties);
        properties.register_type_usage(ElemType::Float(FloatKind::TF32), TypeUsage::Conversion);
        properties.register_opaque_type(OpaqueType::Barrier);
        if self.at_least(90) {
            properties.register_opaque_type(OpaqueType::TensorMap);
        }
    }

    fn add_features(&self, properties: &mut DeviceProperties) {
        let halves = [FloatKind::F16, FloatKind::BF16].map(ElemType::Float);
        let features = &mut properties.features;
        features.plane.insert(Plane::Ops);
        features.plane.insert(Plane::Sync);
        features.plane.insert(Plane::NonUniformControlFlow);
        features.memory_reinterpret = true;
        features.alignment = true;
        features.device_memory_scope = true;
        features.copy_async = true;
        features.matmul.ldmatrix.extend(halves);
        if self.at_least(90) {
            features.tma.insert(Tma::Base);
            features.cube_cluster = true;
            features.matmul.stmatrix.extend(halves);
        }
        if self.at_least(100) {
            features.tma.insert(Tma::Im2colWide);
            features.tma.insert(Tma::SwizzleAtomicity);
        }
    }

    fn add_products(&self, properties: &mut DeviceProperties) {
        let arch = CudaArchitecture {
            version: self.compute_capability,
            tensor_cores: true,
        };
        let wmma = CudaCmmaCompiler::Cpp.supported_cmma_combinations(&arch);
        register_wmma_features(wmma, properties);
        register_mma_features(cuda::supported_mma_combinations(&arch), properties);
        register_scaled_mma_features(cuda::supported_scaled_mma_combinations(&arch), properties);
    }

    /// What CubeCL's C++ compiler may use.
    pub fn compilation_options(&self) -> CompilationOptions {
        CompilationOptions {
            supports_features: CppSupportedFeatures {
                grid_constants: true,
                clusters: self.at_least(90),
                fast_math: true,
                fast_tanh: true,
                elect_sync: self.at_least(90),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(compute_capability: u32) -> Gpu {
        Gpu {
            compute_capability,
            multiprocessors: 84,
            shared_memory: 99 << 10,
            memory: 16 << 30,
        }
    }

    #[test]
    fn instructions_of_one_gpu_alone_are_named_from_hopper_on() {
        let names = [86, 89, 90, 120].map(|capability| gpu(capability).architecture());
        assert_eq!(names, ["sm_86", "sm_89", "sm_90a", "sm_120a"]);
        assert_eq!(gpu(90).virtual_architecture(), "compute_90a");
    }

    #[test]
    fn tensor_maps_begin_with_hopper() {
        let has = |capability| {
            let properties = gpu(capability).properties("test");
            let features = &properties.features;
            (features.tma.contains(Tma::Base), features.cube_cluster)
        };
        assert_eq!([80, 86, 89].map(has), [(false, false); 3]);
        assert_eq!([90, 100, 120].map(has), [(true, true); 3]);
    }

    #[test]
    fn sizes_are_those_given() {
        let properties = gpu(86).properties("test");
        assert_eq!(properties.hardware.max_shared_memory_size, 99 << 10);
        assert_eq!(properties.hardware.num_streaming_multiprocessors, Some(84));
        assert_eq!(properties.identity.fingerprint, "ptx_sm86");
    }
}
