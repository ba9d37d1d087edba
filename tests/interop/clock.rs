//! A wall clock that jumps, by libfaketime, which shows the program another one than this machine has: NTP may set it at
//! any time, by years on a board without a battery. Nothing the proxy waits for may depend on it.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Balancer, Header, Proxy, ProxyBuilder, TcpServer, UdpBalancer, UdpServer, wait_for,
};
use crate::namespace::TestResult;
use crate::tool::{FAKETIME, isolated_with};

const CLIENT: &str = "192.0.2.1:4000";

/// The clock that a proxy is shown.
struct WallClock(TempDir);

// === impl WallClock ===

impl WallClock {
    fn new() -> TestResult<Self> {
        let clock = Self(tempfile::tempdir()?);
        clock.jump("+0")?;
        Ok(clock)
    }

    /// Sets it so far before or after the true time, as libfaketime spells it.
    fn jump(&self, offset: &str) -> TestResult {
        fs::write(self.path("new"), offset)?;
        Ok(fs::rename(self.path("new"), self.path("offset"))?)
    }

    fn show(&self, proxy: ProxyBuilder) -> TestResult<ProxyBuilder> {
        Ok(proxy
            // The library inside it reads a file whenever it is asked for the time.
            .args(["--no-sandbox"])
            .env("LD_PRELOAD", FAKETIME.installed()?)
            .env("FAKETIME_TIMESTAMP_FILE", self.path("offset"))
            .env("FAKETIME_NO_CACHE", "1")
            // That one never jumps (clock_gettime(2)).
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// The proxy has seen the jump: what it logs is of a year like this.
fn wait_for_year(proxy: &Proxy, wanted: impl Fn(u32) -> bool) -> TestResult {
    let is_of = |line: &Value| {
        let year = line["timestamp"].as_str().and_then(|it| it.get(..4));
        let year = year.and_then(|it| it.parse().ok());
        line["message"] == "reloading" && year.is_some_and(&wanted)
    };
    wait_for(|| {
        proxy.signal(Signal::HUP)?;
        Ok(proxy.log().iter().any(is_of).then_some(()))
    })
}

const DAYS: [&str; 3] = ["+7300d", "-7300d", "+0"];

fn is_of(days: &str) -> impl Fn(u32) -> bool {
    let ahead = days == "+7300d";
    let back = days == "-7300d";
    move |year| match (ahead, back) {
        (true, _) => year >= 2040,
        (_, true) => year < 2020,
        _ => (2020..2040).contains(&year),
    }
}

#[test]
fn no_jump_ends_what_has_time_left() -> TestResult {
    isolated_with(&[FAKETIME], || {
        let clock = WallClock::new()?;
        let tcp = TcpServer::echo("127.0.0.1")?;
        let udp = UdpServer::echo("127.0.0.1")?;
        let minutes = ["--header-timeout", "600", "--idle-timeout", "600"];
        let tcp_proxy = clock.show(Proxy::tcp(tcp).args(minutes))?.start()?;
        let udp_proxy = clock.show(Proxy::udp(udp))?.start()?;
        let client = Balancer::default().connect(&tcp_proxy, &Header::of(CLIENT)?)?;
        client.expect_echo(b"hello")?;
        let header = Header::of("192.0.2.2:4000")?;
        let (first, rest) = header.bytes().split_at(15);
        let slow = Balancer::default().connect(&tcp_proxy, &Header::raw(first))?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let datagram = Header::v2_udp(CLIENT, "203.0.113.1:443")?;
        for days in DAYS {
            balancer.send(&udp_proxy, &datagram, b"hello")?;
            balancer.expect(b"192.0.2.1:4000 hello")?;
            clock.jump(days)?;
            wait_for_year(&tcp_proxy, is_of(days))?;
            wait_for_year(&udp_proxy, is_of(days))?;
            client.expect_echo(b"still here")?;
        }
        slow.send(rest)?;
        slow.expect_echo(b"hello")?;
        balancer.send(&udp_proxy, &datagram, b"hello")?;
        balancer.expect(b"192.0.2.1:4000 hello")?;
        tcp_proxy.stop()?.expect_success()?;
        assert_eq!(udp_proxy.stop()?.total("flows")?, 1);
        Ok(())
    })
}

#[test]
fn no_jump_keeps_what_has_none_left() -> TestResult {
    isolated_with(&[FAKETIME], || {
        for days in DAYS {
            let clock = WallClock::new()?;
            let folder = tempfile::tempdir()?;
            let list = folder.path().join("list");
            fs::write(&list, "192.0.2.66\n")?;
            let server = TcpServer::echo("127.0.0.1")?;
            let proxy = Proxy::tcp(server)
                .args(["--header-timeout", "1", "--idle-timeout", "1"])
                .args(["--denied-clients".into(), list.clone().into_os_string()]);
            let proxy = clock.show(proxy)?.start()?;
            let client = Balancer::default().connect(&proxy, &Header::of(CLIENT)?)?;
            let slow = Balancer::default().connect(&proxy, &Header::raw("PROXY"))?;
            clock.jump(days)?;
            wait_for_year(&proxy, is_of(days))?;
            client.expect_reset_in_time()?;
            slow.expect_over()?;
            // Changes are seen, too.
            fs::write(&list, "192.0.2.1\n")?;
            proxy.wait_for_message("denied clients reloaded")?;
            let udp = UdpServer::echo("127.0.0.1")?;
            let udp_proxy = clock.show(Proxy::udp(udp).args(["--close-after", "1"]))?;
            let udp_proxy = udp_proxy.args(["-v", "2"]).start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            let datagram = Header::v2_udp(CLIENT, "203.0.113.1:443")?;
            balancer.send(&udp_proxy, &datagram, b"hello")?;
            balancer.expect(b"192.0.2.1:4000 hello")?;
            udp_proxy.wait_for_message("closed")?;
            udp_proxy.stop()?.expect_success()?;
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}
