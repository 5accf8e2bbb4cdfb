//! Plans of the calls that a training step makes again and again, kept by everything that they depend on.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::prelude::Client;
use cubecl_common::device::ServiceId;

use crate::attention::Options;
use crate::error::Result;
use crate::plan::{Bindings, Expected, Plan};
use crate::problem::Mask;
use crate::tuning::Tuning;

/// Plans that are kept before all are forgotten: more than the layers of a model and the lengths of a data loader's batches.
const KEPT: usize = 1024;

/// What a plan depends on.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    device: ServiceId,
    tensors: Vec<Expected>,
    mask: Mask,
    tuning: Tuning,
    /// Bits of scale, eps and λ_init.
    numbers: [Option<u32>; 3],
}

impl Key {
    fn of(client: &Client, tensors: &Bindings<'_>, options: &Options) -> Self {
        let norm = options.norm;
        Self {
            device: client.service_id(),
            tensors: tensors.expected(&[]),
            mask: options.mask,
            tuning: options.tuning,
            numbers: [
                options.scale.map(f32::to_bits),
                norm.map(|norm| norm.eps.to_bits()),
                norm.map(|norm| norm.lambda_init.to_bits()),
            ],
        }
    }
}

/// The plan for a call of those tensors, made by `plan` if it is new. Refusals are not kept.
pub(super) fn planned(
    client: &Client,
    tensors: &Bindings<'_>,
    options: &Options,
    plan: impl FnOnce() -> Result<Plan>,
) -> Result<Arc<Plan>> {
    static PLANS: Mutex<Option<HashMap<Key, Arc<Plan>>>> = Mutex::new(None);

    let key = Key::of(client, tensors, options);
    let lock = || PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().as_ref().and_then(|plans| plans.get(&key)) {
        return Ok(known.clone());
    }
    // Not under the lock: others may plan meanwhile, at worst the same.
    let plan = Arc::new(plan()?);
    let mut plans = lock();
    let plans = plans.get_or_insert_default();
    if plans.len() >= KEPT {
        plans.clear();
    }
    plans.insert(key, plan.clone());
    Ok(plan)
}

#[cfg(all(test, feature = "wgpu", not(target_family = "wasm")))]
mod tests {
    use super::*;
    use crate::attention::{Inputs, plan_forward_into};
    use crate::dtype::DType;
    use crate::tensor::Tensor;

    #[test]
    fn the_same_call_has_the_same_plan_and_another_has_another() {
        let client = crate::device::default_client().unwrap();
        let call = |len: usize, options: Options| {
            let tensor = || Tensor::empty(&client, DType::F32, &[1, len, 2, 8]);
            let (inputs, output) = (Inputs::standard(tensor(), tensor(), tensor()), tensor());
            let tensors = Bindings::forward(&inputs, &output, None);
            planned(&client, &tensors, &options, || {
                plan_forward_into(&client, &inputs, &options, &output, None)
            })
        };
        let plain = call(5, Options::default()).unwrap();
        assert!(Arc::ptr_eq(&plain, &call(5, Options::default()).unwrap()));
        assert!(!Arc::ptr_eq(&plain, &call(6, Options::default()).unwrap()));
        let scaled = Options::default().with_scale(2.0);
        assert!(!Arc::ptr_eq(&plain, &call(5, scaled).unwrap()));
        assert!(call(5, Options::default().with_scale(f32::NAN)).is_err());
    }
}
