//! Forward and backward on the device against the reference, over a covering selection of what a caller can choose.
//! `every_pair_occurs` checks the selection itself.

use std::collections::HashSet;

use checks::device::client;
use checks::selection::{KERNELS, Launch, matter, selection};
use checks::tolerance::report;

/// Runs the launches of all kernels with these head dimensions.
fn compare(dims: (usize, usize)) {
    let (client, mut wrong) = (client(), vec![]);
    let launches = selection().iter().filter(|l| l.kernel.dims == dims);
    for (i, launch) in launches.enumerate() {
        let (name, checks) = launch.compare(&client, i as u64);
        wrong.extend(report(&name, &checks));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_pair_occurs() {
    let mut values: [HashSet<String>; 9] = Default::default();
    for launch in selection() {
        let choices = launch.choices();
        values.iter_mut().zip(choices).for_each(|(values, choice)| {
            values.insert(choice);
        });
    }
    assert_eq!(
        values.each_ref().map(HashSet::len),
        [6, 6, 3, 3, 3, 6, 3, 4, 3]
    );
    let seen: HashSet<[String; 2]> = selection().iter().flat_map(Launch::pairs).collect();
    for (first, second) in (0..9)
        .flat_map(|j| (0..j).map(move |i| (i, j)))
        .filter(|(i, j)| matter(*i, *j))
    {
        for (a, b) in values[first]
            .iter()
            .flat_map(|a| values[second].iter().map(move |b| (a, b)))
        {
            // Standard attention has no λ.
            let possible = a != "Standard" || !b.starts_with('λ');
            assert_eq!(
                seen.contains(&[a.clone(), b.clone()]),
                possible,
                "{a} with {b}"
            );
        }
    }
    println!(
        "{} launches of {} kernels",
        selection().len(),
        KERNELS.len()
    );
}

#[test]
fn heads_of_16_and_32() {
    compare((16, 32));
}

#[test]
fn heads_of_40_and_24() {
    compare((40, 24));
}

#[test]
fn heads_of_32_and_64() {
    compare((32, 64));
}

#[test]
fn heads_of_64_and_64() {
    compare((64, 64));
}

#[test]
fn heads_of_64_and_128() {
    compare((64, 128));
}

#[test]
fn heads_of_128_and_256() {
    compare((128, 256));
}
