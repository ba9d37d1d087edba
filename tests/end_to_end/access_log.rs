//! The access log: a line for each connection and flow that has ended.

mod cut;
mod lines;
mod rotated;
mod stuck;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Balancer, Header, Proxy, TcpServer, wait_for};
use crate::namespace::{TestResult, isolated};

/// A file to be written, in a folder of its own.
struct LogFile {
    folder: TempDir,
    path: PathBuf,
}

// === impl LogFile ===

impl LogFile {
    fn new() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("access.log");
        Ok(Self { folder, path })
    }

    fn in_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the proxy is told.
    fn flags(&self) -> [String; 2] {
        ["--access-log".to_owned(), self.path.display().to_string()]
    }
}

/// Waits until a file has so many lines, and returns them.
#[track_caller]
fn wait_for_lines(path: &Path, count: usize) -> TestResult<Vec<String>> {
    wait_for(|| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        Ok((text.ends_with('\n') && lines.len() >= count).then_some(lines))
    })
}

#[track_caller]
fn wait_for_json(path: &Path, count: usize) -> TestResult<Vec<Value>> {
    let lines = wait_for_lines(path, count)?;
    let lines = lines.iter().map(|line| serde_json::from_str(line));
    Ok(lines.collect::<Result<_, _>>()?)
}

/// A client says something, hears it again, and leaves.
#[track_caller]
fn visit(proxy: &Proxy, client: &str) -> TestResult {
    let header = Header::v1(client, "203.0.113.1:443")?.then(b"ping");
    let connection = Balancer::default().connect(proxy, &header)?;
    connection.expect(b"ping")?;
    connection.finish()?;
    connection.expect_end()
}

#[test]
fn a_file_that_cannot_be_opened_ends_the_start() -> TestResult {
    isolated(|| {
        let file = LogFile::new()?;
        let missing = file.in_folder("missing/access.log").display().to_string();
        let exit = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--access-log", &missing])
            .start_in_vain()?;
        let refused = format!("cannot open the access log {missing}: ");
        exit.expect_failure(&[&refused, "with --access-log"])
    })
}
