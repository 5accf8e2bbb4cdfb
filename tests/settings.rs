//! Settings given by hand: the ways through the kernels that the table does not take on this device.

use checks::cases::Case;
use checks::device::{Layout, checks, client, run};
use checks::tolerance::assert_all;
use diff_flash_attn::tuning::{DeviceClass, Pass, Plane, Settings, shipped};
use diff_flash_attn::{DType, Mask, Norm, Problem, Tuning};

fn case(head_dim: usize, value_dim: usize) -> Case {
    let problem = Problem {
        batch: 1,
        query_len: 65,
        key_len: 97,
        heads: 2,
        kv_heads: 1,
        head_dim,
        value_dim,
        maps: 2,
        shared_key: false,
        mask: Mask::Causal,
        scale: 0.25,
        dtype: DType::F32,
        norm: Some(Norm {
            eps: 1e-5,
            lambda_init: 0.2,
        }),
    };
    Case::random(problem, &[1, 65, 2], true, 31)
}

fn everywhere(settings: Settings) -> Tuning {
    Tuning {
        forward: Some(settings),
        query_gradient: Some(settings),
        key_value_gradient: Some(settings),
        ..Tuning::default()
    }
}

fn compare(case: &Case, tuning: Tuning, name: &str) {
    let ours = run(&client(), case, Layout::Interleaved, tuning);
    assert_all(name, &checks(case, &ours));
}

#[test]
fn planes_reduce_rows() {
    // Shuffles among 2 and 4 neighbours: planes of 4 (SwiftShader) and of 8 (lavapipe) hold them; among 8 only the latter.
    let least = client().properties().hardware.plane_size_min as usize;
    for units_x in [2, 4, 8] {
        if units_x > least {
            println!("SKIPPED units_x = {units_x}: planes have {least} units");
            continue;
        }
        let settings = Settings {
            rows: 2,
            cols: 4,
            units_y: 8,
            units_x,
            chunk: 32,
            plane: Plane::Reduce,
        };
        compare(&case(16, 32), everywhere(settings), &settings.to_string());
    }
}

#[test]
fn planes_share_reads() {
    let client = client();
    let hardware = &client.properties().hardware;
    let (least, most) = (hardware.plane_size_min, hardware.plane_size_max);
    if least != most {
        println!("SKIPPED: planes have {least} to {most} units");
        return;
    }
    // Two planes, three rows a unit, more columns than a plane has units, and a head of fewer vectors than that.
    let units_y = 2 * least as usize;
    let settings = Settings {
        rows: 3,
        cols: 12,
        units_y,
        units_x: 1,
        chunk: 0,
        plane: Plane::Share,
    };
    compare(&case(16, 24), everywhere(settings), &settings.to_string());
}

#[test]
fn rows_are_reduced_through_shared_memory() {
    for (units_x, chunk) in [(3, 12), (5, 20), (8, 32)] {
        let settings = Settings {
            rows: 1,
            cols: 4,
            units_y: 4,
            units_x,
            chunk,
            plane: Plane::Unused,
        };
        compare(&case(40, 24), everywhere(settings), &settings.to_string());
    }
}

#[test]
fn shipped_settings_have_at_most_256_units() {
    for row in shipped() {
        let units = row.settings.units_x * row.settings.units_y;
        assert!(units <= 256, "{}: {units} units", row.settings);
    }
}

#[test]
fn settings_for_gpus_compute_the_same() {
    // The table's own rows for GPUs, without planes, on this device.
    for class in [DeviceClass::Gpu, DeviceClass::Nvidia] {
        let find = |pass: Pass| {
            let mut rows = shipped().filter(|row| row.class == class && row.pass == pass);
            let row = rows.find(|row| row.covers([2, 2, 64, 128])).unwrap();
            Some(Settings {
                plane: Plane::Unused,
                ..row.settings
            })
        };
        let tuning = Tuning {
            forward: find(Pass::Forward),
            query_gradient: find(Pass::QueryGradient),
            key_value_gradient: find(Pass::KeyValueGradient),
            ..Tuning::default()
        };
        compare(&case(64, 128), tuning, &format!("{class:?} rows"));
    }
}
