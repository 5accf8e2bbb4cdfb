//! From CubeCL's arguments of a launch to those of the simulator, in the order of the CUDA runtime: resources, what is
//! read of shapes and strides at run time, then scalars.

use anyhow::{Result, bail, ensure};
use cubecl_core::ir::{ElemType, FloatKind};
use cubecl_server::server::{KernelArguments, KernelResource, TensorMapMeta};
use cubecl_server::tma::{OobFill, TensorMapFormat, TensorMapInterleave, TensorMapSwizzle};
use ptxsim::{Arg, Buffer, Swizzle, TensorMap, Ty};

use crate::memory::Memory;

pub(crate) fn arguments(memory: &mut Memory, given: &KernelArguments) -> Result<Vec<Arg>> {
    let mut arguments = Vec::new();
    for resource in &given.resources {
        arguments.push(match resource {
            KernelResource::Buffer(binding) => memory.buffer(binding)?.into(),
            KernelResource::TensorMap(tensor) => {
                let base = memory.buffer(&tensor.binding)?.address;
                let map = tensor_map(&tensor.map, base)?;
                memory.device.tensor_map(map)?.into()
            }
        });
    }
    let info = &given.info;
    let bytes = |words: &[u64]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let (fixed, dynamic) = info.data.split_at(info.dynamic_metadata_offset);
    if !dynamic.is_empty() {
        arguments.push(memory.device.upload(&bytes(dynamic)).into());
    }
    if !info.data.is_empty() {
        arguments.push(Arg::Bytes(bytes(fixed)));
    }
    Ok(arguments)
}

/// The buffers that a launch is given, each once: CubeCL's number of it, and where it lies.
pub(crate) fn buffers(memory: &Memory, given: &KernelArguments) -> Result<Vec<(usize, Buffer)>> {
    let mut found: Vec<(usize, Buffer)> = Vec::new();
    for resource in &given.resources {
        let binding = match resource {
            KernelResource::Buffer(binding) => binding,
            KernelResource::TensorMap(tensor) => &tensor.binding,
        };
        let buffer = memory.buffer(binding)?;
        if !found.iter().any(|known| known.1 == buffer) {
            found.push((binding.memory.id().value, buffer));
        }
    }
    Ok(found)
}

/// As `cuTensorMapEncodeTiled` is called by the CUDA runtime: innermost axis first, strides in bytes.
fn tensor_map(meta: &TensorMapMeta, base: u64) -> Result<TensorMap> {
    let TensorMapFormat::Tiled(tiled) = &meta.format else {
        bail!("only tiled tensor maps are simulated");
    };
    let plain = meta.interleave == TensorMapInterleave::None
        && meta.oob_fill == OobFill::Zero
        && meta.elem_stride.iter().all(|stride| *stride == 1);
    ensure!(plain, "only plain tensor maps are simulated");
    let ty = element(&meta.elem_ty)?;
    let strides = meta.metadata.strides().iter().rev().skip(1);
    Ok(TensorMap {
        ty,
        base,
        dims: meta
            .metadata
            .shape()
            .iter()
            .rev()
            .map(|n| *n as u64)
            .collect(),
        strides: strides.map(|n| (*n * ty.bytes()) as u64).collect(),
        box_dims: tiled.tile_size.iter().rev().map(|n| *n as u32).collect(),
        swizzle: swizzle(meta.swizzle)?,
    })
}

fn element(ty: &ElemType) -> Result<Ty> {
    Ok(match ty {
        ElemType::Float(FloatKind::F16) => Ty::F16,
        ElemType::Float(FloatKind::BF16) => Ty::BF16,
        ElemType::Float(FloatKind::F32) => Ty::F32,
        other => bail!("tensor maps of {other:?} are not simulated"),
    })
}

fn swizzle(swizzle: TensorMapSwizzle) -> Result<Swizzle> {
    Ok(match swizzle {
        TensorMapSwizzle::None => Swizzle::None,
        TensorMapSwizzle::B32 => Swizzle::B32,
        TensorMapSwizzle::B64 => Swizzle::B64,
        TensorMapSwizzle::B128 => Swizzle::B128,
        other => bail!("swizzle {other:?} is not simulated"),
    })
}
