//! Counting what each client has moved, when somebody asks: first over TCP, then over UDP, some at a time. The relays and
//! flows know their own bytes, so that nothing is counted by client while bytes pass.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use super::readiness::Readiness;
use super::roster::Roster;
use crate::metrics::Tally;

/// Gets what was counted, or that it was not.
pub(crate) type Report = Box<dyn FnOnce(Option<Tally>) + Send>;

/// A count under way. Dropped before it is complete, it reports that there is none.
pub(crate) struct Count {
    pub(crate) tally: Tally,
    report: Option<Report>,
}

/// Where the count of TCP is left for the task that serves UDP.
pub(crate) struct Desk {
    count: RefCell<Option<Count>>,
    /// Nobody will fetch a count any more, as there is nothing to count.
    closed: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// What there is to count on a shard.
pub(super) struct Census {
    pub(super) roster: Option<Rc<Roster>>,
    pub(super) desk: Rc<Desk>,
    pub(super) readiness: Readiness,
}

// === impl Count ===

impl Count {
    pub(crate) fn new(report: Report) -> Self {
        Self {
            tally: Tally::default(),
            report: Some(report),
        }
    }

    pub(crate) fn complete(mut self) {
        if let Some(report) = self.report.take() {
            report(Some(std::mem::take(&mut self.tally)));
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            report(None);
        }
    }
}

// === impl Desk ===

impl Desk {
    /// A desk; one that is not `open` takes every count for complete.
    pub(super) fn new(open: bool) -> Self {
        Self {
            count: RefCell::default(),
            closed: Cell::new(!open),
            waker: Cell::default(),
        }
    }

    /// Leaves a count. An earlier one that nobody has fetched is over: whoever asked has asked again.
    fn put(&self, count: Count) {
        if self.closed.get() {
            return count.complete();
        }
        *self.count.borrow_mut() = Some(count);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether a count lies there.
    pub(crate) fn has_count(&self) -> bool {
        self.count.borrow().is_some()
    }

    /// Takes the count that lies there.
    pub(crate) fn take(&self) -> Option<Count> {
        self.count.borrow_mut().take()
    }

    /// Has the task of `cx` woken when one does.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.waker.set(Some(cx.waker().clone()));
    }

    /// Says that nobody will come any more.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        if let Some(count) = self.take() {
            count.complete();
        }
    }
}

// === impl Census ===

impl Census {
    /// Counts, on a task of its own.
    pub(super) fn begin(&self, mut count: Count) {
        let Some(roster) = self.roster.clone() else {
            return self.desk.put(count);
        };
        let (desk, readiness) = (Rc::clone(&self.desk), self.readiness.clone());
        let over_tcp = async move {
            roster.count(&mut count.tally, &readiness).await;
            desk.put(count);
        };
        glommio::spawn_local(over_tcp).detach();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver};

    fn count() -> (Count, Receiver<bool>) {
        let (sender, reports) = mpsc::channel();
        let report = move |tally: Option<Tally>| sender.send(tally.is_some()).expect("heard");
        (Count::new(Box::new(report)), reports)
    }

    fn all(reports: &Receiver<bool>) -> Vec<bool> {
        reports.try_iter().collect()
    }

    #[test]
    fn a_count_reports_once_whatever_becomes_of_it() {
        let (complete, reports) = count();
        complete.complete();
        assert_eq!(all(&reports), [true]);
        let (dropped, reports) = count();
        drop(dropped);
        assert_eq!(all(&reports), [false]);
    }

    #[test]
    fn a_desk_keeps_the_latest_count_and_a_closed_one_none() {
        let desk = Desk::new(true);
        let ((first, first_reports), (second, second_reports)) = (count(), count());
        desk.put(first);
        desk.put(second);
        assert_eq!(all(&first_reports), [false]);
        assert!(desk.has_count() && all(&second_reports).is_empty());
        desk.close();
        assert!(!desk.has_count());
        assert_eq!(all(&second_reports), [true]);
        let (late, reports) = count();
        desk.put(late);
        assert_eq!(all(&reports), [true]);
    }
}
