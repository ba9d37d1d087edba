//! What happens to a file and on the way to it, as inotify(7) tells.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::shard::readiness::{Readiness, Watched};

/// Symbolic links followed to find out what to watch, as many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Room for several events: one takes 16 bytes and a name of 256 at most.
const BUFFER_LEN: usize = 4096;

/// The end of writing, not writing itself. The rest tells of permissions, and of a file that is another's now.
const FILE_EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE_SELF);

const FOLDER_EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may say something else now.
    Touched,
    /// It was made anew, and will be touched once whoever made it has written it.
    Made,
}

/// A watch over everything whose change may change what a path leads to.
pub(super) struct Watch {
    inotify: Watched<OwnedFd>,
    places: Places,
}

/// What is watched, by watch descriptor.
struct Places {
    path: PathBuf,
    /// The file itself (a bind mount shows nowhere else), until another is made in its place.
    file: Option<i32>,
    /// Why the folder of the file is not watched, though the file is.
    unwatched: Option<io::Error>,
    folders: HashMap<i32, Folder>,
}

/// A folder on the way, and the names in it that are.
struct Folder {
    path: PathBuf,
    names: Vec<OsString>,
}

// === impl Watch ===

impl Watch {
    /// Begins to watch. The file may be missing for a moment; then its folder tells when it is back.
    ///
    /// # Errors
    ///
    /// As `inotify_init1(2)` and `inotify_add_watch(2)`: the limits, above all.
    pub(super) fn new(path: &Path, readiness: &Readiness) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut places = Places {
            path: path.to_owned(),
            file: inotify::add_watch(&inotify, path, FILE_EVENTS).ok(),
            unwatched: None,
            folders: HashMap::new(),
        };
        places.add_way(&inotify)?;
        let inotify = readiness.watch(inotify)?;
        Ok(Self { inotify, places })
    }

    /// Why changes of the file's folder are not noticed.
    pub(super) fn unwatched(&self) -> Option<&io::Error> {
        self.places.unwatched.as_ref()
    }

    /// Waits until something happens, of which [`Watch::follow`] tells. May be dropped at any time.
    pub(super) async fn readable(&self) {
        self.inotify.readable().await;
    }

    /// What has become of the file, given what had when this was asked last: None if nothing did.
    pub(super) fn follow(&mut self, mut fate: Option<Fate>) -> Option<Fate> {
        // Before it is read, not after: what happens in between is another event.
        self.inotify.drained();
        let mut buffer = [MaybeUninit::uninit(); BUFFER_LEN];
        let mut events = inotify::Reader::new(&*self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => fate = self.places.fate(&event, fate),
                Err(Errno::AGAIN) => return fate,
                Err(Errno::INTR) => {}
                // It cannot be told.
                Err(_) => return Some(Fate::Touched),
            }
        }
    }
}

// === impl Places ===

impl Places {
    /// Watches the folder of the file, and that of each link on the way to it (Kubernetes swaps a link two steps away).
    fn add_way(&mut self, inotify: &OwnedFd) -> io::Result<()> {
        let mut links = vec![self.path.clone()];
        let mut seen = 0;
        while let Some(link) = links.pop() {
            seen += 1;
            if seen > LINKS_MAX {
                break;
            }
            // Every folder on the way may itself be a link.
            for ancestor in link.ancestors() {
                let Ok(target) = fs::read_link(ancestor) else {
                    continue;
                };
                let folder = parent(ancestor);
                let _ = self.add_folder(inotify, &folder, ancestor.file_name());
                links.push(folder.join(target));
            }
            self.add_nearest(inotify, &link)?;
        }
        Ok(())
    }

    /// Watches the folder of what may be missing. A folder that is missing itself shows up in the one above it.
    fn add_nearest(&mut self, inotify: &OwnedFd, path: &Path) -> io::Result<()> {
        let mut name = path.file_name().map(OsStr::to_owned);
        for folder in parent(path).ancestors() {
            match self.add_folder(inotify, named(folder), name.as_deref()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    name = folder.file_name().map(OsStr::to_owned);
                }
                // To watch a folder takes the right to read it, which its files do not.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied && self.file.is_some() =>
                {
                    self.unwatched = Some(error);
                    break;
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        Ok(())
    }

    /// Watches a folder for what happens to this name, or to any if that is none, such as `..`.
    fn add_folder(
        &mut self,
        inotify: &OwnedFd,
        path: &Path,
        name: Option<&OsStr>,
    ) -> io::Result<()> {
        let id = inotify::add_watch(inotify, path, FOLDER_EVENTS)?;
        let folder = self.folders.entry(id).or_insert_with(|| Folder {
            path: path.to_owned(),
            names: Vec::new(),
        });
        folder.names.push(name.unwrap_or_default().to_owned());
        Ok(())
    }

    fn fate(&mut self, event: &inotify::Event<'_>, before: Option<Fate>) -> Option<Fate> {
        let flags = event.events();
        if flags.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT) {
            return Some(Fate::Touched);
        }
        if self.file == Some(event.wd()) {
            // The end of a file that left its place before, or another mode for one that is being written.
            let tells_nothing = flags.contains(ReadFlags::IGNORED)
                || flags.contains(ReadFlags::ATTRIB) && before == Some(Fate::Made);
            return if tells_nothing {
                before
            } else {
                Some(Fate::Touched)
            };
        }
        let Some(folder) = self.folders.get(&event.wd()) else {
            return before;
        };
        let Some(name) = event.file_name().map(CStr::to_bytes) else {
            // The folder itself was moved or deleted.
            return Some(Fate::Touched);
        };
        let name = OsStr::from_bytes(name);
        if !folder.is_on_the_way(name) {
            return before;
        }
        if flags.contains(ReadFlags::CREATE) && will_be_written(&folder.path.join(name), &self.path)
        {
            // Whatever still happens to the old one says nothing about this one.
            self.file = None;
            return Some(Fate::Made);
        }
        Some(Fate::Touched)
    }
}

// === impl Folder ===

impl Folder {
    fn is_on_the_way(&self, name: &OsStr) -> bool {
        let mut names = self.names.iter();
        names.any(|it| it == name || it.is_empty())
    }
}

/// Whether the path leads to what was made, and whoever made it will write and close it. Not so of links, symbolic or not, and
/// of folders.
fn will_be_written(made: &Path, path: &Path) -> bool {
    match (fs::symlink_metadata(made), fs::metadata(path)) {
        (Ok(made), Ok(found)) => {
            let is_found = (made.dev(), made.ino()) == (found.dev(), found.ino());
            is_found && made.is_file() && made.nlink() == 1
        }
        _ => false,
    }
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
