//! Every golden case of a folder, computed and compared with what another implementation made of it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use cuda_device::{Arch, Nvrtc};
use diff_flash_attn::Client;
use golden::{Case, Device, Reference, Rounded, Row, Runner};
use simulator::Simulator;

use crate::device::{Backend, Storage};
use crate::{errors, setup};

/// Where the cases are, and what to compute them with.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder of `*.safetensors` files; the documentation of tools/golden says what they hold.
    folder: PathBuf,
    /// What computes.
    #[arg(long, value_enum, default_value_t = Computer::Wgpu)]
    device: Computer,
    /// The GPU that is simulated, with its limits and the kernels that are for it [default: sm_90a]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// How the device stores tensors; the reference is always f64.
    #[arg(long, value_enum, default_value_t = Storage::F32)]
    dtype: Storage,
    /// Also write the errors to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Relative error, ‖ours − theirs‖ / ‖theirs‖, above which a tensor is wrong [default: 1e-5 for f32, 5e-3 for f16, 4e-2 for bf16, or if that is more, twice what rounding inputs and outputs to the type costs]
    #[arg(long)]
    tolerance: Option<f64>,
}

/// What computes the cases.
#[derive(Clone, Copy, ValueEnum)]
enum Computer {
    /// Vulkan, Metal or DirectX 12; a software Vulkan driver is installed if there is none.
    Wgpu,
    /// The first CUDA device.
    Cuda,
    /// CUDA kernels in the PTX simulator, no GPU needed. NVIDIA's compiler is fetched if need be.
    Ptxsim,
    /// The f64 reference on the CPU.
    Reference,
}

impl Options {
    /// The device to compute on, if it is one of this machine.
    pub(crate) fn backend(&self) -> Option<Backend> {
        match self.device {
            Computer::Wgpu => Some(Backend::Wgpu),
            Computer::Cuda => Some(Backend::Cuda),
            Computer::Ptxsim | Computer::Reference => None,
        }
    }

    /// The relative error allowed to a tensor, given what storing costs it.
    fn allowed(&self, stored: &Row) -> f64 {
        let default = || errors::tolerance(self.dtype.dtype()).max(2.0 * stored.relative);
        self.tolerance.unwrap_or_else(default)
    }

    fn runner(&self) -> Result<Box<dyn Runner>> {
        let simulates = matches!(self.device, Computer::Ptxsim);
        ensure!(
            simulates || self.arch.is_none(),
            "--arch is for --device ptxsim"
        );
        let client = match (self.backend(), self.device) {
            (Some(backend), _) => backend.client()?,
            (None, Computer::Ptxsim) => simulated(self.arch.unwrap_or(Arch::Sm90a))?,
            (None, _) => {
                println!("f64 reference");
                return Ok(Box::new(Reference));
            }
        };
        let device = Device::new(client, self.dtype.dtype());
        println!("{}, {}", device.describe(), self.dtype.dtype());
        Ok(Box::new(device))
    }
}

/// A client of a simulated GPU.
fn simulated(arch: Arch) -> Result<Client> {
    let nvrtc = Nvrtc::open(&setup::cuda_wheels()?)?;
    nvrtc.check(arch)?;
    let simulator = Simulator::new(arch, nvrtc)?;
    Ok(simulator.client().clone())
}

/// Computes every case. Whether every tensor is within what is allowed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let dtype = options.dtype.dtype();
    let mut runner = options.runner()?;
    let (mut rows, mut allowed) = (Vec::new(), Vec::new());
    for file in golden::find(&options.folder)? {
        let case = Case::load(&file)?;
        rows.extend(golden::check(&case, runner.as_mut())?);
        let stored = golden::check(&case, &mut Rounded(dtype))?;
        allowed.extend(stored.iter().map(|row| options.allowed(row)));
    }
    println!("{}", errors::table(&rows, &allowed));
    if let Some(path) = &options.json {
        write(&rows, path)?;
    }
    Ok(errors::all_within(&rows, &allowed))
}

/// Writes `[{"case", "tensor", "kernel", "max_abs", "relative"}]`.
fn write(rows: &[Row], path: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    serde_json::to_writer_pretty(File::create(path).with_context(cannot)?, rows)
        .with_context(cannot)
}
