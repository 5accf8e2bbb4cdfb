//! The kernel for compute capability 9.0 with one fault at a time: no broken copy may pass for the kernel.

use checks::cases::Case;
use checks::device::{Layout, inputs, options};
use cuda_device::Arch;
use diff_flash_attn::tuning::Family;
use diff_flash_attn::{DType, Error, Problem, Tuning, forward};
use simulator::Simulator;

use crate::device;

pub(crate) const TRY_WAIT: &str = "mbarrier.try_wait.parity.shared::cta.b64 p, ";
pub(crate) const EXPECT: &str = "mbarrier.arrive.expect_tx.shared::cta.b64 _, ";
const RELEASE: &str = "@p mbarrier.arrive.shared::cluster.b64 _, [there];";
pub(crate) const WAIT_PRODUCTS: &str = "wgmma.wait_group.sync.aligned ";

/// Waits of a computing warpgroup for what TMA brings, in the order of the code: the queries, the first keys, then in the
/// loop keys and values, the last values. Those after them are the loading thread's.
const COMPUTING_WAITS: usize = 5;

/// Four tiles of keys through rings of two.
fn case() -> Case {
    let problem = Problem::differential([1, 70, 400], [1, 1], [64, 64])
        .with_scale(0.125)
        .with_dtype(DType::BF16);
    Case::random(problem, &[1], false, 7)
}

/// The output, or what the simulator reports.
fn output(device: &Simulator) -> Result<Vec<f32>, Error> {
    let (client, case) = (device.client(), case());
    let tuning = Tuning::of(Family::Hopper);
    let inputs = inputs(client, &case, Layout::Interleaved);
    let output = forward(client, &inputs, &options(&case, tuning))?.output;
    output.to_f32(client)
}

/// The fault must be reported with one of `words`, and the line of the PTX that shows it.
fn caught(fault: &str, words: &[&str], change: impl Fn(&str) -> String + Send + 'static) {
    let Some(nvrtc) = device::nvrtc() else { return };
    let changed = move |ptx: String| {
        let changed = change(&ptx);
        assert_ne!(changed, ptx, "nothing was changed");
        changed
    };
    let device = Simulator::with_changes(Arch::Sm90a, nvrtc, changed).unwrap();
    let report = match output(&device) {
        Ok(_) => panic!("{fault}: nothing reported"),
        Err(report) => report.to_string(),
    };
    println!("{fault}: {report}");
    let says = words.iter().any(|word| report.contains(word));
    assert!(says && report.contains("line "), "{fault}: {report}");
}

/// Changes the lines that contain `pattern` and whose number among them `which` accepts.
pub(crate) fn change_lines(
    ptx: &str,
    pattern: &str,
    which: impl Fn(usize) -> bool,
    change: impl Fn(&str) -> String,
) -> String {
    let mut number = 0;
    let lines = ptx.lines().map(|line| {
        if !line.contains(pattern) {
            return line.to_string();
        }
        number += 1;
        if which(number - 1) {
            change(line)
        } else {
            line.to_string()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn unchanged_kernel_passes() {
    let Some(device) = device::device(Arch::Sm90a) else {
        return;
    };
    assert!(output(&device).unwrap().iter().all(|x| x.is_finite()));
}

#[test]
fn dropped_waits_for_tiles() {
    for wait in 0..COMPUTING_WAITS {
        caught(
            &format!("wait {wait} dropped"),
            &["in flight", "race"],
            move |ptx| {
                change_lines(
                    ptx,
                    TRY_WAIT,
                    |i| i == wait,
                    |_| "setp.eq.u32 p, 0, 0;".into(),
                )
            },
        );
    }
}

#[test]
fn dropped_waits_for_room() {
    caught("no wait for room", &["more than 1 arrivals"], |ptx| {
        change_lines(
            ptx,
            TRY_WAIT,
            |i| i >= COMPUTING_WAITS,
            |_| "setp.eq.u32 p, 0, 0;".into(),
        )
    });
}

#[test]
fn swapped_phases() {
    for wait in 0..COMPUTING_WAITS {
        caught(
            &format!("phase of wait {wait} swapped"),
            &["deadlock", "race"],
            move |ptx| {
                change_lines(
                    ptx,
                    TRY_WAIT,
                    |i| i == wait,
                    |line| {
                        let (start, parity) = line.rsplit_once(", ").unwrap();
                        let parity = parity.trim_end_matches(';');
                        format!(
                            "{{\n.reg .b32 swapped;\nxor.b32 swapped, {parity}, 1;\n{start}, swapped;\n}}"
                        )
                    },
                )
            },
        );
    }
}

#[test]
fn shortened_byte_counts() {
    caught("bytes expected", &["deadlock"], |ptx| {
        change_lines(
            ptx,
            EXPECT,
            |_| true,
            |line| line.replace(", 16384;", ", 16368;"),
        )
    });
}

#[test]
fn kept_tiles() {
    for release in 0..3 {
        caught(
            &format!("tile {release} never released"),
            &["deadlock"],
            move |ptx| change_lines(ptx, RELEASE, |i| i == release, |_| String::new()),
        );
    }
}

#[test]
fn dropped_waits_for_products() {
    for wait in 0..4 {
        caught(
            &format!("wait {wait} for products dropped"),
            &["not waited for"],
            move |ptx| change_lines(ptx, WAIT_PRODUCTS, |i| i == wait, |_| String::new()),
        );
    }
}
