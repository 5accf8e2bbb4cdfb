//! For tensor cores through `mma.sync`, compute capability 8.0 and later: fragments by `ldmatrix` from tiles that `cp.async`
//! fills.
//!
//! Every kernel is a walk of a cube along tiles, each warp with 16 rows of the results in registers: of the output and of the
//! query's gradient ([`forward`], [`backward`]) the rows are queries, of the gradients of key and value keys. [`tile`] says
//! how tiles lie in shared memory, [`product`] multiplies them, [`ptx`] has the instructions' text, [`warp`] says which rows
//! a warp has, [`dims`] what is compiled in.

mod backward;
mod candidates;
mod dims;
mod feasible;
mod forward;
mod product;
mod ptx;
mod settings;
mod table;
mod tile;
mod walk;
mod warp;

use super::Settings;
use super::family::Kernels;
use super::passes::statistics::RowResults;
use super::settings::Tuning;
use super::table::Shipped;
use crate::device::Device;
use crate::error::Result;
use crate::plan::{BackwardCall, Draft, Family, ForwardCall, Pass};
use crate::problem::Problem;
use backward::step::{MmaKeyValueStep, MmaQueryStep};
use forward::step::MmaForwardStep;
pub use settings::MmaSettings;

/// The family for compute capability 8.0 and later.
pub(crate) static KERNELS: Mma = Mma;

/// Marks the family.
pub(crate) struct Mma;

impl Kernels for Mma {
    fn family(&self) -> Family {
        Family::Mma
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
        let step = MmaForwardStep::new(call, device, own(asked), draft)?;
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
        let query = MmaQueryStep::new(call, rows, device, own(tuning.query_gradient))?;
        let key_value = MmaKeyValueStep::new(call, rows, device, own(tuning.key_value_gradient))?;
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
fn own(settings: Option<Settings>) -> Option<MmaSettings> {
    match settings? {
        Settings::Mma(settings) => Some(settings),
        _ => None,
    }
}
