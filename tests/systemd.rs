//! The unit files in `docker/systemd/`.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

type TestResult<T = ()> = Result<T, Box<dyn Error>>;

/// From 0, nothing to attack, to 10: what `systemd-analyze security` calls exposure.
const EXPOSURE_MAX: f64 = 3.0;

fn unit(name: &str) -> PathBuf {
    let root: PathBuf = env!("CARGO_MANIFEST_DIR").into();
    root.join("docker/systemd").join(name)
}

/// What `systemd-analyze` says, on both outputs; None, and said so, where it is not installed, but in CI.
fn analyze(args: &[&str]) -> TestResult<Option<String>> {
    let output = match Command::new("systemd-analyze").args(args).output() {
        Ok(output) => output,
        Err(error) if env::var_os("CI").is_none_or(|ci| ci != "true") => {
            // Not by `eprintln!`, whose words the test runner keeps to itself when a test passes.
            let words = format!("NOT TESTED: systemd-analyze ({error}): install systemd\n");
            io::stderr().write_all(words.as_bytes())?;
            return Ok(None);
        }
        Err(error) => return Err(format!("systemd-analyze: {error}").into()),
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said)?;
    if !output.status.success() {
        return Err(format!("systemd-analyze {args:?}: {said}").into());
    }
    Ok(Some(said))
}

#[test]
fn the_service_exposes_little() -> TestResult {
    let path = unit("glommproxy.service").display().to_string();
    let Some(said) = analyze(&["security", "--offline=true", "--no-pager", &path])? else {
        return Ok(());
    };
    let overall = said.split("Overall exposure level for ").nth(1);
    let level = overall.and_then(|line| line.split_whitespace().nth(1));
    let level: f64 = level.ok_or("no overall level")?.parse()?;
    assert!(level < EXPOSURE_MAX, "{said}");
    Ok(())
}

#[test]
fn the_units_are_understood() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut paths = Vec::new();
    for name in ["glommproxy.service", "glommproxy.socket"] {
        // The program is looked for where the unit says.
        let text = fs::read_to_string(unit(name))?;
        let installed = "/usr/local/bin/glommproxy";
        let text = text.replace(installed, env!("CARGO_BIN_EXE_glommproxy"));
        let path = folder.path().join(name);
        fs::write(&path, text)?;
        paths.push(path.display().to_string());
    }
    let args = ["verify", "--man=no", &paths[0], &paths[1]];
    let Some(said) = analyze(&args)? else {
        return Ok(());
    };
    // What it does not understand it ignores, and says so.
    assert!(!said.contains("glommproxy."), "{said}");
    Ok(())
}

#[test]
fn the_filter_lets_the_program_confine_itself() -> TestResult {
    let text = fs::read_to_string(unit("glommproxy.service"))?;
    // A later line has the last word.
    let last = text
        .lines()
        .rfind(|line| line.starts_with("SystemCallFilter="));
    let last: Vec<&str> = last.ok_or("no filter")?.split(['=', ' ']).skip(1).collect();
    assert_eq!(
        last,
        [
            "capset",
            "seccomp",
            "landlock_create_ruleset",
            "landlock_add_rule",
            "landlock_restrict_self",
        ]
    );
    Ok(())
}

#[test]
fn the_filter_lets_io_uring_pass() -> TestResult {
    let text = fs::read_to_string(unit("glommproxy.service"))?;
    let allowed = text
        .lines()
        .find(|line| line.starts_with("SystemCallFilter=@"));
    let allowed = allowed.ok_or("no filter")?.split(['=', ' ']).skip(1);
    let mut calls = String::new();
    for set in allowed {
        match analyze(&["syscall-filter", set])? {
            Some(said) => calls.push_str(&said),
            None => return Ok(()),
        }
    }
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(calls.lines().any(|line| line.trim() == call), "{call}");
    }
    Ok(())
}
