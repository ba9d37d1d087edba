//! The access log (`--access-log`): a line for each connection and flow that has ended.
//!
//! A thread of its own writes it. Shards leave what they know in a queue with an end: if the disk is stuck, lines are
//! lost, and counted, rather than a shard stalled.

mod entry;
mod probe;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

pub(crate) use self::entry::Entry;
pub(crate) use self::probe::Found;
use self::writer::Writer;
use crate::config::LogFormat;
use crate::sandbox::Keep;

/// Lines that wait to be written; further ones are lost.
const ENTRIES_MAX: usize = 16_384;

/// How long the end of the process waits for the lines that are left.
const FLUSH: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output, `-`.
    Stdout,
    /// A file, which lines are added to.
    File(PathBuf),
}

/// The log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the access log {}: {error}; name a file that can be written with --access-log", path.display())]
pub struct AccessLogError {
    path: PathBuf,
    error: io::Error,
}

/// Where shards leave entries. Clones share the log.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: SyncSender<Message>,
    lost: AtomicU64,
    /// Apart from the queue, which may be full.
    reopen: AtomicBool,
    end: AtomicBool,
}

/// What is in the queue.
enum Message {
    Ended(Box<Entry>),
    /// Look whether there is something else to do.
    Wake,
}

/// The log as a whole. Dropping it writes the lines that still wait, unless the disk takes too long.
#[derive(Debug)]
pub(crate) struct AccessLogThread {
    log: AccessLog,
    done: Receiver<()>,
}

/// Whether a file could be the log, at this moment. It stays as it is, and so does its folder.
///
/// # Errors
///
/// As `open(2)`.
pub(crate) fn probe(path: &Path) -> Result<Found, AccessLogError> {
    probe::probe(path).map_err(|error| AccessLogError {
        path: path.to_owned(),
        error,
    })
}

/// Opens the log and starts its thread, which keeps these capabilities.
///
/// # Errors
///
/// As `open(2)`, and if there can be no thread.
pub(crate) fn start(
    destination: &Destination,
    format: LogFormat,
    keep: Keep,
) -> Result<AccessLogThread, AccessLogError> {
    let path = match destination {
        Destination::Stdout => PathBuf::from("-"),
        Destination::File(path) => path.clone(),
    };
    let failed = |error| AccessLogError { path, error };
    let (queue, entries) = mpsc::sync_channel(ENTRIES_MAX);
    let log = AccessLog(Arc::new(Shared {
        queue,
        lost: AtomicU64::new(0),
        reopen: AtomicBool::new(false),
        end: AtomicBool::new(false),
    }));
    let start = || {
        let writer = Writer::open(destination.clone(), format, log.clone())?;
        let (over, done) = mpsc::channel();
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                keep.apply();
                writer.run(&entries);
                // Whoever waited may have lost patience.
                let _ = over.send(());
            })?;
        Ok(done)
    };
    let done = start().map_err(failed)?;
    Ok(AccessLogThread { log, done })
}

// === impl AccessLogError ===

impl AccessLogError {
    /// What the system refused.
    pub(crate) fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

// === impl AccessLog ===

impl AccessLog {
    /// Leaves an entry, or counts it as lost. Never waits.
    pub(crate) fn note(&self, entry: Entry) {
        let message = Message::Ended(Box::new(entry));
        if self.0.queue.try_send(message).is_err() {
            self.lose(1);
        }
    }

    /// How many lines have been lost.
    pub(crate) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    fn lose(&self, lines: u64) {
        self.0.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Has the thread look around. If the queue is full, it is awake.
    fn wake(&self) {
        let _ = self.0.queue.try_send(Message::Wake);
    }
}

// === impl AccessLogThread ===

impl AccessLogThread {
    /// Where to leave entries.
    pub(crate) fn log(&self) -> &AccessLog {
        &self.log
    }

    /// Has the file opened anew, as one that was renamed is not the log any more (logrotate).
    pub(crate) fn reopen(&self) {
        self.log.0.reopen.store(true, Ordering::Release);
        self.log.wake();
    }
}

impl Drop for AccessLogThread {
    fn drop(&mut self) {
        self.log.0.end.store(true, Ordering::Release);
        self.log.wake();
        let _ = self.done.recv_timeout(FLUSH);
    }
}
