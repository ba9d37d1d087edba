//! The lists of balancers, of denied clients and of destinations.

use std::fs;

use super::{check, check_under};
use crate::namespace::{TestResult, isolated, run};

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
        found.expect_commands("allowed-subnets", &[&format!("sed -n 2p {name}")])?;
        Ok(())
    })
}

/// In a folder that has to be made as well, with a name that a shell would take for two.
#[test]
fn the_commands_it_prints_make_them() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("my lists").join("list");
        let name = path.to_str().ok_or("a path that is no text")?;
        for (subject, flags) in [
            ("allowed-subnets", &["-a", name] as &[&str]),
            ("denied-clients", &["--denied-clients", name]),
            (
                "allowed-destinations",
                &["--dynamic-destination", "--allowed-destinations", name],
            ),
        ] {
            let found = check(flags)?;
            let row = found.expect(subject, "FAIL", &["No such file"])?;
            let commands = row["commands"].as_array().into_iter().flatten();
            for command in commands {
                run(command.as_str().ok_or("no command")?)?;
            }
            check(flags)?.expect(subject, "OK", &[name])?;
            fs::remove_dir_all(path.parent().ok_or("no folder")?)?;
        }
        Ok(())
    })
}

#[test]
fn what_is_no_list_and_what_may_not_be_read() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let name = folder.path().to_str().ok_or("a path that is no text")?;
        let found = check(["-a", name])?;
        found.expect("allowed-subnets", "FAIL", &["Is a directory"])?;
        found.expect_commands("allowed-subnets", &[&format!("ls {name}")])?;
        let list = format!("{name}/list");
        run(&format!("touch {list} && chmod 0 {list}"))?;
        let wrapper = [
            "setpriv",
            "--bounding-set",
            "-dac_override,-dac_read_search",
        ];
        let found = check_under(wrapper, ["-a", &list])?;
        let commands = [
            &format!("namei -l {list}") as &str,
            &format!("sudo chmod a+r {list}"),
        ];
        found.expect_commands("allowed-subnets", &commands)
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
