//! The lists of balancers, of denied clients and of destinations.

use std::fs;

use super::check;
use crate::namespace::{TestResult, isolated};

#[test]
fn lists_that_keep_the_proxy_from_starting() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("list");
        let name = path.to_str().ok_or("a path that is no text")?;
        let found = check(["-a", name])?;
        found.expect("allowed-subnets", "FAIL", &[name, "cannot read it"])?;
        let found = check(["--denied-clients", name])?;
        found.expect("denied-clients", "FAIL", &[name, "cannot read it"])?;
        let found = check(["--dynamic-destination", "--allowed-destinations", name])?;
        found.expect("allowed-destinations", "FAIL", &[name, "cannot read it"])?;
        fs::write(&path, "192.0.2.0/24\n192.0.2.0/33\n")?;
        let found = check(["-a", name])?;
        found.expect("allowed-subnets", "FAIL", &[&format!("{name}:2: ")])?;
        Ok(())
    })
}

#[test]
fn lists_that_are_worth_a_look() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("list");
        let name = path.to_str().ok_or("a path that is no text")?;
        fs::write(&path, "# nobody\n")?;
        let found = check(["-a", name])?;
        found.expect("allowed-subnets", "WARN", &["empty", "nobody is allowed"])?;
        let found = check([""; 0])?;
        found.expect("allowed-subnets", "WARN", &["--allowed-subnets FILE"])?;
        assert!(found.expect("denied-clients", "OK", &[]).is_err());
        assert!(found.expect("allowed-destinations", "OK", &[]).is_err());
        let found = check(["--allow-loopback-clients"])?;
        found.expect("allowed-subnets", "WARN", &["or as this host itself"])?;
        let found = check(["--denied-clients", name])?;
        found.expect("denied-clients", "OK", &["0 subnets"])?;
        let found = check(["--dynamic-destination", "--allowed-destinations", name])?;
        found.expect("allowed-destinations", "WARN", &["none is allowed"])?;
        let found = check(["--dynamic-destination"])?;
        found.expect("allowed-destinations", "OK", &["own addresses"])?;
        Ok(())
    })
}
