//! A program in the foreground, with a folder of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::PATIENCE;
use crate::namespace::TestResult;
use crate::tool::Tool;

/// Between two looks at something that a program does not announce.
const PAUSE: Duration = Duration::from_millis(2);

/// What a program is told, and where it may write.
pub(super) struct Workplace(TempDir);

/// A program that runs. It is killed when dropped, and what it wrote goes to standard error, where it is seen if the
/// test fails.
pub(super) struct Process {
    process: Child,
    name: String,
    workplace: Workplace,
}

// === impl Workplace ===

impl Workplace {
    pub(super) fn new() -> TestResult<Self> {
        Ok(Self(TempDir::new()?))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Writes the program's configuration and returns where it is.
    pub(super) fn configure(&self, text: &str) -> TestResult<PathBuf> {
        let path = self.path("config");
        fs::write(&path, text)?;
        Ok(path)
    }
}

// === impl Process ===

impl Process {
    /// Starts a program. Its output goes to a file.
    pub(super) fn start(
        tool: Tool,
        workplace: Workplace,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> TestResult<Self> {
        let program = tool.installed()?;
        let log = File::create(workplace.path("log"))?;
        let process = Command::new(&program)
            .args(args)
            .current_dir(workplace.folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self {
            process,
            name: program.display().to_string(),
            workplace,
        })
    }

    /// Waits until there is something to be found.
    #[track_caller]
    pub(super) fn wait_for<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&Workplace) -> Option<T>,
    ) -> TestResult<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find(&self.workplace) {
                return Ok(found);
            }
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("{} ended ({status}): no {what}", self.name).into());
            }
            if Instant::now() > deadline {
                return Err(format!("{}: no {what} within {PATIENCE:?}", self.name).into());
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if it has ended, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = fs::read(self.workplace.path("log")).unwrap_or_default();
        eprintln!("{} says:\n{}", self.name, String::from_utf8_lossy(&log));
    }
}
