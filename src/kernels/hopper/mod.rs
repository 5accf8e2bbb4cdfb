//! For compute capability 9.0 (H100, H200): tiles by TMA, products by warpgroups on the tensor cores.
//!
//! [`kernel`](forward::kernel) is the schedule, and reads from top to bottom: [`producer`](forward::producer) fills the rings ([`ring`]) that the computing
//! warpgroups empty ([`tiles`](forward::tiles)), [`softmax`](super::warp::softmax) stands between their two products, [`epilogue`](forward::epilogue) makes the output.
//! [`shape`](forward::shape) says what is compiled in and lists what lies in shared memory ([`memory`]), [`accumulator`] and [`fragment`](super::warp::fragment)
//! say who holds which element, [`ptx`] has every instruction's text. [`backward`] has the gradients.

mod accumulator;
mod backward;
mod barriers;
mod candidates;
mod feasible;
mod forward;
mod memory;
mod ptx;
mod ring;
mod settings;
mod table;
mod tiled;
mod turns;
mod work;

use super::Settings;
use super::family::Kernels;
use super::passes::statistics::RowResults;
use super::settings::Tuning;
use super::table::Shipped;
use crate::device::Device;
use crate::error::Result;
use crate::plan::{BackwardCall, Draft, Family, ForwardCall, Pass};
use crate::problem::Problem;
use backward::step::{KeysStep, PackStep, QueriesStep};
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
        &[Pass::Forward, Pass::QueryGradient, Pass::KeyValueGradient]
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
        call: &BackwardCall,
        rows: &RowResults,
        device: &Device,
        tuning: &Tuning,
        draft: &mut Draft,
    ) -> Result<()> {
        let dims = feasible::backward_dims(call, &rows.grad, device)?;
        let settings =
            |pass| feasible::gradient_settings(pass, &call.problem, own(tuning.settings(pass)));
        let (queries, keys) = (
            settings(Pass::QueryGradient)?,
            settings(Pass::KeyValueGradient)?,
        );
        let pack = PackStep::new(call, rows, device, draft)?;
        let read = (rows.grad, pack.packed);
        let query = QueriesStep::new(call, read, queries, dims, device)?;
        let key_value = KeysStep::all(call, read, keys, dims, device)?;
        draft.push(pack);
        draft.push(query);
        for step in key_value {
            draft.push(step);
        }
        Ok(())
    }

    fn candidates(&self, pass: Pass, problem: &Problem, device: &Device) -> Vec<Settings> {
        let candidates = candidates::candidates(pass, problem, device).into_iter();
        candidates.map(Settings::from).collect()
    }

    fn shipped(&self) -> Vec<Shipped> {
        table::rows().map(|row| row.shipped()).collect()
    }
}

/// The settings, which are the family's own: another's are refused before.
fn own(settings: Option<Settings>) -> Option<HopperSettings> {
    match settings? {
        Settings::Hopper(settings) => Some(settings),
        _ => None,
    }
}
