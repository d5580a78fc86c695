//! Events that wait for a reader who may never read: a session of the process's own.
//!
//! Sessions of clients look after their own backlog. A local session has no task, so the hub's does it: a reader who is
//! too far behind loses what waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{EventHub, Raised, Subscription};

/// A subscription that the hub can end.
#[derive(Debug)]
pub(crate) struct Watched {
    hub: EventHub,
    subscription: Mutex<Option<Subscription>>,
    lost: AtomicU64,
}

impl Watched {
    /// One to the events that are raised from now on.
    pub(crate) fn new(hub: &EventHub) -> Arc<Self> {
        let subscription = Mutex::new(Some(hub.subscribe()));
        let watched = Arc::new(Self { hub: hub.clone(), subscription, lost: AtomicU64::new(0) });
        let mut all = hub.watched();
        all.retain(|watched| watched.strong_count() > 0);
        all.push(Arc::downgrade(&watched));
        drop(all);
        watched
    }

    /// The first event that waits and that `take` makes something of. One that lost its events waits for new ones from here on.
    pub(crate) fn next<T>(&self, mut take: impl FnMut(&Raised) -> Option<T>) -> Option<T> {
        let mut subscription = self.lock();
        let subscription = subscription.get_or_insert_with(|| self.hub.subscribe());
        loop {
            let taken = take(subscription.next()?);
            if taken.is_some() {
                return taken;
            }
        }
    }

    /// How many events it has lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Ends the subscription if more than `limit` events wait.
    pub(super) fn bound(&self, limit: u64) {
        let mut subscription = self.lock();
        let backlog = subscription.as_ref().map_or(0, |subscription| subscription.backlog(true));
        if backlog > limit {
            self.lost.fetch_add(backlog, Ordering::Relaxed);
            let ended = subscription.take();
            // Many events may end with it.
            drop(subscription);
            drop(ended);
            tracing::warn!(events = backlog, "a local session lost events: too many waited for it");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Subscription>> {
        self.subscription.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventSpec;

    #[tokio::test]
    async fn a_reader_too_far_behind_loses_what_waits_and_can_go_on() {
        let hub = EventHub::new([EventSpec::standard::<()>("STOP")]).unwrap();
        hub.bound_local_sessions(100);
        let runner = hub.clone();
        let task = tokio::spawn(async move { runner.run().await });
        let (slow, steady) = (Watched::new(&hub), Watched::new(&hub));
        let (mut raised, mut read) = (0, 0);
        while slow.lost() == 0 {
            hub.sender().emit_plain("STOP").unwrap();
            raised += 1;
            read += u64::from(steady.next(|_| Some(())).is_some());
            tokio::task::yield_now().await;
            assert!(raised < 10_000, "it is ended some time");
        }
        assert!(slow.lost() > 100 && slow.lost() <= raised);
        assert_eq!((slow.next(|_| Some(())), steady.lost(), read), (None, 0, raised));
        hub.sender().emit_plain("STOP").unwrap();
        assert_eq!(slow.next(|raised| Some(raised.name().to_owned())).as_deref(), Some("STOP"));
        task.abort();
    }
}
