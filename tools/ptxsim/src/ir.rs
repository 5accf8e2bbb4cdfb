//! Decoded instructions: register operands are slot numbers, nothing textual is left.

use crate::ty::Ty;

/// A register slot: 32 lanes of `u32`. A 64-bit register is two consecutive slots (low words, high words).
pub type S = u32;

/// A predicate and whether it is negated.
#[derive(Debug, Clone, Copy)]
pub struct PSrc {
    pub p: u32,
    pub neg: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Int1 {
    Neg,
    Not,
    Abs,
    Popc,
    Clz,
    Brev,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Int2 {
    Add,
    Sub,
    Mul,
    MulHi,
    Div,
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

/// On 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Int3 {
    Bfe { signed: bool },
    Shf { left: bool, wrap: bool },
    Prmt,
    Lop3(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float1 {
    Neg,
    Abs,
    Ex2,
    Lg2,
    Rcp,
    Rsqrt,
    Sqrt,
    Tanh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float2 {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
}

/// The modifiers of float arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavour {
    pub ftz: bool,
    pub sat: bool,
    pub relu: bool,
    /// min and max of a NaN are NaN
    pub nan: bool,
    pub rounding: Rounding,
}

impl Flavour {
    /// Round to nearest, nothing else.
    pub fn plain(self) -> bool {
        let Self {
            ftz, sat, rounding, ..
        } = self;
        !ftz && !sat && rounding == Rounding::Nearest
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// neither operand is a NaN
    Num,
    /// an operand is a NaN
    Nan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boolean {
    And,
    Or,
    Xor,
}

impl Boolean {
    pub fn apply(self, x: u32, y: u32) -> u32 {
        match self {
            Self::And => x & y,
            Self::Or => x | y,
            Self::Xor => x ^ y,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Setp {
    pub comparison: Comparison,
    /// what a comparison with a NaN gives
    pub unordered: bool,
    pub ftz: bool,
    pub ty: Ty,
    /// destinations of the result and of its opposite
    pub p: u32,
    pub q: u32,
    pub a: S,
    pub b: S,
    /// both are combined with this
    pub with: Option<(Boolean, PSrc)>,
}

#[derive(Debug, Clone)]
pub struct Conversion {
    pub from: Ty,
    pub to: Ty,
    pub rounding: Option<Rounding>,
    /// float to float: to an integral value
    pub to_integer: bool,
    pub sat: bool,
    pub satfinite: bool,
    pub relu: bool,
    pub ftz: bool,
    pub d: S,
    /// the destination has 64 bits
    pub wide: bool,
    pub a: S,
    /// the low half of a packed result; `a` is the high one
    pub b: Option<S>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TowardTf32 {
    /// ties away from zero
    NearestAway,
    /// ties to an even last bit
    NearestEven,
    Zero,
}

/// How single precision becomes tf32.
#[derive(Debug, Clone, Copy)]
pub struct ToTf32 {
    pub rounding: TowardTf32,
    pub relu: bool,
    pub satfinite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    Global,
    /// shared::cta
    Shared,
    /// shared::cluster
    Cluster,
    Local,
    Param,
    Generic,
}

#[derive(Debug, Clone, Copy)]
pub struct Addr {
    pub slot: S,
    pub wide: bool,
    pub offset: i64,
}

/// How a loaded value fills its register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extend {
    None,
    /// sign-extend to 32 bits
    Signed32,
    Zero64,
    Signed64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Inc,
    Dec,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomic {
    Reduce(Reduction),
    Exchange,
    CompareAndSwap,
}

#[derive(Debug, Clone)]
pub struct Atom {
    pub space: Space,
    pub op: Atomic,
    pub ty: Ty,
    /// of the old values; empty for red
    pub d: Vec<S>,
    pub addr: Addr,
    pub b: Vec<S>,
    /// what compare-and-swap writes
    pub c: Option<S>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shuffle {
    Idx,
    Up,
    Down,
    Bfly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    Uni,
    Ballot,
}

/// Instructions that exchange data between the lanes of `members`.
#[derive(Debug, Clone)]
pub enum Exchange {
    Sync,
    Shuffle {
        mode: Shuffle,
        d: S,
        p: u32,
        a: S,
        b: S,
        c: S,
    },
    Vote {
        kind: Vote,
        d: S,
        p: u32,
        a: PSrc,
    },
    Redux {
        op: Reduction,
        ty: Ty,
        d: S,
        a: S,
    },
    Elect {
        d: S,
        p: u32,
    },
}

#[derive(Debug, Clone)]
pub enum WgmmaA {
    Registers([S; 4]),
    Descriptor(S),
}

#[derive(Debug, Clone, Copy)]
pub enum ScaleD {
    Immediate(bool),
    Predicate(PSrc),
}

/// m64nNk16
#[derive(Debug, Clone)]
pub struct Wgmma {
    pub n: usize,
    pub ty: Ty,
    pub d: Vec<S>,
    pub a: WgmmaA,
    /// descriptor
    pub b: S,
    pub scale_d: ScaleD,
    pub negate_a: bool,
    pub negate_b: bool,
    pub transpose_a: bool,
    pub transpose_b: bool,
    /// D is f16 packed in pairs
    pub half_d: bool,
}

/// What the matrices of mma and wmma consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    F16,
    BF16,
    TF32,
    F32,
}

impl Number {
    /// In memory.
    pub fn bytes(self) -> usize {
        4 / self.per_register()
    }

    pub fn per_register(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::TF32 | Self::F32 => 1,
        }
    }
}

/// m16n8k4, m16n8k8, m16n8k16
#[derive(Debug, Clone)]
pub struct Mma {
    pub k: usize,
    pub number: Number,
    pub d: Vec<S>,
    pub a: Vec<S>,
    pub b: Vec<S>,
    pub c: Vec<S>,
    pub half_d: bool,
    pub half_c: bool,
}

/// A matrix of wmma, as a warp holds it in registers.
#[derive(Debug, Clone)]
pub struct Fragment {
    pub rows: usize,
    pub columns: usize,
    pub number: Number,
    pub registers: Vec<S>,
}

/// wmma.load, wmma.store
#[derive(Debug, Clone)]
pub struct WmmaCopy {
    pub fragment: Fragment,
    /// columns lie together in memory, not rows
    pub by_columns: bool,
    pub space: Space,
    pub addr: Addr,
    /// in elements from one row (or column) to the next; without it they follow each other
    pub stride: Option<S>,
}

/// `d = a b + c`
#[derive(Debug, Clone)]
pub struct Wmma {
    pub a: Fragment,
    pub b: Fragment,
    pub c: Fragment,
    pub d: Fragment,
}

/// The global side of a bulk copy, or the only side of a tensor copy that is not in shared memory.
#[derive(Debug, Clone)]
pub enum Bulk {
    Linear { address: Addr, bytes: S },
    Tensor { map: Addr, coords: Vec<S> },
}

/// A bulk copy from global to shared memory.
#[derive(Debug, Clone)]
pub struct BulkLoad {
    /// of the destination
    pub space: Space,
    pub shared: Addr,
    pub global: Bulk,
    pub mbarrier: Addr,
    /// mask of destination CTAs
    pub multicast: Option<S>,
}

/// A bulk copy or reduction from shared to global memory.
#[derive(Debug, Clone)]
pub struct BulkStore {
    pub shared: Addr,
    pub global: Bulk,
    /// of a tensor copy the type is that of the map
    pub reduction: Option<(Reduction, Ty)>,
}

#[derive(Debug, Clone)]
pub struct CpAsync {
    pub shared: Addr,
    pub global: Addr,
    pub bytes: usize,
    /// bytes that are read, the others are zero
    pub source_bytes: Option<S>,
    /// all are zero where this holds
    pub ignore: Option<PSrc>,
}

#[derive(Debug, Clone)]
pub enum MbarrierOp {
    Init {
        count: S,
    },
    Inval,
    Arrive {
        space: Space,
        count: S,
        /// bytes to expect
        expect: Option<S>,
        d: S,
    },
    /// expect_tx
    Expect {
        space: Space,
        bytes: S,
    },
    Wait {
        /// parity, or the state that an arrive returned
        v: S,
        state: bool,
        /// may block
        try_: bool,
        p: u32,
    },
}

#[derive(Debug, Clone)]
pub enum Op {
    Nop,
    Mov32(S, S),
    Mov64(S, S),
    /// parts of `bits` each, the first lowest
    Pack {
        bits: u32,
        d: S,
        parts: Box<[S]>,
    },
    Unpack {
        bits: u32,
        parts: Box<[S]>,
        a: S,
    },
    Int1(Int1, Ty, S, S),
    Int2(Int2, Ty, S, [S; 2]),
    Int3(Int3, S, [S; 3]),
    Bfi {
        ty: Ty,
        d: S,
        a: S,
        b: S,
        position: S,
        length: S,
    },
    MulWide(Ty, S, [S; 2]),
    MadWide(Ty, S, [S; 3]),
    /// the low or the high half of the product
    Mad {
        high: bool,
        ty: Ty,
        d: S,
        s: [S; 3],
    },
    Float1(Float1, Ty, Flavour, S, S),
    Float2(Float2, Ty, Flavour, S, [S; 2]),
    Fma(Ty, Flavour, S, [S; 3]),
    Setp(Box<Setp>),
    Select {
        bytes: usize,
        d: S,
        a: S,
        b: S,
        p: PSrc,
    },
    Boolean(Boolean, u32, PSrc, PSrc),
    MovPredicate(u32, PSrc),
    Convert(Box<Conversion>),
    ToTf32(ToTf32, S, S),
    /// from an address in a space to a generic one
    ToGeneric(Space, S, S),
    FromGeneric(Space, S, S),
    Mapa {
        d: S,
        a: S,
        rank: S,
        wide: bool,
    },
    ActiveMask(S),
    /// of so many bytes
    Clock(usize, S),
    Ld {
        space: Space,
        bytes: usize,
        addr: Addr,
        d: Box<[(S, Extend)]>,
    },
    St {
        space: Space,
        bytes: usize,
        addr: Addr,
        s: Box<[S]>,
    },
    Atom(Box<Atom>),
    Bra(u32),
    Exit,
    Trap,
    Yield,
    Bar {
        id: S,
        count: Option<S>,
        wait: bool,
        /// all lanes of the warp come together
        aligned: bool,
    },
    ClusterArrive {
        release: bool,
    },
    ClusterWait,
    Exchange {
        members: S,
        op: Exchange,
    },
    Ldmatrix {
        trans: bool,
        d: Box<[S]>,
        addr: Addr,
    },
    Stmatrix {
        trans: bool,
        s: Box<[S]>,
        addr: Addr,
    },
    Mma(Box<Mma>),
    WmmaLoad(Box<WmmaCopy>),
    WmmaStore(Box<WmmaCopy>),
    Wmma(Box<Wmma>),
    SetMaxNReg(u32),
    WgmmaFence,
    Wgmma(Box<Wgmma>),
    WgmmaCommit,
    WgmmaWait(usize),
    Mbarrier(Addr, MbarrierOp),
    CpAsync(Box<CpAsync>),
    CpCommit,
    CpWait(usize),
    CpArrive {
        mbarrier: Addr,
        noinc: bool,
    },
    BulkLoad(Box<BulkLoad>),
    BulkStore(Box<BulkStore>),
    BulkCommit,
    BulkWait {
        pending: usize,
        read: bool,
    },
    FenceProxy,
    /// fence.mbarrier_init
    FenceInit,
}

#[derive(Debug, Clone)]
pub struct Inst {
    pub op: Op,
    pub guard: Option<PSrc>,
    pub line: u32,
    /// ranges in `Code::uses` and `Code::defs`
    pub uses: (u32, u32),
    pub defs: (u32, u32),
}

/// What a slot holds from the start: `%tid` and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    Lane,
    Warp,
    Warps,
    Zero,
    LaneMask(LaneMask),
    DynamicShared,
    TotalShared,
    ClusterId(usize),
    ClusterCount(usize),
    CtaInCluster(usize),
    ClusterShape(usize),
    ClusterRank,
    ClusterSize,
    IsCluster,
    /// address of a shared variable: it holds the rank of the CTA
    SharedAddr(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaneMask {
    Eq,
    Lt,
    Le,
    Gt,
    Ge,
}

/// The instructions of a kernel.
#[derive(Debug, Clone)]
pub struct Code {
    pub insts: Vec<Inst>,
    uses: Vec<S>,
    defs: Vec<S>,
    pub slots: u32,
    /// the last one is always true
    pub predicates: u32,
    pub constants: Vec<(S, u64)>,
    pub specials: Vec<(S, Special)>,
    pub register_names: Vec<String>,
    pub has_wgmma: bool,
}

impl Code {
    pub fn new() -> Self {
        Self {
            insts: vec![],
            uses: vec![],
            defs: vec![],
            slots: 0,
            predicates: 0,
            constants: vec![],
            specials: vec![],
            register_names: vec![],
            has_wgmma: false,
        }
    }

    pub fn push(&mut self, op: Op, guard: Option<PSrc>, line: u32, uses: &[S], defs: &[S]) {
        self.has_wgmma |= matches!(op, Op::Wgmma(_));
        let (u, d) = (self.uses.len() as u32, self.defs.len() as u32);
        self.uses.extend(uses);
        self.defs.extend(defs);
        let (uses, defs) = ((u, self.uses.len() as u32), (d, self.defs.len() as u32));
        self.insts.push(Inst {
            op,
            guard,
            line,
            uses,
            defs,
        });
    }

    /// The register slots that an instruction reads.
    pub fn uses(&self, pc: u32) -> &[S] {
        let (from, to) = self.insts[pc as usize].uses;
        &self.uses[from as usize..to as usize]
    }

    /// Those that it writes.
    pub fn defs(&self, pc: u32) -> &[S] {
        let (from, to) = self.insts[pc as usize].defs;
        &self.defs[from as usize..to as usize]
    }

    pub fn line(&self, pc: u32) -> u32 {
        self.insts[pc as usize].line
    }
}
