//! The limit of TCP connections of the process.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// As many places as there may be connections. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Places(Option<Arc<State>>);

#[derive(Debug)]
struct State {
    max: u32,
    taken: AtomicU32,
}

/// A connection's place, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Option<Arc<State>>);

// === impl Places ===

impl Places {
    pub(crate) fn new(max: Option<NonZeroU32>) -> Self {
        Self(max.map(|max| {
            Arc::new(State {
                max: max.get(),
                taken: AtomicU32::new(0),
            })
        }))
    }

    /// A place, or None while all are taken. Without a limit there always is one, and it costs nothing.
    pub(crate) fn take(&self) -> Option<Place> {
        let Some(state) = &self.0 else {
            return Some(Place(None));
        };
        // Only the number matters: nothing else is shared through it.
        let one_more = |taken| (taken < state.max).then_some(taken + 1);
        let taken = (state.taken).fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Place(Some(Arc::clone(state))))
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn there_are_as_many_places_as_the_limit_and_they_come_back() {
        let places = Places::new(NonZeroU32::new(2));
        let (first, second) = (places.take(), places.clone().take());
        assert!(first.is_some() && second.is_some());
        assert!(places.take().is_none());
        drop(first);
        let third = places.take();
        assert!(third.is_some() && places.take().is_none());
    }

    #[test]
    fn without_a_limit_there_always_is_a_place() {
        let places = Places::new(None);
        let taken: Vec<_> = (0..1000).map(|_| places.take()).collect();
        assert!(taken.iter().all(Option::is_some));
    }

    #[test]
    fn threads_never_have_more_of_them_together() {
        const MAX: u32 = 3;
        let places = Places::new(NonZeroU32::new(MAX));
        let held = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Some(place) = places.take() else { continue };
                        assert!(held.fetch_add(1, Ordering::SeqCst) < MAX);
                        held.fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                });
            }
        });
        let left: Vec<_> = (0..MAX).map(|_| places.take()).collect();
        assert!(left.iter().all(Option::is_some) && places.take().is_none());
    }
}
