//! The listening addresses.

use std::net::{TcpListener, UdpSocket};

use super::{check, check_under};
use crate::harness::{Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

#[test]
fn a_port_that_another_process_has() -> TestResult {
    isolated(|| {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let addr = tcp.local_addr()?.to_string();
        let port = tcp.local_addr()?.port();
        for listen in [addr, format!("0.0.0.0:{port}"), format!("[::]:{port}")] {
            let found = check(["-p", "both", "-l", &listen])?;
            // The test itself is the process.
            let holder = format!("process {}", std::process::id());
            let wanted = ["another process has the port", &holder];
            found.expect("listen-tcp", "FAIL", &wanted)?;
            let command = format!("sudo ss -ltnp sport = :{port}");
            found.expect_commands("listen-tcp", &[&command])?;
            found.expect("listen-udp", "OK", &["free"])?;
        }
        let udp = UdpSocket::bind("[::1]:0")?;
        let found = check(["-p", "udp", "-l", &udp.local_addr()?.to_string()])?;
        found.expect("listen-udp", "FAIL", &["another process has the port"])?;
        Ok(())
    })
}

#[test]
fn one_port_of_a_range_is_taken() -> TestResult {
    isolated(|| {
        let _holder = TcpListener::bind("127.0.0.1:2457")?;
        let found = check(["-l", "127.0.0.1:2456-2458"])?;
        found.expect("listen-tcp", "FAIL", &["127.0.0.1:2457", "has the port"])?;
        let found = check(["-l", "127.0.0.1:2458-2460"])?;
        found.expect("listen-tcp", "OK", &["127.0.0.1:2458-2460: free"])?;
        Ok(())
    })
}

#[test]
fn an_address_this_host_has_not_got() -> TestResult {
    isolated(|| {
        let found = check(["-l", "198.51.100.7:443"])?;
        found.expect("listen-tcp", "FAIL", &["this host has no such address"])?;
        Ok(())
    })
}

#[test]
fn a_port_for_the_privileged() -> TestResult {
    isolated(|| {
        let wrapper = ["setpriv", "--bounding-set", "-net_bind_service"];
        let flags = ["-l", "127.0.0.1:443", "--admin", "127.0.0.1:444"];
        let found = check_under(wrapper, flags)?;
        for (subject, reason) in [
            ("listen-tcp", "CAP_NET_BIND_SERVICE"),
            ("admin", "127.0.0.1:444"),
        ] {
            let row = found.expect(subject, "FAIL", &[reason])?;
            let command = row["commands"][0].as_str().unwrap_or_default();
            let grant = "sudo setcap cap_net_admin,cap_net_raw,cap_net_bind_service+ep /";
            assert!(command.starts_with(grant), "{command}");
        }
        Ok(())
    })
}

/// With one listener the proxy's socket shares its port with nobody, with several it would with its like.
#[test]
fn beside_the_running_proxy() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        for listeners in ["1", "2"] {
            let proxy = Proxy::tcp(server).args(["--listeners", listeners]);
            let proxy = proxy.args(["-p", "both"]).start()?;
            let (listen, server) = (proxy.addr().to_string(), server.to_string());
            let flags = ["-p", "tcp", "-l", &listen, "-4", &server, "--setup-routes"];
            let found = check(flags.into_iter().chain(["--listeners", listeners]))?;
            let running = format!("process {}", proxy.pid().as_raw_pid());
            let wanted = ["glommproxy runs there already", &running];
            found.expect("listen-tcp", "WARN", &wanted)?;
            found.expect("client-v4-tcp", "OK", &[])?;
            found.expect_success()?;
            let found = check(["-p", "udp", "-l", &listen])?;
            found.expect("listen-udp", "WARN", &wanted)?;
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

/// Such a socket takes a capability, as spoofing does.
#[test]
fn a_listener_that_traffic_is_redirected_to() -> TestResult {
    isolated(|| {
        let flags = [
            "-p",
            "both",
            "-l",
            "127.0.0.1:25577",
            "--listen-transparent",
        ];
        let found = check(flags)?;
        found.expect("listen-tcp", "OK", &[])?;
        found.expect("listen-udp", "OK", &[])?;
        found.expect("redirects", "SKIP", &["TPROXY"])?;
        let wrapper = ["setpriv", "--bounding-set", "-net_admin,-net_raw"];
        let found = check_under(wrapper, flags)?;
        found.expect("listen-tcp", "FAIL", &["not permitted"])?;
        found.expect("listen-udp", "FAIL", &["not permitted"])?;
        Ok(())
    })
}

#[test]
fn the_admin_endpoint() -> TestResult {
    isolated(|| {
        let found = check(["--admin", "127.0.0.1:9101"])?;
        found.expect("admin", "OK", &["127.0.0.1:9101: free"])?;
        let found = check(["--admin", "[::]:9101"])?;
        found.expect("admin", "WARN", &["[::]:9101: free", "on loopback"])?;
        let found = check(["--admin", "198.51.100.7:9101"])?;
        found.expect("admin", "FAIL", &["198.51.100.7:9101", "--admin"])?;
        assert!(check([""; 0])?.expect("admin", "OK", &[]).is_err());

        let other = TcpListener::bind("127.0.0.1:0")?;
        let found = check(["--admin", &other.local_addr()?.to_string()])?;
        let holder = format!("process {}", std::process::id());
        found.expect("admin", "FAIL", &["in use", &holder])?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?).args(["--admin", "127.0.0.1:0"]);
        let proxy = proxy.start()?;
        let admin = proxy.wait_for_message("admin endpoint")?;
        let admin = admin["addr"].as_str().ok_or("no address")?;
        let found = check(["--admin", admin])?;
        found.expect("admin", "WARN", &[admin, "glommproxy runs there already"])?;
        proxy.stop()?.expect_success()
    })
}
