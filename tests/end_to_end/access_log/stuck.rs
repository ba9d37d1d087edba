//! A log that nobody takes lines from, or that has no room for them.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};

use super::{LogFile, visit};
use crate::harness::{Header, Proxy, TcpServer, UdpBalancer, UdpServer, metric, wait_for};
use crate::namespace::{TestResult, isolated};

/// More lines than wait at the most, than fit into a pipe, and than are written at once.
const LINES: usize = 20_000;

/// A pipe that nobody reads, for a while.
#[test]
fn lines_are_lost_and_counted_rather_than_a_shard_stalled() -> TestResult {
    isolated(|| {
        let file = LogFile::new()?;
        mknodat(
            CWD,
            &file.path,
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )?;
        let pipe = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&file.path)?;
        // Each flow displaces the one before.
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .args(file.flags())
            .args(["--admin", "127.0.0.1:0"])
            .args(["--max-flows", "1", "--listeners", "1"])
            .start()?;
        let admin = proxy.admin()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for client in 0..LINES {
            let addr = format!("192.0.2.1:{}", 4000 + client);
            let header = Header::v2_udp(&addr, "203.0.113.1:443")?;
            // Answered, so that the proxy has taken it in: it serves, however stuck its log is.
            balancer.send(&proxy, &header, b"?")?;
            balancer.expect(format!("{addr} ?").as_bytes())?;
        }
        let lost = wait_for(|| {
            let text = admin.get("/metrics")?.body;
            let lost = metric(&text, "glommproxy_access_log_lost_lines_total");
            let lost: usize = lost.ok_or("no count")?.parse()?;
            Ok((lost > 0).then_some(lost))
        })?;

        // Those that were not lost are all there, as whole lines.
        fcntl_setfl(&pipe, OFlags::empty())?;
        let mut lines = BufReader::new(pipe).lines();
        for _ in 0..LINES - 1 - lost {
            let line = lines.next().ok_or("the pipe has ended")??;
            assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        }
        proxy.wait_for_log(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            line["lost"] == lost && message.starts_with("lines of the access log are lost")
        })?;
        proxy.stop()?.expect_success()
    })
}

/// `/dev/full` refuses all that is written (full(4)).
#[test]
fn a_full_disk_is_told_of_and_costs_nothing_else() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--access-log", "/dev/full", "--admin", "127.0.0.1:0"])
            .start()?;
        visit(&proxy, "192.0.2.1:4000")?;
        let admin = proxy.admin()?;
        admin.wait_for_metric("glommproxy_access_log_lost_lines_total", "1")?;
        let line = proxy.wait_for_log(|line| line["lost"] == 1)?;
        assert_eq!(line["level"], "WARN");
        visit(&proxy, "192.0.2.2:4000")?;
        admin.wait_for_metric("glommproxy_access_log_lost_lines_total", "2")?;
        proxy.stop()?.expect_success()
    })
}
