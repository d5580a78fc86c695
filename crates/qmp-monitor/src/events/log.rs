//! The one list of events that all sessions read.
//!
//! Appending costs the same for one reader or a thousand: a node and a pointer. Every reader holds the node it has
//! read last, so an event is freed when the slowest reader has passed it, and a reader's backlog is a subtraction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// An append-only list with any number of readers.
#[derive(Debug)]
pub(crate) struct Log<T> {
    tail: Mutex<Arc<Node<T>>>,
    // The tail's numbers, to be read without the lock. Written while the lock is held.
    appended: AtomicU64,
    common: AtomicU64,
}

#[derive(Debug)]
struct Node<T> {
    /// Items so far.
    number: u64,
    /// Of them, those that every reader wants.
    common: u64,
    // `None` in the first node only, which stands for the time before any event.
    item: Option<T>,
    next: OnceLock<Arc<Node<T>>>,
}

impl<T> Drop for Node<T> {
    /// Frees a chain of nodes that nobody else holds, one by one: the obvious way would recurse once per event.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut node) = next.and_then(Arc::into_inner) {
            next = node.next.take();
        }
    }
}

impl<T> Log<T> {
    pub(crate) fn new() -> Self {
        let first = Arc::new(Node { number: 0, common: 0, item: None, next: OnceLock::new() });
        Self { tail: Mutex::new(first), appended: AtomicU64::new(0), common: AtomicU64::new(0) }
    }

    /// Appends an item, which every reader wants if `common`. Whoever learns of it in any way finds it with
    /// [`Cursor::next`].
    pub(crate) fn append(&self, item: T, common: bool) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, common) = (tail.number + 1, tail.common + u64::from(common));
        let node = Arc::new(Node { number, common, item: Some(item), next: OnceLock::new() });
        // Only the holder of the lock sets `next` of the tail, and each node is the tail once.
        let _ = tail.next.set(node.clone());
        let old = std::mem::replace(&mut *tail, node);
        self.common.store(common, Ordering::Release);
        self.appended.store(number, Ordering::Release);
        drop(tail);
        // Freeing the old tail, when no reader holds it, needs no lock.
        drop(old);
    }

    /// A reader of what is appended from now on.
    pub(crate) fn subscribe(&self) -> Cursor<T> {
        Cursor { at: self.tail.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }
}

/// A reader's place in a [`Log`].
#[derive(Debug)]
pub(crate) struct Cursor<T> {
    at: Arc<Node<T>>,
}

impl<T> Cursor<T> {
    /// How many items are appended and not read: all of them, or only those that every reader wants.
    pub(crate) fn backlog(&self, log: &Log<T>, all: bool) -> u64 {
        if all {
            log.appended.load(Ordering::Acquire).saturating_sub(self.at.number)
        } else {
            log.common.load(Ordering::Acquire).saturating_sub(self.at.common)
        }
    }

    /// The next item.
    pub(crate) fn next(&mut self) -> Option<&T> {
        let next = self.at.next.get()?.clone();
        self.at = next;
        self.at.item.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn readers_see_what_came_after_them_in_order() {
        let log = Log::new();
        log.append(1, true);
        let mut early = log.subscribe();
        log.append(2, true);
        let mut late = log.subscribe();
        log.append(3, true);
        assert_eq!(early.backlog(&log, true), 2);
        log.append(4, false);
        assert_eq!((early.backlog(&log, true), early.backlog(&log, false)), (3, 2));
        assert_eq!(early.next(), Some(&2));
        assert_eq!(early.next(), Some(&3));
        assert_eq!(early.next(), Some(&4));
        assert_eq!(early.next(), None);
        assert_eq!(late.next(), Some(&3));
        assert_eq!(early.backlog(&log, true), 0);
    }

    #[test]
    fn a_million_unread_items_are_freed_without_recursion() {
        let log = Log::new();
        let reader = log.subscribe();
        for n in 0..1_000_000 {
            log.append(n, true);
        }
        assert_eq!(reader.backlog(&log, true), 1_000_000);
        drop(reader);
    }

    #[test]
    fn items_nobody_reads_are_not_kept() {
        let log = Log::new();
        let item = Arc::new(());
        let mut reader = log.subscribe();
        log.append(item.clone(), true);
        log.append(item.clone(), true);
        assert_eq!(Arc::strong_count(&item), 3);
        while reader.next().is_some() {}
        assert_eq!(Arc::strong_count(&item), 2, "the newest stays: it marks the place");
    }

    #[test]
    fn all_readers_see_one_order_under_many_writers() {
        let log = Log::new();
        let mut readers: Vec<_> = (0..3).map(|_| log.subscribe()).collect();
        thread::scope(|scope| {
            for writer in 0..4u32 {
                let log = &log;
                scope.spawn(move || (0..500u32).for_each(|n| log.append((writer, n), true)));
            }
        });
        let seen: Vec<Vec<_>> =
            readers.iter_mut().map(|r| std::iter::from_fn(|| r.next().copied()).collect()).collect();
        assert_eq!(seen[0].len(), 2000);
        assert!(seen.iter().all(|s| *s == seen[0]));
        for writer in 0..4 {
            let own: Vec<_> = seen[0].iter().filter(|(w, _)| *w == writer).map(|(_, n)| *n).collect();
            assert_eq!(own, (0..500).collect::<Vec<_>>());
        }
    }
}
