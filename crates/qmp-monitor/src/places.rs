//! A monitor's places: who has one, and who waits for one. The decisions are [`admission`](crate::admission)'s.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chardev::{Connection, FrontEnd};
use tokio::task;
use tokio::time::Instant;

use crate::admission::{self, BETWEEN_TURNED_AWAY, Holder, ROOM, Seat, Verdict, Why};
use crate::session::{FAREWELL, QmpSession};

/// How long a session that was told to give way is counted on: it has [`FAREWELL`] to write what it has.
const LEAVE: Duration = FAREWELL.saturating_add(Duration::from_millis(200));

/// Between two looks at those who wait: what hangs up there keeps its descriptor no longer than that.
const SWEEP: Duration = Duration::from_secs(1);

/// A session that has a place.
struct Seated {
    task: task::Id,
    state: Arc<QmpSession>,
    holder: Holder,
    since: Instant,
    leaving: Option<Instant>,
}

/// Those who have places and those who wait.
pub(crate) struct Places {
    max: usize,
    seated: Vec<Seated>,
    waiting: VecDeque<Connection>,
    /// One was turned away or has gone: the next client is looked at after this.
    pause: Option<Instant>,
}

/// What has changed by [`Places::settle`].
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// When to settle again, if nothing happens before.
    pub(crate) again: Option<Instant>,
    /// Sessions that were told to give way.
    pub(crate) gave_way: Vec<(Arc<QmpSession>, Why)>,
}

impl Places {
    /// The places of a front end, which gets a waiting room if it serves several.
    pub(crate) fn new(front_end: &mut FrontEnd) -> Self {
        // One more, to see who is to be turned away.
        front_end.add_waiting_room(ROOM + 1);
        Self { max: front_end.max_clients(), seated: Vec::new(), waiting: VecDeque::new(), pause: None }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Until when nobody else is to be looked at.
    pub(crate) fn pause(&mut self) -> Option<Instant> {
        self.pause = self.pause.filter(|until| *until > Instant::now());
        self.pause
    }

    /// A session has a place.
    pub(crate) fn seat(&mut self, task: task::Id, state: Arc<QmpSession>, holder: Holder) {
        self.seated.push(Seated { task, state, holder, since: Instant::now(), leaving: None });
    }

    /// A session's task has ended.
    pub(crate) fn free(&mut self, task: task::Id) {
        self.seated.retain(|seated| seated.task != task);
    }

    /// A client waits. Gives one that is turned away, if too many do.
    pub(crate) fn wait(&mut self, connection: Connection) -> Option<Connection> {
        let now = Instant::now();
        self.forget_gone(now);
        self.waiting.push_back(connection);
        if self.waiting.len() <= ROOM {
            return None;
        }
        self.pause = Some(now + BETWEEN_TURNED_AWAY);
        admission::turned_away(&self.waiters()).and_then(|place| self.waiting.remove(place))
    }

    /// Who gets a place that is free.
    pub(crate) fn next_in(&mut self) -> Option<Connection> {
        if self.waiting.is_empty() {
            return None;
        }
        let place = admission::next_in(&self.seats(), &self.waiters())?;
        self.waiting.remove(place)
    }

    /// Who has waited, for the chardev.
    pub(crate) fn take_waiting(&mut self) -> VecDeque<Connection> {
        std::mem::take(&mut self.waiting)
    }

    /// Forgets those who have hung up, and has sessions give way to the others, while there is no place for them.
    pub(crate) fn settle(&mut self) -> Settled {
        let mut settled = Settled::default();
        // Nearly always. The clock is looked at for those who wait.
        if self.waiting.is_empty() {
            return settled;
        }
        let now = Instant::now();
        self.forget_gone(now);
        while !self.waiting.is_empty() {
            match admission::decide(self.max, now, LEAVE, &self.seats(), &self.waiters()) {
                Verdict::GivesWay(place, why) => {
                    let seated = &mut self.seated[place];
                    seated.leaving = Some(now);
                    settled.gave_way.push((seated.state.clone(), why));
                }
                Verdict::Wait(again) => {
                    let sweep = now + SWEEP;
                    settled.again = Some(again.map_or(sweep, |again| again.min(sweep)));
                    break;
                }
            }
        }
        settled
    }

    fn seats(&self) -> Vec<Seat> {
        let seat = |seated: &Seated| Seat {
            holder: seated.holder,
            since: seated.since,
            begun: seated.state.has_begun(),
            busy: seated.state.queued() > 0,
            leaving: seated.leaving,
        };
        self.seated.iter().map(seat).collect()
    }

    fn waiters(&self) -> Vec<Holder> {
        self.waiting.iter().map(Holder::of).collect()
    }

    /// Whoever hangs up before it was greeted wants no answer, and who has ended its side without a word has no question. Nobody else
    /// is looked at for a moment then, as when one is turned away: in a flood of such, each free place wakes the monitor's task at
    /// once, and the runtime looks at other sockets only after dozens of its turns.
    fn forget_gone(&mut self, now: Instant) {
        let waited = self.waiting.len();
        self.waiting.retain(|connection| !connection.is_spent());
        if self.waiting.len() < waited {
            self.pause = Some(now + BETWEEN_TURNED_AWAY);
        }
    }
}
