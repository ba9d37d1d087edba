//! A host where nothing is missing.

use std::fs;

use super::check;
use crate::harness::{Proxy, TcpServer, UdpServer};
use crate::namespace::{TestResult, isolated};
use crate::routes::tables;

/// A command line with a server of each kind behind it, and a list.
fn flags(list: &std::path::Path) -> TestResult<Vec<String>> {
    // The kernel's choice for one protocol is free for the other too, in a namespace where nobody else is.
    let mut flags = vec!["-p".to_owned(), "both".to_owned()];
    for (flag, ip) in [("-4", "127.0.0.1"), ("-6", "::1")] {
        let tcp = TcpServer::echo(ip)?;
        let udp = std::net::UdpSocket::bind(tcp)?;
        std::thread::spawn(move || {
            while let Ok((_, from)) = udp.recv_from(&mut [0]) {
                let _ = udp.send_to(b"answer", from);
            }
        });
        flags.extend([flag.to_owned(), tcp.to_string()]);
    }
    fs::write(list, "192.0.2.0/24\n2001:db8:7::/48\n")?;
    let list = list.to_str().ok_or("a path that is no text")?;
    flags.extend(["-l", "0.0.0.0:25577", "-a", list].map(str::to_owned));
    Ok(flags)
}

const ALL: [&str; 18] = [
    "kernel",
    "io_uring",
    "memlock",
    "open-files",
    "cpus",
    "capabilities",
    "sandbox",
    "allowed-subnets",
    "listen-tcp",
    "listen-udp",
    "routes-v4",
    "routes-v6",
    "server-v4-tcp",
    "client-v4-tcp",
    "client-v4-udp",
    "server-v6-tcp",
    "client-v6-tcp",
    "client-v6-udp",
];

#[test]
fn everything_is_looked_at_and_nothing_left_behind() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let mut flags = flags(&folder.path().join("list"))?;
        flags.push("--setup-routes".to_owned());
        let before = tables()?;
        let found = check(&flags)?;
        assert_eq!(found.all("OK"), ALL, "{:#}", found.report);
        found.expect_success()?;
        found.expect("allowed-subnets", "OK", &["2 subnets"])?;
        found.expect("client-v4-tcp", "OK", &["from 203.0.113.1"])?;
        found.expect("client-v6-udp", "OK", &["answers 2001:db8::1"])?;
        assert_eq!(tables()?, before);

        // The proxy itself agrees.
        let proxy = Proxy::builder().bare().args(&flags);
        let proxy = proxy.args(["--log-format", "json"]).start()?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn it_prints_a_line_for_each_thing() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let flags = flags(&folder.path().join("list"))?;
        let check = Proxy::builder().bare().args(["check", "--setup-routes"]);
        let exit = check.args(&flags).start_in_vain()?;
        exit.expect_success()?;
        let lines: Vec<&str> = exit.log.iter().filter_map(|line| line.as_str()).collect();
        let subjects: Vec<&str> = lines
            .iter()
            .map_while(|line| line.strip_prefix("OK "))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(subjects, ALL);
        assert_eq!(lines[ALL.len()..], ["", "Nothing stands in the way."]);
        Ok(())
    })
}

/// As the proxy does, it reads what is not on the command line from the environment.
#[test]
fn the_environment_counts() -> TestResult {
    isolated(|| {
        let server = UdpServer::echo("127.0.0.1")?;
        let check = Proxy::builder()
            .bare()
            .args(["check", "--json", "--setup-routes"])
            .env("GLOMMPROXY_TARGET_V4", server.to_string())
            .env("GLOMMPROXY_PROTOCOL", "udp");
        let found = super::Found::read(check.start_in_vain()?)?;
        found.expect("client-v4-udp", "OK", &[&server.to_string()])?;
        found.expect_success()
    })
}
