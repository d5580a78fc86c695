//! What polling is worth: round trips of 4 bytes between a client and an iothread, in microseconds.
//!
//! `cargo run --release -p iothread --example ping_pong [ROUNDS]`. The client blocks or polls busily itself, and has a
//! core of its own or shares the iothread's. Beside the iothread, with polling off (`poll-max-ns=0`) and on, stand two
//! floors that do the same system calls and nothing else: a bare epoll loop and a bare busy loop.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use iothread::{Events, Handler, Interest, IoThread, Properties, Scope};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::thread::{CpuSet, sched_setaffinity};

type Failure = Box<dyn Error + Send + Sync>;

/// One message and its answer. `None`: there is none.
fn answer(mut stream: &UnixStream) -> Option<bool> {
    let mut buffer = [0; 64];
    match stream.read(&mut buffer) {
        Ok(count) if count > 0 => Some(stream.write_all(&buffer[..count]).is_ok()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        _ => Some(false),
    }
}

struct Pong(Arc<UnixStream>);

impl Handler for Pong {
    fn ready(&mut self, _: Events, scope: &mut Scope<'_>) {
        self.poll(scope);
    }

    fn poll(&mut self, scope: &mut Scope<'_>) -> bool {
        match answer(&self.0) {
            Some(true) => true,
            Some(false) => {
                scope.remove_current();
                true
            }
            None => false,
        }
    }
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        eprintln!("cannot pin a thread to CPU {cpu}: {error}");
    }
}

/// p50, p99 and mean of `rounds` round trips.
fn exchange(mut client: UnixStream, cpu: usize, busy: bool, rounds: usize) -> Result<[f64; 3], Failure> {
    pin(cpu);
    client.set_nonblocking(busy)?;
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds + rounds / 10 {
        let start = Instant::now();
        client.write_all(b"ping")?;
        let mut buffer = [0; 4];
        loop {
            match client.read(&mut buffer) {
                Ok(4) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return Err(format!("{other:?}").into()),
            }
        }
        if round >= rounds / 10 {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    times.sort_by(f64::total_cmp);
    Ok([times[times.len() / 2], times[times.len() * 99 / 100], mean])
}

#[derive(Clone, Copy, PartialEq)]
enum Server {
    Epoll,
    Busy,
    IoThread { poll_max_ns: i64 },
}

fn measure(server: Server, cpu: usize, busy: bool, rounds: usize) -> Result<([f64; 3], String), Failure> {
    let (client, stream) = UnixStream::pair()?;
    stream.set_nonblocking(true)?;
    let client = thread::spawn(move || exchange(client, cpu, busy, rounds));
    if let Server::IoThread { poll_max_ns } = server {
        let mut properties = Properties::default();
        properties.set("poll-max-ns", poll_max_ns)?;
        let iothread = IoThread::builder("IO pong").properties(properties).cpu_affinity([0]).start()?;
        let stream = Arc::new(stream);
        iothread.handle().add_polled(Arc::clone(&stream), Interest::READ, Pong(stream))?;
        let times = client.join().map_err(|_| "the client panicked")??;
        let stats = iothread.stats();
        let what = format!(
            "hits {}, misses {}, wake-ups {}, {} ns per wait polled",
            stats.poll_hits,
            stats.poll_misses,
            stats.wakeups,
            stats.polling.as_nanos() / u128::from(stats.wakeups + stats.poll_hits).max(1)
        );
        return Ok((times, what));
    }
    let floor = thread::spawn(move || {
        pin(0);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &stream, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        let mut events = Vec::with_capacity(8);
        loop {
            if server == Server::Epoll {
                events.clear();
                epoll::wait(&epoll, spare_capacity(&mut events), None)?;
            }
            if answer(&stream) == Some(false) {
                return Ok::<_, std::io::Error>(());
            }
        }
    });
    let times = client.join().map_err(|_| "the client panicked")??;
    floor.join().map_err(|_| "the floor panicked")??;
    Ok((times, String::new()))
}

fn main() -> Result<(), Failure> {
    let rounds = std::env::args().nth(1).map_or(Ok(20_000), |rounds| rounds.parse())?;
    println!("{:30} {:>22} {:>8} {:>8} {:>8}", "client", "server", "p50", "p99", "mean");
    for (cpu, core) in [(1, "its own core"), (0, "the same core")] {
        for busy in [false, true] {
            let client = format!("{}, {core}", if busy { "busy" } else { "blocking" });
            let servers = [
                (Server::Epoll, "bare epoll"),
                (Server::Busy, "bare busy loop"),
                (Server::IoThread { poll_max_ns: 0 }, "iothread, polling off"),
                (Server::IoThread { poll_max_ns: 32768 }, "iothread, polling on"),
            ];
            for (server, name) in servers {
                // Two that never sleep on one core take turns of milliseconds: as good as for ever.
                if server == Server::Busy && cpu == 0 {
                    continue;
                }
                let ([p50, p99, mean], what) = measure(server, cpu, busy, rounds)?;
                println!("{client:30} {name:>22} {p50:8.2} {p99:8.2} {mean:8.2}  {what}");
            }
        }
    }
    Ok(())
}
