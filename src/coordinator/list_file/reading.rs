//! Reading a list file, whatever the path leads to: never more than a limit, and never for ever.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::ListError;

/// The largest file read: a million prefixes fit.
const FILE_LEN_MAX: u64 = 64 << 20;

/// How long whoever writes a pipe may say nothing. Nothing else is done meanwhile, not even as a signal says.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Reads a list for the first time.
pub(super) fn read(path: &Path) -> Result<String, ListError> {
    read_if(path, |_| Ok(()))
}

/// As [`read`], but of what can be read again. A pipe, such as a shell's `<(command)`, gives its list once.
pub(super) fn read_again(path: &Path) -> Result<String, ListError> {
    read_if(path, |file| {
        if is_pipe(file)? {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "a pipe can be read only once",
            ));
        }
        Ok(())
    })
    .map_err(|failure| match failure {
        // Start-up has read it, so it is somewhere else now, or another's.
        ListError::Read { path, error } if error.kind() == ErrorKind::PermissionDenied => {
            let hint = "a list that has moved to another folder takes a restart";
            let error = io::Error::new(error.kind(), format!("{error}; {hint}"));
            ListError::Read { path, error }
        }
        failure => failure,
    })
}

fn read_if(path: &Path, permit: impl FnOnce(&File) -> io::Result<()>) -> Result<String, ListError> {
    let read = || {
        let file = open(path)?;
        permit(&file)?;
        let mut text = String::new();
        if is_pipe(&file)? {
            // One without a writer looks as if it had ended.
            wait(&file)?;
        }
        let source = Source(&file).take(FILE_LEN_MAX + 1);
        { source }.read_to_string(&mut text)?;
        if text.len() as u64 > FILE_LEN_MAX {
            return Err(io::Error::new(
                ErrorKind::FileTooLarge,
                "it is larger than 64 MiB",
            ));
        }
        Ok(text)
    };
    read().map_err(|error| ListError::Read {
        path: path.to_owned(),
        error,
    })
}

/// Opens whatever is there. It does not wait for the writer of a pipe, or for a terminal's line (open(2)).
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn is_pipe(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.file_type().is_fifo())
}

/// A file that may have nothing to say for some time.
struct Source<'a>(&'a File);

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&mut &*self.0).read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(self.0)?,
                result => return result,
            }
        }
    }
}

/// Waits until there is something to read, or somebody has come and gone.
fn wait(file: &File) -> io::Result<()> {
    let deadline = Instant::now() + SILENCE_MAX;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // It is less than a day, and fits.
        let left = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&left)) {
            Ok(0) => break,
            Ok(_) => return Ok(()),
            // The ring interrupts calls that have a timeout.
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let seconds = SILENCE_MAX.as_secs();
    Err(io::Error::new(
        ErrorKind::TimedOut,
        format!("nobody has written to it for {seconds} s"),
    ))
}
