//! A subnet list in a file: loading it, and noticing that it changed.

mod reading;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_lite::future::or;
use glommio::timer::Timer;
use inotify::{Inotify, WatchMask};
use rustix::io::Errno;

use self::reading::{read, read_again};
use super::pace::Pace;

use crate::metrics::ListMetrics;
use crate::shard::readiness::{Readiness, Watched};
use crate::subnets::{SubnetError, SubnetSet};

/// Symbolic links followed to find out what to watch, as many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Writers often touch a file several times; it is read once they have been quiet for so long.
const SETTLE: Duration = Duration::from_millis(50);

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("{}: cannot read it: {error}{}", path.display(), hint(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// A line is no prefix.
    #[error("{}:{}: {error}", path.display(), .error.line())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong with it.
        error: SubnetError,
    },
}

/// For a path that is none.
fn hint(path: &Path) -> &'static str {
    match path.to_str().map(SubnetSet::parse) {
        Some(Ok(subnets)) if !subnets.is_empty() => {
            " (this flag takes a file with such subnets, one a line)"
        }
        _ => "",
    }
}

impl ListError {
    /// Whether the file may be as good as before.
    fn is_out_of_descriptors(&self) -> bool {
        let Self::Read { error, .. } = self else {
            return false;
        };
        matches!(
            Errno::from_io_error(error),
            Some(Errno::MFILE | Errno::NFILE)
        )
    }
}

/// Loads a list once, without watching its file.
pub(crate) fn load(path: &Path) -> Result<SubnetSet, ListError> {
    parse(path, &read(path)?)
}

/// How often what failed for lack of descriptors or watches is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A list file that is watched for changes.
pub(super) struct ListFile {
    path: PathBuf,
    readiness: Readiness,
    /// None while the kernel has no more watches: then only SIGHUP reloads.
    watch: Option<Watched<Inotify>>,
    /// Whether there was no descriptor to read it with: then it is tried again.
    is_starved: bool,
    /// What was read last, to tell whether anything changed.
    text: String,
    /// The complaint about the file as it is now, to make it only once.
    complaint: Option<String>,
    pace: Pace,
    metrics: Arc<ListMetrics>,
}

/// What a look at the file came to.
pub(super) enum Reloaded {
    /// It says what it said before.
    Unchanged,
    /// It says something else.
    Changed(SubnetSet),
    /// It cannot be used, which has not been said yet.
    Failed(ListError),
}

// === impl ListFile ===

impl ListFile {
    /// Loads the list and begins to watch the file.
    pub(super) fn open(path: &Path, readiness: &Readiness) -> Result<(Self, SubnetSet), ListError> {
        let mut file = Self {
            path: path.to_owned(),
            readiness: readiness.clone(),
            watch: None,
            is_starved: false,
            text: String::new(),
            complaint: None,
            pace: Pace::default(),
            metrics: Arc::default(),
        };
        // Watched before it is read, so that no change is missed in between.
        file.watch_again();
        file.text = read(path)?;
        let list = parse(path, &file.text)?;
        file.metrics.read(Some(list.len()), SystemTime::now());
        Ok((file, list))
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is known of it.
    pub(super) fn metrics(&self) -> &Arc<ListMetrics> {
        &self.metrics
    }

    /// Waits until the file may have changed.
    pub(super) async fn changed(&mut self) {
        match &self.watch {
            Some(watch) if self.is_starved => {
                or(watch.readable(), async {
                    Timer::new(RETRY).await;
                })
                .await;
            }
            Some(watch) => watch.readable().await,
            None => {
                Timer::new(RETRY).await;
                while watch(&self.path).is_err() {
                    Timer::new(RETRY).await;
                }
            }
        }
        Timer::new(SETTLE.max(self.pace.rest())).await;
        // A new watch, not only because links may lead elsewhere now: it also empties the old one's queue.
        self.watch_again();
    }

    /// Reads the file again.
    pub(super) fn reload(&mut self) -> Reloaded {
        let began = Instant::now();
        let reloaded = self.load_again();
        self.pace.worked(began.elapsed());
        reloaded
    }

    fn load_again(&mut self) -> Reloaded {
        let loaded = read_again(&self.path).and_then(|text| {
            if text == self.text {
                return Ok(None);
            }
            let list = parse(&self.path, &text)?;
            self.text = text;
            Ok(Some(list))
        });
        match loaded {
            Ok(list) => {
                self.is_starved = false;
                self.complaint = None;
                let entries = list.as_ref().map(SubnetSet::len);
                self.metrics.read(entries, SystemTime::now());
                self.metrics.reloads.increment();
                list.map_or(Reloaded::Unchanged, Reloaded::Changed)
            }
            Err(error) => {
                self.is_starved = error.is_out_of_descriptors();
                self.metrics.failed();
                let complaint = Some(error.to_string());
                if self.complaint == complaint {
                    return Reloaded::Unchanged;
                }
                self.complaint = complaint;
                Reloaded::Failed(error)
            }
        }
    }

    /// Prepares for a reload that somebody asked for: complaints are made again, and a lost watch is set up again.
    pub(super) fn look_again(&mut self) {
        self.complaint = None;
        self.watch_again();
    }

    fn watch_again(&mut self) {
        let watch = watch(&self.path).and_then(|inotify| self.readiness.watch(inotify));
        match watch {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => {
                tracing::warn!(
                    path = %self.path.display(), %error,
                    "cannot watch the file for changes, until that can be had: send SIGHUP after changing it"
                );
                self.watch = None;
            }
        }
    }
}

/// Watches everything whose change may change what the path leads to: the file itself (a bind mount shows nowhere else),
/// and the folder of each link on the way to it (Kubernetes swaps a link two steps away).
fn watch(path: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init()?;
    let mut watches = inotify.watches();
    // Not while it is being written: at its end. A half-written list could lock everybody out.
    // The file may be missing for a moment; then its folder tells when it is back.
    let _ = watches.add(
        path,
        WatchMask::CLOSE_WRITE | WatchMask::ATTRIB | WatchMask::MOVE_SELF,
    );
    let folder_mask = WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::MOVE_SELF
        | WatchMask::DELETE_SELF
        | WatchMask::ONLYDIR;
    let mut links = vec![path.to_owned()];
    let mut seen = 0;
    while let Some(link) = links.pop() {
        seen += 1;
        if seen > LINKS_MAX {
            break;
        }
        // Every folder on the way may itself be a link.
        for ancestor in link.ancestors() {
            let Ok(target) = std::fs::read_link(ancestor) else {
                continue;
            };
            let folder = parent(ancestor);
            let _ = watches.add(&folder, folder_mask);
            links.push(folder.join(target));
        }
        // A folder that is missing shows up in the one above it.
        for folder in parent(&link).ancestors() {
            match watches.add(named(folder), folder_mask) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
    }
    Ok(inotify)
}

/// What is above the first folder of a relative path has an empty name.
fn named(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => PathBuf::from("/"),
    }
}

fn parse(path: &Path, text: &str) -> Result<SubnetSet, ListError> {
    SubnetSet::parse(text).map_err(|error| ListError::Parse {
        path: path.to_owned(),
        error,
    })
}
