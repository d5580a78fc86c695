//! The floor: a server that does the socket work of a QMP monitor and nothing else.
//!
//! Absolute times move with the machine, so every figure of `bench-qmp` stands beside what this server reached in
//! the same round. It says what the kernel, the wake-ups and the load client cost by themselves; whatever a real
//! server needs on top of it is its own.
//!
//! # What it does
//!
//! One thread, one level-triggered epoll set, as many listeners and connections as are asked for. For a readable
//! connection, in this order:
//!
//! * **one `recvmsg`** of up to 64 KiB with a control buffer for 253 fds, as a monitor must have one; fds that
//!   arrive are closed at once;
//! * the requests in it are counted. A request is a line: the load client ends each command with one newline and
//!   has none inside, so a count of newlines (which the compiler vectorizes) finds the requests without parsing;
//! * **one `send`** with one pre-encoded `{"return": {}}` per request, the bytes that a real server answers to
//!   `qmp_capabilities`, `stop`, `getfd`, and to `query-name` of a nameless guest.
//!
//! A connection is greeted when it is accepted. A chunk that is a single `stop` or `cont` is also told to all
//! connections as an event first, pre-encoded like the reply, so that event fan-out has a floor too: one `send` per
//! session is what no server can avoid.
//!
//! # Why it is fair
//!
//! * It has the duties that cost system calls: room for fds in every read, non-blocking sends, a client that takes
//!   nothing is not read from until it does (without that, a flood would stop the server for everyone), and nobody
//!   is served twice before everybody ready was served once.
//! * It has nothing that a server could not have: no polling, no shared memory, no batching across connections, no
//!   knowledge of what will be asked.
//! * One thread is the fastest arrangement for work this small: a second would add wake-ups and save nothing.
//!
//! # What it is not
//!
//! It decodes nothing, keeps nothing, echoes no `id`, and answers every line alike: `add-fd` gets an empty reply
//! where a monitor names the fd (some 22 bytes more), and so does the 1,000-byte `id`. Sends of that size differ by
//! tens of nanoseconds.

use std::convert::Infallible;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendFlags};

/// What a connection is told first: the same length, to a few bytes, as a QEMU 7.2's greeting.
const GREETING: &[u8] = b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, \
\"package\": \"qmp-floor, not a monitor\"}, \"capabilities\": []}}\r\n";
/// The answer to every request.
const REPLY: &[u8] = b"{\"return\": {}}\r\n";
/// What all connections are told when one sends `stop` or `cont`.
const EVENT: &[u8] =
    b"{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 123456}, \"event\": \"STOP\"}\r\n";
/// Bytes taken from a connection at a time.
const CHUNK: usize = 64 * 1024;
/// Replies encoded in advance; more in one chunk are encoded when they are needed.
const ENCODED: usize = 4096;
/// The most fds that Linux lets one message carry (`SCM_MAX_FD`).
const MAX_FDS: usize = 253;

/// The echo server, bound and ready to [run](Floor::run).
#[derive(Debug)]
pub struct Floor {
    epoll: OwnedFd,
    listeners: Vec<UnixListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    replies: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    /// Output that the socket had no room for. While there is any, the connection is not read from.
    owed: Vec<u8>,
}

/// Whether a connection lives on after it was served.
enum Served {
    Open,
    Closed,
}

impl Floor {
    /// Binds a listener at each path. A listener's epoll data is its index; connections follow.
    ///
    /// # Errors
    ///
    /// Whatever `bind` or epoll report; a path that exists is an error.
    pub fn bind<P: AsRef<Path>>(paths: &[P]) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut listeners = Vec::with_capacity(paths.len());
        for (index, path) in paths.iter().enumerate() {
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            epoll::add(&epoll, &listener, EventData::new_u64(index as u64), EventFlags::IN)?;
            listeners.push(listener);
        }
        let replies = REPLY.repeat(ENCODED);
        Ok(Self { epoll, listeners, connections: Vec::new(), free: Vec::new(), replies })
    }

    /// Serves until the process is ended.
    ///
    /// # Errors
    ///
    /// Only an epoll failure or a failing `accept` ends it; a connection's failure closes that connection.
    pub fn run(mut self) -> io::Result<Infallible> {
        let mut ready = Vec::with_capacity(512);
        let mut chunk = vec![0; CHUNK].into_boxed_slice();
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut ready), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in ready.drain(..) {
                let data = event.data.u64();
                let Ok(index) = usize::try_from(data) else { continue };
                match index.checked_sub(self.listeners.len()) {
                    None => self.accept(index)?,
                    Some(slot) => self.serve(slot, event.flags, &mut chunk),
                }
            }
        }
    }

    /// Takes one connection, greets it and adds it to the set. More of them leave the listener readable.
    fn accept(&mut self, listener: usize) -> io::Result<()> {
        let stream = match self.listeners[listener].accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut connection = Connection { stream, owed: Vec::new() };
        if connection.send(GREETING).is_err() {
            return Ok(());
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let data = EventData::new_u64((self.listeners.len() + slot) as u64);
        epoll::add(&self.epoll, &connection.stream, data, EventFlags::IN)?;
        self.connections[slot] = Some(connection);
        Ok(())
    }

    fn serve(&mut self, slot: usize, flags: EventFlags, chunk: &mut [u8]) {
        // Taken out of its slot while it is served, so that a fan-out can borrow all the others.
        let Some(mut connection) = self.connections[slot].take() else { return };
        let served = if flags.contains(EventFlags::OUT) {
            connection.pay().map(|()| Served::Open)
        } else {
            self.answer(&mut connection, chunk)
        };
        match served.and_then(|served| self.watch(slot, &connection, flags).map(|()| served)) {
            Ok(Served::Open) => self.connections[slot] = Some(connection),
            Ok(Served::Closed) | Err(_) => self.free.push(slot),
        }
    }

    /// Reads once and answers what was read with one send.
    fn answer(&mut self, connection: &mut Connection, chunk: &mut [u8]) -> io::Result<Served> {
        let length = match connection.receive(chunk)? {
            Some(0) => return Ok(Served::Closed),
            Some(length) => length,
            None => return Ok(Served::Open),
        };
        let chunk = &chunk[..length];
        match chunk.iter().filter(|&&byte| byte == b'\n').count() {
            0 => {}
            1 if is_run_state_change(chunk) => {
                self.fan_out();
                connection.send(&[EVENT, REPLY].concat())?;
            }
            count @ 1..=ENCODED => connection.send(&self.replies[..count * REPLY.len()])?,
            count => connection.send(&REPLY.repeat(count))?,
        }
        Ok(Served::Open)
    }

    /// Sends the event to every connection but the one being served.
    fn fan_out(&mut self) {
        for slot in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[slot] else { continue };
            let failed = connection.send(EVENT).is_err();
            let owes = !connection.owed.is_empty();
            if failed {
                self.connections[slot] = None;
                self.free.push(slot);
            } else if owes && let Some(connection) = &self.connections[slot] {
                // A failure shows again, as an error of the connection, when it is next served.
                let _ = self.watch(slot, connection, EventFlags::IN);
            }
        }
    }

    /// Waits for room while output is owed, else for input. `watched` is what the connection waits for now.
    fn watch(&self, slot: usize, connection: &Connection, watched: EventFlags) -> io::Result<()> {
        let wanted = if connection.owed.is_empty() { EventFlags::IN } else { EventFlags::OUT };
        if !watched.contains(wanted) {
            let data = EventData::new_u64((self.listeners.len() + slot) as u64);
            epoll::modify(&self.epoll, &connection.stream, data, wanted)?;
        }
        Ok(())
    }
}

impl Connection {
    /// One `recvmsg`. `None` when there was nothing to read after all.
    fn receive(&self, chunk: &mut [u8]) -> io::Result<Option<usize>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&self.stream, &mut [IoSliceMut::new(chunk)], &mut control, flags);
        // Dropping `control` closes what arrived.
        match received {
            Ok(received) => Ok(Some(received.bytes)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// One `send`; what finds no room is owed.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.owed.is_empty() {
            self.owed.extend_from_slice(bytes);
            return Ok(());
        }
        match rustix::net::send(&self.stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(sent) => self.owed.extend_from_slice(&bytes[sent..]),
            Err(rustix::io::Errno::AGAIN) => self.owed.extend_from_slice(bytes),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Sends what is owed, now that there is room.
    fn pay(&mut self) -> io::Result<()> {
        let owed = std::mem::take(&mut self.owed);
        self.send(&owed)
    }
}

/// A single request that says `stop` or `cont`, by a look at its first bytes only.
fn is_run_state_change(request: &[u8]) -> bool {
    let head = &request[..request.len().min(32)];
    head.windows(6).any(|window| window == b"\"stop\"" || window == b"\"cont\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};

    /// A floor on a thread of its own; it ends with the test process.
    fn floor(listeners: usize) -> (tempfile::TempDir, Vec<std::path::PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..listeners).map(|index| dir.path().join(format!("{index}.sock"))).collect();
        let floor = Floor::bind(&paths).unwrap();
        std::thread::spawn(move || floor.run());
        (dir, paths)
    }

    fn line(reader: &mut impl BufRead) -> String {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn greets_and_answers_each_line_once() {
        let (_dir, paths) = floor(1);
        let mut client = BufReader::new(UnixStream::connect(&paths[0]).unwrap());
        assert!(line(&mut client).starts_with("{\"QMP\": "));
        client.get_mut().write_all(&b"{\"execute\": \"query-name\"}\n".repeat(10_000)).unwrap();
        client.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, REPLY.repeat(10_000));
    }

    #[test]
    fn a_stop_is_an_event_for_all_and_a_reply_for_one() {
        let (_dir, paths) = floor(2);
        let mut clients: Vec<_> =
            paths.iter().map(|path| BufReader::new(UnixStream::connect(path).unwrap())).collect();
        for client in &mut clients {
            line(client);
        }
        clients[0].get_mut().write_all(b"{\"execute\": \"stop\"}\n").unwrap();
        assert_eq!(line(&mut clients[1]).as_bytes(), EVENT);
        assert_eq!(line(&mut clients[0]).as_bytes(), EVENT);
        assert_eq!(line(&mut clients[0]).as_bytes(), REPLY);
    }

    #[test]
    fn a_client_that_reads_nothing_delays_nobody_and_gets_everything_later() {
        const LINES: usize = 200_000;
        let (_dir, paths) = floor(1);
        let mut greedy = BufReader::new(UnixStream::connect(&paths[0]).unwrap());
        line(&mut greedy);
        let mut writer = greedy.get_ref().try_clone().unwrap();
        let flood = std::thread::spawn(move || writer.write_all(&b"{}\n".repeat(LINES)));

        let mut other = BufReader::new(UnixStream::connect(&paths[0]).unwrap());
        line(&mut other);
        for _ in 0..100 {
            other.get_mut().write_all(b"{}\n").unwrap();
            assert_eq!(line(&mut other).as_bytes(), REPLY);
        }

        let mut replies = vec![0; LINES * REPLY.len()];
        greedy.read_exact(&mut replies).unwrap();
        flood.join().unwrap().unwrap();
        assert_eq!(replies, REPLY.repeat(LINES));
    }
}
