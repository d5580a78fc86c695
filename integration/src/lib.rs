//! Processes and several clients: what the integration tests and the replayer stand on.
//!
//! * [`vmm`] starts a `vmmd` with monitors in a directory of its own and watches it: descriptors, memory, exit.
//! * [`client`] is a small blocking QMP client that shares no code with the server under test.
//! * [`replay`] runs recorded QMP exchanges against any server and compares.
//! * [`random`] makes the same stream of requests again from a seed.
//! * [`http`] asks a server of metrics, rightly or not.
//! * [`guest`] boots a Linux guest in QEMU and reads its console.
//! * [`qtest`] starts a machine as QEMU's own test programs do and pokes its ports.
//! * [`vfio_user`] is a raw vfio-user client, right or wrong as a test wants it, and servers to try it on.
//! * [`passed`] is a listener to pass, whose connections its giver takes away.
//! * [`process`] and [`wire`] are what they have in common: a child process that cannot outlive its owner, and
//!   bytes with file descriptors over a socket.
//!
//! Everything here blocks and is meant for test threads. Nothing sleeps for a fixed time where there is an event to
//! wait for; what can only be polled is polled against a deadline, never longer than [`LIMIT`].

use std::time::Duration;

pub mod client;
pub mod guest;
pub mod http;
pub mod passed;
pub mod process;
pub mod qtest;
pub mod random;
pub mod replay;
pub mod vfio_user;
pub mod vmm;
pub mod wire;

/// How long a test waits for something that should happen at once before it calls it missing.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Asks `condition` again and again, a few milliseconds apart, until it says yes or `limit` has passed.
///
/// For what the kernel offers no event for, such as another process's descriptor count.
pub fn poll_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
