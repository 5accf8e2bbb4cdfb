//! Decoded instructions: register operands are slot numbers, nothing textual is left.

/// A register slot: 32 lanes of `u32`. A 64-bit register is two consecutive slots (low words, high words).
pub type S = u32;
pub const NO: S = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ty {
    B8,
    U8,
    S8,
    B16,
    U16,
    S16,
    B32,
    U32,
    S32,
    B64,
    U64,
    S64,
    F16,
    BF16,
    F16x2,
    BF16x2,
    TF32,
    F32,
    F64,
    Pred,
    B128,
    E4M3,
    E5M2,
}

impl Ty {
    pub fn parse(s: &str) -> Option<Ty> {
        Some(match s {
            "b8" => Ty::B8,
            "u8" => Ty::U8,
            "s8" => Ty::S8,
            "b16" => Ty::B16,
            "u16" => Ty::U16,
            "s16" => Ty::S16,
            "b32" => Ty::B32,
            "u32" => Ty::U32,
            "s32" => Ty::S32,
            "b64" => Ty::B64,
            "u64" => Ty::U64,
            "s64" => Ty::S64,
            "f16" => Ty::F16,
            "bf16" => Ty::BF16,
            "f16x2" => Ty::F16x2,
            "bf16x2" => Ty::BF16x2,
            "tf32" => Ty::TF32,
            "f32" => Ty::F32,
            "f64" => Ty::F64,
            "pred" => Ty::Pred,
            "b128" => Ty::B128,
            "e4m3" => Ty::E4M3,
            "e5m2" => Ty::E5M2,
            _ => return None,
        })
    }
    pub fn bytes(self) -> usize {
        match self {
            Ty::B8 | Ty::U8 | Ty::S8 | Ty::Pred | Ty::E4M3 | Ty::E5M2 => 1,
            Ty::B16 | Ty::U16 | Ty::S16 | Ty::F16 | Ty::BF16 => 2,
            Ty::B64 | Ty::U64 | Ty::S64 | Ty::F64 => 8,
            Ty::B128 => 16,
            _ => 4,
        }
    }
    pub fn signed(self) -> bool {
        matches!(self, Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64)
    }
    pub fn float(self) -> bool {
        matches!(
            self,
            Ty::F16
                | Ty::BF16
                | Ty::F32
                | Ty::F64
                | Ty::TF32
                | Ty::F16x2
                | Ty::BF16x2
                | Ty::E4M3
                | Ty::E5M2
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rnd {
    Rn,
    Rz,
    Rm,
    Rp,
    Rna,
    /// integer rounding of a float
    Rni,
    Rzi,
    Rmi,
    Rpi,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum B2 {
    Add,
    Sub,
    AddSat,
    SubSat,
    Mul,
    MulHiS,
    MulHiU,
    Mul24,
    DivS,
    DivU,
    RemS,
    RemU,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
    Shl,
    ShrU,
    ShrS,
    FAdd,
    FSub,
    FMul,
    FDiv,
    FMin,
    FMax,
    FMinNan,
    FMaxNan,
    Copysign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum U1 {
    Neg,
    Not,
    Cnot,
    AbsS,
    FNeg,
    FAbs,
    Popc,
    Clz,
    Brev,
    BfindU,
    BfindS,
    /// bfind.shiftamt
    BfindShU,
    BfindShS,
    Ex2,
    Lg2,
    Rcp,
    Rsqrt,
    Sqrt,
    Sin,
    Cos,
    Tanh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum T3 {
    Mad,
    MadHiS,
    MadHiU,
    Fma,
    FmaRelu,
    BfeU,
    BfeS,
    ShfL { wrap: bool },
    ShfR { wrap: bool },
    Prmt(u8),
    SadS,
    SadU,
    Dp4aS,
    Dp4aU,
    FMin3,
    FMax3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PBool {
    And,
    Or,
    Xor,
}

/// `f32` arithmetic flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fl {
    pub ftz: bool,
    pub sat: bool,
    pub rnd: Rnd,
}
impl Fl {
    pub fn plain(self) -> bool {
        !self.ftz && !self.sat && self.rnd == Rnd::Rn
    }
}

#[derive(Debug, Clone, Copy)]
pub struct PSrc {
    pub p: u32,
    pub neg: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sp {
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
    pub w64: bool,
    pub off: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ext {
    None,
    S32,
    /// also clear / sign-fill the high slot
    Z64,
    S64,
}

#[derive(Debug, Clone)]
pub struct CvtSpec {
    pub from: Ty,
    pub to: Ty,
    pub rnd: Option<Rnd>,
    pub sat: bool,
    pub satfinite: bool,
    pub relu: bool,
    pub ftz: bool,
    pub d: S,
    pub d64: bool,
    pub a: S,
    pub b: S,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

#[derive(Debug, Clone)]
pub struct AtomSpec {
    pub sp: Sp,
    pub op: AtomOp,
    pub ty: Ty,
    pub d: Vec<S>,
    pub addr: Addr,
    pub b: Vec<S>,
    pub c: S,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShflMode {
    Idx,
    Up,
    Down,
    Bfly,
}

#[derive(Debug, Clone)]
pub enum WgA {
    Regs([S; 4]),
    Desc(S),
}

#[derive(Debug, Clone)]
pub struct WgSpec {
    pub n: usize,
    /// K elements per instruction (16 for 16-bit types, 8 for tf32)
    pub k: usize,
    pub ty: Ty,
    pub d: Vec<S>,
    pub a: WgA,
    pub b: S,
    pub scale_d: WgScale,
    pub neg_a: bool,
    pub neg_b: bool,
    pub trans_a: bool,
    pub trans_b: bool,
    /// D is f16 packed in pairs
    pub d16: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum WgScale {
    Imm(bool),
    Pred(PSrc),
}

#[derive(Debug, Clone)]
pub struct MmaSpec {
    pub n: usize,
    pub k: usize,
    pub ty: Ty,
    pub d: Vec<S>,
    pub a: Vec<S>,
    pub b: Vec<S>,
    pub c: Vec<S>,
    pub d16: bool,
    pub c16: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Inc,
    Dec,
}

#[derive(Debug, Clone)]
pub struct TensorSpec {
    /// of the destination of a load
    pub sp: Sp,
    pub dims: usize,
    pub coords: Vec<S>,
    pub smem: Addr,
    pub map: Addr,
    pub mbar: Option<Addr>,
    pub mcast: Option<S>,
    pub red: Option<RedOp>,
}

#[derive(Debug, Clone)]
pub struct BulkSpec {
    /// of the destination of a load
    pub sp: Sp,
    pub dst: Addr,
    pub src: Addr,
    pub size: S,
    pub mbar: Option<Addr>,
    pub mcast: Option<S>,
    pub red: Option<(RedOp, Ty)>,
}

/// st.async, red.async
#[derive(Debug, Clone)]
pub struct StAsyncSpec {
    pub ty: Ty,
    pub addr: Addr,
    pub mbar: Addr,
    pub src: Vec<S>,
    pub red: Option<RedOp>,
}

#[derive(Debug, Clone)]
pub enum Op {
    Nop,
    /// no effect; the four warps of a warpgroup must agree
    SetMaxNReg(u32),
    Mov32(S, S),
    Mov64(S, S),
    Pack64(S, S, S),
    Unpack64(S, S, S),
    Pack16(S, S, S),
    Unpack16(S, S, S),
    /// four 16-bit values <-> 64
    Pack64x4(S, Box<[S; 4]>),
    Unpack64x4(Box<[S; 4]>, S),
    Timer(S, bool),
    ActiveMask(S),
    B32(B2, S, S, S),
    F32(B2, Fl, S, S, S),
    B16(B2, bool, S, S, S),
    B64(B2, S, S, S),
    F64(B2, S, S, S),
    H2(B2, Ty, S, S, S),
    U32(U1, S, S),
    UF32(U1, Fl, S, S),
    U64(U1, S, S, bool),
    UH(U1, Ty, S, S),
    T32(T3, S, S, S, S),
    TF32(T3, Fl, S, S, S, S),
    T64(T3, S, S, S, S),
    T16(T3, S, S, S, S),
    TH(T3, Ty, S, S, S, S),
    Lop3(u8, S, S, S, S),
    Bfi(S, S, S, S, S, bool),
    MulWide(bool, bool, S, S, S),
    MadWide(bool, bool, S, S, S, S),
    AddC {
        sub: bool,
        cin: bool,
        cout: bool,
        w64: bool,
        d: S,
        a: S,
        b: S,
    },
    Setp(Box<SetpSpec>),
    SetpI32 {
        cmp: Cmp,
        signed: bool,
        p: u32,
        a: S,
        b: S,
    },
    Set(Box<SetpSpec>, S, bool),
    Selp32(S, S, S, PSrc),
    Selp64(S, S, S, PSrc),
    Slct(S, S, S, S, bool),
    PBin(PBool, u32, PSrc, PSrc),
    PMov(u32, PSrc),
    PImm(u32, bool),
    Cvt(Box<CvtSpec>),
    CvtPackBf16 {
        d: S,
        hi: S,
        lo: S,
    },
    Cvt64From32 {
        d: S,
        a: S,
        signed: bool,
    },
    CvtaTo(Sp, S, S, bool),
    CvtaFrom(Sp, S, S, bool),
    IsSpace(Sp, u32, S),
    Ld {
        sp: Sp,
        bytes: u8,
        addr: Addr,
        dst: Box<[(S, Ext)]>,
    },
    St {
        sp: Sp,
        bytes: u8,
        addr: Addr,
        src: Box<[S]>,
    },
    Atom(Box<AtomSpec>),
    Bra(u32),
    Brx(S, Box<[u32]>),
    Exit,
    Trap,
    Bar {
        id: S,
        count: Option<S>,
        sync: bool,
    },
    BarRed {
        id: S,
        count: Option<S>,
        op: u8,
        d: S,
        pd: u32,
        p: PSrc,
    },
    BarWarp(S),
    Shfl {
        mode: ShflMode,
        d: S,
        p: u32,
        a: S,
        b: S,
        c: S,
        m: S,
    },
    /// 0 all, 1 any, 2 uni, 3 ballot
    Vote {
        kind: u8,
        d: S,
        pd: u32,
        p: PSrc,
        m: S,
    },
    Match {
        all: bool,
        w64: bool,
        d: S,
        pd: u32,
        a: S,
        m: S,
    },
    Redux {
        op: AtomOp,
        signed: bool,
        d: S,
        a: S,
        m: S,
    },
    Elect {
        d: S,
        p: u32,
        m: S,
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
    Mma(Box<MmaSpec>),
    WgFence,
    WgMma(Box<WgSpec>),
    WgCommit,
    WgWait(u32),
    MbarInit(Addr, S),
    MbarInval(Addr),
    /// count slot; `expect`: bytes slot
    MbarArrive {
        sp: Sp,
        addr: Addr,
        count: S,
        expect: S,
        drop: bool,
        d: S,
    },
    MbarExpect(Sp, Addr, S),
    MbarComplete(Sp, Addr, S),
    /// parity (or state) wait; `try_`: blocks
    MbarWait {
        addr: Addr,
        v: S,
        state: bool,
        try_: bool,
        p: u32,
    },
    CpAsync {
        dst: Addr,
        src: Addr,
        size: u8,
        srcsz: S,
        ignore: Option<PSrc>,
    },
    CpCommit,
    CpWait(u32),
    CpMbarArrive {
        addr: Addr,
        noinc: bool,
    },
    Tload(Box<TensorSpec>),
    Tstore(Box<TensorSpec>),
    BulkLoad(Box<BulkSpec>),
    /// from the own shared memory to that of a CTA of the cluster
    BulkShared(Box<BulkSpec>),
    StAsync(Box<StAsyncSpec>),
    BulkStore(Box<BulkSpec>),
    BulkCommit,
    BulkWait(u32, bool),
    FenceProxy,
    /// fence.mbarrier_init
    FenceInit,
    Yield,
    Mapa {
        d: S,
        a: S,
        rank: S,
        w64: bool,
    },
    /// barrier.cluster.arrive; whether it releases
    ClusterArrive(bool),
    ClusterWait,
}

#[derive(Debug, Clone)]
pub struct SetpSpec {
    pub cmp: Cmp,
    pub ty: Ty,
    pub p: u32,
    pub q: u32,
    pub a: S,
    pub b: S,
    pub c: Option<(PBool, PSrc)>,
    pub ftz: bool,
}

#[derive(Debug, Clone)]
pub struct Inst {
    pub op: Op,
    pub guard: Option<PSrc>,
    pub line: u32,
    /// range in `Code::uses` / `Code::defs`
    pub uses: (u32, u32),
    pub defs: (u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Lane,
    Warp,
    NWarp,
    Zero,
    One,
    LaneMask(u8),
    DynSmem,
    TotalSmem,
    ClusterId(u8),
    NClusterId(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterRank,
    ClusterSize,
    ExplicitCluster,
    /// address of a shared variable: it holds the rank of the CTA
    SharedAddr(u32),
}

#[derive(Debug, Clone)]
pub struct Code {
    pub insts: Vec<Inst>,
    pub uses: Vec<S>,
    pub defs: Vec<S>,
    pub nslots: u32,
    pub npred: u32,
    pub consts: Vec<(S, u64)>,
    pub specials: Vec<(S, Special)>,
    pub reg_names: Vec<String>,
    /// static findings: (line, message)
    pub lint: Vec<(u32, String)>,
}
