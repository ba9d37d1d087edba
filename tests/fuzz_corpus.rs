//! The fuzz targets' checks on every file of their corpora: what fuzzing once found, or found worth keeping, holds on a
//! stable toolchain and without a fuzzer, too.

#![allow(clippy::expect_used)] // A test that cannot go on has failed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a folder under `fuzz/`, by their names without what stands behind a dot.
fn names_in(folder: &str) -> BTreeSet<String> {
    paths_in(folder)
        .iter()
        .filter_map(|path| path.file_stem()?.to_str().map(str::to_owned))
        .collect()
}

fn paths_in(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

/// Includes each target, and replays its corpus in a test of its name.
macro_rules! targets {
    ($($target:ident: $path:literal;)+) => {
        $(
            #[path = $path]
            mod $target;

            #[test]
            fn $target() {
                let seeds = paths_in(concat!("corpus/", stringify!($target)));
                assert!(!seeds.is_empty(), "no seeds");
                for seed in seeds {
                    // Shown if the check fails.
                    println!("{}", seed.display());
                    $target::check(&fs::read(&seed).expect("a seed"));
                }
            }
        )+

        #[test]
        fn every_target_is_replayed() {
            let replayed: BTreeSet<String> = [$(stringify!($target).to_owned()),+].into();
            assert_eq!(names_in("fuzz_targets"), replayed);
            assert_eq!(names_in("corpus"), replayed);
        }
    };
}

targets! {
    command_line: "../fuzz/fuzz_targets/command_line.rs";
    flow_table: "../fuzz/fuzz_targets/flow_table.rs";
    header_decode: "../fuzz/fuzz_targets/header_decode.rs";
    header_differential: "../fuzz/fuzz_targets/header_differential.rs";
    header_round_trip: "../fuzz/fuzz_targets/header_round_trip.rs";
    spp: "../fuzz/fuzz_targets/spp.rs";
    subnets: "../fuzz/fuzz_targets/subnets.rs";
    tlv_details: "../fuzz/fuzz_targets/tlv_details.rs";
    udp_bindings: "../fuzz/fuzz_targets/udp_bindings.rs";
}
