//! What an iothread's thread and its handles share.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::Instant;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io;

use crate::ack::Ack;
use crate::handlers::{self, Entry};
use crate::inbox::{Inbox, Wake};
use crate::properties::{PollSettings, Properties};
use crate::stats::Counters;
use crate::timers::TimerFn;
use crate::{HandlerId, Interest, Scope, TimerId};

pub(crate) type Closure = Box<dyn FnOnce(&mut Scope<'_>) + Send>;

/// What can be asked of the thread. An [`Ack`] is dropped when it has been done.
pub(crate) enum Message {
    AddHandler(HandlerId, Entry),
    RemoveHandler(HandlerId, Option<Ack>),
    Modify(HandlerId, Interest),
    AddTimer(TimerId, Instant, TimerFn),
    CancelTimer(TimerId, Option<Ack>),
    Run(Closure),
    Stop,
}

/// Two descriptors, the inbox, the counters. The descriptors are closed with the last handle.
pub(crate) struct Shared {
    pub(crate) epoll: OwnedFd,
    eventfd: OwnedFd,
    pub(crate) inbox: Inbox<Message>,
    pub(crate) counters: Counters,
    pub(crate) poll: PollSettings,
    /// Set by the thread before its start is reported.
    pub(crate) thread: OnceLock<(ThreadId, i32)>,
    next_id: AtomicU64,
}

impl Shared {
    pub(crate) fn new(properties: &Properties) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &eventfd, epoll::EventData::new_u64(handlers::WAKE), epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            eventfd,
            inbox: Inbox::new(),
            counters: Counters::default(),
            poll: PollSettings::new(properties),
            thread: OnceLock::new(),
            next_id: AtomicU64::new(0),
        })
    }

    /// Whether the caller is the iothread's thread.
    pub(crate) fn on_thread(&self) -> bool {
        self.thread.get().is_some_and(|(id, _)| *id == thread::current().id())
    }

    /// Queues a message; gives it back if the thread has ended.
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        self.inbox.push(message, self)
    }

    /// Makes the thread go round its loop once.
    pub(crate) fn nudge(&self) {
        self.inbox.nudge(self);
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes back what [`Wake::wake`] did.
    pub(crate) fn clear_wake(&self) {
        // The only error is that nobody has written.
        let _ = io::read(&self.eventfd, &mut [0; 8]);
    }
}

impl Wake for Shared {
    fn wake(&self) {
        // The only error is a counter near its end, which wakes just as well.
        let _ = io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }
}
