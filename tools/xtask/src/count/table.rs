//! Counts as tables, and as JSON.

use core::fmt::Write;

use audit::loops::tensor_cycles;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};
use simulator::{Kind, Pipe, Product};

use super::case::Counted;

/// What the numbers mean; printed below them.
const NOTES: [&str; 5] = [
    "Instructions are those of the PTX, of warps; the assembler makes fewer or more, but none that touch memory, unless it spills.",
    "Bytes of global memory are what leaves the L2 cache and enters it, if nothing is found in L1: of one instruction of a warp each byte once; a copy to several cubes once.",
    "Shared memory: 32 banks of 4 bytes, an access of 8 bytes a lane in halves of a warp, of 16 in quarters, a matrix in its rows; conflicts are wavefronts beyond one for each. Copies of TMA and operands of wgmma are counted apart, in bytes.",
    "Tensor cycles are those of one multiprocessor at its peak, assumed: wgmma 2048 multiply-adds a cycle, mma.sync 1024 on sm_80 and sm_90a, 256 on sm_86, sm_89, sm_120a with sums of f32.",
    "`least` is what the call must move at least, each input read once, each output written once; the last launch of a call has the sum of all its launches.",
];

pub(super) fn tables(counted: &[Counted], arch: &str) -> String {
    let mut text = String::new();
    let all = [
        instructions(counted),
        memory(counted, arch),
        tensors(counted),
    ];
    for table in all {
        let _ = writeln!(text, "{table}\n");
    }
    for note in NOTES {
        let _ = writeln!(text, "- {note}");
    }
    text
}

fn table(header: &[String], left: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for column in left..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn headed(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn title(it: &Counted) -> Vec<String> {
    let settings = it.step.settings.clone().unwrap_or_default();
    vec![it.call.clone(), it.step.kernel.to_string(), settings]
}

fn instructions(counted: &[Counted]) -> Table {
    let mut header = headed(&["call", "kernel", "settings", "issued"]);
    header.extend(Pipe::ALL.map(|pipe| pipe.to_string()));
    let mut table = table(&header, 3);
    for it in counted {
        let counts = &it.launch.counts;
        let mut row = title(it);
        row.push(counts.issued().to_string());
        row.extend(Pipe::ALL.map(|pipe| counts.instructions.get(&pipe).unwrap_or(&0).to_string()));
        table.add_row(row);
    }
    table
}

fn memory(counted: &[Counted], arch: &str) -> Table {
    let header = headed(&[
        "call",
        "kernel",
        "settings",
        "products",
        "tensor cycles",
        "wavefronts",
        "conflicts",
        "wgmma read [B]",
        "TMA written [B]",
        "barriers",
        "mbarriers",
        "wgmma waits",
        "copy waits",
        "cluster waits",
        "global [B]",
        "sectors [B]",
        "least [B]",
        "of least",
    ]);
    let mut table = table(&header, 4);
    let mut sum = 0;
    for (i, it) in counted.iter().enumerate() {
        let counts = &it.launch.counts;
        let (bytes, sectors) = moved(it);
        sum += bytes;
        let mut row = title(it);
        let products = counts
            .products
            .iter()
            .map(|(product, n)| format!("{n} {product}"));
        row.push(products.collect::<Vec<_>>().join(", "));
        row.push(cycles(it, arch).map_or_else(String::new, |cycles| format!("{cycles:.0}")));
        let waits = &counts.waits;
        let numbers = [
            counts.shared.wavefronts,
            counts.shared.conflicts,
            counts.product_bytes,
            counts.bulk_written,
            waits.barrier,
            waits.mbarrier,
            waits.wgmma,
            waits.copies,
            waits.cluster,
            bytes,
            sectors,
        ];
        row.extend(numbers.map(|n| n.to_string()));
        let next = counted.get(i + 1);
        let last = next.is_none_or(|next| (&next.call, next.direction) != (&it.call, it.direction));
        if last {
            let least = it.problem.bytes(it.direction);
            row.extend([
                least.to_string(),
                format!("{:.2}", sum as f64 / least as f64),
            ]);
            sum = 0;
        } else {
            row.extend([String::new(), String::new()]);
        }
        table.add_row(row);
    }
    table
}

/// Bytes of global memory, and bytes of the sectors in which they lie.
fn moved(it: &Counted) -> (u64, u64) {
    let all = it.launch.counts.global.iter();
    let each = all.map(|t| {
        (
            t.read + t.written,
            32 * (t.sectors_read + t.sectors_written),
        )
    });
    each.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
}

fn tensors(counted: &[Counted]) -> Table {
    let mut table = table(
        &headed(&[
            "call",
            "kernel",
            "tensor",
            "size [B]",
            "read [B]",
            "read / size",
            "written [B]",
            "written / size",
        ]),
        3,
    );
    for it in counted {
        for (name, tensor) in it.names.iter().zip(&it.launch.tensors) {
            let (size, traffic) = (tensor.bytes, tensor.traffic);
            if traffic.read + traffic.written == 0 {
                continue;
            }
            let times = |bytes: u64| format!("{:.2}", bytes as f64 / size as f64);
            let (read, written) = (traffic.read, traffic.written);
            table.add_row([
                it.call.clone(),
                it.step.kernel.to_string(),
                name.clone(),
                size.to_string(),
                read.to_string(),
                times(read),
                written.to_string(),
                times(written),
            ]);
        }
    }
    table
}

pub(super) fn json(it: &Counted, arch: &str) -> Value {
    let (launch, counts) = (&it.launch, &it.launch.counts);
    let pipes = Pipe::ALL.iter().map(|pipe| {
        let count = counts.instructions.get(pipe).copied().unwrap_or(0);
        (pipe.to_string(), json!(count))
    });
    let products = counts
        .products
        .iter()
        .map(|(product, n)| (product.to_string(), json!(n)));
    let tensors = it.names.iter().zip(&launch.tensors).map(|(name, tensor)| {
        let t = tensor.traffic;
        json!({
            "tensor": name, "bytes": tensor.bytes, "read": t.read, "sectors_read": t.sectors_read,
            "written": t.written, "sectors_written": t.sectors_written,
        })
    });
    let (shared, waits) = (&counts.shared, &counts.waits);
    json!({
        "call": it.call, "direction": format!("{:?}", it.direction).to_lowercase(), "kernel": it.step.kernel,
        "settings": it.step.settings, "grid": launch.grid, "cube": launch.cube, "shared_memory": launch.shared_memory,
        "issued": counts.issued(), "instructions": pipes.collect::<Map<_, _>>(),
        "products": products.collect::<Map<_, _>>(), "tensor_cycles": cycles(it, arch),
        "shared": {
            "accesses": shared.accesses, "wavefronts": shared.wavefronts, "conflicts": shared.conflicts, "read": shared.read,
            "written": shared.written, "read_by_wgmma": counts.product_bytes, "written_by_tma": counts.bulk_written,
            "read_by_tma": counts.bulk_read,
        },
        "waits": {
            "barrier": waits.barrier, "barrier_arrivals": waits.barrier_arrivals, "mbarrier": waits.mbarrier,
            "mbarrier_arrivals": waits.mbarrier_arrivals, "wgmma": waits.wgmma, "copies": waits.copies, "cluster": waits.cluster,
        },
        "tensors": tensors.collect::<Vec<_>>(), "global_bytes": moved(it).0, "least_bytes_of_the_call": it.problem.bytes(it.direction),
    })
}

/// Cycles of the tensor cores of one multiprocessor, if it did everything alone.
fn cycles(counted: &Counted, arch: &str) -> Option<f64> {
    let of = |(product, n): (&Product, &u64)| {
        let warpgroups = matches!(product.kind, Kind::Wgmma | Kind::WgmmaRegisters);
        let tf32 = if product.element == "tf32" { 2 } else { 1 };
        tensor_cycles(
            arch,
            tf32 * n * product.multiply_adds(),
            warpgroups,
            product.half_sums,
        )
    };
    counted.launch.counts.products.iter().map(of).sum()
}
