//! Plain CubeCL for every runtime: register tiles fed from shared memory.

mod backward;
mod candidates;
mod direct;
mod forward;
mod limits;
mod operand;
mod product;
mod settings;
mod stage;
mod staged;
mod table;
pub(crate) mod tile;
mod unit;
mod weights;

use super::Settings;
use super::family::Kernels;
use super::passes::statistics::RowResults;
use super::settings::Tuning;
use super::table::Shipped;
use crate::device::Device;
use crate::error::Result;
use crate::plan::{BackwardCall, Draft, Family, ForwardCall, Pass};
use crate::problem::Problem;
use backward::step::{KeyValueStep, QueryStep};
use forward::step::ForwardStep;
pub use settings::{Plane, PortableSettings};

/// The family that takes every problem.
pub(crate) static KERNELS: Portable = Portable;

/// Marks the family.
pub(crate) struct Portable;

impl Kernels for Portable {
    fn family(&self) -> Family {
        Family::Portable
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
        let step = ForwardStep::new(call, device, own(asked), draft)?;
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
        let query = QueryStep::new(call, rows, device, own(tuning.query_gradient))?;
        let key_value = KeyValueStep::new(call, rows, device, own(tuning.key_value_gradient))?;
        draft.push(query);
        draft.push(key_value);
        Ok(())
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
fn own(settings: Option<Settings>) -> Option<PortableSettings> {
    match settings? {
        Settings::Portable(settings) => Some(settings),
        #[allow(unreachable_patterns, reason = "a build may have no other family")]
        _ => None,
    }
}
