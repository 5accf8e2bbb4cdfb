//! Instructions that not every target has.

use super::Decoded;
use crate::target::Target;

/// How an opcode begins, the compute capability that has it first, and whether only a target of one architecture, as
/// `sm_90a`, may use it. The first that fits counts.
const NEEDS: [(&str, u32, bool); 15] = [
    ("setmaxnreg", 90, true),
    ("cp.async.bulk", 90, false),
    ("cp.reduce.async.bulk", 90, false),
    ("cp.async", 80, false),
    ("mbarrier.try_wait", 90, false),
    ("mbarrier.expect_tx", 90, false),
    ("mbarrier.arrive.expect_tx", 90, false),
    ("mbarrier", 80, false),
    ("fence.proxy.async", 90, false),
    ("fence.mbarrier_init", 90, false),
    ("barrier.cluster", 90, false),
    ("mapa", 90, false),
    ("getctarank", 90, false),
    ("elect.sync", 90, false),
    ("stmatrix", 90, false),
];

/// That the target has an instruction.
pub fn check(opcode: &str, target: Option<Target>) -> Decoded<()> {
    let Some(target) = target else { return Ok(()) };
    if opcode.starts_with("wgmma") && target != Target::HOPPER {
        return Err(format!("only {} has it, not {target}", Target::HOPPER));
    }
    let mut needs = NEEDS.iter();
    match needs.find(|(begin, ..)| opcode.starts_with(begin)) {
        Some((_, least, _)) if target.capability < *least => {
            Err(format!("needs sm_{least}, not {target}"))
        }
        Some((.., true)) if !target.specific => {
            Err(format!("needs a target of one architecture, not {target}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(target: &str, opcode: &str) -> bool {
        check(opcode, Some(Target::parse(target).unwrap())).is_ok()
    }

    #[test]
    fn warpgroups_are_of_hopper_alone() {
        let wgmma = "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16";
        let targets = ["sm_80", "sm_90", "sm_90a", "sm_100a", "sm_120a"];
        let found = targets.map(|target| has(target, wgmma));
        assert_eq!(found, [false, false, true, false, false]);
        let found = targets.map(|target| has(target, "setmaxnreg.inc.sync.aligned.u32"));
        assert_eq!(found, [false, false, true, true, true]);
    }

    #[test]
    fn bulk_copies_begin_with_hopper_and_small_ones_before() {
        let bulk = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes";
        assert_eq!(
            ["sm_89", "sm_90", "sm_120a"].map(|it| has(it, bulk)),
            [false, true, true]
        );
        assert!(has("sm_80", "cp.async.cg.shared.global"));
        assert!(has("sm_80", "mbarrier.arrive.shared.b64"));
        assert!(!has("sm_86", "mbarrier.try_wait.parity.shared.b64"));
        assert!(check("wgmma.fence.sync.aligned", None).is_ok());
    }
}
