//! Panics, which are bugs: how far one reaches, and what is said of it.
//!
//! One in a TCP session, in the handling of a datagram or flow, or in a request to the admin endpoint is caught there
//! (`catch`): it ends that alone, and is told along with the peer. Any other ends the process. The hook says where it
//! was, and wakes the coordinator (`alarm`), whichever thread it was in: a proxy without its shard, its log or its
//! metrics looks as if it worked, and a supervisor would not start it again.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::thread;

#[cfg(panic = "abort")]
compile_error!("a panic in one session must not end all others: build with panic = \"unwind\"");

thread_local! {
    /// Whether somebody is there to catch a panic of this thread, and tell of it.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// The panic on its way to whoever catches it.
    static CAUGHT: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// The first panic that nobody caught.
static FATAL: OnceLock<Fatal> = OnceLock::new();

/// What wakes the coordinator.
static ALARM: OnceLock<UnixStream> = OnceLock::new();

/// A panic: where, and what it said. One line.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Panic(String);

/// A panic that ends the process.
#[derive(Clone, Debug, thiserror::Error)]
#[error("thread {thread} {panic}; this is a bug, please report it")]
pub struct Fatal {
    thread: String,
    panic: Panic,
}

/// Has the panics of the process told in one line each, in the log. To be called once, before there are threads.
pub fn install() {
    panic::set_hook(Box::new(told));
}

/// Runs this, and catches its panic. Whatever it left behind is as consistent as its destructors leave it.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    let was_caught = IS_CAUGHT.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(was_caught);
    result.map_err(|_| {
        let caught = CAUGHT.take();
        // Without the hook, as in tests of the library, its own words have been said.
        caught.unwrap_or_else(|| Panic("panicked".to_owned()))
    })
}

/// Polls a future as [`catch`] runs a closure. After a panic it must not be polled again; what it held has been dropped.
pub(crate) fn poll<F: Future>(
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Panic>> {
    match catch(|| future.poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}

/// Ends the process by a panic that was caught, but is nobody's own.
pub(crate) fn pass_on(panic: Panic) -> ! {
    end_process(panic);
    panic::resume_unwind(Box::new("passed on"))
}

/// The panic that ends the process, if there has been one.
pub(crate) fn fatal() -> Option<Fatal> {
    FATAL.get().cloned()
}

/// Becomes readable with the first panic that nobody catches.
///
/// # Errors
///
/// As `socketpair(2)`.
pub(crate) fn alarm() -> io::Result<UnixStream> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    // There is one coordinator in a process; in tests of the library the first one has it.
    let _ = ALARM.set(far);
    Ok(near)
}

/// What the hook does.
fn told(info: &PanicHookInfo<'_>) {
    let panic = Panic::of(info);
    if !IS_CAUGHT.get() {
        end_process(panic);
        return;
    }
    let former = CAUGHT.replace(Some(panic.clone()));
    if let Some(former) = former {
        // A destructor's, on the way up: the runtime aborts now.
        let _ = writeln!(io::stderr(), "glommproxy: {former}; and then it {panic}");
    }
}

fn end_process(panic: Panic) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("without a name").to_owned();
    let fatal = Fatal { thread, panic };
    // Set before anybody is woken to read it.
    let _ = FATAL.set(fatal.clone());
    tracing::error!(thread = fatal.thread, error = %fatal.panic, "the process ends: this is a bug, please report it");
    if let Some(mut alarm) = ALARM.get() {
        // If it is full, it has rung.
        let _ = alarm.write(b"!");
    }
}

// === impl Panic ===

impl Panic {
    fn of(info: &PanicHookInfo<'_>) -> Self {
        let payload = info.payload();
        let words = payload.downcast_ref::<&str>().copied();
        let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let words = words.unwrap_or("something without words");
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        Self(match info.location() {
            Some(at) => format!("panicked at {at}: {words}"),
            None => format!("panicked: {words}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    #[test]
    fn what_does_not_panic_is_passed_through_and_what_does_is_caught() {
        assert_eq!(catch(|| 7).ok(), Some(7));
        assert!(catch(|| panic!("caught")).is_err());
        // Nobody is there behind it.
        assert!(!IS_CAUGHT.get());
        let nested = catch(|| {
            let inner = catch(|| panic!("caught"));
            (inner.is_err(), IS_CAUGHT.get())
        });
        assert_eq!(nested.ok(), Some((true, true)));
    }

    #[test]
    fn a_future_that_panics_has_dropped_what_it_held() {
        struct Held<'a>(&'a Cell<bool>);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let (dropped, again) = (Cell::new(false), Cell::new(false));
        let mut future = pin!(async {
            let _held = Held(&dropped);
            let pending = std::future::poll_fn(|_| match again.replace(true) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            pending.await;
            panic!("in the midst");
        });
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(poll(future.as_mut(), cx).is_pending());
        assert!(!dropped.get());
        assert!(matches!(poll(future.as_mut(), cx), Poll::Ready(Err(_))));
        assert!(dropped.get());
    }
}
