//! The protocol between an iothread and other threads, over all interleavings with up to two forced switches of thread.
//!
//! `src/inbox.rs` and `src/ack.rs` are compiled here with loom's primitives; the eventfd is a flag with a condition
//! variable, and the iothread's loop is reduced to what touches the protocol. A lost wake-up shows as a deadlock.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "../src/ack.rs"]
mod ack;
#[path = "../src/inbox.rs"]
mod inbox;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};
    pub(crate) use loom::sync::{Arc, Condvar, Mutex};
}

use ack::{Ack, ack};
use inbox::{Inbox, Wake};
use loom::sync::atomic::AtomicBool;
use loom::thread;
use sync::{Arc, Condvar, Mutex, Ordering};

enum Message {
    Add,
    Remove(Ack),
    Number(u32),
    Stop,
}

/// An inbox and an eventfd.
struct Shared {
    inbox: Inbox<Message>,
    signalled: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Shared {
    fn wake(&self) {
        *self.signalled.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { inbox: Inbox::new(), signalled: Mutex::new(false), changed: Condvar::new() })
    }

    fn push(&self, message: Message) -> bool {
        self.inbox.push(message, self).is_ok()
    }

    /// `epoll_wait` and the read of the eventfd; with work in the inbox it does not block.
    fn wait(&self) {
        if !self.inbox.sleep() {
            return;
        }
        let mut signalled = self.signalled.lock().unwrap();
        while !*signalled {
            signalled = self.changed.wait(signalled).unwrap();
        }
        *signalled = false;
        drop(signalled);
        self.inbox.awake();
    }

    /// `epoll_wait` that ends because a descriptor is ready: a wake-up may be on its way and is found the next time.
    fn wait_beside_a_ready_descriptor(&self) {
        if self.inbox.sleep() {
            *self.signalled.lock().unwrap() = false;
            self.inbox.awake();
        }
    }

    fn take(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        if self.inbox.pending() {
            self.inbox.take(&mut messages);
        }
        messages
    }
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

#[test]
fn no_message_is_lost_and_each_senders_order_is_kept() {
    model(|| {
        let shared = Shared::new();
        let senders: Vec<_> = [[1, 2], [11, 12]]
            .into_iter()
            .map(|numbers| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || numbers.map(|number| assert!(shared.push(Message::Number(number)))))
            })
            .collect();
        let mut got = Vec::new();
        while got.len() < 4 {
            shared.wait();
            for message in shared.take() {
                if let Message::Number(number) = message {
                    got.push(number);
                }
            }
        }
        for pair in [[1, 2], [11, 12]] {
            let order: Vec<u32> = got.iter().copied().filter(|number| pair.contains(number)).collect();
            assert_eq!(order, pair);
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// A thread that adds a handler, removes it, says in `removed` that the removal has returned, and stops the iothread.
fn remover(shared: &Arc<Shared>, removed: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (shared, removed) = (Arc::clone(shared), Arc::clone(removed));
    thread::spawn(move || {
        assert!(shared.push(Message::Add));
        let (ack, waiter) = ack();
        assert!(shared.push(Message::Remove(ack)));
        waiter.wait();
        removed.store(true, Ordering::Release);
        assert!(shared.push(Message::Stop));
    })
}

/// The iothread's side of it.
struct Loop {
    shared: Arc<Shared>,
    removed: Arc<AtomicBool>,
    handler: bool,
    stop: bool,
}

impl Loop {
    fn apply_messages(&mut self) {
        for message in self.shared.take() {
            match message {
                Message::Add => self.handler = true,
                Message::Remove(ack) => {
                    self.handler = false;
                    drop(ack);
                }
                Message::Stop => self.stop = true,
                Message::Number(_) => {}
            }
        }
    }

    /// A call of the handler or of its hook, if it is there; then what was asked meanwhile.
    fn call(&mut self) {
        if self.handler {
            assert!(!self.removed.load(Ordering::Acquire), "called after removal returned");
            thread::yield_now();
            assert!(!self.removed.load(Ordering::Acquire), "removal returned during a call");
        }
        self.apply_messages();
    }
}

#[test]
fn a_removed_handler_is_not_called_once_removal_returns() {
    model(|| {
        let (shared, removed) = (Shared::new(), Arc::new(AtomicBool::new(false)));
        let remover = remover(&shared, &removed);
        let mut iothread = Loop { shared, removed, handler: false, stop: false };
        while !iothread.stop {
            // The descriptor is always ready.
            if iothread.handler {
                iothread.shared.wait_beside_a_ready_descriptor();
            } else {
                iothread.shared.wait();
            }
            iothread.apply_messages();
            iothread.call();
        }
        remover.join().unwrap();
    });
}

#[test]
fn nor_is_it_polled_and_what_is_asked_of_a_polling_thread_needs_no_wakeup() {
    model(|| {
        let (shared, removed) = (Shared::new(), Arc::new(AtomicBool::new(false)));
        let remover = remover(&shared, &removed);
        let mut iothread = Loop { shared, removed, handler: false, stop: false };
        while !iothread.stop {
            iothread.apply_messages();
            // The hook never finds work, so each turn ends with the thread asleep. Messages that come while it polls
            // have not been announced by then.
            for _ in 0..2 {
                iothread.call();
            }
            if !iothread.stop {
                iothread.shared.wait();
            }
        }
        remover.join().unwrap();
    });
}

#[test]
fn a_wakeup_without_a_message_reaches_a_thread_that_polls_or_sleeps() {
    model(|| {
        let shared = Shared::new();
        let flag = Arc::new(AtomicBool::new(false));
        let waker = {
            let (shared, flag) = (Arc::clone(&shared), Arc::clone(&flag));
            thread::spawn(move || {
                flag.store(true, Ordering::Release);
                shared.inbox.nudge(&*shared);
            })
        };
        // A hook that looks at memory only: without the wake-up the thread would sleep for good.
        while !flag.load(Ordering::Acquire) {
            shared.wait();
            assert!(shared.take().is_empty());
        }
        waker.join().unwrap();
    });
}

#[test]
fn a_removal_returns_even_if_the_thread_ends() {
    model(|| {
        let shared = Shared::new();
        let remover = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (ack, waiter) = ack();
                shared.push(Message::Remove(ack));
                waiter.wait();
            })
        };
        drop(shared.inbox.close());
        assert!(!shared.push(Message::Stop));
        remover.join().unwrap();
    });
}
