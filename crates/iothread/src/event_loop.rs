//! The loop of an iothread: everything that its thread alone touches.
//!
//! One turn: carry out what was asked, call timers that are due, run closures, wait for events, call handlers. Each
//! of the three is limited per turn ([`MAX_EVENTS`], [`MAX_TIMERS`], [`MAX_CLOSURES`]) and epoll itself hands out
//! ready descriptors in turn, so nothing that is always busy starves the rest. What was asked is carried out between
//! any two calls as well, which is why a removal waits for one call at most.
//!
//! The wait is in `wait.rs`: busy polling, where that pays, then epoll. Polling that finds work ends the turn.
//!
//! Serving a descriptor allocates nothing and takes no lock: an event finds its handler by index.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::{Event, EventData, EventFlags};

use crate::ack::Ack;
use crate::handlers::{self, Call, Entry, Handlers};
use crate::shared::{Closure, Message, Shared};
use crate::timers::{TimerFn, Timers};
use crate::wait::Polling;
use crate::{Handler, HandlerId, Interest, Scope, TimerId, guard};

/// Events fetched, and so handlers called, per turn.
const MAX_EVENTS: usize = 32;
/// Timers called per turn.
const MAX_TIMERS: usize = 32;
/// Closures run per turn.
const MAX_CLOSURES: usize = 32;
/// Messages for which the inbox keeps memory.
const KEPT_MESSAGES: usize = 64;

/// What is being called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Running {
    Handler(HandlerId),
    Timer(TimerId),
    Closure,
}

/// What was removed by the very call that is going on, or during it: kept until that call has returned.
#[derive(Default)]
struct Held {
    handlers: Vec<Entry>,
    acks: Vec<Ack>,
}

pub(crate) struct EventLoop {
    pub(crate) shared: Arc<Shared>,
    pub(crate) handlers: Handlers,
    pub(crate) timers: Timers,
    pub(crate) closures: VecDeque<Closure>,
    pub(crate) running: Option<Running>,
    pub(crate) polling: Polling,
    pub(crate) stopping: bool,
    incoming: Vec<Message>,
    held: Held,
}

impl EventLoop {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            polling: Polling::new(&shared.poll),
            shared,
            handlers: Handlers::default(),
            timers: Timers::default(),
            closures: VecDeque::new(),
            running: None,
            stopping: false,
            incoming: Vec::new(),
            held: Held::default(),
        }
    }

    /// Until somebody asks it to stop. All that is left then is dropped here, on the thread.
    pub(crate) fn run(mut self) {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; MAX_EVENTS];
        while !self.stopping {
            self.apply_messages();
            self.call_timers();
            self.run_closures();
            let count = self.wait(&mut events);
            self.dispatch(&events[..count]);
        }
        self.end();
    }

    /// Carries out what other threads have asked. One load where nothing was.
    pub(crate) fn apply_messages(&mut self) {
        if !self.shared.inbox.pending() {
            return;
        }
        let mut incoming = std::mem::take(&mut self.incoming);
        self.shared.inbox.take(&mut incoming);
        for message in incoming.drain(..) {
            self.apply(message);
        }
        if incoming.capacity() > KEPT_MESSAGES {
            incoming.shrink_to(KEPT_MESSAGES);
        }
        self.incoming = incoming;
    }

    fn apply(&mut self, message: Message) {
        match message {
            Message::AddHandler(id, entry) => self.add_handler(id, entry),
            Message::RemoveHandler(id, ack) => self.remove_handler(id, ack),
            Message::Modify(id, interest) => self.modify_handler(id, interest),
            Message::AddTimer(id, due, call) => self.timers.insert(id, due, call),
            Message::CancelTimer(id, ack) => self.cancel_timer(id, ack),
            Message::Run(closure) => self.closures.push_back(closure),
            Message::Stop => self.stopping = true,
        }
    }

    pub(crate) fn add_handler(&mut self, id: HandlerId, entry: Entry) {
        self.handlers.insert(&self.shared.epoll, id, entry);
        self.count_handlers();
    }

    pub(crate) fn modify_handler(&mut self, id: HandlerId, interest: Interest) {
        self.handlers.modify(&self.shared.epoll, id, interest);
        self.count_handlers();
    }

    /// Removes a handler now. If it is the one being called, the rest follows when that call returns.
    pub(crate) fn remove_handler(&mut self, id: HandlerId, ack: Option<Ack>) {
        let entry = self.handlers.remove(&self.shared.epoll, id);
        self.count_handlers();
        if self.running == Some(Running::Handler(id)) {
            self.held.handlers.extend(entry);
            self.held.acks.extend(ack);
        } else {
            guard::discard(entry);
            drop(ack);
        }
    }

    /// The same for a timer.
    pub(crate) fn cancel_timer(&mut self, id: TimerId, ack: Option<Ack>) {
        guard::discard(self.timers.remove(id));
        if self.running == Some(Running::Timer(id)) {
            self.held.acks.extend(ack);
        }
    }

    pub(crate) fn count_handlers(&self) {
        let counters = &self.shared.counters;
        counters.handlers.set(self.handlers.len() as u64);
        counters.polled_handlers.set(self.handlers.polled() as u64);
    }

    fn call_timers(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        let now = Instant::now();
        for _ in 0..MAX_TIMERS {
            if self.stopping {
                return;
            }
            let Some((id, due, call)) = self.timers.begin(now) else { return };
            self.shared.counters.timer_calls.add(1);
            let call = self
                .call("timer", Running::Timer(id), |scope| match call {
                    TimerFn::Once(call) => {
                        call(scope);
                        None
                    }
                    TimerFn::Every(interval, mut call) => {
                        call(scope);
                        Some(TimerFn::Every(interval, call))
                    }
                })
                .flatten();
            guard::discard(self.timers.finish(id, due, Instant::now(), call));
            self.after_call();
        }
    }

    fn run_closures(&mut self) {
        for _ in 0..MAX_CLOSURES {
            if self.stopping {
                return;
            }
            let Some(closure) = self.closures.pop_front() else { return };
            self.shared.counters.closures.add(1);
            self.call("closure", Running::Closure, closure);
            self.after_call();
        }
    }

    fn dispatch(&mut self, events: &[Event]) {
        self.apply_messages();
        for event in events {
            let token = event.data.u64();
            if token == handlers::WAKE {
                self.shared.clear_wake();
                self.apply_messages();
            } else if let Some((call, events)) = self.handlers.begin(token, event.flags) {
                self.shared.counters.handler_calls.add(1);
                self.serve(call, |handler, scope| {
                    handler.ready(events, scope);
                    true
                });
            }
            if self.stopping {
                return;
            }
        }
    }

    /// Calls a handler that was taken out of the table. Gives what `serve` says, `true` if it panicked.
    pub(crate) fn serve(
        &mut self,
        mut call: Call,
        serve: impl FnOnce(&mut dyn Handler, &mut Scope<'_>) -> bool,
    ) -> bool {
        let id = call.id;
        let outcome = self.call("handler", Running::Handler(id), |scope| serve(call.handler.as_mut(), scope));
        if let Some(removed) = self.handlers.finish(call, outcome == Some(true)) {
            guard::discard(removed);
        }
        if outcome.is_none() {
            self.remove_handler(id, None);
        }
        self.after_call();
        outcome.unwrap_or(true)
    }

    fn call<R>(
        &mut self,
        what: &'static str,
        running: Running,
        f: impl FnOnce(&mut Scope<'_>) -> R,
    ) -> Option<R> {
        self.running = Some(running);
        let result = guard::call(what, || f(&mut Scope { event_loop: self }));
        self.running = None;
        if result.is_none() {
            self.shared.counters.panics.add(1);
        }
        result
    }

    /// What waited for the call to return, then what was asked during it.
    fn after_call(&mut self) {
        while let Some(handler) = self.held.handlers.pop() {
            guard::discard(handler);
        }
        self.held.acks.clear();
        self.apply_messages();
    }

    fn end(mut self) {
        for id in self.handlers.ids() {
            self.remove_handler(id, None);
        }
        for id in self.timers.ids() {
            self.cancel_timer(id, None);
        }
        while let Some(closure) = self.closures.pop_front() {
            guard::discard(closure);
        }
        // Waiting removals return as their messages are dropped, by which time their handlers are gone.
        for message in self.shared.inbox.close() {
            guard::discard(message);
        }
    }
}
