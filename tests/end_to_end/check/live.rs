//! `check --live`: the health check of a container without a shell.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::harness::{Exit, Proxy};
use crate::namespace::{TestResult, isolated};

/// An admin endpoint that reads one request and hands the connection over.
fn endpoint(answer: impl FnOnce(String, TcpStream) + Send + 'static) -> TestResult<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else {
            return;
        };
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
            request.push(byte[0]);
        }
        answer(String::from_utf8_lossy(&request).into_owned(), stream);
    });
    Ok(addr)
}

fn answering(text: &'static str) -> TestResult<SocketAddr> {
    endpoint(move |_, mut stream| {
        let _ = stream.write_all(text.as_bytes());
    })
}

#[track_caller]
fn ask(admin: SocketAddr) -> TestResult<Exit> {
    let check = Proxy::builder().bare();
    check
        .args(["check", "--live", "--admin", &admin.to_string()])
        .start_in_vain()
}

#[test]
fn a_proxy_that_is_ready() -> TestResult {
    isolated(|| {
        let (tell, asked) = std::sync::mpsc::channel();
        let addr = endpoint(move |request, mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n");
            let _ = tell.send(request);
        })?;
        let exit = ask(addr)?;
        exit.expect_success()?;
        assert!(exit.log.is_empty());
        let request = asked.recv()?;
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
        assert!(
            request.contains(&format!("\r\nHost: {addr}\r\n")),
            "{request}"
        );
        assert!(request.contains("\r\nConnection: close\r\n"), "{request}");
        Ok(())
    })
}

#[test]
fn the_environment_names_the_address() -> TestResult {
    isolated(|| {
        let port = answering("HTTP/1.1 200 OK\r\n\r\n")?.port();
        let check = Proxy::builder().bare().args(["check", "--live"]);
        // Asked at loopback where it listens everywhere. What else is in the environment does not matter.
        let check = check
            .env("GLOMMPROXY_ADMIN", format!("0.0.0.0:{port}"))
            .env("GLOMMPROXY_LISTEN", "0.0.0.0:25577");
        check.start_in_vain()?.expect_success()
    })
}

#[test]
fn a_proxy_that_is_not_ready() -> TestResult {
    isolated(|| {
        let addr = answering("HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n")?;
        ask(addr)?.expect_failure(&["/readyz says HTTP/1.1 503 Service Unavailable draining"])?;
        let addr = answering("SSH-2.0-OpenSSH\r\n")?;
        ask(addr)?.expect_failure(&["SSH-2.0-OpenSSH", "which is no HTTP"])?;
        let addr = answering("")?;
        ask(addr)?.expect_failure(&["which is no HTTP"])
    })
}

#[test]
fn nobody_is_there() -> TestResult {
    isolated(|| {
        let wanted = [
            "cannot ask http://127.0.0.1:9/readyz",
            "does glommproxy run",
        ];
        ask("127.0.0.1:9".parse()?)?.expect_failure(&wanted)
    })
}

#[test]
fn a_proxy_that_does_not_answer_or_never_stops() -> TestResult {
    isolated(|| {
        let addr = endpoint(|_, mut stream| {
            // Until the other end is gone.
            let _ = stream.read(&mut [0]);
        })?;
        ask(addr)?.expect_failure(&["no answer from", "it takes too long"])?;
        let addr = endpoint(|_, mut stream| {
            while stream.write_all(b"H").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        })?;
        ask(addr)?.expect_failure(&["it takes too long"])?;
        let addr = endpoint(|_, mut stream| while stream.write_all(&[b'a'; 4096]).is_ok() {})?;
        ask(addr)?.expect_failure(&["which is no HTTP"])
    })
}

#[test]
fn nobody_said_whom_to_ask() -> TestResult {
    isolated(|| {
        let check = || Proxy::builder().bare().args(["check", "--live"]);
        check()
            .start_in_vain()?
            .expect_failure(&["--admin ADDR", "GLOMMPROXY_ADMIN"])?;
        let exit = check().args(["--admin", "localhost"]).start_in_vain()?;
        exit.expect_failure(&["--admin \"localhost\" has no port"])?;
        let exit = check().args(["--admin", "127.0.0.1:0"]).start_in_vain()?;
        exit.expect_failure(&["--admin \"127.0.0.1:0\" has port 0"])
    })
}
