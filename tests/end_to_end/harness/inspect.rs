//! What the kernel knows of the proxy.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;
use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getrlimit, pidfd_getfd, pidfd_open, setrlimit,
};
use socket2::Socket;

use super::{Connection, PATIENCE, Proxy};
use crate::namespace::TestResult;

// === impl Proxy ===

impl Proxy {
    /// A duplicate of the proxy's socket at the other end of a connection, as soon as there is one. The connection
    /// stays open until the duplicate is dropped.
    #[track_caller]
    pub(crate) fn socket_to(&self, end: &Connection) -> TestResult<Socket> {
        let addrs = (end.peer()?, end.local()?);
        wait_for(|| {
            let sockets = self.sockets()?;
            Ok(sockets.into_iter().find(|it| ends(it) == Some(addrs)))
        })
    }

    /// How many sockets the proxy has open, of any kind. (Other descriptors come and go by themselves: a shard that sleeps
    /// has one more.)
    pub(crate) fn socket_count(&self) -> TestResult<usize> {
        let all = self.descriptors()?;
        Ok(all
            .iter()
            .filter(|(_, it)| it.starts_with("socket:"))
            .count())
    }

    /// How many pipes the proxy has open, by their ends.
    pub(crate) fn pipe_ends(&self) -> TestResult<usize> {
        let ends = self.descriptors()?;
        Ok(ends
            .iter()
            .filter(|(_, it)| it.starts_with("pipe:"))
            .count())
    }

    /// Waits until the proxy has no more sockets than it had before.
    #[track_caller]
    pub(crate) fn wait_for_sockets(&self, before: usize) -> TestResult {
        let mut last = 0;
        let gone = wait_for(|| {
            last = self.socket_count()?;
            Ok((last <= before).then_some(()))
        });
        gone.map_err(|_| format!("{last} sockets are open, {before} were before").into())
    }

    /// What the proxy has open, without numbers, and without its readiness sets: of each it has a duplicate while it sleeps.
    pub(crate) fn open_files(&self) -> TestResult<Vec<String>> {
        let descriptors = self.descriptors()?.into_iter();
        let mut files: Vec<_> = descriptors
            .filter(|(_, target)| target != "anon_inode:[eventpoll]")
            .map(|(_, target)| target.split(":[").next().unwrap_or_default().to_owned())
            .collect();
        files.sort();
        Ok(files)
    }

    /// Waits until the proxy has no more open than this.
    #[track_caller]
    pub(crate) fn wait_for_open_files(&self, before: &[String]) -> TestResult {
        let mut last = Vec::new();
        let gone = wait_for(|| {
            last = self.open_files()?;
            Ok((last.len() <= before.len()).then_some(()))
        });
        gone.map_err(|_| format!("before it had {before:?}, and now {last:?}").into())
    }

    /// The memory of the proxy that is resident, in bytes (proc_pid_status(5), VmRSS).
    pub(crate) fn resident(&self) -> TestResult<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero()))?;
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? << 10)
    }

    /// Its sockets to servers and peers, of any kind.
    fn sockets(&self) -> TestResult<Vec<Socket>> {
        let process = pidfd_open(self.pid(), PidfdFlags::empty())?;
        let descriptors = self.descriptors()?.into_iter();
        let sockets = descriptors.filter(|(_, target)| target.starts_with("socket:"));
        // One that is closed meanwhile is not there.
        let copies =
            sockets.flat_map(|(fd, _)| pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()));
        Ok(copies.map(Socket::from).collect())
    }

    fn descriptors(&self) -> TestResult<Vec<(RawFd, String)>> {
        let mut descriptors = Vec::new();
        let folder = format!("/proc/{}/fd", self.pid().as_raw_nonzero());
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let fd = entry.file_name().to_string_lossy().parse()?;
            descriptors.push((fd, target.to_string_lossy().into_owned()));
        }
        Ok(descriptors)
    }
}

/// How many bytes have come to a socket that nobody has read.
pub(crate) fn unread(socket: &Socket) -> TestResult<u64> {
    Ok(ioctl_fionread(socket)?)
}

/// Lets the test itself have so many files open, if it may.
pub(crate) fn raise_descriptor_limit(wanted: u64) -> TestResult {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    let current = current.map(|current| current.max(wanted));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

/// Waits for something that the kernel tells of only when asked.
#[track_caller]
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> TestResult<Option<T>>) -> TestResult<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err("what is waited for does not come".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The addresses of a socket and of its peer; v4-mapped ones, which dual-stack listeners see, are unmapped.
fn ends(socket: &Socket) -> Option<(SocketAddr, SocketAddr)> {
    let unmapped = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let local = socket.local_addr().ok()?.as_socket()?;
    let peer = socket.peer_addr().ok()?.as_socket()?;
    Some((unmapped(local), unmapped(peer)))
}
