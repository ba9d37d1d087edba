//! The DNS as the proxy sees it.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use crate::namespace::TestResult;

/// Types of resource records (RFC 1035, RFC 3596).
const A: u16 = 1;
const AAAA: u16 = 28;

/// Mounts what the resolver reads over what this machine has, and executes what follows.
const MOUNT: &str = "for file in hosts nsswitch.conf resolv.conf; do \
                     test ! -e /etc/$file || mount --bind \"$0/$file\" /etc/$file || exit; done; \
                     test ! -d /run/nscd || mount -t tmpfs none /run/nscd || exit; exec \"$@\"";

/// A DNS server at 127.0.0.1, and the files that lead a program's resolver to it.
pub(crate) struct NameServer {
    names: Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>,
    folder: TempDir,
    /// Keeps the port when nobody answers there.
    _silent: Option<UdpSocket>,
}

// === impl NameServer ===

impl NameServer {
    /// One that knows no name yet.
    #[track_caller]
    pub(crate) fn start() -> TestResult<Self> {
        let names = Arc::default();
        let socket = UdpSocket::bind("127.0.0.1:53")?;
        let known = Arc::clone(&names);
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                if let Some(answer) = answer(&query[..length], &known) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self::new(names, None)
    }

    /// One that lets everybody wait, for longer than the proxy does.
    #[track_caller]
    pub(crate) fn silent() -> TestResult<Self> {
        Self::new(Arc::default(), Some(UdpSocket::bind("127.0.0.1:53")?))
    }

    fn new(
        names: Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>,
        silent: Option<UdpSocket>,
    ) -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        write("hosts", "")?;
        write("nsswitch.conf", "hosts: files dns\n")?;
        write(
            "resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n",
        )?;
        Ok(Self {
            names,
            folder,
            _silent: silent,
        })
    }

    /// Gives a name these addresses, in this order, and no others.
    #[track_caller]
    pub(crate) fn set(&self, name: &str, ips: &[&str]) -> TestResult {
        let ips = ips
            .iter()
            .map(|ip| ip.parse())
            .collect::<Result<Vec<IpAddr>, _>>()?;
        let mut names = self.names.lock().map_err(|error| error.to_string())?;
        names.insert(name.to_owned(), ips);
        Ok(())
    }

    /// Says the same in `/etc/hosts`, which goes first.
    #[track_caller]
    pub(crate) fn write_hosts(&self, text: &str) -> TestResult {
        Ok(std::fs::write(self.folder.path().join("hosts"), text)?)
    }

    /// What a program is to be run under to use it.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let folder = self.folder.path().to_string_lossy().into_owned();
        ["unshare", "--mount", "sh", "-c", MOUNT]
            .map(str::to_owned)
            .into_iter()
            .chain([folder])
            .collect()
    }
}

/// The answer to a query with one question (RFC 1035, section 4.1).
fn answer(query: &[u8], names: &Mutex<BTreeMap<String, Vec<IpAddr>>>) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).into_owned());
        at += length;
    }
    let question = query.get(12..at + 4)?;
    let kind = u16::from_be_bytes([query[at], query[at + 1]]);
    let names = names.lock().ok()?;
    let ips = names.get(&labels.join("."));
    let records: Vec<Vec<u8>> = ips
        .into_iter()
        .flatten()
        .filter_map(|ip| match (ip, kind) {
            (IpAddr::V4(ip), A) => Some(ip.octets().to_vec()),
            (IpAddr::V6(ip), AAAA) => Some(ip.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut answer = query[..2].to_vec();
    // An answer, recursion available; 3 is "no such name".
    answer.extend([0x81, if ips.is_some() { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::try_from(records.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(question);
    for record in records {
        // The name of the question, the class Internet, a minute to live.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(record.len()).ok()?]);
        answer.extend(record);
    }
    Some(answer)
}
