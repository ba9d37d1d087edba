//! What is written of connections.

use serde_json::{Value, json};

use super::CLIENT;
use crate::harness::{Balancer, Header, Proxy, TcpServer, open};
use crate::namespace::{TestResult, isolated};

/// Whatever happens to connections, go-mmproxy's default is silence.
#[test]
fn quiet_means_not_a_line_of_any_connection() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        for args in [&[][..], &["-v", "0"]] {
            let proxy = Proxy::tcp(server.addr()?).args(args).start()?;
            let (downstream, session) = open(&proxy, &server, CLIENT)?;
            downstream.expect_talk(&session)?;
            // The client's port is taken.
            let second = Balancer::default().connect(&proxy, &Header::of(CLIENT)?)?;
            let second_session = server.accept()?;
            second.expect_talk(&second_session)?;
            // No header, a bad source, and no server of this family.
            for header in [
                Header::raw("GET / HTTP/1.1\r\n\r\n"),
                Header::of("0.0.0.0:4000")?,
                Header::of("[2001:db8::1]:4000")?,
            ] {
                Balancer::default()
                    .connect(&proxy, &header)?
                    .expect_over()?;
            }
            session.reset()?;
            downstream.expect_reset()?;
            second_session.reset()?;
            second.expect_reset()?;
            let exit = proxy.stop()?;
            assert_eq!(exit.log_since_ready(), [] as [Value; 0]);
            assert_eq!(exit.total("ports_replaced")?, 1);
        }
        Ok(())
    })
}

#[test]
fn errors_are_logged_with_all_that_is_known() -> TestResult {
    isolated(|| {
        let (server, down) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let down_addr = down.addr()?;
        drop(down);
        let proxy = Proxy::tcp(server.addr()?)
            .and(down_addr)
            .args(["-v", "1"])
            .start()?;
        // A connection without errors.
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        downstream.expect_talk(&session)?;
        downstream.finish()?;
        session.expect_end()?;
        drop(session);
        downstream.expect_end()?;

        let header = Header::of("[2001:db8::1]:4000")?;
        let refused = Balancer::default().connect(&proxy, &header)?;
        refused.expect_reset()?;
        let listen_addr = proxy.addr().to_string();
        proxy.wait_for_message("connection dropped")?;
        let [mut line] = <[_; 1]>::try_from(proxy.stop()?.log_since_ready())
            .map_err(|lines| format!("not one line, of the refused connection: {lines:?}"))?;
        assert!(line["listener"].take().is_u64());
        assert!(line["timestamp"].take().is_string());
        let expected = json!({
            "timestamp": null,
            "level": "DEBUG",
            "message": "connection dropped",
            "listener": null,
            "protocol": "tcp",
            "listen_addr": listen_addr,
            "peer_addr": refused.local()?.to_string(),
            "client_addr": "[2001:db8::1]:4000",
            "target_addr": down_addr.to_string(),
            "error": format!("cannot connect to {down_addr}: Connection refused (os error 111)"),
        });
        assert_eq!(line, expected);
        Ok(())
    })
}

#[test]
fn all_means_the_whole_life_of_a_connection() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).args(["-v", "2"]).start()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        downstream.expect_talk(&session)?;
        downstream.finish()?;
        session.expect_end()?;
        drop(session);
        downstream.expect_end()?;
        proxy.wait_for_message("closed")?;

        let (listen_addr, server_addr) = (proxy.addr().to_string(), server.addr()?.to_string());
        let peer_addr = downstream.local()?.to_string();
        let mut lines = proxy.stop()?.log_since_ready();
        let listener = lines[0]["listener"].clone();
        assert!(listener.is_u64());
        for line in &mut lines {
            assert!(line["timestamp"].take().is_string());
        }
        let accepted = json!({
            "timestamp": null,
            "level": "TRACE",
            "message": "accepted",
            "listener": listener,
            "protocol": "tcp",
            "listen_addr": listen_addr,
            "peer_addr": peer_addr,
        });
        let mut connected = accepted.clone();
        connected["message"] = "connected".into();
        connected["client_addr"] = CLIENT.into();
        connected["target_addr"] = server_addr.into();
        let mut closed = connected.clone();
        closed["message"] = "closed".into();
        closed["reason"] = "both sides closed".into();
        closed["bytes_upstream"] = "question".len().into();
        closed["bytes_downstream"] = "answer".len().into();
        assert_eq!(lines, [accepted, connected, closed]);
        Ok(())
    })
}
