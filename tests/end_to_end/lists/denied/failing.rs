//! A list that cannot be used ends the start: clients that are denied would be back without it.

use std::path::Path;

use super::ListFile;
use crate::harness::{Exit, Proxy};
use crate::namespace::{TestResult, isolated};

fn start_in_vain(list: &Path) -> TestResult<Exit> {
    Proxy::builder()
        .args(["--denied-clients"])
        .args([list])
        .start_in_vain()
}

#[test]
fn a_file_that_is_not_there() -> TestResult {
    isolated(|| {
        let list = ListFile::new("")?.folder().join("other");
        let read = format!("{}: cannot read it: No such file", list.display());
        start_in_vain(&list)?.expect_failure(&[&read, "clients that are denied would be back"])
    })
}

#[test]
fn a_bad_line_is_told_by_file_and_line() -> TestResult {
    isolated(|| {
        let list = ListFile::new("# cheaters\n192.0.2.1\n192.0.2.300\n")?;
        let place = format!("{}:3: ", list.path.display());
        start_in_vain(&list.path)?.expect_failure(&[&place, "192.0.2.300"])
    })
}
