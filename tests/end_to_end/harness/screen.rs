//! Who looks at a terminal, and has its keys.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::namespace::TestResult;

/// The other end of a pseudoterminal (pty(7)).
pub(crate) struct Screen {
    controller: File,
    shown: Vec<u8>,
}

// === impl Screen ===

impl Screen {
    /// A terminal of this size, and who looks at it.
    pub(crate) fn of(lines: u16, columns: u16) -> TestResult<(OwnedFd, Self)> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let name = ptsname(&controller, Vec::new())?;
        let terminal = open(
            name.as_c_str(),
            OFlags::RDWR | OFlags::NOCTTY,
            Mode::empty(),
        )?;
        let size = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size)?;
        let screen = Self {
            controller: File::from(controller),
            shown: Vec::new(),
        };
        Ok((terminal, screen))
    }

    pub(crate) fn press(&mut self, keys: &str) -> TestResult {
        Ok(self.controller.write_all(keys.as_bytes())?)
    }

    /// Reads until what has come is what is waited for.
    pub(crate) fn read_until(&mut self, enough: impl Fn(&str) -> bool) -> TestResult<String> {
        loop {
            let text = String::from_utf8_lossy(&self.shown);
            if enough(&text) {
                return Ok(text.into_owned());
            }
            if !self.read()? {
                return Err(format!("all that came: {}", self.shown.escape_ascii()).into());
            }
        }
    }

    /// Everything that comes until nobody has the terminal any more.
    pub(crate) fn read_to_end(mut self) -> TestResult<String> {
        while self.read()? {}
        Ok(String::from_utf8(self.shown)?)
    }

    /// Whether anything more may come.
    fn read(&mut self) -> TestResult<bool> {
        let mut buffer = [0; 4096];
        let count = match self.controller.read(&mut buffer) {
            // Nobody has the other end any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => 0,
            count => count?,
        };
        self.shown.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }
}
