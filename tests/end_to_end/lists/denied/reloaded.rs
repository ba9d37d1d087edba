//! A list that changes: who may begin something.

use std::fs::{self, OpenOptions};
use std::io::Write;

use rustix::process::Signal;

use super::{ListFile, expect_denied, wait_denied};
use crate::harness::{Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

const CLIENT: &str = "192.0.2.1:4000";
const WITH_IT: &str = "192.0.2.1\n";
const WITHOUT_IT: &str = "198.51.100.0/24\n";

const RELOADED: &str = "denied clients reloaded";
const KEPT: &str = "the old list of denied clients stays in force";

fn proxy_with(list: &ListFile) -> TestResult<Proxy> {
    Proxy::tcp(TcpServer::echo("127.0.0.1")?)
        .args(["--listeners", "2", "--denied-clients"])
        .args([&list.path])
        .start()
}

#[test]
fn when_it_is_rewritten_or_replaced() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITHOUT_IT)?;
        let proxy = proxy_with(&list)?;
        expect_denied(&proxy, CLIENT, false)?;
        list.write(WITH_IT)?;
        wait_denied(&proxy, CLIENT, true)?;
        list.replace(WITHOUT_IT)?;
        wait_denied(&proxy, CLIENT, false)?;
        list.replace(WITH_IT)?;
        wait_denied(&proxy, CLIENT, true)
    })
}

/// A writer that has not closed the file may not be done, so only SIGHUP makes the proxy read it now. It is for all lists.
#[test]
fn on_sighup_along_with_the_other_list() -> TestResult {
    isolated(|| {
        let allowed = ListFile::new("127.0.0.0/8\n")?;
        let denied = ListFile::new(WITHOUT_IT)?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--allowed-subnets".as_ref(), allowed.path.as_path()])
            .args(["--denied-clients".as_ref(), denied.path.as_path()])
            .start()?;
        let append = |list: &ListFile, line: &str| -> TestResult<fs::File> {
            let mut file = OpenOptions::new().append(true).open(&list.path)?;
            file.write_all(line.as_bytes())?;
            Ok(file)
        };
        let open = [
            append(&allowed, "192.0.2.200\n")?,
            append(&denied, WITH_IT)?,
        ];
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("allowed subnets reloaded")?;
        let line = proxy.wait_for_message(RELOADED)?;
        assert_eq!(line["subnets"], 2);
        wait_denied(&proxy, CLIENT, true)?;
        drop(open);
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_bad_new_list_keeps_the_old_one_and_says_so() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_IT)?;
        let proxy = proxy_with(&list)?;
        list.write("198.51.100.0/24\nnonsense\n")?;
        let complaint = proxy.wait_for_message(KEPT)?;
        assert_eq!(complaint["level"], "WARN");
        let error = complaint["error"].as_str().ok_or("no error")?;
        let place = format!("{}:2: ", list.path.display());
        assert!(error.starts_with(&place), "{error}");
        expect_denied(&proxy, CLIENT, true)?;

        fs::remove_file(&list.path)?;
        proxy.wait_for_logs(2, |line| line["message"] == KEPT)?;
        expect_denied(&proxy, CLIENT, true)?;
        list.write(WITHOUT_IT)?;
        wait_denied(&proxy, CLIENT, false)?;
        proxy.stop()?.expect_success()
    })
}

/// It may well be a slip.
#[test]
fn a_list_that_becomes_empty_is_told() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_IT)?;
        let proxy = proxy_with(&list)?;
        list.replace("")?;
        let warning =
            proxy.wait_for_message("the list of denied clients is empty now: nobody is denied")?;
        assert_eq!(warning["level"], "WARN");
        wait_denied(&proxy, CLIENT, false)
    })
}
