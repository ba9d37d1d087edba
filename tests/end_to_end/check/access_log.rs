//! The access log, if it is to be a file.

use std::fs;

use super::{check, check_under};
use crate::harness::{Proxy, TcpServer};
use crate::namespace::{TestResult, isolated, run};

#[test]
fn a_folder_that_is_not_there() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let logs = folder.path().join("logs");
        let logs = logs.to_str().ok_or("a path that is no text")?;
        let log = format!("{logs}/access.log");
        let flags = ["--access-log", &log];
        let found = check(flags)?;
        let complaint = format!("cannot open the access log {log}: No such file or directory");
        found.expect("access-log", "FAIL", &[&complaint])?;
        found.expect_commands("access-log", &[&format!("mkdir -p {logs}")])?;
        // The proxy itself says the same.
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?).args(flags);
        let exit = proxy.start_in_vain()?;
        assert_eq!(exit.code, Some(1));
        assert!(format!("{exit:?}").contains(&complaint), "{exit:?}");

        run(&format!("mkdir -p {logs}"))?;
        let found = check(flags)?;
        found.expect("access-log", "OK", &[&log, "it can be made"])?;
        assert_eq!(fs::read_dir(logs)?.count(), 0);
        Ok(())
    })
}

#[test]
fn a_log_that_is_there_stays_as_it_is() -> TestResult {
    isolated(|| {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(&file, "a line\n")?;
        let modified = fs::metadata(&file)?.modified()?;
        let log = file.path().to_str().ok_or("a path that is no text")?;
        let found = check(["--access-log", log])?;
        found.expect("access-log", "OK", &[log, "lines can be added"])?;
        assert_eq!(fs::read_to_string(&file)?, "a line\n");
        assert_eq!(fs::metadata(&file)?.modified()?, modified);
        Ok(())
    })
}

#[test]
fn what_may_not_be_written() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let name = folder.path().to_str().ok_or("a path that is no text")?;
        let found = check(["--access-log", name])?;
        found.expect("access-log", "FAIL", &["Is a directory"])?;
        let command = format!("glommproxy check --access-log {name}/access.log …");
        found.expect_commands("access-log", &[&command])?;

        run(&format!("touch {name}/old && chmod 0 {name}/old {name}"))?;
        let wrapper = [
            "setpriv",
            "--bounding-set",
            "-dac_override,-dac_read_search",
        ];
        for mode in ["555", "0"] {
            run(&format!("chmod {mode} {name}"))?;
            for file in ["old", "new"] {
                let log = format!("{name}/{file}");
                let found = check_under(wrapper, ["--access-log", &log])?;
                found.expect("access-log", "FAIL", &["Permission denied"])?;
                let touch = format!("sudo touch {log}");
                let chown = format!("sudo chown \"$(id -un)\" {log}");
                found.expect_commands("access-log", &[&touch, &chown])?;
            }
        }
        run(&format!("chmod 755 {name}")).map(|_| ())
    })
}

/// Opened and closed, it would end for whoever reads it.
#[test]
fn a_pipe_is_left_alone() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let pipe = folder.path().join("pipe");
        let pipe = pipe.to_str().ok_or("a path that is no text")?;
        run(&format!("mkfifo {pipe}"))?;
        let found = check(["--access-log", pipe])?;
        found.expect("access-log", "SKIP", &[pipe, "not looked at"])?;
        Ok(())
    })
}

#[test]
fn no_file_no_row() -> TestResult {
    isolated(|| {
        for flags in [&[] as &[&str], &["--access-log", "-"]] {
            let found = check(flags)?;
            for verdict in ["OK", "SKIP", "WARN", "FAIL"] {
                assert!(!found.all(verdict).contains(&"access-log"), "{flags:?}");
            }
        }
        Ok(())
    })
}
