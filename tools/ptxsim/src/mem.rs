//! Global memory, tensor maps and their tile traversal.
use crate::ir::{RedOp, Ty};
use std::sync::Mutex;

pub const SHARED_BASE: u64 = 0x0000_5000_0000_0000;
pub const LOCAL_BASE: u64 = 0x0000_5100_0000_0000;
pub const PARAM_BASE: u64 = 0x0000_5200_0000_0000;
pub const WINDOW: u64 = 1 << 32;
const HEAP_BASE: u64 = 0x0000_7000_0000_0000;

/// A global buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    pub addr: u64,
    pub len: usize,
}

struct Alloc {
    base: u64,
    len: usize,
    data: Vec<u64>,
}

/// All global allocations; CTAs may run in parallel, so access goes through raw pointers
/// and read-modify-write operations take `lock`.
#[derive(Default)]
pub struct GlobalMem {
    allocs: Vec<Alloc>,
    next: u64,
    pub lock: Mutex<()>,
}

unsafe impl Sync for GlobalMem {}

impl GlobalMem {
    pub fn alloc_at(&mut self, base: u64, len: usize) -> Buffer {
        let a = Alloc {
            base,
            len,
            data: vec![0; len.div_ceil(8)],
        };
        let i = self.allocs.partition_point(|x| x.base < base);
        self.allocs.insert(i, a);
        Buffer { addr: base, len }
    }
    pub fn free_at(&mut self, base: u64) {
        self.allocs.retain(|a| a.base != base);
    }
    pub fn alloc(&mut self, len: usize) -> Buffer {
        if self.next == 0 {
            self.next = HEAP_BASE;
        }
        let base = self.next;
        // guard gap between buffers
        self.next += (len as u64).div_ceil(512) * 512 + 4096;
        self.alloc_at(base, len)
    }
    #[inline]
    pub fn ptr(&self, addr: u64, len: usize) -> Option<*mut u8> {
        let i = self.allocs.partition_point(|x| x.base <= addr);
        let a = self.allocs.get(i.checked_sub(1)?)?;
        let off = (addr - a.base) as usize;
        if off + len <= a.len {
            Some(unsafe { (a.data.as_ptr() as *mut u8).add(off) })
        } else {
            None
        }
    }
    pub fn describe(&self, addr: u64) -> String {
        let i = self.allocs.partition_point(|x| x.base <= addr);
        match i.checked_sub(1).and_then(|i| self.allocs.get(i)) {
            Some(a) => format!(
                "nearest buffer: base 0x{:x}, {} bytes; offset {}",
                a.base,
                a.len,
                addr - a.base
            ),
            None => "no buffer below this address".into(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swizzle {
    None,
    B32,
    B64,
    B128,
}

impl Swizzle {
    pub fn bytes(self) -> usize {
        match self {
            Swizzle::None => usize::MAX,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }
    /// Physical address of a linear shared-memory address: 16-byte chunk bits ^= 128-byte row bits.
    #[inline]
    pub fn apply(self, a: u64) -> u64 {
        let m = match self {
            Swizzle::None => 0,
            Swizzle::B32 => 1,
            Swizzle::B64 => 3,
            Swizzle::B128 => 7,
        };
        a ^ (((a >> 7) & m) << 4)
    }
}

/// The arguments of `cuTensorMapEncodeTiled`.
#[derive(Debug, Clone)]
pub struct TensorMap {
    pub ty: Ty,
    pub base: u64,
    /// innermost first
    pub dims: Vec<u64>,
    /// byte strides of dimensions 1..
    pub strides: Vec<u64>,
    pub box_dims: Vec<u32>,
    pub elem_strides: Vec<u32>,
    pub swizzle: Swizzle,
    /// out-of-bounds elements: NaN instead of zero
    pub oob_nan: bool,
}

impl TensorMap {
    /// The checks of `cuTensorMapEncodeTiled`.
    pub fn validate(&self) -> Result<(), String> {
        let n = self.dims.len();
        if n == 0
            || n > 5
            || self.strides.len() + 1 != n
            || self.box_dims.len() != n
            || self.elem_strides.len() != n
        {
            return Err("rank mismatch".into());
        }
        if !self.base.is_multiple_of(16) {
            return Err("the base address must be 16-byte aligned".into());
        }
        if self.dims.iter().any(|d| *d == 0 || *d > 1 << 32) {
            return Err("dimensions must be 1..=2^32".into());
        }
        if self.strides.iter().any(|s| s % 16 != 0 || *s >= 1 << 40) {
            return Err("strides must be multiples of 16 and below 2^40".into());
        }
        if self.box_dims.iter().any(|b| *b == 0 || *b > 256) {
            return Err("box dimensions must be 1..=256".into());
        }
        if self.elem_strides.iter().any(|b| *b == 0 || *b > 8) {
            return Err("element strides must be 1..=8".into());
        }
        let inner = self.box_dims[0] as usize * self.ty.bytes();
        if !inner.is_multiple_of(16) {
            return Err("the inner box must be a multiple of 16 bytes".into());
        }
        if self.swizzle != Swizzle::None && inner > self.swizzle.bytes() {
            return Err(format!(
                "the inner box is {inner} bytes, more than the swizzle span"
            ));
        }
        Ok(())
    }
    pub fn box_bytes(&self) -> usize {
        self.box_dims.iter().map(|b| *b as usize).product::<usize>() * self.ty.bytes()
    }
    /// Calls `f(shared address, Some(global address) or None when out of bounds)` per element.
    pub fn walk(&self, smem: u64, coords: &[i32], mut f: impl FnMut(u64, Option<u64>)) {
        let es = self.ty.bytes() as u64;
        let n = self.dims.len();
        let mut idx = vec![0u32; n];
        let total: u64 = self.box_dims.iter().map(|b| *b as u64).product();
        for lin in 0..total {
            let mut g = self.base;
            let mut ok = true;
            for d in 0..n {
                let c = coords[d] as i64 + idx[d] as i64 * self.elem_strides[d] as i64;
                if c < 0 || c as u64 >= self.dims[d] {
                    ok = false;
                    break;
                }
                g += c as u64 * if d == 0 { es } else { self.strides[d - 1] };
            }
            f(self.swizzle.apply(smem + lin * es), ok.then_some(g));
            for (x, b) in idx.iter_mut().zip(&self.box_dims) {
                *x += 1;
                if *x < *b {
                    break;
                }
                *x = 0;
            }
        }
    }
}

/// `old (op) v` on raw bits of type `ty`.
pub fn reduce(op: RedOp, ty: Ty, old: u64, v: u64) -> u64 {
    use half::{bf16, f16};
    let fop = |a: f64, b: f64| match op {
        RedOp::Add => a + b,
        RedOp::Min => a.min(b),
        _ => a.max(b),
    };
    let h = |a: u64, b: u64, bf: bool| -> u64 {
        if bf {
            let (x, y) = (
                bf16::from_bits(a as u16).to_f64(),
                bf16::from_bits(b as u16).to_f64(),
            );
            bf16::from_f32(fop(x, y) as f32).to_bits() as u64
        } else {
            let (x, y) = (
                f16::from_bits(a as u16).to_f64(),
                f16::from_bits(b as u16).to_f64(),
            );
            f16::from_f64(fop(x, y)).to_bits() as u64
        }
    };
    let mask = if ty.bytes() == 8 {
        u64::MAX
    } else {
        (1u64 << (ty.bytes() * 8)) - 1
    };
    match ty {
        Ty::F32 => match op {
            RedOp::Add => (f32::from_bits(old as u32) + f32::from_bits(v as u32)).to_bits() as u64,
            _ => (fop(
                f32::from_bits(old as u32) as f64,
                f32::from_bits(v as u32) as f64,
            ) as f32)
                .to_bits() as u64,
        },
        Ty::F64 => fop(f64::from_bits(old), f64::from_bits(v)).to_bits(),
        Ty::F16 => h(old, v, false),
        Ty::BF16 => h(old, v, true),
        Ty::F16x2 | Ty::BF16x2 => {
            let bf = ty == Ty::BF16x2;
            h(old & 0xffff, v & 0xffff, bf) | h((old >> 16) & 0xffff, (v >> 16) & 0xffff, bf) << 16
        }
        _ => {
            let sx = |x: u64| {
                let s = 64 - ty.bytes() * 8;
                ((x << s) as i64) >> s
            };
            (match op {
                RedOp::Add => old.wrapping_add(v),
                RedOp::And => old & v,
                RedOp::Or => old | v,
                RedOp::Xor => old ^ v,
                RedOp::Min if ty.signed() => sx(old).min(sx(v)) as u64,
                RedOp::Max if ty.signed() => sx(old).max(sx(v)) as u64,
                RedOp::Min => (old & mask).min(v & mask),
                RedOp::Max => (old & mask).max(v & mask),
                RedOp::Inc => {
                    if old & mask >= v & mask {
                        0
                    } else {
                        old + 1
                    }
                }
                RedOp::Dec => {
                    if old & mask == 0 || old & mask > v & mask {
                        v
                    } else {
                        old - 1
                    }
                }
            }) & mask
        }
    }
}
