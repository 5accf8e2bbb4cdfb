//! What a family of kernels must be able to do.

use super::Settings;
use super::passes::statistics::RowResults;
use super::settings::Tuning;
use super::table::Shipped;
use crate::device::Device;
use crate::error::Result;
use crate::plan::{BackwardCall, Draft, Family, ForwardCall, Pass};
use crate::problem::Problem;

/// A family of kernels: one folder, one implementation of this.
pub(crate) trait Kernels: Sync {
    /// Its name.
    fn family(&self) -> Family;

    /// The passes that it has kernels for.
    fn passes(&self) -> &'static [Pass];

    /// Plans the forward pass, with the settings asked for or the best known, or says why not.
    fn forward(
        &self,
        call: &ForwardCall,
        device: &Device,
        asked: Option<Settings>,
        draft: &mut Draft,
    ) -> Result<()>;

    /// Plans the gradients of query, key and value.
    fn products(
        &self,
        call: &BackwardCall,
        rows: &RowResults,
        device: &Device,
        tuning: &Tuning,
        draft: &mut Draft,
    ) -> Result<()>;

    /// Every setting that a pass can be launched with for a problem that lies row-major in memory, best known first.
    fn candidates(&self, pass: Pass, problem: &Problem, device: &Device) -> Vec<Settings>;

    /// Its table.
    fn shipped(&self) -> Vec<Shipped>;
}
