//! The audit leaves out no kernel of the library and none of its settings.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use audit::catalogue;
use cuda_device::Arch;
use diff_flash_attn::tuning::{DeviceClass, Family, MaskKind, Pass, shipped};

/// Names of the kernels in the Rust files below `folder`, as CubeCL makes types of them: `sum_long` is `SumLong`.
fn kernels(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            kernels(&path, names);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for definition in text.split("#[cube(launch").skip(1) {
            let function = definition.split("fn ").nth(1).unwrap();
            let name = function.split(['<', '(']).next().unwrap();
            names.insert(name.split('_').map(capitalised).collect());
        }
    }
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

#[test]
fn every_kernel_is_audited() {
    let mut expected = BTreeSet::new();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/kernels");
    kernels(Path::new(source), &mut expected);
    let items = Arch::ALL.map(|arch| catalogue::items(arch).unwrap());
    let audited: BTreeSet<_> = items
        .iter()
        .flatten()
        .map(|item| item.kernel.id().short_name().to_string())
        .collect();
    assert_eq!(audited, expected);
}

#[test]
fn every_setting_for_gpus_is_audited() {
    let items = catalogue::items(Arch::Sm90a).unwrap();
    let portable = shipped().filter(|row| row.settings.family() == Family::Portable);
    for row in portable.filter(|row| row.class == DeviceClass::Nvidia) {
        let settings = row.settings.to_string();
        let dims = format!("d{} dv{} ", row.head_dim, row.value_dim);
        let maps = ["standard", "differential"][row.maps - 1];
        let found = items.iter().map(|item| &item.settings).any(|name| {
            name.starts_with(&dims) && name.contains(maps) && name.ends_with(&settings)
        });
        assert!(found, "{} {maps} {dims}{settings}", row.pass);
    }
}

#[test]
fn every_setting_for_hopper_is_audited() {
    let items = catalogue::items(Arch::Sm90a).unwrap();
    for row in shipped().filter(|row| row.settings.family() == Family::Hopper) {
        let maps = ["standard", "differential"][row.maps - 1];
        let mask = match row.mask {
            None | Some(MaskKind::Full) => "",
            Some(MaskKind::Causal) => " causal",
            Some(MaskKind::Window) => " window",
        };
        let (kernel, savings) = match row.pass {
            Pass::Forward => ("AttentionForwardHopper", &["", " saving"][..]),
            Pass::QueryGradient => ("AttentionBackwardQueriesHopper", &[""][..]),
            Pass::KeyValueGradient => ("AttentionBackwardKeysHopper", &[""][..]),
            other => unreachable!("{other} has no kernel"),
        };
        let (d, dv, settings) = (row.head_dim, row.value_dim, row.settings);
        let names = ["f16", "bf16"].into_iter().flat_map(|dtype| {
            let name = move |saving: &&str| {
                format!("d{d} dv{dv} {dtype} {maps}{mask} norm{saving} {settings}")
            };
            savings.iter().map(name)
        });
        for name in names {
            let found = items
                .iter()
                .any(|item| item.kernel.id().short_name() == kernel && item.settings == name);
            assert!(found, "{kernel} {name}");
        }
    }
}

/// Some rows are for devices of less shared memory than others.
#[test]
fn every_setting_for_mma_is_audited() {
    let items: Vec<_> = [Arch::Sm80, Arch::Sm86]
        .into_iter()
        .flat_map(|arch| catalogue::items(arch).unwrap())
        .collect();
    for row in shipped().filter(|row| row.settings.family() == Family::Mma) {
        let kernel = match row.pass {
            Pass::Forward => "AttentionForwardMma",
            Pass::QueryGradient => "AttentionBackwardQueryMma",
            Pass::KeyValueGradient => "AttentionBackwardKeyValueMma",
            other => unreachable!("{other} has no kernel"),
        };
        let maps = ["standard", "differential"][row.maps - 1];
        let settings = row.settings.to_string();
        let dims = format!("d{} dv{} ", row.head_dim, row.value_dim);
        let found = items.iter().any(|item| {
            let name = &item.settings;
            let named = name.starts_with(&dims) && name.ends_with(&settings);
            item.kernel.id().short_name() == kernel && named && name.contains(maps)
        });
        assert!(found, "{} {maps} {dims}{settings}", row.pass);
    }
}

#[test]
fn schedule_without_overlap_is_audited() {
    let items = catalogue::items(Arch::Sm90a).unwrap();
    let hopper: Vec<_> = items
        .iter()
        .filter(|item| item.kernel.id().short_name() == "AttentionForwardHopper")
        .collect();
    let shipped: Vec<_> = shipped()
        .filter(|row| row.settings.family() == Family::Hopper)
        .map(|row| row.settings.to_string())
        .collect();
    for item in &hopper {
        let settings = item.settings.split(' ').next_back().unwrap().to_string();
        // The letter stands for the overlap, and every row of the table has it.
        assert_eq!(item.overlaps, settings.contains('o'), "{settings}");
        assert_eq!(item.overlaps, shipped.contains(&settings), "{settings}");
    }
    let plain = hopper.iter().filter(|item| !item.overlaps);
    let names: Vec<_> = plain.map(|item| item.settings.as_str()).collect();
    for dims in ["d128 dv256 ", "d64 dv128 "] {
        for maps in [" differential ", " standard "] {
            let found = names
                .iter()
                .any(|name| name.starts_with(dims) && name.contains(maps));
            assert!(found, "{dims}{maps}: {names:?}");
        }
    }
}
