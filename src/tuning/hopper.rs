//! Settings of the forward kernel for compute capability 9.0, and the table that chooses them.

use MaskKind::{Causal, Full, Window};

/// Tile sizes of one launch of the forward kernel for compute capability 9.0.
///
/// A cube has one warpgroup that loads tiles and `consumers` that compute on 64 rows each. With two maps the two
/// consumers compute a map each of the same 64 queries, with one map each has 64 queries of its own. The
/// [`Display`](core::fmt::Display) form, `n128k2v2w2c2r240ot`, is its name wherever settings are reported; `o` and `t`
/// stand for overlap and turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HopperSettings {
    /// Keys of a tile, a multiple of 16 up to 256.
    pub keys: usize,
    /// Tiles of keys in flight, at least 2.
    pub key_stages: usize,
    /// Tiles of values in flight, at least 2.
    pub value_stages: usize,
    /// Warpgroups that compute: 2, or for standard attention 2 or 3.
    pub consumers: usize,
    /// Cubes that share what they load: 1 or 2, neighbouring queries of one head.
    pub cluster: usize,
    /// Registers of a computing thread, a multiple of 8 up to 256. All threads begin with an equal share of the
    /// 65,536 of a multiprocessor, 168 for two computing warpgroups and 128 for three; what the computing ones get more,
    /// the loading one gives up, and it needs 24.
    pub registers: usize,
    /// The softmax of a tile is computed while the tensor cores multiply the weights of the tile before with its values.
    /// Without it they wait for each other, and fewer registers are needed.
    pub overlap: bool,
    /// The computing warpgroups take turns at the tensor cores, so that one computes exponentials while another's
    /// products run.
    pub turns: bool,
}

impl core::fmt::Display for HopperSettings {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            keys,
            key_stages,
            value_stages,
            consumers,
            cluster,
            registers,
            overlap,
            turns,
        } = self;
        let overlap = if *overlap { "o" } else { "" };
        let turns = if *turns { "t" } else { "" };
        write!(
            f,
            "n{keys}k{key_stages}v{value_stages}w{consumers}c{cluster}r{registers}{overlap}{turns}"
        )
    }
}

/// Kinds of masks that want different settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MaskKind {
    /// Every query sees every key.
    Full,
    /// Bounded after the diagonal only.
    Causal,
    /// Bounded before the diagonal.
    Window,
}

/// One default: settings for exactly these dimensions. For f16 and bf16 alike, which take as many bytes, registers and
/// cycles of the tensor cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopperShipped {
    /// Attention maps.
    pub maps: usize,
    /// Head dimension.
    pub head_dim: usize,
    /// Value dimension.
    pub value_dim: usize,
    /// Kind of mask.
    pub mask: MaskKind,
    /// The settings.
    pub settings: HopperSettings,
}

const fn row(
    maps: usize,
    [head_dim, value_dim]: [usize; 2],
    mask: MaskKind,
    [
        keys,
        key_stages,
        value_stages,
        consumers,
        cluster,
        registers,
    ]: [usize; 6],
    turns: bool,
) -> HopperShipped {
    let settings = HopperSettings {
        keys,
        key_stages,
        value_stages,
        consumers,
        cluster,
        registers,
        overlap: true,
        turns,
    };
    HopperShipped {
        maps,
        head_dim,
        value_dim,
        mask,
        settings,
    }
}

/// All default settings: wide tiles whose registers and shared memory suffice, softmax and products overlapped. Turns where
/// exponentials are many for the products that hide them, that is where the value dimension is small. They await a
/// measurement.
#[rustfmt::skip]
const TABLE: &[HopperShipped] = &[
    //  maps d    dv     mask    keys  k  v  w  c  regs  turns
    row(2, [128, 256], Full,   [ 80, 2, 2, 2, 2, 240], false),
    row(2, [128, 256], Causal, [ 80, 2, 2, 2, 2, 240], false),
    row(2, [128, 256], Window, [ 80, 2, 2, 2, 2, 240], false),
    row(2, [ 64, 128], Full,   [128, 2, 2, 2, 2, 240], true),
    row(2, [ 64, 128], Causal, [128, 2, 2, 2, 2, 240], true),
    row(2, [ 64, 128], Window, [128, 2, 2, 2, 2, 240], true),
    row(2, [128, 128], Full,   [112, 2, 2, 2, 2, 240], true),
    row(2, [128, 128], Causal, [112, 2, 2, 2, 2, 240], true),
    row(2, [128, 128], Window, [112, 2, 2, 2, 2, 240], true),
    row(2, [ 64,  64], Full,   [128, 2, 2, 2, 2, 240], true),
    row(2, [ 64,  64], Causal, [128, 2, 2, 2, 2, 240], true),
    row(2, [ 64,  64], Window, [128, 2, 2, 2, 2, 240], true),
    row(2, [ 96, 192], Full,   [ 96, 2, 2, 2, 2, 240], false),
    row(2, [ 96, 192], Causal, [ 96, 2, 2, 2, 2, 240], false),
    row(2, [ 96, 192], Window, [ 96, 2, 2, 2, 2, 240], false),
    row(1, [128, 256], Full,   [ 80, 2, 2, 2, 2, 240], false),
    row(1, [128, 256], Causal, [ 80, 2, 2, 2, 2, 240], false),
    row(1, [128, 256], Window, [ 80, 2, 2, 2, 2, 240], false),
    row(1, [ 64, 128], Full,   [128, 2, 2, 2, 2, 240], true),
    row(1, [ 64, 128], Causal, [128, 2, 2, 2, 2, 240], true),
    row(1, [ 64, 128], Window, [128, 2, 2, 2, 2, 240], true),
    row(1, [128, 128], Full,   [128, 2, 2, 2, 2, 240], true),
    row(1, [128, 128], Causal, [128, 2, 2, 2, 2, 240], true),
    row(1, [128, 128], Window, [128, 2, 2, 2, 2, 240], true),
    row(1, [ 64,  64], Full,   [128, 2, 2, 2, 2, 240], true),
    row(1, [ 64,  64], Causal, [128, 2, 2, 2, 2, 240], true),
    row(1, [ 64,  64], Window, [128, 2, 2, 2, 2, 240], true),
    row(1, [ 96, 192], Full,   [ 96, 2, 2, 2, 2, 240], false),
    row(1, [ 96, 192], Causal, [ 96, 2, 2, 2, 2, 240], false),
    row(1, [ 96, 192], Window, [ 96, 2, 2, 2, 2, 240], false),
];

/// All default settings of the forward kernel for compute capability 9.0.
///
/// ```
/// use diff_flash_attn::tuning::hopper_shipped;
/// let paper = hopper_shipped().find(|row| (row.maps, row.head_dim, row.value_dim) == (2, 128, 256));
/// println!("{}", paper.expect("the paper's dimensions").settings);
/// ```
pub fn hopper_shipped() -> impl Iterator<Item = HopperShipped> {
    TABLE.iter().copied()
}
