//! A subnet list in a file: loading it, and noticing that it changed.

mod reading;
mod watch;

use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_lite::future::or;
use glommio::timer::Timer;
use rustix::io::Errno;

use self::reading::{read, read_again};
use self::watch::{Fate, Watch};
use super::pace::Pace;

use crate::metrics::ListMetrics;
use crate::shard::readiness::Readiness;
use crate::subnets::{SubnetError, SubnetSet};

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
    watch: Option<Watch>,
    /// What has become of the file since it was read.
    fate: Option<Fate>,
    /// When to try again what failed for lack of descriptors or watches.
    retry_at: Option<Instant>,
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
            fate: None,
            retry_at: None,
            text: String::new(),
            complaint: None,
            pace: Pace::default(),
            metrics: Arc::default(),
        };
        // Watched before it is read, so that no change is missed in between.
        file.watch_again();
        file.warn_of_folder();
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

    /// Waits until the file may have changed. May be dropped and called again at any time.
    pub(super) async fn changed(&mut self) {
        loop {
            while self.fate != Some(Fate::Touched) {
                self.stir().await;
            }
            Timer::new(SETTLE.max(self.pace.rest())).await;
            // Links may lead elsewhere now.
            self.watch_again();
            // Meanwhile somebody may have begun to write another.
            if self.fate == Some(Fate::Touched) {
                self.fate = None;
                return;
            }
        }
    }

    /// Waits until something happens near the file, or it is time to try again.
    async fn stir(&mut self) {
        let event = async {
            match &self.watch {
                Some(watch) => watch.readable().await,
                None => pending().await,
            }
        };
        let retry = async {
            match self.retry_at {
                Some(at) => {
                    Timer::new(at.saturating_duration_since(Instant::now())).await;
                }
                None => pending().await,
            }
        };
        or(event, retry).await;
        self.follow();
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry();
        }
    }

    fn retry(&mut self) {
        self.retry_at = None;
        if self.watch.is_none() {
            // A failure has been told.
            self.watch = Watch::new(&self.path, &self.readiness).ok();
            if self.watch.is_none() {
                self.retry_later();
                return;
            }
        } else if self.fate == Some(Fate::Made) {
            return;
        }
        self.fate = Some(Fate::Touched);
    }

    fn retry_later(&mut self) {
        self.retry_at = Some(Instant::now() + RETRY);
    }

    fn follow(&mut self) {
        if let Some(watch) = &mut self.watch {
            self.fate = watch.follow(self.fate);
        }
    }

    /// Reads the file again.
    pub(super) fn reload(&mut self) -> Reloaded {
        let began = Instant::now();
        let reloaded = self.load_again();
        self.pace.worked(began.elapsed());
        reloaded
    }

    fn load_again(&mut self) -> Reloaded {
        let was_made = self.fate == Some(Fate::Made);
        let text = read_again(&self.path);
        self.follow();
        if self.fate == Some(Fate::Made) && !was_made {
            // What was read may be the beginning only.
            return Reloaded::Unchanged;
        }
        let loaded = text.and_then(|text| {
            if text == self.text {
                return Ok(None);
            }
            let list = parse(&self.path, &text)?;
            self.text = text;
            Ok(Some(list))
        });
        match loaded {
            Ok(list) => {
                self.complaint = None;
                let entries = list.as_ref().map(SubnetSet::len);
                self.metrics.read(entries, SystemTime::now());
                self.metrics.reloads.increment();
                list.map_or(Reloaded::Unchanged, Reloaded::Changed)
            }
            Err(error) => {
                if error.is_out_of_descriptors() {
                    self.retry_later();
                }
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
        self.warn_of_folder();
    }

    fn watch_again(&mut self) {
        let watch = Watch::new(&self.path, &self.readiness);
        // What the old one has seen until the new one saw everything.
        self.follow();
        match watch {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => {
                tracing::warn!(
                    path = %self.path.display(), %error,
                    "cannot watch the file for changes, until that can be had: send SIGHUP after changing it"
                );
                self.watch = None;
                self.retry_later();
            }
        }
    }

    fn warn_of_folder(&self) {
        if let Some(error) = self.watch.as_ref().and_then(Watch::unwatched) {
            tracing::warn!(
                path = %self.path.display(), %error,
                "cannot watch the file's folder for changes, only the file: write it in place, or send SIGHUP after \
                 replacing it"
            );
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<SubnetSet, ListError> {
    SubnetSet::parse(text).map_err(|error| ListError::Parse {
        path: path.to_owned(),
        error,
    })
}
