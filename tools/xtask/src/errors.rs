//! Errors of tensors as a table, and what may be wrong with them.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use diff_flash_attn::DType;
use golden::Row;

/// The relative error that is allowed if nobody says another: about three times the largest that the golden cases show,
/// which is 2.9e-6 in f32 and 1.5e-3 in f16, both for λ, whose gradient is a sum with cancellation. bfloat16 rounds eight
/// times as coarsely as f16.
pub(crate) fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-5,
        DType::F16 => 5e-3,
        DType::BF16 => 4e-2,
    }
}

/// Whether every tensor is within what is allowed to it; NaN is not.
pub(crate) fn all_within(rows: &[Row], allowed: &[f64]) -> bool {
    rows.iter()
        .zip(allowed)
        .all(|(row, allowed)| row.relative <= *allowed)
}

/// One line for each tensor.
pub(crate) fn table(rows: &[Row], allowed: &[f64]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "case",
        "tensor",
        "kernel",
        "largest error",
        "relative error",
        "allowed",
        "verdict",
    ]);
    for (row, allowed) in rows.iter().zip(allowed) {
        let verdict = if row.relative <= *allowed {
            "ok"
        } else {
            "WRONG"
        };
        table.add_row([
            row.case.clone(),
            row.tensor.to_owned(),
            row.kernel.clone(),
            format!("{:.2e}", row.max_abs),
            format!("{:.2e}", row.relative),
            format!("{allowed:.1e}"),
            verdict.to_owned(),
        ]);
    }
    right_align(&mut table, 3..6);
    table
}

/// Aligns columns of numbers.
pub(crate) fn right_align(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
