//! Whoever reaches the endpoint may be slow, or want harm.

use super::{ADMIN, proxy};
use crate::harness::{Balancer, Connection, Header, Proxy, TcpServer, metric};
use crate::namespace::{TestResult, isolated};

/// More than the endpoint serves at once.
const CROWD: usize = 64;

/// The proxy serves, and so does its endpoint.
#[track_caller]
fn expect_unharmed(proxy: &Proxy) -> TestResult {
    let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?.then(b"ping");
    Balancer::default()
        .connect(proxy, &header)?
        .expect(b"ping")?;
    assert_eq!(proxy.admin()?.get("/livez")?.body, "alive\n");
    Ok(())
}

#[test]
fn garbage_is_answered_or_dropped() -> TestResult {
    isolated(|| {
        let proxy = proxy(TcpServer::echo("127.0.0.1")?)?;
        let admin = proxy.admin()?;
        for garbage in [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\0\0\0\0\r\n\r\n",
            b"GET /metrics\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        ] {
            let connection = admin.connect()?;
            connection.send(garbage)?;
            connection.finish()?;
            let answer = all_of(&connection);
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
                "{answer}"
            );
        }
        expect_unharmed(&proxy)?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_head_has_a_largest_size() -> TestResult {
    isolated(|| {
        let proxy = proxy(TcpServer::echo("127.0.0.1")?)?;
        let admin = proxy.admin()?;
        let long = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(16 << 10));
        let many = format!("GET /livez HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(65));
        for head in [long, many] {
            let connection = admin.connect()?;
            // It may be refused before all of it is sent.
            let _ = connection.send(head.as_bytes());
            let answer = all_of(&connection);
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
                "{answer}"
            );
        }
        let fits = format!("GET /livez HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(64));
        assert_eq!(admin.say(fits.as_bytes())?.status, 200);
        proxy.stop()?.expect_success()
    })
}

/// They would have all the connections that there are, if the oldest had not to go for others.
#[test]
fn those_who_never_finish_their_request_keep_nobody_out() -> TestResult {
    isolated(|| {
        let proxy = proxy(TcpServer::echo("127.0.0.1")?)?;
        let admin = proxy.admin()?;
        let open_files = || -> TestResult<usize> {
            let text = admin.get("/metrics")?.body;
            let count = metric(&text, "process_open_fds").ok_or("no count")?;
            Ok(count.parse()?)
        };
        let before = open_files()?;
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let connection = admin.connect()?;
            connection.send(b"GET /metrics HTTP/1.1\r\nHost: a")?;
            crowd.push(connection);
        }
        // The oldest have gone, for the others and for this question.
        let files = open_files()? - before;
        assert!(files < CROWD / 2 + 8, "{files} of them are there");
        crowd[0].expect_over()?;
        expect_unharmed(&proxy)?;
        // The others time out.
        let last = crowd.pop().ok_or("a crowd")?;
        all_of(&last);
        last.expect_over()?;
        proxy.stop()?.expect_success()
    })
}

/// And neither do those who do not read.
#[test]
fn those_who_do_not_read_keep_nobody_out() -> TestResult {
    isolated(|| {
        let proxy = proxy(TcpServer::echo("127.0.0.1")?)?;
        let admin = proxy.admin()?;
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let connection = admin.connect()?;
            connection.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")?;
            crowd.push(connection);
        }
        expect_unharmed(&proxy)?;
        proxy.stop()?.expect_success()
    })
}

/// What listens on loopback for this host alone is no server for whoever writes PROXY headers.
#[test]
fn no_header_leads_to_the_endpoint() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .args(ADMIN)
            .args(["--dynamic-destination", "-v", "1"])
            .start()?;
        let admin = proxy.admin()?.addr().to_string();
        let header = Header::v2("192.0.2.1:4000", &admin)?;
        Balancer::default()
            .connect(&proxy, &header)?
            .expect_reset()?;
        proxy.wait_for_log(|line| {
            let error = line["error"].as_str().unwrap_or_default();
            error.contains("is what glommproxy itself listens on")
        })?;
        proxy.stop()?.expect_success()
    })
}

/// A stop does not wait for those who speak to the endpoint.
#[test]
fn a_stop_does_not_wait_for_scrapers() -> TestResult {
    isolated(|| {
        let proxy = proxy(TcpServer::echo("127.0.0.1")?)?;
        let connection = proxy.admin()?.connect()?;
        connection.send(b"GET")?;
        proxy.stop()?.expect_success()?;
        connection.expect_over()
    })
}

/// What comes until the connection is over, in whatever manner.
fn all_of(connection: &Connection) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    // After a reset there is what came before it.
    let _ = connection.stream().read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
