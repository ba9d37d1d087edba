//! The keys of whoever watches.

use std::io::{self, Read as _};
use std::process;
use std::thread;

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// What Ctrl-C and Ctrl-\ send (termios(3), VINTR and VQUIT).
const INTERRUPT: u8 = 0x03;
const QUIT: u8 = 0x1c;

/// No key at all (termios(3), _POSIX_VDISABLE).
const DISABLED: u8 = 0;

/// The status of who is interrupted, as shells have it: 128 and SIGINT.
const INTERRUPTED: i32 = 130;

/// A terminal that tells each key at once and shows none, until this is dropped.
///
/// Nor do Ctrl-C and Ctrl-\ make signals: whoever ends by one could not leave the terminal as it was. Ctrl-Z does, since the
/// shell that goes on then sets its own modes, and those here again when it lets this go on.
pub(super) struct Keys {
    as_before: Option<Termios>,
}

// === impl Keys ===

impl Keys {
    /// From now on `q` and Ctrl-C end the process, whatever it waits for. Where standard input is no terminal there are no
    /// keys.
    pub(super) fn heed() -> Self {
        let as_before = tcgetattr(io::stdin()).ok().filter(|as_before| {
            let mut modes = as_before.clone();
            modes
                .local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO);
            for signal in [SpecialCodeIndex::VINTR, SpecialCodeIndex::VQUIT] {
                modes.special_codes[signal] = DISABLED;
            }
            tcsetattr(io::stdin(), OptionalActions::Now, &modes).is_ok()
        });
        if let Some(as_before) = as_before.clone() {
            thread::spawn(move || wait_for_end(as_before));
        }
        Self { as_before }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(as_before) = &self.as_before {
            restore(as_before);
        }
    }
}

fn wait_for_end(as_before: Termios) {
    let status = io::stdin()
        .lock()
        .bytes()
        .map_while(Result::ok)
        .find_map(status);
    if let Some(status) = status {
        restore(&as_before);
        process::exit(status);
    }
}

/// With which status a key ends the process, if it does.
fn status(key: u8) -> Option<i32> {
    match key {
        b'q' | b'Q' => Some(0),
        INTERRUPT | QUIT => Some(INTERRUPTED),
        _ => None,
    }
}

fn restore(as_before: &Termios) {
    // It fails if the terminal is gone.
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, as_before);
}
