//! Rows of the tables of settings, and the public list of them all.

use super::Settings;
use crate::device::DeviceClass;
use crate::plan::Pass;
use crate::problem::Problem;

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

impl MaskKind {
    /// The kind of a problem's mask; bounds past every position are none.
    pub fn of(problem: &Problem) -> Self {
        let (sides, ..) = problem.band();
        match (sides.left, sides.right) {
            (true, _) => MaskKind::Window,
            (false, true) => MaskKind::Causal,
            (false, false) => MaskKind::Full,
        }
    }
}

/// What a row's settings were measured at.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Measured {
    /// Name of the device.
    pub device: &'static str,
    /// Version of its driver.
    pub driver: &'static str,
    /// Day of the measurement.
    pub date: &'static str,
    /// Queries and keys of a sequence.
    pub length: usize,
    /// Arithmetic of the visible pairs.
    pub tflops: f32,
}

/// Which problems a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fits {
    /// All with maps and dimensions up to its own.
    UpTo,
    /// Those with exactly its maps and dimensions, and this kind of mask.
    #[cfg_attr(
        not(feature = "hopper"),
        expect(dead_code, reason = "no table has such rows")
    )]
    Exactly(MaskKind),
}

/// One row of a family's table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<S> {
    pub class: DeviceClass,
    pub pass: Pass,
    pub maps: usize,
    pub key_maps: usize,
    /// Head and value dimension.
    pub dims: [usize; 2],
    pub fits: Fits,
    pub settings: S,
    pub measured: Option<Measured>,
}

impl<S: Copy + Into<Settings>> Row<S> {
    /// Whether it is for a problem.
    pub(crate) fn covers(&self, problem: &Problem) -> bool {
        self.shipped().covers(problem)
    }

    /// The row as users see it.
    pub(crate) fn shipped(&self) -> Shipped {
        let [head_dim, value_dim] = self.dims;
        Shipped {
            class: self.class,
            pass: self.pass,
            maps: self.maps,
            key_maps: self.key_maps,
            head_dim,
            value_dim,
            mask: match self.fits {
                Fits::UpTo => None,
                Fits::Exactly(mask) => Some(mask),
            },
            settings: (self.settings).into(),
            measured: self.measured,
        }
    }
}

/// One default: settings of a pass for problems on a class of devices.
///
/// A row without a kind of mask is for all maps and dimensions up to its own and for any mask; one with, for exactly those.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Shipped {
    /// Devices it is for.
    pub class: DeviceClass,
    /// Pass it is for.
    pub pass: Pass,
    /// Attention maps.
    pub maps: usize,
    /// Maps of the key: 1 if the attention maps share it.
    pub key_maps: usize,
    /// Head dimension.
    pub head_dim: usize,
    /// Value dimension.
    pub value_dim: usize,
    /// Kind of mask, if the row is for one.
    pub mask: Option<MaskKind>,
    /// The settings.
    pub settings: Settings,
    /// What they were measured at; `None` if they follow from counts of registers and memory alone.
    pub measured: Option<Measured>,
}

impl Shipped {
    /// Whether the row is for a problem, on devices of its class.
    pub fn covers(&self, problem: &Problem) -> bool {
        let (dims, row) = (
            [problem.head_dim, problem.value_dim],
            [self.head_dim, self.value_dim],
        );
        match self.mask {
            Some(mask) => (problem.maps, dims, MaskKind::of(problem)) == (self.maps, row, mask),
            None => {
                let maps = problem.maps <= self.maps && problem.key_maps() <= self.key_maps;
                maps && dims.iter().zip(row).all(|(got, most)| *got <= most)
            }
        }
    }
}
