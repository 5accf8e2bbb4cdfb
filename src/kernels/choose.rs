//! Which family plans a call: the one that is asked for, or the first that can.

use super::family::Kernels;
use super::passes::statistics;
use super::settings::Tuning;
use super::table::Shipped;
use super::{ALL, Settings};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::plan::{BackwardCall, Draft, Family, ForwardCall, Pass, Refusal};
use crate::problem::Problem;

/// Plans output from inputs.
pub(crate) fn forward(
    call: &ForwardCall,
    device: &Device,
    tuning: &Tuning,
) -> Result<(Draft, Vec<Refusal>)> {
    let mut draft = Draft::default();
    let passes = &[Pass::Forward];
    let refused = choose(tuning, passes, &mut draft, |family, draft| {
        family.forward(call, device, tuning.forward, draft)
    })?;
    Ok((draft, refused))
}

/// Plans gradients of the inputs: statistics of the rows first, then what λ and γ get from them, then the products.
pub(crate) fn backward(
    call: &BackwardCall,
    device: &Device,
    tuning: &Tuning,
) -> Result<(Draft, Vec<Refusal>)> {
    let mut draft = Draft::default();
    let rows = statistics::plan(call, device, &mut draft)?;
    let passes = &[Pass::QueryGradient, Pass::KeyValueGradient];
    let refused = choose(tuning, passes, &mut draft, |family, draft| {
        family.products(call, &rows, device, tuning, draft)
    })?;
    Ok((draft, refused))
}

/// Lets families plan in their order until one does; those before it say why not.
fn choose(
    tuning: &Tuning,
    passes: &[Pass],
    draft: &mut Draft,
    plan: impl Fn(&dyn Kernels, &mut Draft) -> Result<()>,
) -> Result<Vec<Refusal>> {
    let able = |family: &dyn Kernels| passes.iter().all(|pass| family.passes().contains(pass));
    if let Some(asked) = asked(tuning, passes, able)? {
        draft.attempt(|draft| plan(asked, draft))?;
        return Ok(vec![]);
    }
    let mut refused = Vec::new();
    for kernels in ALL.iter().copied().filter(|kernels| able(*kernels)) {
        let family = kernels.family();
        match draft.attempt(|draft| plan(kernels, draft)) {
            Ok(()) => return Ok(refused),
            Err(reason) => refused.push(Refusal { family, reason }),
        }
    }
    // The last is the one that takes every problem: what it cannot do, none can.
    Err(refused.pop().map_or_else(
        || unreachable!("a family has every pass"),
        |last| last.reason,
    ))
}

/// The family that is asked for. One that is named, but has no kernels for the passes, leaves them to the others.
fn asked(
    tuning: &Tuning,
    passes: &[Pass],
    able: impl Fn(&dyn Kernels) -> bool,
) -> Result<Option<&'static dyn Kernels>> {
    if let Some(family) = tuning.asked(passes)? {
        return built(family).map(Some);
    }
    let named = tuning.family.map(built).transpose()?;
    Ok(named.filter(|family| able(*family)))
}

/// A family of this build.
fn built(family: Family) -> Result<&'static dyn Kernels> {
    let mut all = ALL.iter().copied();
    all.find(|kernels| kernels.family() == family)
        .ok_or_else(|| Error::Settings {
            settings: family.to_string(),
            problem: format!("the crate was built without feature `{family}`"),
        })
}

/// Every setting that a pass of a problem can be launched with on a device, of every family, best known first. The problem
/// is taken to lie row-major in memory.
///
/// ```
/// use diff_flash_attn::device::{self, Device};
/// use diff_flash_attn::tuning::{Pass, candidates};
/// use diff_flash_attn::{Options, Problem, Tuning};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let device = Device::of(&device::default_client()?);
/// let problem = Problem::differential([1, 128, 128], [4, 4], [64, 128]);
/// for settings in candidates(Pass::Forward, &problem, &device).into_iter().take(3) {
///     let options = Options::default().with_tuning(Tuning::default().with(Pass::Forward, settings));
///     println!("{settings}: {options:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub fn candidates(pass: Pass, problem: &Problem, device: &Device) -> Vec<Settings> {
    let of = |kernels: &&dyn Kernels| kernels.candidates(pass, problem, device);
    ALL.iter().flat_map(of).collect()
}

/// All default settings, family by family, each family's best first.
///
/// ```
/// use diff_flash_attn::tuning::{Pass, shipped};
/// for row in shipped().filter(|row| row.pass == Pass::Forward) {
///     println!("{:?} d {} dv {}: {}", row.class, row.head_dim, row.value_dim, row.settings);
/// }
/// ```
pub fn shipped() -> impl Iterator<Item = Shipped> {
    ALL.iter().flat_map(|kernels| kernels.shipped())
}
