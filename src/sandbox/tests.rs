//! What nobody can do in a process that has closed its sandbox, and what it still can. Each test runs once more in a
//! process of its own, which can then do no more than the proxy.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use glommio::io::BufferedFile;
use glommio::{GlommioError, LocalExecutorBuilder};
use nix::sys::ptrace;
use nix::unistd::Pid;
use rustix::process::{Signal, getppid, kill_process};
use socket2::{Domain, Protocol, Socket, Type};

use super::*;
use crate::config::{self, Startup};
use crate::sys::uring;

/// The variable that tells such a process which folder is its own.
const FOLDER: &str = "GLOMMPROXY_SANDBOX_FOLDER";

/// A file that everybody may read, and that no proxy has to.
const FOREIGN: &str = "/etc/passwd";

/// Runs the body in a process of its own, with a folder that has a list in it.
fn in_its_own_process(test: &str, body: impl FnOnce(&Path)) {
    if let Some(folder) = env::var_os(FOLDER) {
        return body(&PathBuf::from(folder));
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("list"), "192.0.2.0/24\n").expect("a file");
    let output = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", &format!("sandbox::tests::{test}"), "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    // A program that was executed in its place says something else.
    let is_good = output.status.success() && said.contains("1 passed");
    assert!(is_good, "{}: {said}\n{errors}", output.status);
}

fn config(words: &[&str]) -> Config {
    match config::load(words.iter().map(Into::into), |_| None) {
        Ok(Startup::Run(config)) => *config,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused<T>(result: io::Result<T>, errno: i32) {
    let errno_found = result.err().map(|error| error.raw_os_error());
    assert_eq!(errno_found, Some(Some(errno)));
}

#[test]
fn system_calls_that_are_not_needed_are_gone() {
    in_its_own_process("system_calls_that_are_not_needed_are_gone", |_| {
        let sandbox = Sandbox::enter(&config(&[]));
        let (go, wait) = mpsc::channel::<()>();
        // A thread that was there before is confined as well.
        let before = thread::spawn(move || {
            let _ = wait.recv();
            uring::probe()
        });
        let status = sandbox.close().expect("a sandbox");
        assert!(status.is_filtered);
        drop(go);

        refused(before.join().expect("a thread"), libc::ENOSYS);
        refused(Err::<(), _>(Command::new("/bin/true").exec()), libc::ENOSYS);
        refused(Command::new("/bin/true").status(), libc::ENOSYS);
        let parent = Pid::from_raw(parent_id().cast_signed());
        assert_eq!(ptrace::attach(parent), Err(nix::Error::ENOSYS));
        let parent = getppid().expect("a parent");
        let signalled = kill_process(parent, Signal::CONT).map_err(io::Error::from);
        refused(signalled, libc::ENOSYS);
    });
}

#[test]
fn raw_sockets_and_new_rings_are_gone_and_others_work() {
    in_its_own_process("raw_sockets_and_new_rings_are_gone_and_others_work", |_| {
        Sandbox::enter(&config(&[])).close().expect("a sandbox");
        refused(uring::probe(), libc::ENOSYS);
        for (domain, kind, protocol) in [
            (Domain::PACKET, Type::RAW, None),
            (Domain::PACKET, Type::DGRAM, None),
            (Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)),
            (Domain::IPV6, Type::RAW, Some(Protocol::UDP)),
            (Domain::VSOCK, Type::STREAM, None),
        ] {
            refused(Socket::new(domain, kind, protocol), libc::ENOSYS);
        }
        for kind in [Type::STREAM, Type::DGRAM.nonblocking()] {
            Socket::new(Domain::UNIX, kind, None).expect("a socket");
            Socket::new(Domain::IPV4, kind, None).expect("a socket");
        }
    });
}

#[test]
fn what_the_proxy_does_still_works() {
    in_its_own_process("what_the_proxy_does_still_works", |folder| {
        let list = folder.join("list");
        let list = list.to_str().expect("a path");
        let words = ["-4", "game.invalid:1", "-a", list];
        let sandbox = Sandbox::enter(&config(&words));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        sandbox.close().expect("a sandbox");

        // Threads, connections, names, lists.
        let addr = listener.local_addr().expect("an address");
        let client = thread::spawn(move || TcpStream::connect(addr)?.write_all(b"hello"));
        let mut received = String::new();
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.read_to_string(&mut received).expect("bytes");
        client.join().expect("a thread").expect("a connection");
        assert_eq!(received, "hello");
        assert!(("localhost", 1).to_socket_addrs().expect("addresses").len() > 0);
        assert_eq!(
            fs::read_to_string(list).expect("the list"),
            "192.0.2.0/24\n"
        );
        assert!(fs::read_dir("/proc/self/fd").expect("a folder").count() > 3);
    });
}

/// A ring is no way around Landlock.
#[test]
fn files_that_are_not_needed_cannot_be_opened_by_call_or_by_ring() {
    in_its_own_process(
        "files_that_are_not_needed_cannot_be_opened_by_call_or_by_ring",
        |folder| {
            let list = folder.join("list");
            let sandbox = Sandbox::enter(&config(&["-a", list.to_str().expect("a path")]));
            let executor = LocalExecutorBuilder::default().make().expect("an executor");
            let status = sandbox.close().expect("a sandbox");
            if status.landlock_abi.is_none() {
                assert!(
                    env::var_os("CI").is_none_or(|ci| ci != "true"),
                    "no Landlock"
                );
                let _ = io::stderr().write_all(b"NOT TESTED: this kernel has no Landlock\n");
                return;
            }
            refused(File::open(FOREIGN), libc::EACCES);
            refused(fs::read("/proc/1/environ"), libc::EACCES);
            refused(File::create(folder.join("new")), libc::EACCES);
            refused(fs::remove_file(&list), libc::ENOSYS);
            File::open(&list).expect("the list");

            let open = |path: &Path| executor.run(BufferedFile::open(path)).map(|_| ());
            open(&list).expect("the list");
            let Err(GlommioError::EnhancedIoError { source, .. }) = open(Path::new(FOREIGN)) else {
                panic!("it can be opened");
            };
            assert_eq!(source.raw_os_error(), Some(libc::EACCES));
        },
    );
}
