//! How much is logged.

use serde_json::Value;

use crate::harness::{Balancer, Exit, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

/// A client that is served, one with a bad header, and one whose server is not there, over both protocols.
fn log_of_traffic(verbosity: &[&str], environment: &[(&str, &str)]) -> TestResult<Exit> {
    let udp = UdpServer::bind("127.0.0.1")?;
    let tcp = TcpServer::bind_to(udp.addr()?)?;
    let mut builder = Proxy::builder()
        .and(udp.addr()?)
        // Only the lines of one shard have an order.
        .args(["-6", "[::1]:9", "-p", "both", "--listeners", "1"])
        .args(verbosity);
    for (name, value) in environment {
        builder = builder.env(name, value);
    }
    // At some levels it does not say that it is ready.
    let proxy = builder.listen("127.0.0.1:25577").spawn()?;
    while std::net::TcpStream::connect(proxy.addr()).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }

    let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
    let served = Balancer::default().connect(&proxy, &header)?;
    let session = tcp.accept()?;
    served.expect_talk(&session)?;
    drop(served);
    session.expect_end()?;
    drop(session);
    for header in [
        Header::raw("GET / HTTP/1.1\r\n\r\n"),
        Header::v1("[2001:db8::1]:4000", "[2001:db8::443]:443")?,
    ] {
        Balancer::default()
            .connect(&proxy, &header)?
            .expect_over()?;
    }

    let balancer = UdpBalancer::bind("127.0.0.1")?;
    balancer.send(&proxy, &Header::none(), b"nonsense")?;
    let header = Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?;
    balancer.send(&proxy, &header, b"ping")?;
    udp.send(udp.receive()?.from, b"pong")?;
    balancer.expect(b"pong")?;
    let exit = proxy.stop()?;
    exit.expect_success()?;
    Ok(exit)
}

/// The lines about single connections and datagrams, which all name a peer.
fn of_connections(exit: &Exit) -> Vec<&Value> {
    let lines = exit.log.iter();
    lines
        .filter(|line| line.get("peer_addr").is_some())
        .collect()
}

#[test]
fn by_default_nothing_of_connections() -> TestResult {
    isolated(|| {
        for verbosity in [&[][..], &["-v", "0"]] {
            let exit = log_of_traffic(verbosity, &[])?;
            assert_eq!(exit.log_since_ready(), [] as [Value; 0]);
            let last = exit.log.last().ok_or("no log")?;
            // One of the four was there only to see whether it listens.
            assert_eq!(
                (&last["connections"], &last["flows"]),
                (&4.into(), &1.into())
            );
            assert_eq!(
                (&last["header_errors"], &last["dial_errors"]),
                (&3.into(), &1.into())
            );
        }
        Ok(())
    })
}

#[test]
fn at_1_errors_with_all_that_is_known() -> TestResult {
    isolated(|| {
        let exit = log_of_traffic(&["-v", "1"], &[])?;
        let lines = of_connections(&exit);
        assert!(
            lines.iter().all(|line| line["level"] == "DEBUG"),
            "{lines:?}"
        );
        let [bad_header, no_server, bad_datagram] = lines[..] else {
            return Err(format!("three lines wanted: {lines:?}").into());
        };
        for line in lines {
            assert!(
                line["listener"].is_u64() && line["error"].is_string(),
                "{line}"
            );
            assert_eq!(line["listen_addr"], "127.0.0.1:25577");
        }
        assert_eq!(
            (&bad_header["protocol"], bad_header.get("client_addr")),
            (&"tcp".into(), None)
        );
        assert_eq!(no_server["client_addr"], "[2001:db8::1]:4000");
        assert_eq!(no_server["message"], "connection dropped");
        assert_eq!(
            (&bad_datagram["protocol"], &bad_datagram["message"]),
            (&"udp".into(), &"datagram dropped".into())
        );
        Ok(())
    })
}

#[test]
fn at_2_every_step() -> TestResult {
    isolated(|| {
        let exit = log_of_traffic(&["-v", "2"], &[])?;
        let client = |line: &&&Value| line["client_addr"] == "192.0.2.1:4000";
        let lines = of_connections(&exit);
        let steps = |protocol: &str| {
            let of_it = lines
                .iter()
                .filter(client)
                .filter(|line| line["protocol"] == protocol);
            of_it
                .map(|line| line["message"].as_str().unwrap_or_default())
                .collect::<Vec<_>>()
        };
        assert_eq!(steps("tcp"), ["connected", "closed"]);
        assert_eq!(steps("udp").first(), Some(&"flow opened"));
        let closed = lines
            .iter()
            .filter(client)
            .find(|line| line["message"] == "closed");
        let closed = closed.ok_or("not closed")?;
        assert_eq!(
            (&closed["bytes_upstream"], &closed["bytes_downstream"]),
            (&8.into(), &6.into())
        );
        assert_eq!(closed["level"], "TRACE");
        Ok(())
    })
}

#[test]
fn rust_log_overrules() -> TestResult {
    isolated(|| {
        let everything = log_of_traffic(&[], &[("RUST_LOG", "glommproxy=trace")])?;
        assert!(
            of_connections(&everything)
                .iter()
                .any(|line| line["message"] == "connected")
        );
        let nothing = log_of_traffic(&["-v", "2"], &[("RUST_LOG", "off")])?;
        assert_eq!(nothing.log, [] as [Value; 0]);
        let warnings = log_of_traffic(&["-v", "2"], &[("RUST_LOG", "warn")])?;
        assert!(warnings.log.iter().all(|line| line["level"] == "WARN"));
        assert!(!warnings.log.is_empty());
        Ok(())
    })
}
