//! The subnet lists as a shard sees them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::addr::{ClientAddr, PeerAddr};
use crate::subnets::SubnetSet;

/// The lists as they are at start. None is no list.
#[derive(Clone, Debug, Default)]
pub(crate) struct InitialLists {
    pub(crate) allowed: Option<Arc<SubnetSet>>,
    pub(crate) denied: Option<Arc<SubnetSet>>,
    pub(crate) destinations: Option<Arc<SubnetSet>>,
}

/// The lists in force. The coordinator sends new ones; they are swapped between two events.
#[derive(Default)]
pub(crate) struct Lists {
    /// None allows everybody.
    allowed: RefCell<Option<Arc<SubnetSet>>>,
    /// None where no list says which destinations headers may name.
    destinations: RefCell<Option<Arc<SubnetSet>>>,
    /// None denies nobody.
    denied: RefCell<Option<Arc<SubnetSet>>>,
    /// Whether a new deny list also ends what is open.
    ends_denied: bool,
    /// How often the deny list has changed.
    changes: Cell<u64>,
    /// Of those who look after connections or flows.
    bells: RefCell<Vec<Bell>>,
}

/// Wakes one task when the deny list changes.
#[derive(Clone, Default)]
pub(crate) struct Bell(Rc<Cell<Option<Waker>>>);

// === impl Lists ===

impl Lists {
    /// With `keep_denied`, a new deny list leaves open connections and flows alone.
    pub(crate) fn new(lists: InitialLists, keep_denied: bool) -> Self {
        Self {
            ends_denied: lists.denied.is_some() && !keep_denied,
            allowed: RefCell::new(lists.allowed),
            denied: RefCell::new(lists.denied),
            destinations: RefCell::new(lists.destinations),
            ..Self::default()
        }
    }

    /// Whether this peer may speak for clients.
    pub(crate) fn allow(&self, peer: PeerAddr) -> bool {
        self.allowed
            .borrow()
            .as_ref()
            .is_none_or(|allowed| allowed.contains(peer.ip()))
    }

    /// Whether a header may name this destination; None without a list.
    pub(crate) fn allow_destination(&self, ip: IpAddr) -> Option<bool> {
        let destinations = self.destinations.borrow();
        Some(destinations.as_ref()?.contains(ip))
    }

    /// Puts a new list of destinations in force.
    pub(crate) fn set_destinations(&self, destinations: Arc<SubnetSet>) {
        *self.destinations.borrow_mut() = Some(destinations);
    }

    /// Puts a new allow list in force.
    pub(crate) fn set_allowed(&self, allowed: Arc<SubnetSet>) {
        *self.allowed.borrow_mut() = Some(allowed);
    }

    /// Whether this client is turned away.
    pub(crate) fn deny(&self, client: ClientAddr) -> bool {
        self.denied
            .borrow()
            .as_ref()
            .is_some_and(|denied| denied.contains(client.addr().ip()))
    }

    /// Puts a new deny list in force, and wakes those who look after what is open.
    pub(crate) fn set_denied(&self, denied: Arc<SubnetSet>) {
        *self.denied.borrow_mut() = Some(denied);
        self.changes.set(self.changes.get() + 1);
        for Bell(waker) in &*self.bells.borrow() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether new deny lists are to end what is open.
    pub(crate) fn ends_denied(&self) -> bool {
        self.ends_denied
    }

    /// Whether what is open for this client is to end.
    pub(crate) fn ends(&self, client: Option<ClientAddr>) -> bool {
        self.ends_denied && client.is_some_and(|client| self.deny(client))
    }

    /// How often the deny list has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// A bell for a task that is to know of changes for as long as the shard lives.
    pub(crate) fn bell(&self) -> Bell {
        let bell = Bell::default();
        self.bells.borrow_mut().push(bell.clone());
        bell
    }

    /// Waits until the deny list has changed more often than this, and tells how often.
    pub(crate) async fn changed(&self, seen: u64, bell: &Bell) -> u64 {
        poll_fn(|cx| {
            if self.changes() != seen {
                return Poll::Ready(self.changes());
            }
            bell.register(cx);
            Poll::Pending
        })
        .await
    }
}

// === impl Bell ===

impl Bell {
    /// Has the task of `cx` woken by the next change.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.0.set(Some(cx.waker().clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    fn list(text: &str) -> Arc<SubnetSet> {
        Arc::new(SubnetSet::parse(text).expect("a list"))
    }

    fn denying(text: &str) -> InitialLists {
        InitialLists {
            denied: Some(list(text)),
            ..InitialLists::default()
        }
    }

    fn client(source: &str) -> ClientAddr {
        let peer = PeerAddr::new("198.51.100.1:1".parse().expect("an address"));
        ClientAddr::believe(source.parse().expect("an address"), peer).expect("a client")
    }

    #[test]
    fn no_deny_list_and_an_empty_one_deny_nobody() {
        let client = client("192.0.2.1:1");
        assert!(!Lists::new(InitialLists::default(), false).deny(client));
        let lists = Lists::new(denying(""), false);
        assert!(!lists.deny(client));
        lists.set_denied(list("192.0.2.0/24"));
        assert!(lists.deny(client));
    }

    #[test]
    fn what_is_open_ends_unless_it_is_to_be_kept_or_has_no_client() {
        let denied = || denying("192.0.2.0/24");
        let client = Some(client("192.0.2.1:1"));
        assert!(Lists::new(denied(), false).ends(client));
        assert!(!Lists::new(denied(), false).ends(None));
        assert!(!Lists::new(denied(), true).ends(client));
    }

    #[test]
    fn a_change_wakes_all_who_wait_and_is_not_missed_by_who_comes_later() {
        let lists = Lists::new(denying(""), false);
        let bells = [lists.bell(), lists.bell()];
        let woken = [Arc::new(Woken::default()), Arc::new(Woken::default())];
        for (bell, woken) in bells.iter().zip(&woken) {
            let waker = Waker::from(Arc::clone(woken));
            let mut cx = Context::from_waker(&waker);
            assert!(pin!(lists.changed(0, bell)).poll(&mut cx).is_pending());
        }
        lists.set_denied(list("192.0.2.0/24"));
        for woken in &woken {
            assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        }
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(
            pin!(lists.changed(0, &bells[0])).poll(&mut cx),
            Poll::Ready(1)
        );
        assert!(pin!(lists.changed(1, &bells[0])).poll(&mut cx).is_pending());
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
