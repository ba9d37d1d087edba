//! What is told of list files.

use std::fs;

use rustix::process::Signal;

use super::ADMIN;
use crate::harness::{Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

#[test]
fn a_list_that_cannot_be_used_shows() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("list");
        fs::write(&path, "127.0.0.0/8\n::1\n")?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(ADMIN)
            .args(["--allowed-subnets"])
            .args([&path])
            .start()?;
        let admin = proxy.admin()?;
        let entries = "glommproxy_list_entries{list=\"allowed-subnets\"}";
        let outdated = "glommproxy_list_outdated{list=\"allowed-subnets\"}";
        let failed = "glommproxy_list_reloads_total{list=\"allowed-subnets\",result=\"failed\"}";
        admin.wait_for_metric(entries, "2")?;
        admin.wait_for_metric(outdated, "0")?;
        admin.wait_for_metric(failed, "0")?;

        fs::write(&path, "127.0.0.0/8\nnonsense\n")?;
        proxy.signal(Signal::HUP)?;
        admin.wait_for_metric(outdated, "1")?;
        admin.wait_for_metric(entries, "2")?;
        let status = admin.status()?;
        let list = &status["lists"][0];
        assert_eq!(list["path"], path.display().to_string());
        assert_eq!(
            (&list["last_reload"], &list["entries"]),
            (&"failed".into(), &2.into())
        );

        fs::write(&path, "127.0.0.0/8\n")?;
        proxy.signal(Signal::HUP)?;
        admin.wait_for_metric(entries, "1")?;
        admin.wait_for_metric(outdated, "0")?;
        assert_eq!(admin.status()?["lists"][0]["last_reload"], "ok");
        proxy.stop()?.expect_success()
    })
}
