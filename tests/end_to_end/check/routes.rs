//! The routes that bring the server's answers back.

use serde_json::Value;

use super::{Found, check, check_under};
use crate::harness::{TcpServer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated, run};
use crate::routes::tables;

/// Types the commands of a row.
fn obey(row: &Value) -> TestResult {
    let commands = row["commands"].as_array().ok_or("no commands")?;
    assert!(!commands.is_empty(), "{row}");
    for command in commands.iter().filter_map(Value::as_str) {
        run(command)?;
    }
    Ok(())
}

#[test]
fn the_commands_it_prints_mend_it() -> TestResult {
    isolated(|| {
        let (v4, v6) = (TcpServer::echo("127.0.0.1")?, TcpServer::echo("::1")?);
        let (v4, v6) = (v4.to_string(), v6.to_string());
        let check = || check(["-4", &v4, "-6", &v6]);
        let found = check()?;
        let routes = ["routes-v4", "routes-v6"];
        assert_eq!(found.all("FAIL"), routes, "{:#}", found.report);
        for (routes, client) in routes.into_iter().zip(["client-v4-tcp", "client-v6-tcp"]) {
            found.expect(client, "SKIP", &["would leave this host"])?;
            obey(found.expect(routes, "FAIL", &["would not come back"])?)?;
        }
        let found = check()?;
        found.expect_success()?;
        for subject in ["routes-v4", "routes-v6", "client-v4-tcp", "client-v6-tcp"] {
            found.expect(subject, "OK", &[])?;
        }
        Ok(())
    })
}

#[test]
fn a_udp_server_on_the_wildcard_needs_more() -> TestResult {
    isolated(|| {
        let server = UdpServer::echo("0.0.0.0")?.to_string();
        let flags = ["-p", "udp", "-4", &server, "-6", "[::1]:0"];
        run("ip rule add from 127.0.0.1/8 iif lo table 123")?;
        run("ip route add local default dev lo src 127.0.0.1 table 123")?;
        let found = check(flags)?;
        let row = found.expect("routes-v4", "WARN", &["bound to 0.0.0.0"])?;
        found.expect("client-v4-udp", "FAIL", &["no answer to 203.0.113.1"])?;
        obey(row)?;
        let found = check(flags)?;
        found.expect("routes-v4", "OK", &[])?;
        found.expect("client-v4-udp", "OK", &[])?;
        found.expect_success()
    })
}

/// What it sets up is like what the proxy sets up, so such a server is reached.
#[test]
fn a_rehearsal_serves_wildcards_too() -> TestResult {
    isolated(|| {
        let before = tables()?;
        for (ip, flag, client) in [
            ("0.0.0.0", "-4", "client-v4-udp"),
            ("::", "-6", "client-v6-udp"),
        ] {
            let server = UdpServer::echo(ip)?.to_string();
            let found = check(["-p", "udp", flag, &server, "--setup-routes"])?;
            found.expect(client, "OK", &[])?;
            found.expect_success()?;
        }
        let server = UdpServer::echo("0.0.0.0")?.to_string();
        let flags = ["-p", "udp", "-4", &server, "--setup-routes"];
        let found = check(flags.into_iter().chain(["--no-wildcard-udp"]))?;
        found.expect("client-v4-udp", "FAIL", &["comes back within 1 s"])?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn no_cap_net_admin_to_set_them_up() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?.to_string();
        let wrapper = ["setpriv", "--bounding-set", "-net_admin"];
        let found = check_under(wrapper, ["-4", &server, "--setup-routes"])?;
        let command = "ip rule add from 127.0.0.1/8 iif lo table 123";
        let wanted = ["setting up routes needs CAP_NET_ADMIN", command];
        let row = found.expect("routes-v4", "FAIL", &wanted)?;
        assert_eq!(row["commands"][1], command, "{row:#}");
        obey(row)?;
        check(["-4", &server])?.expect("routes-v4", "OK", &[])?;
        found.expect("client-v4-tcp", "SKIP", &["cannot be set up"])?;
        // The other family was not named.
        found.expect("routes-v6", "WARN", &wanted[..1])?;
        Ok(())
    })
}

#[test]
fn a_rule_that_takes_the_answers_elsewhere() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?.to_string();
        run(
            "ip rule add from all lookup 77 priority 5 && ip route add blackhole default table 77",
        )?;
        let found = check(["-4", &server, "-6", "[::1]:0", "--setup-routes"])?;
        found.expect("routes-v4", "WARN", &["higher priority"])?;
        found.expect("client-v4-tcp", "FAIL", &["no answer to 203.0.113.1"])?;
        Ok(())
    })
}

/// The kernel takes the route with the lowest metric, which would not be ours.
#[test]
fn somebody_elses_route_that_would_come_first() -> TestResult {
    isolated(|| {
        run("ip route add local default dev lo src 127.0.0.1 table 123")?;
        run("ip address add 127.0.0.7 dev lo")?;
        let server = UdpServer::echo("127.0.0.7")?.to_string();
        let found = check(["-p", "udp", "-4", &server, "--setup-routes"])?;
        found.expect(
            "routes-v4",
            "WARN",
            &["source 127.0.0.1", "ip route replace"],
        )?;
        Ok(())
    })
}

/// In earnest, more than the one client of a rehearsal would be led astray.
#[test]
fn somebody_elses_route_within_the_table() -> TestResult {
    isolated(|| {
        run("ip route add blackhole 203.0.113.0/24 table 123")?;
        let before = tables()?;
        let server = TcpServer::echo("127.0.0.1")?.to_string();
        let found = check(["-4", &server, "-6", "[::1]:0", "--setup-routes"])?;
        let wanted = ["table 123 has", "203.0.113.0/24", "goes before"];
        found.expect("routes-v4", "WARN", &wanted)?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// A test host may have one of the addresses that nobody should have.
#[test]
fn the_client_that_does_not_exist_is_not_this_host() -> TestResult {
    isolated(|| {
        add_address("203.0.113.1")?;
        add_address("2001:db8::1")?;
        let (v4, v6) = (TcpServer::echo("127.0.0.1")?, TcpServer::echo("::1")?);
        let (v4, v6) = (v4.to_string(), v6.to_string());
        let found = check(["-4", &v4, "-6", &v6, "--setup-routes"])?;
        found.expect("client-v4-tcp", "OK", &["from 203.0.113.254"])?;
        found.expect("client-v6-tcp", "OK", &["from 2001:db8:ffff::1"])?;
        found.expect_success()
    })
}

#[test]
fn a_family_that_the_host_has_not_got() -> TestResult {
    isolated(|| {
        run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")?;
        let server = TcpServer::echo("127.0.0.1")?.to_string();
        let check = |flags: &[&str]| -> TestResult<Found> {
            let found = check(["-4", &server].iter().chain(flags))?;
            found.expect("server-v6-tcp", "SKIP", &[])?;
            found.expect("client-v6-tcp", "SKIP", &[])?;
            Ok(found)
        };
        let skipped = |found: &Found| {
            found
                .expect("routes-v6", "SKIP", &["has no IPv6"])
                .map(drop)
        };
        let found = check(&[])?;
        skipped(&found)?;
        found.expect("routes-v4", "FAIL", &[])?;
        let found = check(&["--setup-routes"])?;
        skipped(&found)?;
        found.expect("client-v4-tcp", "OK", &[])?;
        found.expect_success()?;

        for flags in [&[][..], &["--setup-routes"]] {
            let flags = [&["-6", "[::1]:443"][..], flags].concat();
            let found = check(&flags)?;
            found.expect("routes-v6", "FAIL", &["loopback has no IPv6 address"])?;
        }
        Ok(())
    })
}

#[test]
fn the_commands_it_prints_bring_loopback_back() -> TestResult {
    isolated(|| {
        for (flag, server, row, off) in [
            (
                "-4",
                "127.0.0.1:9001",
                "routes-v4",
                "ip address del 127.0.0.1/8 dev lo && ip link set lo down",
            ),
            (
                "-6",
                "[::1]:9001",
                "routes-v6",
                "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6",
            ),
        ] {
            run(off)?;
            let check = || check([flag, server, "--setup-routes"]);
            obey(check()?.expect(row, "FAIL", &["loopback has no", "run"])?)?;
            check()?.expect(row, "OK", &[])?;
        }
        Ok(())
    })
}
