//! Memory is linear in the sequence length, and every row of a long sequence is computed.

use checks::cases::Case;
use checks::device::{Layout, client, inputs, options, run};
use checks::skipped;
use cubecl::MemoryScope;
use cubecl::prelude::Client;
use diff_flash_attn::{DType, Mask, Problem, Tensor, Tuning, backward, forward};

/// Batch 1, one head; short dimensions, so that N×N would dwarf everything else.
fn case(len: usize) -> Case {
    let problem = Problem::differential([1, len, len], [1, 1], [16, 32])
        .with_mask(Mask::Causal)
        .with_scale(0.25);
    Case::random(problem, &[1], false, 21)
}

/// Bytes that the device's allocator has in use with all results alive, and has reserved.
fn footprint(client: &Client, case: &Case) -> (u64, u64) {
    client.memory_cleanup().unwrap();
    let before = client.memory_report(MemoryScope::CurrentStream).usage();
    let (inputs, options) = (
        inputs(client, case, Layout::Interleaved),
        options(case, Tuning::default()),
    );
    let result = forward(client, &inputs, &options).unwrap();
    let saved = result.saved.unwrap();
    let grad_output =
        Tensor::from_f32(client, DType::F32, &case.output_shape(), &case.grad_output).unwrap();
    let gradients = backward(client, &inputs, &saved, &grad_output, &options).unwrap();
    gradients.key.to_f32(client).unwrap();
    let after = client.memory_report(MemoryScope::CurrentStream).usage();
    (
        after.bytes_in_use - before.bytes_in_use,
        after.bytes_reserved,
    )
}

#[test]
fn memory_is_linear_in_the_sequence_length() {
    let client = client();
    let (short, _) = footprint(&client, &case(4096));
    let (long, reserved) = footprint(&client, &case(8192));
    println!("in use at 4096: {short} B, at 8192: {long} B; reserved {reserved} B");
    let one_map = 8192 * 8192 * 4;
    assert!(
        short > 0 && long <= 2 * short + short / 8,
        "{short} B, then {long} B"
    );
    assert!(
        reserved < one_map / 2,
        "{reserved} B reserved, one map of scores has {one_map} B"
    );
}

#[test]
fn every_row_of_a_long_sequence_is_computed() {
    let case = case(8192);
    let ours = run(&client(), &case, Layout::Interleaved, Tuning::default());
    let (exact, grad) = (case.forward(), case.backward());
    for (name, ours, exact) in [
        ("output", &ours.output, &exact.output),
        ("dq", &ours.query, &grad.query),
        ("dk", &ours.key, &grad.key),
        ("dv", &ours.value, &grad.value),
    ] {
        let dim = ours.len() / 8192;
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        // A row may be small, or 0 as the first gradients are: it is measured by what rows are like on average.
        let typical = norm(&mut exact.iter().copied()) / 8192_f64.sqrt();
        for (row, (ours, exact)) in ours.chunks(dim).zip(exact.chunks(dim)).enumerate() {
            let error = norm(&mut ours.iter().zip(exact).map(|(x, y)| f64::from(*x) - y));
            assert!(
                error < 1e-4 * typical,
                "{name} row {row}: {error:e}, typically {typical:e}"
            );
        }
    }
}

#[test]
fn loops_that_lavapipe_would_cut_short_are_refused() {
    let client = client();
    if !client.properties().identity.name.contains("llvmpipe") {
        skipped("only Mesa's CPU driver limits the loops of a unit");
        return;
    }
    // One query head sees 2²⁰ keys: no tile is small enough for 65,535 iterations.
    let tensor = |len: usize| Tensor::empty(&client, DType::F32, &[1, len, 1, 8]);
    let inputs = diff_flash_attn::Inputs::standard(tensor(1), tensor(1 << 20), tensor(1 << 20));
    let error = forward(&client, &inputs, &diff_flash_attn::Options::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("loop iterations of a unit:"),
        "{error}"
    );
}
