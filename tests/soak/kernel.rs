//! What the kernel knows of the tests' own sockets, and of the proxy.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;

use rustix::fs::fstat;

use crate::harness::Proxy;
use crate::namespace::TestResult;

/// How many datagrams a UDP socket had no room for (/proc/net/udp, its last column).
pub(crate) fn drops(socket: impl AsFd) -> TestResult<u64> {
    let inode = fstat(socket)?.st_ino.to_string();
    for file in ["/proc/net/udp", "/proc/net/udp6"] {
        let table = fs::read_to_string(file)?;
        let lines = table.lines().map(|line| line.split_whitespace());
        let mut rows = lines.map(|line| line.collect::<Vec<_>>());
        if let Some(row) = rows.find(|row| row.get(9) == Some(&inode.as_str())) {
            return Ok(row.last().ok_or("no drops")?.parse()?);
        }
    }
    Err("the kernel does not know the socket".into())
}

/// What the proxy has open, by kind, but for pipes, of which it keeps some, and what it waits with, of which it has more while
/// it sleeps.
pub(crate) fn open_files(proxy: &Proxy) -> TestResult<BTreeMap<String, usize>> {
    let folder = format!("/proc/{}/fd", proxy.pid().as_raw_pid());
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        // One that is closed meanwhile is not there.
        let target = fs::read_link(entry?.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        let kind = target.split(":[").next().unwrap_or_default();
        if kind != "pipe" && !target.ends_with("[eventpoll]") {
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    Ok(kinds)
}
