//! A shard's end of the socket pair by which the coordinator knows that it is there.
//!
//! It is kept until the thread ends. As a local variable it would outlive a panic: glommio 0.9 then leaks the futures of
//! its tasks.

use std::cell::RefCell;
use std::io::Write;
use std::os::unix::net::UnixStream;

thread_local! {
    static LIFELINE: RefCell<Option<UnixStream>> = const { RefCell::new(None) };
}

/// Keeps the lifeline of this thread.
pub(super) fn hold(lifeline: UnixStream) {
    LIFELINE.with(|held| *held.borrow_mut() = Some(lifeline));
}

/// Tells the coordinator that the shard listens, and then that it has taken in a command: one byte each.
pub(super) fn tell() {
    LIFELINE.with(|held| {
        if let Some(lifeline) = &mut *held.borrow_mut() {
            // It fails if the coordinator is gone, as the commands will tell, or has left thousands unread.
            let _ = lifeline.write_all(b"!");
        }
    });
}
