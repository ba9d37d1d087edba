//! Who may speak for clients, which clients are turned away, and how that changes while the proxy runs.

mod denied;
pub(crate) mod failing;
mod half_written;
mod in_force;
mod reloaded;
mod shards;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use crate::harness::{Balancer, Header, PATIENCE, Proxy, TcpServer};
use crate::namespace::TestResult;

/// A list that the balancers of these tests, which are all on loopback, are in …
const WITH_US: &str = "127.0.0.0/8\n::1\n";
/// … and one without them.
const WITHOUT_US: &str = "192.0.2.0/24\n";

/// A list file in a folder of its own.
struct ListFile {
    folder: TempDir,
    path: PathBuf,
}

// === impl ListFile ===

impl ListFile {
    fn new(content: impl AsRef<[u8]>) -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("list");
        fs::write(&path, content)?;
        Ok(Self { folder, path })
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, content: impl AsRef<[u8]>) -> TestResult {
        Ok(fs::write(&self.path, content)?)
    }

    /// Puts a new file in the place of the old one.
    fn replace(&self, content: impl AsRef<[u8]>) -> TestResult {
        let new = self.folder().join("new");
        fs::write(&new, content)?;
        Ok(fs::rename(new, &self.path)?)
    }
}

/// A proxy with this list in front of a server that echoes.
fn proxy_with(list: &Path) -> TestResult<Proxy> {
    let server = TcpServer::echo("127.0.0.1")?;
    Proxy::tcp(server)
        .args(["--listeners", "1", "--allowed-subnets"])
        .args([list])
        .start()
}

/// Whether the proxy serves a balancer on this host.
fn is_allowed(proxy: &Proxy) -> TestResult<bool> {
    let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?.then(b"ping");
    let connection = match Balancer::default().connect(proxy, &header) {
        Ok(connection) => connection,
        // Closed before the header was sent.
        Err(_) => return Ok(false),
    };
    if connection.expect(b"ping").is_ok() {
        return Ok(true);
    }
    connection.expect_over()?;
    Ok(false)
}

#[track_caller]
fn expect_allowed(proxy: &Proxy, allowed: bool) -> TestResult {
    if is_allowed(proxy)? != allowed {
        let what = if allowed { "not allowed" } else { "allowed" };
        return Err(format!("the balancer is {what}").into());
    }
    Ok(())
}

/// Waits until a new list is in force: the shards learn of it a moment before or after it is logged.
#[track_caller]
fn wait_allowed(proxy: &Proxy, allowed: bool) -> TestResult {
    let deadline = Instant::now() + PATIENCE;
    while is_allowed(proxy)? != allowed {
        if Instant::now() > deadline {
            return expect_allowed(proxy, allowed);
        }
    }
    Ok(())
}
