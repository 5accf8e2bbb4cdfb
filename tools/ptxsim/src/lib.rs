//! A functional PTX simulator: runs NVRTC output on the CPU for numerical tests.
//!
//! ```no_run
//! use ptxsim::*;
//! let module = Module::load(&std::fs::read_to_string("kernel.ptx").unwrap()).unwrap();
//! let mut dev = Device::new();
//! let x = dev.upload(&[1f32, 2.0]);
//! let stats = dev.launch(&module, "kernel", [1, 1, 1], [128, 1, 1], 0, &[x.into(), 2u32.into()], &Config::default()).unwrap();
//! let y: Vec<f32> = dev.download(x);
//! # let _ = (stats, y);
//! ```
mod alu;
mod decode;
mod exec;
pub mod ir;
mod mem;
pub mod mma;
mod parse;

pub use ir::Ty;
pub use mem::{Buffer, Swizzle, TensorMap};
pub use parse::ParseError;
use rayon::prelude::*;
use std::fmt;

pub(crate) const MAP_MAGIC: u64 = 0x5458_5453_494d_4d31;

/// When asynchronous operations take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// at issue
    Eager,
    /// at the latest legal moment
    Lazy,
    /// each operation one or the other, and random warp scheduling
    Random(u64),
}

/// Which warp runs next. A kernel must give the same result under all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    RoundRobin,
    /// always the runnable warp with the lowest index (a producer in warp 0 runs as far ahead as it can)
    LowFirst,
    HighFirst,
    /// random order and slice lengths
    Random(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Ignore,
    Warn,
    Error,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub mode: Mode,
    pub schedule: Schedule,
    /// reads of uninitialised (or in-flight) shared memory
    pub uninit: Policy,
    /// registers of an outstanding wgmma touched by other instructions
    pub inflight: Policy,
    /// generic writes read by TMA stores or wgmma without any fence.proxy.async, mbarriers used by other CTAs without
    /// fence.mbarrier_init
    pub proxy: Policy,
    /// accesses to shared memory of another CTA that may not have started, or have exited
    pub lifetime: Policy,
    /// CTAs per cluster, as the launch attribute; kernels with `.reqnctapercluster` bring their own
    pub cluster: Option<[u32; 3]>,
    /// run clusters (or CTAs) on all cores (they may then only communicate through atomics)
    pub parallel: bool,
    /// per cluster, counted while no barrier or copy completes
    pub max_warp_instructions: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            mode: Mode::Lazy,
            schedule: Schedule::RoundRobin,
            uninit: Policy::Error,
            inflight: Policy::Warn,
            proxy: Policy::Warn,
            lifetime: Policy::Error,
            cluster: None,
            parallel: false,
            max_warp_instructions: 2_000_000_000,
        }
    }
}

/// A fault of the simulated program.
#[derive(Debug, Clone)]
pub struct SimError {
    pub line: u32,
    pub ctaid: [u32; 3],
    pub thread: Option<u32>,
    pub msg: String,
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, ", self.line)?;
        }
        write!(f, "CTA {:?}", self.ctaid)?;
        if let Some(t) = self.thread {
            write!(f, ", thread {t} (warp {}, lane {})", t / 32, t % 32)?;
        }
        write!(f, ": {}", self.msg)
    }
}
impl std::error::Error for SimError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.msg)
    }
}
impl std::error::Error for ParseError {}

#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// thread instructions (a warp of 32 counts 32)
    pub instructions: u64,
    pub wgmma: u64,
    pub mma: u64,
    pub bulk_loads: u64,
    pub bulk_bytes: u64,
    pub warnings: Vec<String>,
    pub seconds: f64,
}

impl Stats {
    fn merge(&mut self, o: Stats) {
        self.instructions += o.instructions;
        self.wgmma += o.wgmma;
        self.mma += o.mma;
        self.bulk_loads += o.bulk_loads;
        self.bulk_bytes += o.bulk_bytes;
        for w in o.warnings {
            if self.warnings.len() < 200 && !self.warnings.contains(&w) {
                self.warnings.push(w);
            }
        }
    }
}

struct KernelCode {
    name: String,
    code: ir::Code,
    k: parse::Kernel,
}

/// Decoded PTX.
pub struct Module {
    kernels: Vec<KernelCode>,
    globals: Vec<u8>,
    pub target: String,
    symbols: Vec<(String, usize, usize)>,
}

impl Module {
    pub fn load(ptx: &str) -> Result<Module, ParseError> {
        let m = parse::parse_module(ptx)?;
        let mut globals = vec![0u8; m.global_size];
        for g in &m.globals {
            globals[g.offset..g.offset + g.size].copy_from_slice(&g.init);
        }
        let kernels = m
            .kernels
            .into_iter()
            .map(|k| {
                Ok(KernelCode {
                    name: k.name.clone(),
                    code: decode::decode(&k)?,
                    k,
                })
            })
            .collect::<Result<_, ParseError>>()?;
        let symbols = m
            .globals
            .iter()
            .map(|g| (g.name.clone(), g.offset, g.size))
            .collect();
        Ok(Module {
            kernels,
            globals,
            target: m.target,
            symbols,
        })
    }
    pub fn kernels(&self) -> Vec<&str> {
        self.kernels.iter().map(|k| k.name.as_str()).collect()
    }
    /// (name, offset in the module's data, size)
    pub fn globals(&self) -> &[(String, usize, usize)] {
        &self.symbols
    }
    /// Static shared memory of a kernel.
    pub fn static_shared(&self, kernel: &str) -> Option<usize> {
        self.kernels
            .iter()
            .find(|k| k.name == kernel)
            .map(|k| k.k.static_shared)
    }
}

/// A tensor map registered with the device.
#[derive(Debug, Clone, Copy)]
pub struct MapId(usize);

/// A kernel argument.
#[derive(Debug, Clone)]
pub enum Arg {
    Bytes(Vec<u8>),
    Map(MapId),
}

impl From<Buffer> for Arg {
    fn from(b: Buffer) -> Arg {
        Arg::Bytes(b.addr.to_le_bytes().to_vec())
    }
}
impl From<MapId> for Arg {
    fn from(m: MapId) -> Arg {
        Arg::Map(m)
    }
}
macro_rules! arg_from { ($($t:ty),*) => { $(impl From<$t> for Arg { fn from(v: $t) -> Arg { Arg::Bytes(v.to_le_bytes().to_vec()) } })* } }
arg_from!(u32, i32, f32, u64, i64);
impl From<Vec<u8>> for Arg {
    fn from(v: Vec<u8>) -> Arg {
        Arg::Bytes(v)
    }
}

/// Plain element types for transfers.
pub trait Pod: Copy {}
impl Pod for u8 {}
impl Pod for u16 {}
impl Pod for u32 {}
impl Pod for i32 {}
impl Pod for u64 {}
impl Pod for i64 {}
impl Pod for f32 {}
impl Pod for f64 {}
impl Pod for half::f16 {}
impl Pod for half::bf16 {}

/// The simulated device: global memory and tensor maps.
#[derive(Default)]
pub struct Device {
    mem: mem::GlobalMem,
    maps: Vec<TensorMap>,
}

impl Device {
    pub fn new() -> Device {
        Device::default()
    }
    pub fn alloc(&mut self, bytes: usize) -> Buffer {
        self.mem.alloc(bytes)
    }
    pub fn upload<T: Pod>(&mut self, v: &[T]) -> Buffer {
        let b = self.mem.alloc(std::mem::size_of_val(v));
        self.write(b, v);
        b
    }
    pub fn write<T: Pod>(&mut self, b: Buffer, v: &[T]) {
        let n = std::mem::size_of_val(v);
        assert!(n <= b.len);
        if n > 0 {
            let p = self.mem.ptr(b.addr, n).expect("a live buffer");
            unsafe { std::ptr::copy_nonoverlapping(v.as_ptr() as *const u8, p, n) };
        }
    }
    pub fn download<T: Pod>(&self, b: Buffer) -> Vec<T> {
        let n = b.len / size_of::<T>();
        let p = self.mem.ptr(b.addr, b.len).expect("a live buffer");
        (0..n)
            .map(|i| unsafe { (p as *const T).add(i).read_unaligned() })
            .collect()
    }
    pub fn tensor_map(&mut self, m: TensorMap) -> Result<MapId, String> {
        m.validate()?;
        self.maps.push(m);
        Ok(MapId(self.maps.len() - 1))
    }

    #[allow(clippy::too_many_arguments)]
    pub fn launch(
        &mut self,
        module: &Module,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_smem: usize,
        args: &[Arg],
        cfg: &Config,
    ) -> Result<Stats, SimError> {
        let fail = |m: String| SimError {
            line: 0,
            ctaid: [0; 3],
            thread: None,
            msg: m,
        };
        let k = module
            .kernels
            .iter()
            .find(|k| k.name == kernel)
            .or_else(|| {
                (module.kernels.len() == 1)
                    .then(|| &module.kernels[0])
                    .filter(|k| k.name.starts_with(kernel))
            })
            .ok_or_else(|| {
                fail(format!(
                    "no kernel {kernel}; there are {:?}",
                    module.kernels()
                ))
            })?;
        if args.len() != k.k.params.len() {
            return Err(fail(format!(
                "{} arguments for {} parameters",
                args.len(),
                k.k.params.len()
            )));
        }
        let mut params = vec![0u8; k.k.param_size];
        for (a, p) in args.iter().zip(&k.k.params) {
            let bytes = match a {
                Arg::Bytes(b) => b.clone(),
                Arg::Map(m) => {
                    let mut v = vec![0u8; 128];
                    v[..8].copy_from_slice(&MAP_MAGIC.to_le_bytes());
                    v[8..16].copy_from_slice(&(m.0 as u64).to_le_bytes());
                    v
                }
            };
            if bytes.len() > p.size {
                return Err(fail(format!(
                    "{} bytes for parameter {} of {}",
                    bytes.len(),
                    p.name,
                    p.size
                )));
            }
            params[p.offset..p.offset + bytes.len()].copy_from_slice(&bytes);
        }
        let threads = block.iter().product::<u32>();
        if threads == 0 || threads > 1024 {
            return Err(fail(format!("{threads} threads per CTA")));
        }
        if let Some(m) = k.k.maxntid
            && threads > m.iter().product()
        {
            return Err(fail(format!("{threads} threads, .maxntid {m:?}")));
        }
        let cluster = cluster_dims(&k.k, grid, cfg).map_err(fail)?;
        let dynoff = if dynamic_smem > 0 || k.k.uses_dynamic_shared {
            k.k.static_shared.next_multiple_of(k.k.dynamic_align.max(1))
        } else {
            k.k.static_shared
        };
        let smem = dynoff + dynamic_smem;
        if smem > 227 * 1024 {
            return Err(fail(format!("{smem} bytes of shared memory")));
        }
        if !module.globals.is_empty() {
            self.mem.free_at(parse::MODULE_BASE);
            let b = self.mem.alloc_at(parse::MODULE_BASE, module.globals.len());
            self.write(b, &module.globals);
        }
        let t0 = std::time::Instant::now();
        let size = cluster.unwrap_or([1; 3]);
        let count: [u64; 3] = std::array::from_fn(|i| (grid[i] / size[i]) as u64);
        let n = count.iter().product::<u64>();
        let run = exec::Launch {
            cfg,
            code: &k.code,
            gmem: &self.mem,
            maps: &self.maps,
            params: &params,
            grid,
            block,
            cluster,
            smem_size: smem,
            dyn_smem: dynamic_smem,
            local_size: k.k.local_size,
        };
        let one = |i: u64| -> Result<Stats, SimError> {
            let id = [
                i % count[0],
                i / count[0] % count[1],
                i / (count[0] * count[1]),
            ];
            let mut c = exec::Cluster::new(run, std::array::from_fn(|i| id[i] as u32 * size[i]));
            c.run().map_err(|e| *e)?;
            Ok(std::mem::take(&mut c.stats))
        };
        let mut stats = Stats::default();
        if cfg.parallel && n > 1 {
            let all: Result<Vec<Stats>, SimError> = (0..n).into_par_iter().map(one).collect();
            all?.into_iter().for_each(|s| stats.merge(s));
        } else {
            for i in 0..n {
                stats.merge(one(i)?);
            }
        }
        for (l, m) in &k.code.lint {
            stats.warnings.push(format!("line {l} (static): {m}"));
        }
        stats.seconds = t0.elapsed().as_secs_f64();
        Ok(stats)
    }
}

/// The cluster dimensions of a launch.
fn cluster_dims(
    k: &parse::Kernel,
    grid: [u32; 3],
    cfg: &Config,
) -> Result<Option<[u32; 3]>, String> {
    let size = match (k.cluster, cfg.cluster) {
        (Some(a), Some(b)) if a != b => {
            return Err(format!(
                "cluster {b:?} for a kernel with .reqnctapercluster {a:?}"
            ));
        }
        (a, b) => a.or(b),
    };
    match size {
        None if k.explicit_cluster => {
            Err("an .explicitcluster kernel needs Config::cluster".into())
        }
        None => Ok(None),
        Some(c) if c.contains(&0) || c.iter().product::<u32>() > k.max_cluster.min(16) => Err(
            format!("cluster {c:?}: at most {} CTAs", k.max_cluster.min(16)),
        ),
        Some(c) if (0..3).any(|i| !grid[i].is_multiple_of(c[i])) => Err(format!(
            "grid {grid:?} is not a multiple of the cluster {c:?}"
        )),
        Some(c) => Ok(Some(c)),
    }
}
