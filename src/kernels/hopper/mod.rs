//! For compute capability 9.0 (H100, H200): tiles by TMA, products by warpgroups on the tensor cores.
//!
//! [`kernel`](forward::kernel) is the schedule, and reads from top to bottom: [`producer`](forward::producer) fills the rings ([`ring`]) that the computing
//! warpgroups empty ([`tiles`](forward::tiles)), [`softmax`](super::warp::softmax) stands between their two products, [`epilogue`](forward::epilogue) makes the output.
//! [`shape`](forward::shape) says what is compiled in and lists what lies in shared memory ([`memory`]), [`accumulator`] and [`fragment`](super::warp::fragment)
//! say who holds which element, [`ptx`] has every instruction's text.

mod accumulator;
mod barriers;
mod candidates;
mod feasible;
mod forward;
mod memory;
mod ptx;
mod ring;
mod settings;
mod table;
mod turns;
mod work;

use super::Settings;
use super::family::Kernels;
use super::passes::statistics::RowResults;
use super::settings::Tuning;
use super::table::Shipped;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::plan::{BackwardCall, Draft, Family, ForwardCall, Pass};
use crate::problem::Problem;
use forward::step::HopperForwardStep;
pub use settings::HopperSettings;

/// The family for compute capability 9.0.
pub(crate) static KERNELS: Hopper = Hopper;

/// Marks the family.
pub(crate) struct Hopper;

impl Kernels for Hopper {
    fn family(&self) -> Family {
        Family::Hopper
    }

    fn passes(&self) -> &'static [Pass] {
        &[Pass::Forward]
    }

    fn forward(
        &self,
        call: &ForwardCall,
        device: &Device,
        asked: Option<Settings>,
        draft: &mut Draft,
    ) -> Result<()> {
        let step = HopperForwardStep::new(call, device, own(asked), draft)?;
        draft.push(step);
        Ok(())
    }

    fn products(
        &self,
        _call: &BackwardCall,
        _rows: &RowResults,
        _device: &Device,
        _tuning: &Tuning,
        _draft: &mut Draft,
    ) -> Result<()> {
        Err(Error::Settings {
            settings: Family::Hopper.to_string(),
            problem: "has no kernels for gradients".into(),
        })
    }

    fn candidates(&self, pass: Pass, problem: &Problem, device: &Device) -> Vec<Settings> {
        let candidates = candidates::candidates(pass, problem, device).into_iter();
        candidates.map(Settings::from).collect()
    }

    fn shipped(&self) -> Vec<Shipped> {
        table::TABLE.iter().map(|row| row.shipped()).collect()
    }
}

/// The settings, which are the family's own: another's are refused before.
fn own(settings: Option<Settings>) -> Option<HopperSettings> {
    match settings? {
        Settings::Hopper(settings) => Some(settings),
        _ => None,
    }
}
