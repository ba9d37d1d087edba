//! `glommproxy top`.

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::termios::{LocalModes, tcgetattr};

use crate::harness::{Balancer, Header, Proxy, Screen, TcpServer, wait_for};
use crate::namespace::{TestResult, isolated};

/// What begins a new picture.
const HOME: &str = "\x1b[H";

fn proxy() -> TestResult<Proxy> {
    Proxy::tcp(TcpServer::echo("127.0.0.1")?)
        .args(["--admin", "127.0.0.1:0", "--listeners", "2"])
        .start()
}

fn top(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glommproxy"));
    command.arg("top").args(args).env_clear();
    command
}

/// What a line of a table says behind its name.
fn row<'a>(text: &'a str, name: &str) -> TestResult<Vec<&'a str>> {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.trim_start().strip_prefix(name));
    Ok(line
        .ok_or_else(|| format!("no {name} in {text}"))?
        .split_whitespace()
        .collect())
}

#[test]
fn once_shows_what_there_is_in_plain_text() -> TestResult {
    isolated(|| {
        let proxy = proxy()?;
        let admin = proxy.admin()?;
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?.then(b"ping");
        let open = Balancer::default().connect(&proxy, &header)?;
        open.expect(b"ping")?;
        Balancer::default()
            .connect(&proxy, &Header::none().then(b"GET / HTTP/1.1"))?
            .expect_over()?;
        admin.wait_for_metric("glommproxy_connections_open", "1")?;

        let addr = admin.addr().to_string();
        let flag = top(&["--admin", &addr, "--once"]).output()?;
        let variable = top(&[]).env("GLOMMPROXY_ADMIN", &addr).output()?;
        for Output {
            status,
            stdout,
            stderr,
        } in [flag, variable]
        {
            let text = String::from_utf8(stdout)?;
            assert!(status.success() && stderr.is_empty(), "{text}");
            assert!(
                text.starts_with("glommproxy ") && text.contains(": ready, up "),
                "{text}"
            );
            assert!(text.contains(&format!("tcp on {}", proxy.addr())), "{text}");
            assert!(!text.contains('\x1b'), "{text}");
            // Of all shards: busy, connected, new a second, flows.
            let all = row(&text, "all ")?;
            assert!(all[0].ends_with('%'), "{text}");
            assert_eq!(&all[1..4], ["1", "0", "0"], "{text}");
            row(&text, "1 ")?;
            assert_eq!(row(&text, "tcp header ")?, ["1", "0"], "{text}");
        }
        drop(open);
        proxy.stop()?.expect_success()
    })
}

#[test]
fn the_busiest_clients_are_shown() -> TestResult {
    isolated(|| {
        let proxy = proxy()?;
        let addr = proxy.admin()?.addr().to_string();
        let connect = |client: &str| -> TestResult<_> {
            Balancer::default().connect(&proxy, &Header::of(client)?)
        };
        let quiet = connect("192.0.2.1:4000")?;
        quiet.expect_echo(&[1; 20_000])?;
        let loud = [connect("192.0.2.2:4000")?, connect("192.0.2.2:4001")?];
        // Until it is seen: there has to be something in the very second.
        wait_for(|| {
            let top = top(&["--admin", &addr, "--once"])
                .stdout(Stdio::piped())
                .spawn()?;
            let over = AtomicBool::new(false);
            let output = thread::scope(|scope| {
                let talk = scope.spawn(|| -> Result<(), String> {
                    while !over.load(Ordering::Relaxed) {
                        for connection in &loud {
                            let said = connection.expect_echo(b"ping");
                            said.map_err(|error| format!("{error:?}"))?;
                        }
                        thread::sleep(Duration::from_millis(10));
                    }
                    Ok(())
                });
                let output = top.wait_with_output();
                over.store(true, Ordering::Relaxed);
                talk.join().map(|said| (output, said))
            });
            let (output, said) = output.map_err(|_| "a panic")?;
            said?;
            let text = String::from_utf8(output?.stdout)?;
            // The shards may have been too busy to answer.
            let Some((_, table)) = text.split_once("\n2 clients ") else {
                return Ok(None);
            };
            let rows: Vec<_> = table.lines().skip(1).collect();
            let first: Vec<_> = rows[0].split_whitespace().collect();
            let second: Vec<_> = rows[1].split_whitespace().collect();
            assert_eq!(first[..3], ["192.0.2.2", "2", "0"], "{text}");
            assert!(first[3] != "0" && first[4] != "0", "{text}");
            assert_eq!(
                second[..6],
                ["192.0.2.1", "1", "0", "0", "0", "40.0k"],
                "{text}"
            );
            Ok(Some(()))
        })?;
        drop((quiet, loud));
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_terminal_is_refreshed_in_place() -> TestResult {
    isolated(|| {
        let proxy = proxy()?;
        let (terminal, mut screen) = Screen::of(10, 40)?;
        let addr = proxy.admin()?.addr().to_string();
        let mut process = top(&["--admin", &addr])
            .stdin(Stdio::null())
            .stdout(terminal)
            .stderr(Stdio::null())
            .spawn()?;
        let pictures = screen.read_until(|text| text.matches(HOME).count() == 3)?;
        let picture = pictures.split(HOME).nth(1).unwrap_or_default();
        assert!(picture.contains("all"), "{picture:?}");
        let lines: Vec<_> = picture.split("\x1b[K\r\n").collect();
        assert!(lines.len() <= 10, "{picture:?}");
        assert!(
            lines.iter().all(|line| line.chars().count() <= 40),
            "{picture:?}"
        );

        // It says so if the proxy is gone, and waits for it to come back.
        proxy.stop()?.expect_success()?;
        screen.read_until(|text| text.contains("no answer from 127.0.0.1:"))?;
        assert!(process.try_wait()?.is_none());
        process.kill()?;
        process.wait()?;
        Ok(())
    })
}

#[test]
fn keys_end_it_and_the_terminal_is_as_before() -> TestResult {
    isolated(|| {
        let proxy = proxy()?;
        let addr = proxy.admin()?.addr().to_string();
        for (keys, status) in [("xq", 0), ("\x03", 130)] {
            let (terminal, mut screen) = Screen::of(10, 40)?;
            let modes = || Ok::<_, Errno>(tcgetattr(&terminal)?.local_modes);
            let before = modes()?;
            let mut process = top(&["--admin", &addr])
                .stdin(terminal.try_clone()?)
                .stdout(terminal.try_clone()?)
                .spawn()?;
            screen.read_until(|text| text.contains(HOME))?;
            let meanwhile = modes()?;
            assert!(!meanwhile.intersects(LocalModes::ICANON | LocalModes::ECHO));
            // Ctrl-Z suspends it still.
            assert!(meanwhile.contains(LocalModes::ISIG));
            screen.press(keys)?;
            assert_eq!(process.wait()?.code(), Some(status), "{keys:?}");
            assert_eq!(modes()?, before);
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn without_a_proxy_there_is_one_line() -> TestResult {
    isolated(|| {
        let nobody = TcpServer::bind("127.0.0.1")?.addr()?.to_string();
        let stranger = TcpServer::bind("127.0.0.1")?;
        let elsewhere = stranger.addr()?.to_string();
        thread::spawn(move || -> TestResult {
            let visitor = stranger.accept()?;
            visitor.expect(b"GET /status HTTP/1.1\r\n")?;
            visitor.send(b"HTTP/1.1 200 OK\r\n\r\n{\"version\":\"1\"}")?;
            visitor.finish()?;
            // The rest of the request: left unread, it would make a reset of the end.
            visitor.stream().read_to_end(&mut Vec::new())?;
            Ok(())
        });
        for (args, wanted) in [
            (
                &["--admin", &nobody][..],
                format!("glommproxy: top: no answer from {nobody}: "),
            ),
            (
                &["--admin", &elsewhere],
                format!("glommproxy: top: what answers at {elsewhere} is no glommproxy"),
            ),
            (
                &[],
                "glommproxy: top: no answer from 127.0.0.1:9101: ".to_owned(),
            ),
            (
                &["--admin", "9101"],
                "glommproxy: --admin \"9101\" has no address before the port".to_owned(),
            ),
        ] {
            let output = top(args).output()?;
            let stderr = String::from_utf8(output.stderr)?;
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(output.stdout.is_empty());
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(stderr.starts_with(&wanted), "{stderr}");
        }
        Ok(())
    })
}
