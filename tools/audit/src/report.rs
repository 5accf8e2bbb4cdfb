//! The table of all audited kernels, and the files that can be kept of them.

use core::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::Audited;

const HEADER: [&str; 9] = [
    "kernel",
    "settings",
    "arch",
    "registers",
    "shared [B]",
    "stack [B]",
    "spill stores/loads [B]",
    "exponentials hidden",
    "",
];

/// All audited kernels. Its `Display` is the table, the reasons of failures and a last line `N passed, N failed`.
pub struct Report {
    /// The kernels, in the order of their rows.
    pub kernels: Vec<Audited>,
}

impl Report {
    /// Number of kernels with something wrong.
    pub fn failed(&self) -> usize {
        self.kernels
            .iter()
            .filter(|kernel| !kernel.passed())
            .count()
    }

    /// Writes the CUDA C++ of every kernel that has one to `folder`, as `.cu`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_sources(&self, folder: &Path) -> Result<()> {
        let sources = self.kernels.iter().filter_map(|kernel| {
            let source = kernel.source.as_ref()?;
            Some((file_name(kernel, "cu"), source.text.clone()))
        });
        write_all(folder, sources)
    }

    /// Writes the PTX of every kernel that compiles to `folder`, as `.ptx`. The first line says how to launch it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_ptx(&self, folder: &Path) -> Result<()> {
        let texts = self.kernels.iter().filter_map(|kernel| {
            let (source, (ptx, _)) = (kernel.source.as_ref()?, kernel.outcome.as_ref().ok()?);
            let ([x, y, z], shared) = (source.cube_dim, source.shared_memory);
            let launch = format!("// block {x} {y} {z}, dynamic shared memory {shared} bytes");
            Some((file_name(kernel, "ptx"), format!("{launch}\n{ptx}")))
        });
        write_all(folder, texts)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_MARKDOWN)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(HEADER)
            .add_rows(self.kernels.iter().map(row));
        for column in 3..HEADER.len() - 1 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.table())?;
        for kernel in &self.kernels {
            if let Err(error) = &kernel.outcome {
                let (name, settings, arch) = (&kernel.kernel, &kernel.settings, kernel.arch);
                writeln!(f, "\n{name} {settings} {arch}: {error:#}")?;
            }
        }
        let failed = self.failed();
        write!(f, "{} passed, {failed} failed", self.kernels.len() - failed)
    }
}

fn row(kernel: &Audited) -> [String; 9] {
    let verdict = kernel.fault().map(|fault| format!("FAILED: {fault}"));
    let overlap = kernel
        .overlap
        .map(|overlap| format!("{}/{}", overlap.hidden, overlap.exponentials));
    let [registers, stack, spills] = match &kernel.outcome {
        Ok((_, needs)) => [
            needs.registers.to_string(),
            needs.stack.to_string(),
            format!("{}/{}", needs.spill_stores, needs.spill_loads),
        ],
        Err(_) => Default::default(),
    };
    [
        kernel.kernel.clone(),
        kernel.settings.clone(),
        kernel.arch.to_string(),
        registers,
        kernel.shared_memory().to_string(),
        stack,
        spills,
        overlap.unwrap_or_default(),
        verdict.unwrap_or_default(),
    ]
}

/// A file name of letters, digits and single underscores.
fn file_name(kernel: &Audited, extension: &str) -> String {
    let name = format!("{} {} {}", kernel.kernel, kernel.settings, kernel.arch);
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    format!("{}.{extension}", words.join("_"))
}

fn write_all(folder: &Path, files: impl Iterator<Item = (String, String)>) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
