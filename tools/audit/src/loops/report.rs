//! The table of all loops, its JSON, and what the numbers assume.

use core::fmt;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};

use super::class::CLASSES;
use super::predict::Prediction;
use super::steady::Steady;

/// What every number rests on; printed beside them.
pub const ASSUMPTIONS: [&str; 9] = [
    "Counted is one round of one warp through the main loop, without a mask: a block of at least 16 selections that a branch skips is skipped, all else is executed, waits succeed at once.",
    "One instruction is issued a cycle and scheduler, and stall counts and scoreboards of the machine code are obeyed. No loop is longer than the instruction cache.",
    "Pipes by scheduler: MUFU 8 cycles, ALU (comparison, conversion, integer, moves) 2, FMA 1 (2 on sm_80).",
    "A product of a warpgroup, 64 x N x 16, takes N / 2 cycles; products run in the order of their issue, which takes 24 cycles to the first and 24 from the last to the instruction after a wait.",
    "mma.sync: 256 multiply-adds a cycle and scheduler of f16 or bf16 on sm_80 and sm_90 (less than its warpgroups' 512), 64 with sums of f32 on sm_86, sm_89, sm_120, as GeForce has them.",
    "Shared memory: 128 bytes a cycle, of which products read B (and A, unless it is in registers); TMA's writes take their bytes, once for each barrier that expects some; LDS takes one cycle up to 8 bytes a lane, two for 16 (statistics that lanes share); other accesses every lane its own bytes, without bank conflicts. Nothing is buffered: pessimistic where it is nearly full.",
    "Copies from global memory always arrive in time.",
    "Warps of a scheduler begin 40 cycles apart; named barriers pass turns from one warpgroup to the next; where none is passed, all warps of a cube meet at them, be they for fewer.",
    "No figure here was measured on a GPU. Prologue, epilogue, masked tiles, waves of cubes and clocks are not in it.",
];

/// A kernel and its loops.
#[derive(Debug, Clone)]
pub struct Row {
    /// Name of the kernel.
    pub kernel: String,
    /// What it was launched for.
    pub settings: String,
    /// Architecture.
    pub arch: String,
    /// Its loops, the main one first; or why they are not known.
    pub loops: Result<Vec<Steady>, String>,
}

/// All kernels. Its `Display` is the table of main loops with the assumptions.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The kernels, in the order of their rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// Kernels whose loops are not known.
    pub fn failed(&self) -> usize {
        self.rows.iter().filter(|row| row.loops.is_err()).count()
    }

    /// `{"assumptions": […], "kernels": [{"kernel", "settings", "arch", "loops": […]}]}`.
    pub fn json(&self) -> Value {
        let kernel = |row: &Row| {
            let loops = match &row.loops {
                Ok(loops) => loops.iter().map(steady).collect(),
                Err(_) => vec![],
            };
            json!({
                "kernel": row.kernel, "settings": row.settings, "arch": row.arch,
                "loops": loops, "error": row.loops.as_ref().err(),
            })
        };
        json!({
            "assumptions": ASSUMPTIONS,
            "kernels": self.rows.iter().map(kernel).collect::<Vec<_>>(),
        })
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_MARKDOWN)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(header());
        for row in &self.rows {
            if let Some(main) = row.loops.as_ref().ok().and_then(|loops| loops.first()) {
                table.add_row(cells(row, main));
            }
        }
        for column in 3..header().len() - 1 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.table())?;
        for row in &self.rows {
            let (kernel, settings, arch) = (&row.kernel, &row.settings, &row.arch);
            match &row.loops {
                Err(error) => writeln!(f, "{kernel} {settings} {arch}: {error}")?,
                Ok(loops) if loops.is_empty() => {
                    writeln!(f, "{kernel} {settings} {arch}: no loop with products")?;
                }
                Ok(_) => {}
            }
        }
        writeln!(f, "Assumed:")?;
        ASSUMPTIONS
            .iter()
            .try_for_each(|line| writeln!(f, "- {line}"))
    }
}

fn header() -> Vec<&'static str> {
    let mut header = vec!["kernel", "settings", "arch", "warps", "tensor cycles"];
    header.extend(CLASSES.iter().map(|(_, name)| *name));
    header.extend([
        "issued",
        "issued / tensor",
        "hidden",
        "waits",
        "read [B/cycle]",
        "written [B/cycle]",
    ]);
    header.extend(["alone", "shared memory ignored", "share of peak", "limit"]);
    header
}

fn cells(row: &Row, main: &Steady) -> Vec<String> {
    let [all, hidden] = main.exponentials;
    let [products, mbarriers, barriers] = main.waits;
    let [read, written] = main.shared_a_cycle();
    let mut cells = vec![row.kernel.clone(), row.settings.clone(), row.arch.clone()];
    cells.extend([main.warps.to_string(), format!("{:.0}", main.tensor)]);
    cells.extend(
        CLASSES
            .iter()
            .map(|(class, _)| main.counts.get(class).unwrap_or(&0).to_string()),
    );
    cells.extend([
        main.issued.to_string(),
        format!("{:.2}", main.issued as f64 / main.tensor),
    ]);
    cells.extend([
        format!("{hidden}/{all}"),
        format!("{products}+{mbarriers}+{barriers}"),
    ]);
    let unknown = if main.loads_known { "" } else { "+?" };
    cells.extend([format!("{read:.1}"), format!("{written:.1}{unknown}")]);
    cells.extend(predicted(main.prediction.as_ref()));
    cells
}

fn predicted(prediction: Option<&Prediction>) -> [String; 4] {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    match prediction {
        None => [(); 4].map(|()| "?".to_string()),
        Some(p) => [
            percent(p.alone),
            percent(p.without_shared),
            percent(p.share),
            p.limit().to_string(),
        ],
    }
}

fn steady(l: &Steady) -> Value {
    let counts = CLASSES.iter().map(|(class, name)| {
        let count = l.counts.get(class).copied().unwrap_or(0);
        (name.to_string(), json!(count))
    });
    let [all, hidden] = l.exponentials;
    let [products, mbarriers, barriers] = l.waits;
    let [read, written] = l.shared_a_cycle();
    json!({
        "warps": l.warps, "tensor_cycles": l.tensor, "issued": l.issued,
        "counts": counts.collect::<Map<_, _>>(),
        "exponentials": {"all": all, "hidden": hidden},
        "waits": {"products": products, "mbarriers": mbarriers, "barriers": barriers},
        "shared_bytes_a_tensor_cycle": {"read": read, "written": written, "loads_known": l.loads_known},
        "predicted": l.prediction.as_ref().map(prediction),
    })
}

fn prediction(p: &Prediction) -> Value {
    let busy = p
        .busy
        .iter()
        .map(|(name, busy)| (name.to_string(), json!(busy)));
    json!({
        "share": p.share, "share_without_shared_memory": p.without_shared, "share_of_one_warp": p.alone,
        "period": p.period, "limit": p.limit(), "busy": busy.collect::<Map<_, _>>(),
    })
}
