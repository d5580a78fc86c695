//! Virtual CPUs: a thread each, which runs no guest code.
//!
//! There is no accelerator, so a CPU that runs is a thread that waits, just as one that is paused. But the threads are
//! real: they have ids that a management tool can pin and weigh, they are told to pause and to run, and pausing waits
//! until every one of them has heard it, as it must once they do something.
//!
//! A thread waits on one condition variable for orders, and on nothing else. Orders are numbered; a thread
//! acknowledges the newest it sees, and may miss one that was overtaken.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use crate::sandbox::{self, Role};

/// They need next to nothing, and there can be many.
const STACK: usize = 64 << 10;

/// What a virtual CPU is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Pause,
    Run,
    End,
}

#[derive(Debug)]
struct Shared {
    /// The newest order and its number.
    order: Mutex<(u64, Order)>,
    given: Condvar,
    /// The newest order that a thread has seen, and how many have.
    heard: watch::Sender<(u64, usize)>,
}

/// The virtual CPUs of a machine. Dropping it ends and joins them.
#[derive(Debug)]
pub(super) struct Vcpus {
    shared: Arc<Shared>,
    thread_ids: Vec<i32>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Vcpus {
    /// Starts `count` threads, called `CPU 0/vmmd` and so on, paused.
    ///
    /// # Errors
    /// The system has no room for another thread. Those that were started have ended then.
    pub(super) async fn start(count: u32) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            order: Mutex::new((0, Order::Pause)),
            given: Condvar::new(),
            heard: watch::Sender::new((0, 0)),
        });
        let mut vcpus = Self { shared, thread_ids: Vec::new(), threads: Mutex::default() };
        for index in 0..count {
            let (tell, told) = oneshot::channel();
            let shared = vcpus.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("CPU {index}/vmmd"))
                .stack_size(STACK)
                .spawn(move || {
                    sandbox::enter(Role::Vcpu);
                    // Whoever started it may have gone on.
                    let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get());
                    shared.obey();
                })?;
            vcpus.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(thread);
            vcpus.thread_ids.push(told.await.map_err(io::Error::other)?);
        }
        Ok(vcpus)
    }

    /// The Linux ids of their threads, in the order of their indices.
    pub(super) fn thread_ids(&self) -> &[i32] {
        &self.thread_ids
    }

    /// Pauses them all, and waits until they are.
    pub(super) async fn pause(&self) {
        self.give(Order::Pause).await;
    }

    /// Lets them all run, and waits until they do.
    pub(super) async fn run(&self) {
        self.give(Order::Run).await;
    }

    async fn give(&self, order: Order) {
        let mut heard = self.shared.heard.subscribe();
        let number = self.shared.give(order);
        let all = self.thread_ids.len();
        // The sender is in `self`, so it cannot go away meanwhile.
        let _ = heard
            .wait_for(|(newest, by)| all == 0 || *newest > number || (*newest == number && *by == all))
            .await;
    }

    /// Ends the threads and joins them, which takes no longer than they need to wake up. For the second time it does
    /// nothing.
    pub(super) fn end(&self) {
        self.shared.give(Order::End);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a virtual CPU's thread has panicked");
            }
        }
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn give(&self, order: Order) -> u64 {
        let mut newest = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        // After the end there is nobody to give orders to.
        if newest.1 != Order::End {
            *newest = (newest.0 + 1, order);
            self.given.notify_all();
        }
        newest.0
    }

    /// A virtual CPU's life.
    fn obey(&self) {
        let mut seen = 0;
        let mut newest = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if newest.0 != seen {
                seen = newest.0;
                self.heard.send_modify(|heard| match heard {
                    (number, by) if *number == seen => *by += 1,
                    _ => *heard = (seen, 1),
                });
            }
            match newest.1 {
                Order::End => return,
                // Where guest code would run, did anything run it.
                Order::Pause | Order::Run => {}
            }
            newest = self.given.wait(newest).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(thread: i32) -> Option<String> {
        let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")).ok()?;
        Some(name.trim_end().to_owned())
    }

    #[tokio::test]
    async fn threads_have_names_and_end() {
        let vcpus = Vcpus::start(3).await.unwrap();
        let ids = vcpus.thread_ids().to_vec();
        let names: Vec<_> = ids.iter().map(|id| name_of(*id).unwrap()).collect();
        assert_eq!(names, ["CPU 0/vmmd", "CPU 1/vmmd", "CPU 2/vmmd"]);
        vcpus.end();
        vcpus.end();
        // The kernel takes an ended thread out of /proc a little later than it lets others join it.
        assert!(ids.iter().all(|id| name_of(*id).is_none_or(|name| name.starts_with("CPU "))));
        vcpus.pause().await;
    }

    #[tokio::test]
    async fn every_order_is_heard_by_all() {
        let vcpus = Vcpus::start(4).await.unwrap();
        for _ in 0..100 {
            vcpus.run().await;
            vcpus.pause().await;
        }
        let (number, by) = *vcpus.shared.heard.borrow();
        assert_eq!((number, by), (200, 4));
    }

    #[tokio::test]
    async fn none_at_all_are_no_trouble() {
        let vcpus = Vcpus::start(0).await.unwrap();
        vcpus.run().await;
        vcpus.pause().await;
    }
}
