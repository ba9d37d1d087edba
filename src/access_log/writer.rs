//! The thread that writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use tracing::{info, warn};

use super::{AccessLog, Destination, Entry, Message};
use crate::config::LogFormat;

/// Bytes that are written at once, if so many have come.
const BATCH: usize = 64 << 10;

/// How often lost lines are worth a line of the log.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Who may read the file if it is made: it names clients.
const MODE: u32 = 0o640;

pub(super) struct Writer {
    destination: Destination,
    format: LogFormat,
    log: AccessLog,
    output: Output,
    /// Whole lines, and how many.
    batch: String,
    lines: u64,
    /// The last batch was cut off in the middle of a line, perhaps.
    is_torn: bool,
    reported: Option<(u64, Instant)>,
}

enum Output {
    Stdout,
    File(File),
}

// === impl Writer ===

impl Writer {
    pub(super) fn open(
        destination: Destination,
        format: LogFormat,
        log: AccessLog,
    ) -> io::Result<Self> {
        let output = Output::open(&destination)?;
        Ok(Self {
            destination,
            format,
            log,
            output,
            batch: String::new(),
            lines: 0,
            is_torn: false,
            reported: None,
        })
    }

    /// Writes what comes until the process ends.
    pub(super) fn run(mut self, entries: &Receiver<Message>) {
        loop {
            let message = match entries.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Disconnected) => return self.flush(),
                Err(TryRecvError::Empty) => {
                    self.flush();
                    self.report();
                    if self.log.0.end.load(Ordering::Acquire) {
                        return;
                    }
                    match entries.recv() {
                        Ok(message) => message,
                        Err(_) => return,
                    }
                }
            };
            if self.log.0.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            if let Message::Ended(entry) = message {
                self.add(&entry);
            }
        }
    }

    fn add(&mut self, entry: &Entry) {
        // A text takes whatever is written to it.
        let _ = entry.write(self.format, &mut self.batch);
        self.lines += 1;
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Writes the lines there are. If that fails they are lost: the disk may be full for hours.
    fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        if self.is_torn {
            self.batch.insert(0, '\n');
        }
        let written = self.output.write(self.batch.as_bytes());
        self.is_torn = written.is_err();
        if written.is_err() {
            self.log.lose(self.lines);
        }
        self.batch.clear();
        self.lines = 0;
    }

    fn reopen(&mut self) {
        // What came before belongs to the old file.
        self.flush();
        let Destination::File(path) = &self.destination else {
            return;
        };
        match Output::open(&self.destination) {
            Ok(output) => {
                self.output = output;
                self.is_torn = false;
                info!(path = %path.display(), "access log reopened");
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "cannot reopen the access log: the old file goes on");
            }
        }
    }

    /// Tells of lost lines, now and then.
    fn report(&mut self) {
        let (told, at) = self.reported.unzip();
        let lost = self.log.lost() - told.unwrap_or_default();
        if lost > 0 && at.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            self.reported = Some((self.log.lost(), Instant::now()));
            warn!(
                lost,
                "lines of the access log are lost: the disk is full, or too slow"
            );
        }
    }
}

// === impl Output ===

impl Output {
    fn open(destination: &Destination) -> io::Result<Self> {
        match destination {
            Destination::Stdout => Ok(Self::Stdout),
            Destination::File(path) => open(path, true).map(Self::File),
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            // Locked, so that lines of the other log stay whole as well.
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::File(file) => file.write_all(lines),
        }
    }
}

/// Opens a file to add to, and perhaps makes it. A pipe that nobody reads is an error: waiting for a reader could last
/// for ever.
pub(super) fn open(path: &Path, makes: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(makes)
        .mode(MODE)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}
