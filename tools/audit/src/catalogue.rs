//! Every kernel that the library launches for a GPU: the catalogue's calls on a device that runs nothing, each kernel named
//! by what its plan says of it.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use checks::catalogue::{Entry, PUBLISHED, entries, of_row};
use cuda_device::{Arch, Kernel, Recorder};
use diff_flash_attn::lambda::{LambdaTensors, lambda_gradient_on_device, lambda_on_device};
use diff_flash_attn::tuning::{Family, HopperSettings, MaskKind, Pass, Settings, shipped};
use diff_flash_attn::{
    DType, Description, Error, Mask, Options, Plan, Tensor, backward, forward, plan_backward,
    plan_forward,
};

use crate::Item;

/// What every device has for a cube, in bytes.
const PORTABLE_SHARED_MEMORY: usize = 32 << 10;

/// Every kernel of the library as launched on `arch`: once for each combination of settings, types and problem that
/// makes its code differ.
///
/// # Errors
/// If the library refuses a call, with its words.
pub fn items(arch: Arch) -> Result<Vec<Item>> {
    let recorder = Recorder::new(arch)?;
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    for call in calls().filter(|call| call.is_for(arch)) {
        let launches = call.launches(&recorder);
        for launch in launches.with_context(|| format!("{} on {arch}", call.entry))? {
            if seen.insert(launch.kernel.id().stable_hash()) {
                items.push(launch.item(arch));
            }
        }
    }
    Ok(items)
}

/// A call of the catalogue, or one with settings of its own.
struct Call {
    entry: Entry,
    settings: Option<Settings>,
}

/// The portable kernels first, then the other families, last what those are measured by.
fn calls() -> impl Iterator<Item = Call> {
    let mut families = vec![Family::Portable];
    for family in shipped().map(|row| row.settings.family()) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    let entries = families.into_iter().flat_map(entries);
    let entries = entries.map(|entry| Call {
        entry,
        settings: None,
    });
    entries.chain(without_overlap())
}

/// Rows for compute capability 9.0 without the overlap of softmax and products: what it is measured against.
fn without_overlap() -> impl Iterator<Item = Call> {
    let dims = [(2, 128, 256), (2, 64, 128), (1, 128, 256), (1, 64, 128)];
    dims.into_iter().filter_map(|dims| {
        let mut rows = shipped().filter(|row| row.mask == Some(MaskKind::Causal));
        let row = rows.find(|row| {
            let hopper = row.settings.family() == Family::Hopper;
            hopper && (row.maps, row.head_dim, row.value_dim) == dims && row.pass == Pass::Forward
        })?;
        let Settings::Hopper(mut settings) = row.settings else {
            return None;
        };
        settings.overlap = false;
        Some(Call {
            entry: of_row(&row, DType::BF16),
            settings: Some(settings.into()),
        })
    })
}

/// A kernel as it was launched, and what the plan says of it.
struct Launch {
    kernel: Kernel,
    name: String,
    family: Option<Family>,
    overlaps: bool,
}

impl Launch {
    fn item(self, arch: Arch) -> Item {
        Item {
            kernel: self.kernel,
            settings: self.name,
            arch,
            overlaps: self.overlaps,
            shared_memory: match self.family {
                None | Some(Family::Portable) => PORTABLE_SHARED_MEMORY,
                Some(_) => arch.shared_memory(),
            },
        }
    }
}

impl Call {
    /// Whether its kernels are compiled there: those for no one architecture have the same source everywhere, so all of them
    /// are compiled for the oldest (portable ones for Hopper, too), on others those of published models in one type.
    fn is_for(&self, arch: Arch) -> bool {
        let Entry {
            problem, offset, ..
        } = self.entry;
        let published = PUBLISHED.contains(&[problem.head_dim, problem.value_dim]);
        let full = problem.maps == 2 && problem.mask == Mask::Causal && problem.norm.is_some();
        let everywhere = published && full && offset == 0 && problem.dtype == DType::BF16;
        let all = match self.entry.family {
            Family::Portable => matches!(arch, Arch::Sm80 | Arch::Sm90a),
            Family::Mma => arch == Arch::Sm80,
            _ => true,
        };
        all || everywhere
    }

    /// The kernels of the call's family, with those of none where it is the portable one: inference first, then a training
    /// step, then λ. None where the device is not for the family.
    fn launches(&self, recorder: &Recorder) -> Result<Vec<Launch>> {
        let mut launches = match self.forward(recorder, false) {
            Ok(launches) => launches,
            Err(error) if self.is_for_others(&error) => return Ok(vec![]),
            Err(error) => return Err(error),
        };
        launches.extend(self.forward(recorder, true)?);
        if self.settings.is_none() {
            match self.backward(recorder) {
                Ok(backward) => launches.extend(backward),
                Err(error) if self.is_for_others(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if self.entry.family == Family::Portable && self.entry.problem.maps == 2 {
            launches.extend(self.lambda(recorder)?);
        }
        launches.retain(|launch| self.owns(launch));
        Ok(launches)
    }

    fn is_for_others(&self, error: &anyhow::Error) -> bool {
        let refused = matches!(error.downcast_ref(), Some(Error::Settings { .. }));
        refused && self.entry.family != Family::Portable
    }

    fn owns(&self, launch: &Launch) -> bool {
        match launch.family {
            None => self.entry.family == Family::Portable,
            Some(family) => family == self.entry.family,
        }
    }

    fn options(&self, save: bool) -> Options {
        let options = self.entry.options().with_save_for_backward(save);
        let tuning = options.tuning;
        match self.settings {
            Some(settings) => options.with_tuning(tuning.with(Pass::Forward, settings)),
            None => options,
        }
    }

    fn forward(&self, recorder: &Recorder, save: bool) -> Result<Vec<Launch>> {
        let (client, options) = (recorder.client(), self.options(save));
        let inputs = self.entry.inputs(client);
        let plan = plan_forward(client, &inputs, &options)?;
        forward(client, &inputs, &options)?;
        self.named(recorder, &plan, if save { " saving" } else { "" })
    }

    fn backward(&self, recorder: &Recorder) -> Result<Vec<Launch>> {
        let (client, options) = (recorder.client(), self.options(true));
        let inputs = self.entry.inputs(client);
        let saved = forward(client, &inputs, &options)?.saved;
        let saved = saved.context("forward saved nothing for backward")?;
        recorder.take()?;
        let p = &self.entry.problem;
        let shape = [p.batch, p.query_len, p.heads, p.value_dim];
        let gradient = self.entry.empty(client, &shape);
        let plan = plan_backward(client, &inputs, &saved, &gradient, &options)?;
        backward(client, &inputs, &saved, &gradient, &options)?;
        self.named(recorder, &plan, "")
    }

    /// λ from its vectors, and their gradients.
    fn lambda(&self, recorder: &Recorder) -> Result<Vec<Launch>> {
        let client = recorder.client();
        let vector = || Tensor::empty(client, DType::F32, &[self.entry.problem.head_dim]);
        let (q1, k1, q2, k2) = (vector(), vector(), vector(), vector());
        let vectors = LambdaTensors { q1, k1, q2, k2 };
        let lambda = lambda_on_device(client, &vectors, 0.2)?;
        lambda_gradient_on_device(client, &vectors, &lambda)?;
        let kernels = recorder.take()?.into_iter();
        Ok(kernels
            .map(|kernel| self.launch(kernel, None, ""))
            .collect())
    }

    /// The kernels launched since the last time, which are those of a plan, in its order.
    fn named(&self, recorder: &Recorder, plan: &Plan, saving: &str) -> Result<Vec<Launch>> {
        let (kernels, steps) = (recorder.take()?, plan.describe());
        let (launched, planned) = (kernels.len(), steps.len());
        ensure!(
            launched == planned,
            "{launched} launches of {planned} planned"
        );
        let both = kernels.into_iter().zip(steps);
        Ok(both
            .map(|(kernel, step)| self.launch(kernel, Some(step), saving))
            .collect())
    }

    /// The kernel, with the call and its own settings as its name; `saving` sets the forward kernel of training apart.
    fn launch(&self, kernel: Kernel, step: Option<Description>, saving: &str) -> Launch {
        let step = step.filter(|step| step.family.is_some());
        let settings = step.as_ref().and_then(|step| step.settings.clone());
        let forward = step
            .as_ref()
            .is_some_and(|step| step.kernel.contains("forward"));
        let overlaps = |name: &String| name.parse().is_ok_and(|it: HopperSettings| it.overlap);
        Launch {
            kernel,
            // The gradients' exponentials are hidden otherwise, where no wait tells.
            overlaps: forward && settings.as_ref().is_some_and(overlaps),
            name: match settings {
                Some(settings) => format!("{}{saving} {settings}", self.entry),
                None => self.entry.to_string(),
            },
            family: step.and_then(|step| step.family),
        }
    }
}
