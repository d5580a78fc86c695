//! While one client of an iothread is silent, stuck, greedy or not reading, monitors answer in their usual time, and so does
//! the iothread to its other clients.
//!
//! Times are compared with those of the same run, before the hostile client came. This is about who waits for whom, not about
//! microseconds, which a busy machine has too many of: `make bench-vfio-user` measures those.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmm_integration::client::Client;
use vmm_integration::vfio_user::fds::guest_memory;
use vmm_integration::vfio_user::payload::{get_info, region_read, region_write, reset, scratch_start};
use vmm_integration::vfio_user::server::Device;
use vmm_integration::vfio_user::{DmaMap, MAX_TRANSFER, Peer, Server};

/// What a machine with other things to do may add to any answer.
const NOISE: Duration = Duration::from_millis(10);
const ROUNDS: usize = 3;
const SAMPLES: usize = 200;

/// One at a time: they would measure one another.
static ALONE: Mutex<()> = Mutex::new(());

fn p99(mut call: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..SAMPLES)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[SAMPLES * 99 / 100 - 1]
}

/// Tells when it is dropped.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Usual {
    monitor: Duration,
    access: Duration,
}

fn measure(monitor: &mut Client, neighbour: &mut Peer) -> Usual {
    let read = region_read(7, 0, 4);
    Usual {
        monitor: p99(|| {
            monitor.run("query-status");
        }),
        access: p99(|| {
            neighbour.ok(&read);
        }),
    }
}

/// `hostile` gets a client of device 0 and keeps at it until it is told to stop.
#[track_caller]
fn nobody_waits(hostile: impl Fn(&Server, &AtomicBool, &mut dyn FnMut()) + Sync) {
    let _alone = ALONE.lock();
    let server = Server::vmmd(&[Device::Scratch, Device::Scratch], 1);
    let mut monitor = server.vmm().client(0);
    let mut neighbour = server.peer(1);
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        let usual = measure(&mut monitor, &mut neighbour);
        let stop = AtomicBool::new(false);
        let (begun, wait) = std::sync::mpsc::channel();
        let now = std::thread::scope(|threads| {
            threads.spawn(|| hostile(&server, &stop, &mut || begun.send(()).unwrap()));
            // Also if a measurement fails: the hostile client would go on for ever.
            let _stops = Stops(&stop);
            wait.recv().unwrap();
            measure(&mut monitor, &mut neighbour)
        });
        if now.monitor <= usual.monitor * 2 + NOISE && now.access <= usual.access * 2 + NOISE {
            return;
        }
        seen.push(format!(
            "query-status {:?}, was {:?}; an access {:?}, was {:?}",
            now.monitor, usual.monitor, now.access, usual.access
        ));
    }
    panic!("others wait for a hostile client: {seen:?}");
}

fn hold(stop: &AtomicBool, begun: &mut dyn FnMut()) {
    begun();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn while_a_client_says_nothing() {
    nobody_waits(|server, stop, begun| {
        let _silent = server.stranger(0);
        hold(stop, begun);
    });
}

#[test]
fn while_a_first_message_stays_half() {
    nobody_waits(|server, stop, begun| {
        let mut peer = server.stranger(0);
        peer.send_bytes(&[0, 0, 1, 0, 200], &[]);
        hold(stop, begun);
    });
}

#[test]
fn while_a_message_stays_half() {
    nobody_waits(|server, stop, begun| {
        let mut peer = server.peer(0);
        peer.send_bytes(&region_write(0, 0, &[1; 4096]).encode()[..100], &[]);
        hold(stop, begun);
    });
}

#[test]
fn while_replies_are_not_read() {
    nobody_waits(|server, stop, begun| {
        let mut peer = server.peer(0);
        peer.stuff(&region_read(0, 0, MAX_TRANSFER).encode().repeat(500));
        hold(stop, begun);
    });
}

#[test]
fn while_a_question_stays_unanswered() {
    nobody_waits(|server, stop, begun| {
        let mut peer = server.peer(0);
        peer.ok(&DmaMap::new(0, 4096).message());
        peer.send(&scratch_start(0, 1, 64));
        assert!(!peer.message().is_reply());
        hold(stop, begun);
    });
}

#[test]
fn while_posted_writes_flood() {
    nobody_waits(|server, stop, begun| {
        flood(server, stop, begun, &region_write(0, 0, &[1; 4]).no_reply().encode())
    });
}

#[test]
fn while_large_writes_flood() {
    let write = region_write(0, 0, &vec![1; MAX_TRANSFER as usize]).no_reply().encode();
    nobody_waits(|server, stop, begun| flood(server, stop, begun, &write));
}

#[test]
fn while_resets_flood() {
    nobody_waits(|server, stop, begun| flood(server, stop, begun, &reset().no_reply().encode()));
}

fn flood(server: &Server, stop: &AtomicBool, begun: &mut dyn FnMut(), message: &[u8]) {
    let mut peer = server.peer(0);
    let burst = message.repeat((1 << 16_usize) / message.len() + 1);
    peer.send_bytes(&burst, &[]);
    begun();
    while !stop.load(Ordering::Relaxed) {
        peer.send_bytes(&burst, &[]);
    }
}

#[test]
fn while_reads_flood() {
    nobody_waits(|server, stop, begun| {
        let mut peer = server.peer(0);
        let burst = get_info().encode().repeat(200);
        peer.send_bytes(&burst, &[]);
        begun();
        while !stop.load(Ordering::Relaxed) {
            peer.send_bytes(&burst, &[]);
            for _ in 0..200 {
                peer.message();
            }
        }
    });
}

#[test]
fn while_a_device_works_for_hours() {
    nobody_waits(|server, stop, begun| {
        let mut peer = server.peer(0);
        let memory = guest_memory(1 << 20);
        peer.ok_with(&DmaMap::new(0, 1 << 20).message(), &[memory.as_fd()]);
        peer.send(&scratch_start(0, u32::MAX, 1 << 20));
        hold(stop, begun);
    });
}

#[test]
fn while_clients_come_and_go() {
    nobody_waits(|server, stop, begun| {
        begun();
        while !stop.load(Ordering::Relaxed) {
            let mut peer = server.stranger(0);
            peer.negotiate();
        }
    });
}
