//! An address that cannot be listened on.

use std::net::{TcpListener, UdpSocket};

use crate::harness::Proxy;
use crate::namespace::{TestResult, isolated};

#[test]
fn a_port_that_another_program_has() -> TestResult {
    isolated(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        for (protocol, addr) in [
            ("tcp", listener.local_addr()?),
            ("udp", socket.local_addr()?),
        ] {
            for listeners in ["1", "3"] {
                let exit = Proxy::builder()
                    .listen(&addr.to_string())
                    .args(["-p", protocol, "--listeners", listeners])
                    .start_in_vain()?;
                let refused = format!("cannot listen on {protocol} {addr}: ");
                exit.expect_failure(&[&refused, "another process has the port"])?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_port_that_has_one_protocol_free() -> TestResult {
    isolated(|| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let addr = socket.local_addr()?.to_string();
        let builder = || Proxy::builder().listen(&addr);
        let both = builder().args(["-p", "both"]).start_in_vain()?;
        both.expect_failure(&[&format!("cannot listen on udp {addr}: ")])?;
        builder()
            .args(["-p", "tcp"])
            .start()?
            .stop()?
            .expect_success()
    })
}

/// With SO_REUSEPORT the kernel would let both have it, and each would get a part of the connections.
#[test]
fn a_port_that_another_glommproxy_has() -> TestResult {
    isolated(|| {
        let args = ["-p", "both", "--listeners", "3"];
        let first = Proxy::builder().args(args).start()?;
        let addr = first.addr().to_string();
        let second = Proxy::builder().args(args).listen(&addr).start_in_vain()?;
        second.expect_failure(&[
            "another process has the port: stop it, or choose another with -l",
        ])?;
        first.stop()?.expect_success()?;
        // Free again at once.
        Proxy::builder()
            .args(args)
            .listen(&addr)
            .start()?
            .stop()?
            .expect_success()
    })
}

#[test]
fn an_address_of_another_host() -> TestResult {
    isolated(|| {
        for addr in ["198.51.100.7:0", "[2001:db8::7]:0"] {
            let exit = Proxy::builder().listen(addr).start_in_vain()?;
            let refused = format!("cannot listen on tcp {addr}: ");
            exit.expect_failure(&[&refused, "this host has no such address"])?;
        }
        Ok(())
    })
}

#[test]
fn a_port_for_the_privileged() -> TestResult {
    isolated(|| {
        let exit = Proxy::builder()
            .under(["setpriv", "--bounding-set", "-net_bind_service"])
            .listen("127.0.0.1:443")
            .start_in_vain()?;
        exit.expect_failure(&["127.0.0.1:443", "CAP_NET_BIND_SERVICE"])
    })
}
