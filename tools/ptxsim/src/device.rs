//! The simulated device: memory, tensor maps, launches.

use crate::error::{Error, Result};
use crate::exec::{Cluster, Job};
use crate::launch::{Arg, Launch, MapId, Stats};
use crate::mem::{Buffer, GlobalMem};
use crate::module::Module;
use crate::ptx::{Kernel, MODULE_BASE};
use crate::tensor_map::TensorMap;
use half::{bf16, f16};
use rayon::prelude::*;

/// The most shared memory of a CTA, on sm_90.
const SHARED_MEMORY: usize = 227 * 1024;

/// A number that can be copied to and from a device.
pub trait Element: Copy {
    /// Appends its bytes.
    fn write(self, bytes: &mut Vec<u8>);
    /// All numbers in some bytes.
    fn read(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! elements {
    ($($t:ty),*) => {$(
        impl Element for $t {
            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
            fn read(bytes: &[u8]) -> Vec<Self> {
                let (chunks, _) = bytes.as_chunks();
                chunks.iter().map(|c| Self::from_le_bytes(*c)).collect()
            }
        }
    )*};
}
elements!(u8, u16, u32, i32, u64, i64, f32, f64, f16, bf16);

/// Global memory and tensor maps.
pub struct Device {
    memory: GlobalMem,
    maps: Vec<TensorMap>,
    /// The most that a CTA can have.
    shared_memory: usize,
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}

impl Device {
    /// A device with nothing on it. A CTA can have as much shared memory as on sm_90.
    pub fn new() -> Self {
        Self::with_shared_memory(SHARED_MEMORY)
    }

    /// The same with so many bytes of shared memory for a CTA at most.
    pub fn with_shared_memory(bytes: usize) -> Self {
        Self {
            memory: GlobalMem::default(),
            maps: Vec::new(),
            shared_memory: bytes,
        }
    }

    /// Memory that holds no numbers: every float in it is a NaN.
    pub fn alloc(&mut self, bytes: usize) -> Buffer {
        self.memory.alloc(bytes)
    }

    /// Gives memory back: from then on it is a fault to touch it.
    pub fn free(&mut self, buffer: Buffer) {
        self.memory.free(buffer.address);
    }

    /// A new buffer with these elements.
    pub fn upload<T: Element>(&mut self, elements: &[T]) -> Buffer {
        let mut bytes = Vec::with_capacity(size_of_val(elements));
        elements.iter().for_each(|e| e.write(&mut bytes));
        let buffer = self.memory.alloc(bytes.len());
        self.fill(buffer, &bytes);
        buffer
    }

    /// `bytes` are at most as long as the buffer, which is one of this device.
    fn fill(&mut self, buffer: Buffer, bytes: &[u8]) {
        if let Some(p) = self.memory.ptr(buffer.address, bytes.len()) {
            // SAFETY: as many bytes of a buffer, and no kernel runs.
            unsafe { p.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
        }
    }

    /// Overwrites the beginning of a buffer.
    ///
    /// # Errors
    /// If the buffer is shorter, or of another device.
    pub fn write<T: Element>(&mut self, buffer: Buffer, elements: &[T]) -> Result<()> {
        let mut bytes = Vec::with_capacity(size_of_val(elements));
        elements.iter().for_each(|e| e.write(&mut bytes));
        self.check(buffer, bytes.len())?;
        self.fill(buffer, &bytes);
        Ok(())
    }

    /// The elements of a buffer.
    ///
    /// # Errors
    /// If the buffer is of another device.
    pub fn download<T: Element>(&self, buffer: Buffer) -> Result<Vec<T>> {
        let p = self.check(buffer, buffer.bytes)?;
        // SAFETY: as many bytes of a buffer, and no kernel runs.
        Ok(T::read(unsafe {
            std::slice::from_raw_parts(p, buffer.bytes)
        }))
    }

    fn check(&self, buffer: Buffer, bytes: usize) -> Result<*mut u8> {
        let p = self.memory.ptr(buffer.address, bytes);
        p.ok_or_else(|| Error::usage(format!("{bytes} bytes at {buffer:?}: no such memory")))
    }

    /// Makes a tensor map known, to be passed to kernels.
    ///
    /// # Errors
    /// If `cuTensorMapEncodeTiled` would refuse it.
    pub fn tensor_map(&mut self, map: TensorMap) -> Result<MapId> {
        map.validate()?;
        self.maps.push(map);
        Ok(MapId(self.maps.len() - 1))
    }

    /// Runs a kernel to its end.
    ///
    /// # Errors
    /// If the launch does not fit the kernel, or at the first fault of the program.
    pub fn launch(
        &mut self,
        module: &Module,
        kernel: &str,
        launch: &Launch,
        args: &[Arg],
    ) -> Result<Stats> {
        Ok(self.run(module, kernel, launch, args, None)?.0)
    }

    /// Runs a kernel in each of [`Launch::orders`], each time on the memory as it is now, and leaves the result.
    ///
    /// # Errors
    /// As [`launch`](Self::launch); or if results differ in a bit, which names the instruction that wrote it.
    pub fn launch_in_all_orders(
        &mut self,
        module: &Module,
        kernel: &str,
        launch: &Launch,
        args: &[Arg],
    ) -> Result<Stats> {
        let before = self.memory.contents();
        let mut first: Option<(Launch, Vec<Vec<u8>>)> = None;
        let mut stats = Stats::default();
        for launch in launch.orders() {
            self.memory.restore(&before);
            let order = |mut error: Error| {
                let Launch { mode, schedule, .. } = &launch;
                error.message += &format!(" ({mode:?}, {schedule:?})");
                error
            };
            stats = self.launch(module, kernel, &launch, args).map_err(order)?;
            let Some((other, expected)) = &first else {
                first = Some((launch, self.memory.contents()));
                continue;
            };
            if let Some(address) = self.memory.difference(expected) {
                self.memory.restore(&before);
                let line = self.run(module, kernel, &launch, args, Some(address))?.1;
                return Err(race(address, line, [other, &launch]).quote(&module.source));
            }
        }
        Ok(stats)
    }

    /// Also the line that wrote the byte at `watch` last.
    fn run(
        &mut self,
        module: &Module,
        kernel: &str,
        launch: &Launch,
        args: &[Arg],
        watch: Option<u64>,
    ) -> Result<(Stats, Option<u32>)> {
        let (kernel, code) = module.kernel(kernel)?;
        let params = parameters(kernel, args)?;
        if !module.data.is_empty() {
            let data = self.memory.alloc_at(MODULE_BASE, module.data.len());
            self.fill(data, &module.data);
        }
        let job = Job {
            code,
            global: &self.memory,
            maps: &self.maps,
            params: &params,
            cluster: cluster(kernel, launch)?,
            shared_bytes: shared_bytes(kernel, launch, self.shared_memory)?,
            local_bytes: kernel.local_bytes,
            watch,
            launch,
        };
        check_block(kernel, launch)?;
        run_clusters(job).map_err(|error| error.quote(&module.source))
    }
}

fn race(address: u64, line: Option<u32>, [a, b]: [&Launch; 2]) -> Error {
    let order = |l: &Launch| format!("{:?}, {:?}", l.mode, l.schedule);
    Error::at(
        line.unwrap_or(0),
        format!(
            "race: the byte written to 0x{address:x} differs between ({}) and ({})",
            order(a),
            order(b)
        ),
    )
}

fn run_clusters(job: Job) -> Result<(Stats, Option<u32>)> {
    let size = job.cluster.unwrap_or([1; 3]);
    let count: [u64; 3] = std::array::from_fn(|i| (job.launch.grid[i] / size[i]) as u64);
    let one = |i: u64| {
        let id = [
            i % count[0],
            i / count[0] % count[1],
            i / (count[0] * count[1]),
        ];
        let mut cluster = Cluster::new(job, std::array::from_fn(|i| id[i] as u32 * size[i]));
        cluster.run().map_err(|error| *error)?;
        Ok((std::mem::take(&mut cluster.stats), cluster.watched))
    };
    let all = 0..count.iter().product::<u64>();
    let results: Vec<(Stats, Option<u32>)> = if job.launch.parallel && all.end > 1 {
        all.into_par_iter().map(one).collect::<Result<_>>()?
    } else {
        all.map(one).collect::<Result<_>>()?
    };
    let mut stats = Stats::default();
    let mut watched = None;
    for (own, line) in results {
        stats.merge(own);
        watched = line.or(watched);
    }
    Ok((stats, watched))
}

fn parameters(kernel: &Kernel, args: &[Arg]) -> Result<Vec<u8>> {
    let (given, n) = (args.len(), kernel.params.len());
    if given != n {
        return Err(Error::usage(format!(
            "{given} arguments for {n} parameters"
        )));
    }
    let mut bytes = vec![0; kernel.param_bytes];
    for (arg, param) in args.iter().zip(&kernel.params) {
        let arg = arg.bytes();
        if arg.len() > param.bytes {
            let (given, n) = (arg.len(), param.bytes);
            return Err(Error::usage(format!(
                "{given} bytes for {} of {n}",
                param.name
            )));
        }
        bytes[param.offset..param.offset + arg.len()].copy_from_slice(&arg);
    }
    Ok(bytes)
}

fn check_block(kernel: &Kernel, launch: &Launch) -> Result<()> {
    let threads: u32 = launch.block.iter().product();
    let usage = |message: String| Err(Error::usage(message));
    if !(1..=1024).contains(&threads) {
        return usage(format!("{threads} threads per CTA"));
    }
    if launch.grid.contains(&0) {
        return usage(format!("grid {:?}", launch.grid));
    }
    match (kernel.maxntid, kernel.reqntid) {
        (Some(most), _) if threads > most.iter().product() => {
            usage(format!("{threads} threads, .maxntid {most:?}"))
        }
        (_, Some(exact)) if launch.block != exact => {
            usage(format!("block {:?}, .reqntid {exact:?}", launch.block))
        }
        _ => Ok(()),
    }
}

fn shared_bytes(kernel: &Kernel, launch: &Launch, most: usize) -> Result<usize> {
    let start = match launch.shared > 0 || kernel.uses_dynamic_shared {
        true => kernel.dynamic_offset(),
        false => kernel.static_shared,
    };
    match start + launch.shared {
        bytes if bytes > most => Err(Error::usage(format!(
            "{bytes} bytes of shared memory, a CTA has {most}"
        ))),
        bytes => Ok(bytes),
    }
}

/// The cluster dimensions of a launch.
fn cluster(kernel: &Kernel, launch: &Launch) -> Result<Option<[u32; 3]>> {
    let usage = |message: String| Err(Error::usage(message));
    let size = match (kernel.cluster, launch.cluster) {
        (Some(own), Some(given)) if own != given => {
            return usage(format!("cluster {given:?}, .reqnctapercluster {own:?}"));
        }
        (own, given) => own.or(given),
    };
    let Some(size) = size else {
        return match kernel.explicit_cluster {
            true => usage("an .explicitcluster kernel needs Launch::cluster".into()),
            false => Ok(None),
        };
    };
    let most = kernel.max_cluster.unwrap_or(16).min(16);
    if !(1..=most).contains(&size.iter().product()) {
        return usage(format!("cluster {size:?}: 1 to {most} CTAs"));
    }
    if (0..3).any(|i| !launch.grid[i].is_multiple_of(size[i])) {
        let grid = launch.grid;
        return usage(format!(
            "grid {grid:?} is not a multiple of the cluster {size:?}"
        ));
    }
    Ok(Some(size))
}
