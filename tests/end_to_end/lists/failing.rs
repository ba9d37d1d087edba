//! A list that cannot be used ends the start: without it everybody could pose as any client.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{ListFile, WITH_US};
use crate::harness::{Exit, Proxy};
use crate::namespace::{TestResult, isolated};

/// Root reads everything, so it has to be root without that right.
pub(crate) const WITHOUT_OVERRIDE: [&str; 3] = [
    "setpriv",
    "--bounding-set",
    "-dac_override,-dac_read_search",
];

fn start_in_vain(list: &Path) -> TestResult<Exit> {
    Proxy::builder()
        .under(WITHOUT_OVERRIDE)
        .args(["--allowed-subnets"])
        .args([list])
        .start_in_vain()
}

fn expect_unreadable(list: &Path, why: &str) -> TestResult {
    let read = format!("{}: cannot read it: {why}", list.display());
    let exit = start_in_vain(list)?;
    exit.expect_failure(&[&read, "not started without its list"])
}

#[test]
fn a_file_that_is_not_there() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_US)?;
        expect_unreadable(&list.folder().join("other"), "No such file or directory")
    })
}

#[test]
fn subnets_themselves() -> TestResult {
    isolated(|| {
        let exit = start_in_vain(Path::new("192.0.2.0/24"))?;
        exit.expect_failure(&[
            "192.0.2.0/24: cannot read it",
            "takes a file with such subnets",
        ])
    })
}

#[test]
fn a_folder() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_US)?;
        expect_unreadable(list.folder(), "Is a directory")
    })
}

#[test]
fn a_link_to_nowhere() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_US)?;
        let link = list.folder().join("link");
        std::os::unix::fs::symlink("nowhere", &link)?;
        expect_unreadable(&link, "No such file or directory")
    })
}

#[test]
fn a_file_without_permission_to_read() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_US)?;
        fs::set_permissions(&list.path, fs::Permissions::from_mode(0o000))?;
        expect_unreadable(&list.path, "Permission denied")
    })
}

#[test]
fn a_file_that_is_no_text() -> TestResult {
    isolated(|| {
        let list = ListFile::new(b"192.0.2.0/24\n\xFF\xFE\n")?;
        expect_unreadable(&list.path, "stream did not contain valid UTF-8")
    })
}

#[test]
fn a_bad_line_is_told_by_file_and_line() -> TestResult {
    isolated(|| {
        let list = ListFile::new("# balancers\n\n192.0.2.0/24\n192.0.2.0/33 # too long\n")?;
        let place = format!("{}:4: ", list.path.display());
        start_in_vain(&list.path)?.expect_failure(&[&place, "192.0.2.0/33"])
    })
}
