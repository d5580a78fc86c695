//! Who gives way to whom when a monitor is full: decisions, without I/O or clock.
//!
//! A monitor serves a number of clients at once. While it is full, those who come wait, and as long as somebody waits:
//!
//! 1. The oldest session that has never begun (never negotiated, or never sent a line) gives way, [`SPARED`] after it
//!    came. Those of a holder above its share go first. It gives way to its own holder's clients, and to those of a holder that
//!    has fewer places: nobody loses a place to who has more. So there is a time limit for negotiating only then.
//! 2. When all have begun, places are shared out: if the one who waits has less than its share, and another holder more
//!    than its own, the newest session of the largest such holder gives way, rather one whose client is not waiting for an
//!    answer. A share is the number of places, divided among all who hold or wait, rounded up. A lone holder may have
//!    all places.
//! 3. Else the one who waits goes on waiting, as in the backlog of a socket.
//!
//! A place that is free goes to the one whose holder has the fewest, and of such to who came first. At most [`ROOM`]
//! clients wait where they can be seen; a further one takes the place of the newest of the holder with the most there. Who
//! hangs up meanwhile, or ends its side without a word, is forgotten.
//!
//! A holder is a user, a host when users are not known, and who handed a client in is its holder. This host is one
//! whatever its addresses, and so are the hosts of an IPv6 network of 64 bits, each of which can have any address in it.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::Instant;

/// How long a session that has not begun is safe from giving way. Whoever speaks the protocol needs a fraction of that.
pub(crate) const SPARED: Duration = Duration::from_millis(500);

/// Clients that wait where they can be seen; more wait in the socket's backlog. Each is an open descriptor.
pub(crate) const ROOM: usize = 32;

/// Between two clients that are turned away because too many wait, or have hung up meanwhile: so a flood of them costs
/// next to nothing, and who stands behind them in the backlog is reached within moments.
pub(crate) const BETWEEN_TURNED_AWAY: Duration = Duration::from_millis(10);

/// Whose a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    /// A user's, by id.
    User(u32),
    /// A host's, as no user is known: the first address of those that it can have.
    Host(IpAddr),
    /// Nobody's that could be named.
    Unknown,
}

impl Holder {
    /// Whose a connection is.
    pub(crate) fn of(connection: &chardev::Connection) -> Self {
        let peer = connection.peer();
        match (connection.giver().or(peer.credentials), peer.ip) {
            (Some(credentials), _) => Self::User(credentials.uid),
            // Tests have no other host, so they take its addresses for several.
            (None, Some(ip)) if cfg!(test) => Self::Host(ip),
            (None, Some(ip)) => Self::host(ip),
            (None, None) => Self::Unknown,
        }
    }

    /// All of 127.0.0.0/8 is this host, and a socket can be bound to any of it.
    fn host(ip: IpAddr) -> Self {
        Self::Host(match ip.to_canonical() {
            ip if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
            ip => ip,
        })
    }
}

/// A session that has a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) holder: Holder,
    pub(crate) since: Instant,
    /// It has negotiated, or sent a line.
    pub(crate) begun: bool,
    /// A request of its client's is being executed, or waits.
    pub(crate) busy: bool,
    /// It was told to give way at this time.
    pub(crate) leaving: Option<Instant>,
}

/// Why a session gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    NeverBegun,
    AboveShare,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This seat's session gives way.
    GivesWay(usize, Why),
    /// Nobody does now. If there is a time, it may be different then; else when somebody comes, begins or goes.
    Wait(Option<Instant>),
}

/// Who gives way, if anybody, on a monitor with `max` places which are all taken. `leave`: how long a session that was
/// told to go is counted on; one whose command takes longer is not. `waiters`: whose clients wait, in the order they came.
pub(crate) fn decide(
    max: usize,
    now: Instant,
    leave: Duration,
    seats: &[Seat],
    waiters: &[Holder],
) -> Verdict {
    let counted_on =
        seats.iter().filter_map(|seat| seat.leaving).map(|since| since + leave).filter(|end| *end > now);
    // As many will be free in a moment.
    if waiters.len() <= counted_on.clone().count() {
        return Verdict::Wait(if waiters.is_empty() { None } else { counted_on.min() });
    }
    let held = count(seats.iter().filter(|seat| seat.leaving.is_none()).map(|seat| seat.holder));
    let share = share(max, &held, waiters);
    let above = |holder: &Holder| held.get(holder).is_some_and(|held| *held > share);
    let staying = || seats.iter().enumerate().filter(|(_, seat)| seat.leaving.is_none());

    let has = |holder: &Holder| held.get(holder).copied().unwrap_or(0);
    let gives_way_to_somebody =
        |seat: &Seat| waiters.iter().any(|waiter| *waiter == seat.holder || has(waiter) < has(&seat.holder));
    let idlers = || staying().filter(|(_, seat)| !seat.begun && gives_way_to_somebody(seat));
    let ripe = || idlers().filter(|(_, seat)| seat.since + SPARED <= now);
    if let Some((place, _)) = ripe().min_by_key(|(_, seat)| (!above(&seat.holder), seat.since)) {
        return Verdict::GivesWay(place, Why::NeverBegun);
    }
    if let Some(soon) = idlers().map(|(_, seat)| seat.since + SPARED).min() {
        return Verdict::Wait(Some(soon));
    }
    if waiters.iter().any(|waiter| has(waiter) < share) {
        let largest = held.iter().filter(|(holder, _)| above(holder)).map(|(_, held)| *held).max();
        let of_largest = |seat: &Seat| held.get(&seat.holder).copied() == largest;
        let newest =
            staying().filter(|(_, seat)| of_largest(seat)).max_by_key(|(_, seat)| (!seat.busy, seat.since));
        if let (Some(_), Some((place, _))) = (largest, newest) {
            return Verdict::GivesWay(place, Why::AboveShare);
        }
    }
    Verdict::Wait(counted_on.min())
}

/// Which of those who wait gets a place that is free.
pub(crate) fn next_in(seats: &[Seat], waiters: &[Holder]) -> Option<usize> {
    let held = count(seats.iter().map(|seat| seat.holder));
    let rank = |waiter: &Holder| held.get(waiter).copied().unwrap_or(0);
    // Of equal ones the first.
    waiters.iter().enumerate().min_by_key(|(_, waiter)| rank(waiter)).map(|(place, _)| place)
}

/// Which of those who wait is turned away when they are too many.
pub(crate) fn turned_away(waiters: &[Holder]) -> Option<usize> {
    let waiting = count(waiters.iter().copied());
    let most = waiting.values().copied().max();
    waiters.iter().rposition(|waiter| waiting.get(waiter).copied() == most)
}

fn count(holders: impl Iterator<Item = Holder>) -> HashMap<Holder, usize> {
    let mut counts = HashMap::new();
    holders.for_each(|holder| *counts.entry(holder).or_insert(0) += 1);
    counts
}

fn share(max: usize, held: &HashMap<Holder, usize>, waiters: &[Holder]) -> usize {
    let all: HashSet<&Holder> = held.keys().chain(waiters).collect();
    max.div_ceil(all.len().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVE: Duration = Duration::from_secs(2);
    const A: Holder = Holder::User(1000);
    const B: Holder = Holder::User(1001);
    const C: Holder = Holder::User(1002);

    struct Clock(Instant);

    impl Clock {
        fn new() -> Self {
            Self(Instant::now() + Duration::from_secs(3600))
        }

        fn ago(&self, ms: u64) -> Instant {
            self.0 - Duration::from_millis(ms)
        }

        /// A session that has begun so long ago.
        fn seat(&self, holder: Holder, ms: u64) -> Seat {
            Seat { holder, since: self.ago(ms), begun: true, busy: false, leaving: None }
        }

        fn idler(&self, holder: Holder, ms: u64) -> Seat {
            Seat { begun: false, ..self.seat(holder, ms) }
        }

        fn decide(&self, seats: &[Seat], waiters: &[Holder]) -> Verdict {
            decide(seats.len(), self.0, LEAVE, seats, waiters)
        }
    }

    #[test]
    fn the_oldest_that_never_began_goes_and_the_young_are_spared() {
        let clock = Clock::new();
        let seats = [clock.seat(A, 9000), clock.idler(A, 600), clock.idler(A, 700), clock.idler(A, 20)];
        assert_eq!(clock.decide(&seats, &[]), Verdict::Wait(None));
        assert_eq!(clock.decide(&seats, &[A]), Verdict::GivesWay(2, Why::NeverBegun));
        let young = [clock.seat(A, 9000), clock.idler(A, 499), clock.idler(A, 20)];
        assert_eq!(clock.decide(&young, &[A]), Verdict::Wait(Some(clock.ago(499) + SPARED)));
        assert_eq!(clock.decide(&[clock.idler(A, 500)], &[B]), Verdict::GivesWay(0, Why::NeverBegun));
    }

    #[test]
    fn those_of_a_holder_above_its_share_go_first() {
        let clock = Clock::new();
        let seats = [clock.idler(B, 900), clock.idler(A, 800), clock.idler(A, 700), clock.idler(A, 600)];
        assert_eq!(clock.decide(&seats, &[A]), Verdict::GivesWay(1, Why::NeverBegun));
    }

    #[test]
    fn nobody_loses_a_place_to_who_has_more() {
        let clock = Clock::new();
        let mut seats: Vec<_> = (1..=7).map(|n| clock.seat(A, n * 1000)).collect();
        seats.push(clock.idler(B, 700));
        assert_eq!(clock.decide(&seats, &[A]), Verdict::Wait(None));
        // But to its own holder's, and to somebody who has none.
        assert_eq!(clock.decide(&seats, &[A, B]), Verdict::GivesWay(7, Why::NeverBegun));
        assert_eq!(clock.decide(&seats, &[A, C]), Verdict::GivesWay(7, Why::NeverBegun));
        let idlers = [clock.idler(A, 900), clock.idler(A, 800), clock.idler(B, 1000), clock.idler(B, 1000)];
        assert_eq!(clock.decide(&idlers, &[A]), Verdict::GivesWay(0, Why::NeverBegun));
    }

    #[test]
    fn a_host_is_one_whatever_its_addresses() {
        let host = |ip: &str| Holder::host(ip.parse().unwrap());
        for loopback in ["127.0.1.1", "127.255.0.9", "::1", "::ffff:127.0.0.2"] {
            assert_eq!(host(loopback), host("127.0.0.1"), "{loopback}");
        }
        assert_eq!(host("2001:db8::1"), host("2001:db8::ffff:0:0:2"));
        assert_ne!(host("2001:db8::1"), host("2001:db8:0:1::1"));
        assert_eq!(host("::ffff:192.0.2.1"), host("192.0.2.1"));
        assert_ne!(host("192.0.2.1"), host("192.0.2.2"));
    }

    #[test]
    fn a_lone_user_may_have_it_all_and_gives_way_to_another() {
        let clock = Clock::new();
        let seats: Vec<_> = (1..=4).map(|n| clock.seat(A, n * 1000)).collect();
        assert_eq!(clock.decide(&seats, &[A]), Verdict::Wait(None));
        assert_eq!(clock.decide(&seats, &[A, B]), Verdict::GivesWay(0, Why::AboveShare));
        // Rather one that does nothing.
        let mut busy = seats.clone();
        busy[0].busy = true;
        assert_eq!(clock.decide(&busy, &[B]), Verdict::GivesWay(1, Why::AboveShare));
        busy.iter_mut().for_each(|seat| seat.busy = true);
        assert_eq!(clock.decide(&busy, &[B]), Verdict::GivesWay(0, Why::AboveShare));
    }

    #[test]
    fn shares_are_kept_and_do_not_go_to_and_fro() {
        let clock = Clock::new();
        let seats = [clock.seat(A, 1), clock.seat(A, 2), clock.seat(B, 3), clock.seat(B, 4)];
        for waiter in [A, B] {
            assert_eq!(clock.decide(&seats, &[waiter]), Verdict::Wait(None), "{waiter:?}");
        }
        // Three holders of four places: two for each.
        assert_eq!(clock.decide(&seats, &[C]), Verdict::Wait(None));
        let seats = [clock.seat(A, 1), clock.seat(A, 2), clock.seat(A, 3), clock.seat(B, 4)];
        assert_eq!(clock.decide(&seats, &[C]), Verdict::GivesWay(0, Why::AboveShare));
        assert_eq!(clock.decide(&seats, &[A]), Verdict::Wait(None));
    }

    #[test]
    fn who_was_told_to_go_is_counted_on_for_a_while() {
        let clock = Clock::new();
        let mut seats = [clock.seat(A, 1000), clock.seat(A, 2000), clock.seat(A, 3000), clock.seat(A, 4000)];
        seats[0].leaving = Some(clock.ago(100));
        let end = clock.ago(100) + LEAVE;
        assert_eq!(clock.decide(&seats, &[B]), Verdict::Wait(Some(end)));
        assert_eq!(clock.decide(&seats, &[B, B]), Verdict::GivesWay(1, Why::AboveShare));
        // Its command takes longer: another one goes.
        seats[0].leaving = Some(clock.ago(3000));
        assert_eq!(clock.decide(&seats, &[B]), Verdict::GivesWay(1, Why::AboveShare));
    }

    #[test]
    fn a_place_goes_to_whoever_has_fewest() {
        let clock = Clock::new();
        let seats = [clock.seat(A, 1), clock.seat(A, 1), clock.seat(B, 1)];
        assert_eq!(next_in(&seats, &[A, A, B, B]), Some(2));
        assert_eq!(next_in(&seats, &[A, A]), Some(0));
        assert_eq!(next_in(&seats, &[A, B, C]), Some(2));
        assert_eq!(next_in(&seats, &[]), None);
    }

    #[test]
    fn the_newest_of_the_many_is_turned_away() {
        assert_eq!(turned_away(&[A, A, A, B]), Some(2));
        assert_eq!(turned_away(&[]), None);
    }

    /// Whatever a holder does, another one that comes gets in: the flooder's places are taken until it has its share.
    #[test]
    fn a_flooder_cannot_keep_another_out() {
        let clock = Clock::new();
        let mut seats: Vec<_> = (0..64).map(|n| clock.seat(A, 10 + n)).collect();
        let mut waiters: Vec<_> = (0..20).map(|_| A).collect();
        for round in 1..=32 {
            waiters.push(B);
            let Verdict::GivesWay(place, Why::AboveShare) = clock.decide(&seats, &waiters) else {
                panic!("{round}");
            };
            assert_eq!(seats.remove(place).holder, A);
            let place = next_in(&seats, &waiters).unwrap();
            let let_in = waiters.remove(place);
            assert_eq!(let_in, B);
            seats.push(clock.seat(let_in, 0));
        }
        assert_eq!(clock.decide(&seats, &[B]), Verdict::Wait(None));
    }
}
