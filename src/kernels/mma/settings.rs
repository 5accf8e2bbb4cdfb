//! Settings of the kernels for `mma.sync`.

use core::fmt::{self, Display};
use core::str::FromStr;

use crate::error::{Error, Result};
use crate::kernels::names;

/// How a kernel of the family is made.
///
/// ```
/// use diff_flash_attn::tuning::MmaSettings;
/// let settings = MmaSettings::new([64, 8, 1], true);
/// assert_eq!(settings.to_string(), "t64w8s1split");
/// assert_eq!("t64w8s1split".parse::<MmaSettings>()?, settings);
/// # Ok::<(), diff_flash_attn::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MmaSettings {
    /// Positions of the tiles that a cube walks along: keys, or for the gradients of key and value queries.
    pub tile: usize,
    /// Warps of a cube.
    pub warps: usize,
    /// Tiles in shared memory, one of them in use.
    pub stages: usize,
    /// Whether a warp has one of two maps, and two warps share their 16 rows; else it has both. Of no meaning for one map.
    pub split: bool,
}

impl MmaSettings {
    /// Settings of those sizes, in the order of the fields.
    pub const fn new([tile, warps, stages]: [usize; 3], split: bool) -> Self {
        Self {
            tile,
            warps,
            stages,
            split,
        }
    }

    /// Threads of a cube.
    pub(crate) const fn threads(&self) -> usize {
        32 * self.warps
    }

    /// Whether warps of a problem of so many maps have one map each of two.
    pub(crate) const fn splits(&self, maps: usize) -> bool {
        self.split && maps == 2
    }

    /// Rows of a cube.
    pub(crate) const fn rows(&self, maps: usize) -> usize {
        let warps = if self.splits(maps) {
            self.warps / 2
        } else {
            self.warps
        };
        16 * warps
    }

    /// Refuses what the kernels cannot be made with.
    pub(crate) fn check(&self) -> Result<()> {
        let Self {
            tile,
            warps,
            stages,
            ..
        } = *self;
        if tile == 0 || !tile.is_multiple_of(16) || tile > 128 {
            let expected = "expected a multiple of 16 up to 128";
            return Err(self.refuse(&format!("tile is {tile}, {expected}")));
        }
        if ![2, 4, 8].contains(&warps) {
            return Err(self.refuse(&format!("warps is {warps}, expected 2, 4 or 8")));
        }
        if !(1..=3).contains(&stages) {
            return Err(self.refuse(&format!("stages is {stages}, expected 1 to 3")));
        }
        Ok(())
    }

    fn refuse(&self, problem: &str) -> Error {
        Error::Settings {
            settings: self.to_string(),
            problem: problem.to_string(),
        }
    }
}

impl Display for MmaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tile,
            warps,
            stages,
            split,
        } = self;
        let split = if *split { "split" } else { "both" };
        write!(f, "t{tile}w{warps}s{stages}{split}")
    }
}

impl FromStr for MmaSettings {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let unknown = || names::unknown(name, "like t64w8s1split or t64w4s1both");
        let (letters, split) = match (name.strip_suffix("split"), name.strip_suffix("both")) {
            (Some(letters), _) => (letters, true),
            (_, Some(letters)) => (letters, false),
            _ => return Err(unknown()),
        };
        let sizes = names::numbers(letters, ["t", "w", "s"]).ok_or_else(unknown)?;
        Ok(Self::new(sizes, split))
    }
}
