//! The end of a shard that cuts nobody off: it stops listening, and ends when the last session and the last flow have.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use glommio::Task;
use glommio::sync::Gate;

use crate::tcp::{self, Tcp, TcpListener};

/// Who serves new clients while this process serves its last ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draining {
    /// Nobody. Connections that wait to be accepted are accepted, since they would be reset with the listening socket;
    /// UDP listeners go on for the flows there are.
    Alone,
    /// Another process, which has the very same listening sockets. They are left to it at once, with all that waits in
    /// them.
    Relieved,
}

/// Tells a shard's tasks that it drains.
#[derive(Default)]
pub(crate) struct Drain {
    begun: Cell<Option<Draining>>,
    cut: Cell<bool>,
    tcp: Cell<Option<Waker>>,
    udp: Cell<Option<Waker>>,
}

/// A listening socket and the task that accepts its connections.
pub(super) struct Acceptor {
    pub(super) tcp: Rc<Tcp>,
    pub(super) listener: Rc<TcpListener>,
    pub(super) task: Task<()>,
}

// === impl Drain ===

impl Drain {
    /// Begins to drain. One that drains alone may be relieved later.
    pub(super) fn begin(&self, draining: Draining) {
        if self.begun.get() == Some(Draining::Relieved) {
            return;
        }
        self.begun.set(Some(draining));
        for waker in [self.tcp.take(), self.udp.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Has the flows that are left end now: the process does.
    pub(super) fn cut(&self) {
        self.cut.set(true);
        if let Some(waker) = self.udp.take() {
            waker.wake();
        }
    }

    /// Whether they are to.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Whether it has begun, and how.
    pub(crate) fn begun(&self) -> Option<Draining> {
        self.begun.get()
    }

    /// Has the task of `cx`, which serves UDP, woken when it begins or changes.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.udp.set(Some(cx.waker().clone()));
    }

    async fn wait(&self) -> Draining {
        poll_fn(|cx| {
            if let Some(draining) = self.begun.get() {
                return Poll::Ready(draining);
            }
            self.tcp.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

/// Waits until the shard is to drain, closes its TCP listeners, and waits for the last session to end.
pub(super) async fn drain_tcp(drain: &Drain, acceptors: Vec<Acceptor>, gate: &Gate) {
    let draining = drain.wait().await;
    for Acceptor {
        tcp,
        listener,
        task,
    } in acceptors
    {
        // It can only be where it waits, and has no connection in its hands there.
        task.cancel().await;
        if draining == Draining::Alone {
            tcp::accept_rest(&tcp, &listener, gate).await;
        }
        // Another process may have the same socket, which would keep it in the set.
        listener.socket.leave();
    }
    // It fails only if somebody has closed it before, and nobody has.
    let _ = gate.close().await;
}
