//! Whether the log could be opened, found out without making it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::writer;

/// Symbolic links followed, as many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file, or a device.
    File,
    /// Nothing yet: the file can be made.
    Nothing,
    /// A pipe, which may have no reader.
    Pipe,
}

/// Whether the log could be opened there.
pub(super) fn probe(path: &Path) -> io::Result<Found> {
    match fs::metadata(path) {
        // If it were opened, whoever reads it would soon see its end.
        Ok(it) if it.file_type().is_fifo() => {
            may(path, Access::WRITE_OK)?;
            Ok(Found::Pipe)
        }
        Ok(_) => writer::open(path, false).map(|_| Found::File),
        // open(2) makes no folders.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if path.as_os_str().as_bytes().ends_with(b"/") {
                return Err(Errno::ISDIR.into());
            }
            may(&folder_of(path), Access::WRITE_OK | Access::EXEC_OK)?;
            Ok(Found::Nothing)
        }
        Err(error) => Err(error),
    }
}

/// The folder that the file would be made in, wherever links lead.
fn folder_of(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(target) => path = parent(&path).join(target),
            Err(_) => break,
        }
    }
    parent(&path).to_owned()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether this process, with the capabilities it has, may do that.
fn may(path: &Path, access: Access) -> io::Result<()> {
    Ok(accessat(CWD, path, access, AtFlags::EACCESS)?)
}

#[cfg(test)]
#[allow(clippy::expect_used)] // A test that cannot go on has failed.
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{Mode, mkfifoat};

    use super::*;

    #[test]
    fn nothing_is_made_and_nothing_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("old"), "a line\n").expect("written");
        mkfifoat(CWD, path("pipe"), Mode::RWXU).expect("a pipe");
        symlink("new", path("link")).expect("a link");
        symlink("missing/new", path("astray")).expect("a link");
        for (name, wanted) in [
            ("old", Ok(Found::File)),
            ("pipe", Ok(Found::Pipe)),
            ("new", Ok(Found::Nothing)),
            ("link", Ok(Found::Nothing)),
            ("astray", Err(ErrorKind::NotFound)),
            ("missing/new", Err(ErrorKind::NotFound)),
            ("old/new", Err(ErrorKind::NotADirectory)),
            ("new/", Err(ErrorKind::IsADirectory)),
            (".", Err(ErrorKind::IsADirectory)),
        ] {
            let found = probe(&path(name)).map_err(|error| error.kind());
            assert_eq!(found, wanted, "{name}");
        }
        assert_eq!(fs::read_to_string(path("old")).expect("read"), "a line\n");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 4);
    }
}
