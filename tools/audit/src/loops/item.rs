//! From a kernel of the catalogue to its loops.

use anyhow::Result;
use cuda_device::{Nvrtc, Source, source};

use super::machine::Machine;
use super::nvdisasm::Nvdisasm;
use super::report::Row;
use super::steady::{Launch, Steady, steady};
use crate::{Item, Resources};

/// What the CUDA C++ of kernels for tensor cores has.
const PRODUCTS: [&str; 3] = ["wgmma.mma_async", "mma.sync", "nvcuda::wmma::mma_sync"];

impl Row {
    /// The loops of a kernel; none if it has no products of tensor cores, or its architecture no model.
    pub fn of(item: &Item, nvrtc: &Nvrtc, nvdisasm: &Nvdisasm) -> Option<Self> {
        Machine::of(&item.arch.to_string())?;
        let loops = match source::emit(&*item.kernel, item.arch) {
            Ok(source) if !PRODUCTS.iter().any(|product| source.text.contains(product)) => {
                return None;
            }
            Ok(source) => loops(item, &source, nvrtc, nvdisasm),
            Err(error) => Err(error),
        };
        Some(Self {
            kernel: item.kernel.id().short_name().to_string(),
            settings: item.settings.clone(),
            arch: item.arch.to_string(),
            loops: loops.map_err(|error| format!("{error:#}")),
        })
    }
}

fn loops(item: &Item, source: &Source, nvrtc: &Nvrtc, nvdisasm: &Nvdisasm) -> Result<Vec<Steady>> {
    let compiled = nvrtc.compile(&source.text, item.arch)?;
    let needs = Resources::parse(&compiled.log)?;
    let launch = Launch {
        threads: source.cube_dim.iter().product::<u32>() as usize,
        registers: needs.registers,
        shared_memory: source.shared_memory + needs.static_shared,
    };
    let listing = nvdisasm.listing(&compiled.machine_code)?;
    steady(&listing, &item.arch.to_string(), &launch)
}
