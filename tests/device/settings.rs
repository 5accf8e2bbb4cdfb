//! Settings given by hand: the ways through the kernels that the table does not take on this device.

use checks::cases::Case;
use checks::changed;
use checks::device::{Layout, checks, client, run};
use checks::skipped;
use checks::tolerance::assert_all;
use diff_flash_attn::tuning::{
    DeviceClass, Pass, Plane, PortableSettings, Settings, Shipped, shipped,
};
use diff_flash_attn::{Mask, Norm, Problem, Tuning};

fn case(head_dim: usize, value_dim: usize) -> Case {
    let problem = Problem::differential([1, 65, 97], [2, 1], [head_dim, value_dim])
        .with_mask(Mask::Causal)
        .with_scale(0.25)
        .with_norm(Some(Norm {
            eps: 1e-5,
            lambda_init: 0.2,
        }));
    Case::random(problem, &[1, 65, 2], true, 31)
}

fn everywhere(settings: PortableSettings) -> Tuning {
    Tuning::default()
        .with(Pass::Forward, settings)
        .with(Pass::QueryGradient, settings)
        .with(Pass::KeyValueGradient, settings)
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
            skipped(format_args!(
                "units_x = {units_x}: planes have {least} units"
            ));
            continue;
        }
        let settings = PortableSettings::new([2, 4, 8, units_x, 32], Plane::Reduce);
        compare(&case(16, 32), everywhere(settings), &settings.to_string());
    }
}

#[test]
fn planes_share_reads() {
    let client = client();
    let hardware = &client.properties().hardware;
    let (least, most) = (hardware.plane_size_min, hardware.plane_size_max);
    if least != most {
        skipped(format_args!("planes have {least} to {most} units"));
        return;
    }
    // Two planes, three rows a unit, more columns than a plane has units, and a head of fewer vectors than that.
    let units_y = 2 * least as usize;
    let settings = PortableSettings::new([3, 12, units_y, 1, 0], Plane::Broadcast);
    compare(&case(16, 24), everywhere(settings), &settings.to_string());
}

#[test]
fn rows_are_reduced_through_shared_memory() {
    for (units_x, chunk) in [(3, 12), (5, 20), (8, 32)] {
        let settings = PortableSettings::new([1, 4, 4, units_x, chunk], Plane::Unused);
        compare(&case(40, 24), everywhere(settings), &settings.to_string());
    }
}

/// Rows of the portable kernels' table.
fn rows() -> impl Iterator<Item = (Shipped, PortableSettings)> {
    shipped().filter_map(|row| match row.settings {
        Settings::Portable(settings) => Some((row, settings)),
        _ => None,
    })
}

#[test]
fn shipped_settings_have_at_most_256_units() {
    for (_, settings) in rows() {
        let units = settings.units_x * settings.units_y;
        assert!(units <= 256, "{settings}: {units} units");
    }
}

#[test]
fn settings_for_gpus_compute_the_same() {
    // The table's own rows for GPUs, without planes, on this device.
    let case = case(64, 128);
    for class in [DeviceClass::Gpu, DeviceClass::Nvidia] {
        let find = |pass: Pass| {
            let mut rows = rows().filter(|(row, _)| row.class == class && row.pass == pass);
            let row = rows.find(|(row, _)| row.covers(&case.problem));
            changed(row.unwrap().1, |it| it.plane = Plane::Unused)
        };
        let passes = [Pass::Forward, Pass::QueryGradient, Pass::KeyValueGradient];
        let tuning = passes.into_iter().fold(Tuning::default(), |tuning, pass| {
            tuning.with(pass, find(pass))
        });
        compare(&case, tuning, &format!("{class:?} rows"));
    }
}

#[test]
fn names_of_settings_are_read_back() {
    for (_, settings) in rows() {
        assert_eq!(settings.to_string().parse(), Ok(settings));
    }
    let wrong = "r3c4".parse::<PortableSettings>().unwrap_err().to_string();
    let expected = "settings \"r3c4\": is no name of settings, expected one like \
                    r3c4y8x8k32 or r3c4y8x8k32-reduce";
    assert_eq!(wrong, expected);
}
