//! What waits to be closed, and whose turn it is.
//!
//! A close that does not end keeps a thread. So that nobody can take them all, what came from a client is closed by
//! [`PER_ACCOUNT`] threads at most for one session, [`PER_USER`] for one user of the system, and [`PER_ALL`] for all of them
//! together; the rest waits behind its own kind. Those whose turn it may be take turns. What is the process's own never waits
//! behind a client's.

use std::collections::{HashMap, VecDeque};

/// Threads that may close for one session at once.
pub(crate) const PER_ACCOUNT: usize = 16;

/// Threads that may close for the sessions and connections of one user at once, and for all of whom nothing is known.
pub(crate) const PER_USER: usize = 64;

/// Threads that may close for all clients at once.
pub(crate) const PER_ALL: usize = 960;

/// Closes that may be under way at once before all further ones wait. Those above 960 are for the process's own.
pub const MAX_THREADS: usize = 1024;

/// Who is to blame when a close takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// Nobody: the process made it, and nobody else has it.
    Ours,
    /// A client.
    Client {
        /// The user of the system, if that is known.
        user: Option<u32>,
        /// The session's account, if it is a session's.
        account: Option<usize>,
    },
}

/// What waits for one session, or one user's connections.
struct Lane<T> {
    waiting: VecDeque<T>,
    busy: usize,
}

pub(crate) struct Queues<T> {
    ours: VecDeque<T>,
    lanes: HashMap<Owner, Lane<T>>,
    /// The lanes in which something waits, the next one first.
    turns: VecDeque<Owner>,
    /// How many are busy, by user.
    users: HashMap<Option<u32>, usize>,
    /// How many are busy for clients.
    busy: usize,
}

impl<T> Queues<T> {
    pub(crate) fn new() -> Self {
        let (ours, lanes, turns, users, busy) = Default::default();
        Self { ours, lanes, turns, users, busy }
    }

    pub(crate) fn push(&mut self, owner: Owner, item: T) {
        if owner == Owner::Ours {
            return self.ours.push_back(item);
        }
        let lane = self.lanes.entry(owner).or_insert_with(|| Lane { waiting: VecDeque::new(), busy: 0 });
        if lane.waiting.is_empty() {
            self.turns.push_back(owner);
        }
        lane.waiting.push_back(item);
    }

    /// The same, ahead of what waits there: what has come out of something that was closed.
    pub(crate) fn push_next(&mut self, owner: Owner, item: T) {
        self.push(owner, item);
        let of_owner = match self.lanes.get_mut(&owner) {
            Some(lane) if owner != Owner::Ours => &mut lane.waiting,
            _ => &mut self.ours,
        };
        of_owner.rotate_right(1);
    }

    /// Whether [`take`](Self::take) would find something.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ours.is_empty() || self.next().is_some()
    }

    /// Whether half of the threads that may close for this owner, or its user, do.
    pub(crate) fn is_crowded(&self, owner: Owner) -> bool {
        let busy = self.lanes.get(&owner).map_or(0, |lane| lane.busy);
        let of_user = self.users.get(&owner.user()).copied().unwrap_or(0);
        owner != Owner::Ours && (busy > owner.share() / 2 || of_user > PER_USER / 2)
    }

    /// What is to be closed next. When that is over, [`done`](Self::done) must be called.
    pub(crate) fn take(&mut self) -> Option<(Owner, T)> {
        if let Some(item) = self.ours.pop_front() {
            return Some((Owner::Ours, item));
        }
        let owner = self.turns.remove(self.next()?)?;
        let lane = self.lanes.get_mut(&owner)?;
        let item = lane.waiting.pop_front()?;
        lane.busy += 1;
        if !lane.waiting.is_empty() {
            self.turns.push_back(owner);
        }
        self.busy += 1;
        *self.users.entry(owner.user()).or_default() += 1;
        Some((owner, item))
    }

    /// Something that was taken has been closed.
    pub(crate) fn done(&mut self, owner: Owner) {
        let Some(lane) = self.lanes.get_mut(&owner) else { return };
        lane.busy -= 1;
        if lane.busy == 0 && lane.waiting.is_empty() {
            self.lanes.remove(&owner);
        }
        self.busy -= 1;
        if let Some(busy) = self.users.get_mut(&owner.user()) {
            *busy -= 1;
            if *busy == 0 {
                self.users.remove(&owner.user());
            }
        }
    }

    /// The first lane that may have a thread.
    fn next(&self) -> Option<usize> {
        let busy = |owner: &Owner| self.lanes.get(owner).map_or(0, |lane| lane.busy);
        let of_user = |owner: &Owner| self.users.get(&owner.user()).copied().unwrap_or(0);
        let may = |owner: &Owner| busy(owner) < owner.share() && of_user(owner) < PER_USER;
        if self.busy < PER_ALL { self.turns.iter().position(may) } else { None }
    }
}

impl Owner {
    /// How many threads may close for it at once.
    fn share(self) -> usize {
        match self {
            Self::Client { account: Some(_), .. } => PER_ACCOUNT,
            _ => PER_USER,
        }
    }

    fn user(self) -> Option<u32> {
        match self {
            Self::Ours => None,
            Self::Client { user, .. } => user,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(user: u32, account: usize) -> Owner {
        Owner::Client { user: Some(user), account: Some(account) }
    }

    /// All that can be taken while nothing ends.
    fn take_all<T>(queues: &mut Queues<T>) -> Vec<(Owner, T)> {
        std::iter::from_fn(|| queues.take()).collect()
    }

    #[test]
    fn a_session_a_user_and_all_clients_have_their_shares_and_ours_has_the_rest() {
        let mut queues = Queues::new();
        (0..1000).for_each(|n| queues.push(client(1, 1), n));
        assert_eq!(take_all(&mut queues).len(), PER_ACCOUNT);
        for account in 2..100 {
            (0..100).for_each(|n| queues.push(client(1, account), n));
        }
        assert_eq!(take_all(&mut queues).len(), PER_USER - PER_ACCOUNT);
        for user in 2..100 {
            (0..100).for_each(|n| queues.push(client(user, 1000), n));
        }
        assert_eq!(take_all(&mut queues).len(), PER_ALL - PER_USER);
        assert!(!queues.is_ready());
        (0..MAX_THREADS - PER_ALL).for_each(|n| queues.push(Owner::Ours, n));
        assert_eq!(take_all(&mut queues).len(), MAX_THREADS - PER_ALL);
    }

    #[test]
    fn who_waits_behind_nobody_else_is_next_and_a_place_that_is_free_is_taken() {
        let mut queues = Queues::new();
        (0..1000).for_each(|n| queues.push(client(1, 1), n));
        let stuck = take_all(&mut queues);
        queues.push(client(1, 2), 7);
        queues.push(client(2, 3), 8);
        assert_eq!(take_all(&mut queues), [(client(1, 2), 7), (client(2, 3), 8)]);
        queues.done(stuck[0].0);
        assert_eq!(queues.take(), Some((client(1, 1), PER_ACCOUNT)));
        assert_eq!(queues.take(), None);
    }

    #[test]
    fn what_comes_out_of_something_is_next() {
        let mut queues = Queues::new();
        for owner in [client(1, 1), Owner::Ours] {
            queues.push(owner, 1);
            queues.push(owner, 2);
            queues.push_next(owner, 0);
            let order: Vec<_> = take_all(&mut queues).iter().map(|(_, item)| *item).collect();
            assert_eq!(order, [0, 1, 2]);
        }
    }

    #[test]
    fn an_owner_is_crowded_when_half_its_threads_or_its_users_are_busy() {
        let mut queues = Queues::new();
        let mut busy = |account, count| {
            (0..count).for_each(|n| queues.push(client(1, account), n));
            assert_eq!(take_all(&mut queues).len(), count);
            queues.is_crowded(client(1, account))
        };
        assert_eq!([busy(1, PER_ACCOUNT / 2), busy(1, 1)], [false, true]);
        assert_eq!([busy(2, 8), busy(3, 8), busy(4, 7), busy(5, 1)], [false, false, false, true]);
        assert!(!queues.is_crowded(client(2, 1)) && !queues.is_crowded(Owner::Ours));
    }

    #[test]
    fn lanes_take_turns_and_leave_nothing_behind() {
        let mut queues = Queues::new();
        for account in [1, 2, 3] {
            (0..2).for_each(|_| queues.push(client(1, account), account));
        }
        let all = take_all(&mut queues);
        assert_eq!(all.iter().map(|(_, item)| *item).collect::<Vec<_>>(), [1, 2, 3, 1, 2, 3]);
        all.iter().for_each(|(owner, _)| queues.done(*owner));
        assert!(queues.lanes.is_empty() && queues.users.is_empty() && queues.turns.is_empty());
        assert_eq!(queues.busy, 0);
    }
}
