//! The addresses of a host's name.
//!
//! The C library's resolver blocks, for as long as servers do not answer, and cannot be stopped. So each look-up has a thread, which
//! may go on when nobody waits any more; and there are so many at most, as clients choose names and when to look them up.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use rustix::io::Errno;
use thread_start::Starter;
use tokio::sync::Semaphore;

/// How long is waited for one, its turn included.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many there are at once in this process. Beyond that they wait: the resolver asks the same few servers for all.
const AT_ONCE: usize = 64;

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// Looks a host up. May be dropped at any time; the look-up goes on then, and its turn ends with it.
///
/// # Errors
/// What the resolver says, `ETIMEDOUT` after 10 s, or that no thread can be started.
pub(crate) async fn look_up(starter: &Starter, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.to_owned();
    in_turn(&TURNS, starter, move || (&*host, port).to_socket_addrs().map(Iterator::collect)).await
}

async fn in_turn<T: Send + 'static>(
    turns: &'static Semaphore,
    starter: &Starter,
    look_up: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let looked_up = async {
        let turn = turns.acquire().await.unwrap_or_else(|_| unreachable!("it is never closed"));
        let look_up = move || {
            let _turn = turn;
            look_up()
        };
        starter.clone().apart_name("resolve").apart(look_up).await?
    };
    tokio::time::timeout(PATIENCE, looked_up).await.unwrap_or_else(|_| Err(Errno::TIMEDOUT.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_keeps_its_turn_and_nobody_who_asked() {
        static TURNS: Semaphore = Semaphore::const_new(1);
        let starter = Starter::default();
        let (answer, answered) = mpsc::channel();
        let hangs = in_turn(&TURNS, &starter, move || answered.recv().map_err(io::Error::other));
        assert_eq!(hangs.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Its thread goes on, so the next has no turn.
        let next = in_turn(&TURNS, &starter, || -> io::Result<()> { unreachable!("it has no turn") });
        assert_eq!(next.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        answer.send(()).unwrap();
        assert!(starter.join_apart(Duration::from_secs(60)));
        tokio::time::resume();
        assert_eq!(in_turn(&TURNS, &starter, || Ok(7)).await.unwrap(), 7);
    }
}
