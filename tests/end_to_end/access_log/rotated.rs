//! logrotate renames the file and sends SIGHUP.

use std::fs;

use rustix::process::Signal;

use super::{LogFile, visit, wait_for_json};
use crate::harness::{Balancer, Header, Proxy, TcpServer};
use crate::lifecycle::FOREVER;
use crate::namespace::{TestResult, isolated};

#[test]
fn sighup_begins_a_new_file() -> TestResult {
    isolated(|| {
        let file = LogFile::new()?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(file.flags())
            .start()?;
        visit(&proxy, "192.0.2.1:4000")?;
        wait_for_json(&file.path, 1)?;
        let old = file.in_folder("access.log.1");
        fs::rename(&file.path, &old)?;
        // Until the signal the old file is the log, whatever its name.
        visit(&proxy, "192.0.2.2:4000")?;
        wait_for_json(&old, 2)?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("access log reopened")?;
        visit(&proxy, "192.0.2.3:4000")?;
        let new = wait_for_json(&file.path, 1)?;
        assert_eq!(new.len(), 1);
        assert_eq!(new[0]["client_addr"], "192.0.2.3:4000");
        assert_eq!(wait_for_json(&old, 2)?.len(), 2);
        proxy.stop()?.expect_success()
    })
}

/// With a long drain, which `--takeover` is for, logrotate comes in between.
#[test]
fn sighup_begins_a_new_file_while_connections_are_let_end() -> TestResult {
    isolated(|| {
        let file = LogFile::new()?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(file.flags())
            .args(FOREVER)
            .start()?;
        let client = Balancer::default().connect(&proxy, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")?;
        proxy.signal(Signal::TERM)?;
        proxy.wait_for_message("draining")?;
        fs::rename(&file.path, file.in_folder("access.log.1"))?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("access log reopened")?;
        drop(client);
        proxy.exit()?.expect_success()?;
        assert_eq!(wait_for_json(&file.path, 1)?.len(), 1);
        Ok(())
    })
}

#[test]
fn a_file_that_cannot_be_opened_again_leaves_the_old_one() -> TestResult {
    isolated(|| {
        let file = LogFile::new()?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(file.flags())
            .start()?;
        let old = file.in_folder("access.log.1");
        fs::rename(&file.path, &old)?;
        fs::create_dir(&file.path)?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("cannot reopen the access log: the old file goes on")?;
        visit(&proxy, "192.0.2.1:4000")?;
        wait_for_json(&old, 1)?;
        proxy.stop()?.expect_success()
    })
}
