//! The witness: sessions that were there before, asked all along by a thread of their own.
//!
//! It asks one session on the monitor that is attacked and one on another, and between them an echo of this test's own: a
//! thread that sends back what it gets. The echo costs the same wake-ups and knows nothing of `vmmd`, so it tells how much
//! of a wait is the machine's, which other tests keep busy.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vmm_integration::LIMIT;
use vmm_integration::client::Client;

/// Between two rounds. It makes a thousand questions a second at most, which disturbs nobody.
const PAUSE: Duration = Duration::from_millis(1);

/// Below two of these nobody is called slow, whatever his usual time, and below ten nobody whom one of ten answers keeps
/// waiting. It is a tick of a kernel with 250 of them a second: how long a thread that wants to run may wait for one that
/// runs, on a processor that both want. For an answer two threads have to run, the worker and the one who asked, and each
/// may find several others before it.
const TICK: Duration = Duration::from_millis(4);

/// Below this no single answer is called a stall. The one worker has to be scheduled on a machine that may have ten times
/// as many threads to run as processors, and may be in the middle of a message of many MiB. What blocks it by an attack of
/// this suite does so for 20 seconds or for ever.
const STALL: Duration = Duration::from_millis(500);

/// How much longer everything takes in a build without optimisation, by which both are multiplied: a turn of a session that
/// floods has at most 32 requests, whatever each takes.
const SLOWER: u32 = 30;

/// What one round took.
#[derive(Clone, Copy, Debug)]
struct Round {
    beside: Duration,
    apart: Duration,
    echo: Duration,
}

#[derive(Debug, Default)]
struct Log {
    rounds: Vec<Round>,
    over: bool,
}

/// A running witness.
#[derive(Debug)]
pub(crate) struct Witness {
    log: Arc<(Mutex<Log>, Condvar)>,
    thread: Option<JoinHandle<(Client, Client)>>,
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timed(call: impl FnOnce()) -> Duration {
    let start = Instant::now();
    call();
    start.elapsed()
}

/// The echo's end of a pair whose other end sends all back.
fn echo() -> UnixStream {
    let (here, mut there) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut byte = [0];
        while there.read_exact(&mut byte).is_ok() && there.write_all(&byte).is_ok() {}
    });
    here
}

impl Witness {
    /// Begins to ask these two: one on the monitor that is attacked, one elsewhere.
    pub(crate) fn start(mut beside: Client, mut apart: Client) -> Self {
        let log = Arc::<(Mutex<Log>, Condvar)>::default();
        let kept = Arc::clone(&log);
        let thread = std::thread::spawn(move || {
            let mut echo = echo();
            while !lock(&kept.0).over {
                let round = Round {
                    beside: timed(|| drop(beside.run("query-name"))),
                    apart: timed(|| drop(apart.run("query-name"))),
                    echo: timed(|| echo.write_all(&[1]).and_then(|()| echo.read_exact(&mut [0])).unwrap()),
                };
                lock(&kept.0).rounds.push(round);
                kept.1.notify_all();
                std::thread::sleep(PAUSE);
            }
            (beside, apart)
        });
        Self { log, thread: Some(thread) }
    }

    /// Waits until so many rounds have begun and ended from now on. It is over when a stall is, or with a failure.
    #[track_caller]
    pub(crate) fn rounds(&self, count: usize) {
        let enough = self.count() + 1 + count;
        let deadline = Instant::now() + LIMIT;
        let mut log = lock(&self.log.0);
        while log.rounds.len() < enough {
            let left = deadline.saturating_duration_since(Instant::now());
            let waits = !left.is_zero() && self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
            assert!(waits, "the witness is not answered any more");
            log = self.log.1.wait_timeout(log, left.min(STALL)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many rounds there have been.
    pub(crate) fn count(&self) -> usize {
        lock(&self.log.0).rounds.len()
    }

    /// Ends it, and gives the sessions back.
    #[track_caller]
    pub(crate) fn end(&mut self) -> (Client, Client) {
        lock(&self.log.0).over = true;
        let thread = self.thread.take().unwrap();
        thread.join().unwrap_or_else(|_| panic!("the witness was not answered"))
    }

    /// Compares the rounds from `attack` on with those before.
    ///
    /// Both the middle one and the one that nine of ten keep within may be three times what they were, or three times as
    /// many times as the echo's has grown; and some ticks. No single one may be a stall, unless the echo's was one too.
    #[track_caller]
    pub(crate) fn judge(&self, attack: usize, optimised: bool) {
        let slower = if optimised { 1 } else { SLOWER };
        let log = lock(&self.log.0);
        let (usual, attacked) = log.rounds.split_at(attack);
        let of =
            |rounds: &[Round], which: fn(&Round) -> Duration| Times::of(rounds.iter().map(which).collect());
        let (quiet, busy) = (of(usual, |round| round.echo), of(attacked, |round| round.echo));
        for (who, which) in [
            ("on the same monitor", (|round| round.beside) as fn(&Round) -> Duration),
            ("on another monitor", |round| round.apart),
        ] {
            let (usual, now) = (of(usual, which), of(attacked, which));
            let middle = allowed(usual.middle, quiet.middle, busy.middle).max(slower * 2 * TICK);
            let most = allowed(usual.most, quiet.most, busy.most).max(slower * 10 * TICK);
            let stall = slower * STALL + 2 * busy.longest;
            if std::env::var_os("HOSTILE_TIMES").is_some() {
                eprintln!(
                    "{who}: {usual:?} -> {now:?}; echo {quiet:?} -> {busy:?}; {} rounds",
                    attacked.len()
                );
            }
            assert!(
                now.middle <= middle && now.most <= most && now.longest <= stall,
                "a session {who} waits: {now:?}, usually {usual:?}, allowed {middle:?}, {most:?}, {stall:?}"
            );
        }
    }
}

/// Three times the usual, and as many times that as the machine is slower than it was.
fn allowed(usual: Duration, quiet: Duration, busy: Duration) -> Duration {
    let slower = (busy.as_secs_f64() / quiet.as_secs_f64().max(1e-6)).max(1.0);
    usual.mul_f64(3.0 * slower)
}

/// What some rounds took.
#[derive(Clone, Copy, Debug)]
struct Times {
    middle: Duration,
    /// Nine of ten took no longer.
    most: Duration,
    longest: Duration,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |tenths: usize| times.get((times.len() * tenths).div_ceil(10).saturating_sub(1)).copied();
        let at = |tenths| at(tenths).unwrap_or_default();
        Self { middle: at(5), most: at(9), longest: at(10) }
    }
}

#[test]
fn times_are_sorted_out() {
    let times = Times::of((1..=20).map(Duration::from_millis).collect());
    assert_eq!((times.middle, times.most, times.longest), {
        (Duration::from_millis(10), Duration::from_millis(18), Duration::from_millis(20))
    });
    assert_eq!(Times::of(vec![]).longest, Duration::ZERO);
}

#[test]
fn a_machine_that_is_slower_allows_more() {
    let ms = Duration::from_millis;
    assert_eq!(allowed(ms(1), ms(1), ms(1)), ms(3));
    assert_eq!(allowed(ms(1), ms(2), ms(1)), ms(3));
    assert_eq!(allowed(ms(1), ms(1), ms(4)), ms(12));
}
