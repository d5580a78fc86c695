//! Runs one case against a running server and stops at the first step that differs from the recording.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::compare::{Difference, Form, differ, gathered};
use super::corpus::{Arrivals, Case, Negotiation, Op, Payload, Step};
use super::end::End;
use super::mask::Mask;
use super::server::Server;
use crate::wire;

/// How long to wait for what. Every value grows with the factor of [`Timing::scaled`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// For recorded lines to arrive.
    pub(super) reply: Duration,
    /// For lines that nobody expects, once all expected ones are there.
    pub(super) grace: Duration,
    /// For a server to start, end, or take what is sent.
    pub(super) server: Duration,
}

impl Timing {
    /// The usual times, multiplied.
    pub(super) fn scaled(factor: f64) -> Self {
        let seconds = |seconds: f64| Duration::from_secs_f64(seconds * factor);
        Self { reply: seconds(3.0), grace: seconds(0.012), server: seconds(20.0) }
    }
}

/// Runs `case`; what it expects is `want`.
pub(super) fn run(
    case: &Case,
    want: &[Arrivals],
    server: &mut Server,
    timing: Timing,
    exact: bool,
) -> Result<(), Difference> {
    let form = Form { exact, pretty: case.group.starts_with("pretty") };
    let mut runner =
        Runner { mask: Mask::new(server.dir()), server, timing, ends: BTreeMap::new(), fds_before: 0 };
    let mut wanted = want.iter();
    let mut got_all = Vec::new();
    let nothing = Arrivals::new();

    let greeting = runner.open("0", "sock", case.neg, &mut wanted)?;
    if let Some((got, want)) = greeting {
        judge(case, form, 0, got, want, &mut got_all)?;
    }
    runner.fds_before = runner.server.process.fd_count();
    for (at, step) in case.send.iter().enumerate() {
        let want = wanted.next().unwrap_or(&nothing);
        let got = runner.step(step, want)?;
        judge(case, form, at, got, want, &mut got_all)?;
    }
    let surplus = runner.collect(&nothing, timing.reply);
    judge(case, form, case.send.len(), surplus, &nothing, &mut got_all)?;
    if case.unordered {
        differ(form, 0, &gathered(&got_all), &gathered(want))?;
    }
    Ok(())
}

/// Compares a step at once, or keeps it for the end when the order does not count.
fn judge(
    case: &Case,
    form: Form,
    at: usize,
    got: Arrivals,
    want: &Arrivals,
    all: &mut Vec<Arrivals>,
) -> Result<(), Difference> {
    if case.unordered {
        all.push(got);
        return Ok(());
    }
    differ(form, at, &got, want)
}

struct Runner<'a> {
    server: &'a mut Server,
    timing: Timing,
    mask: Mask,
    /// Connections by their number, kept ends of passed sockets by their name.
    ends: BTreeMap<String, End>,
    fds_before: usize,
}

impl Runner<'_> {
    /// Opens a connection. The greeting is compared only where nothing is negotiated.
    fn open<'w>(
        &mut self,
        name: &str,
        socket: &str,
        negotiation: Negotiation,
        wanted: &mut impl Iterator<Item = &'w Arrivals>,
    ) -> Result<Option<(Arrivals, &'w Arrivals)>, Difference> {
        self.connect(name, socket)?;
        let command: &[u8] = match negotiation {
            Negotiation::None => {
                let want = wanted.next().ok_or_else(|| Difference::trouble("no greeting is recorded"))?;
                return Ok(Some((self.collect(want, self.timing.reply), want)));
            }
            Negotiation::Plain => br#"{"execute": "qmp_capabilities"}"#,
            Negotiation::OutOfBand => br#"{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}"#,
        };
        let reply = self.negotiate(name, command)?;
        if reply.get(name).is_none_or(|lines| lines != &["{\"return\": {}}"]) {
            return Err(Difference::trouble(&format!("negotiation gave {reply:?}")));
        }
        Ok(None)
    }

    fn negotiate(&mut self, name: &str, command: &[u8]) -> Result<Arrivals, Difference> {
        let one_line = Arrivals::from([(name.to_owned(), vec![String::new()])]);
        self.collect(&one_line, self.timing.reply);
        self.send(name, command, &[])?;
        Ok(self.collect(&one_line, self.timing.reply))
    }

    fn connect(&mut self, name: &str, socket: &str) -> Result<(), Difference> {
        let path = self.server.socket(socket).map_err(|e| Difference::trouble(&e))?;
        let end = End::connect(path, self.timing.server)
            .map_err(|e| Difference::trouble(&format!("cannot connect to {socket}: {e}")))?;
        self.ends.insert(name.to_owned(), end);
        Ok(())
    }

    fn step(&mut self, step: &Step, want: &Arrivals) -> Result<Arrivals, Difference> {
        let name = step.connection.to_string();
        let fds = step.fds.iter().map(|kind| self.make_fd(kind)).collect::<Result<Vec<_>, _>>()?;
        match &step.payload {
            Some(Payload::Text(text)) => {
                let text = self.mask.outgoing(text);
                self.send_step(&name, text.as_bytes(), &fds, step.bytewise)?;
            }
            Some(Payload::Bytes(bytes)) => self.send_step(&name, bytes, &fds, step.bytewise)?,
            None => {}
        }
        drop(fds);
        for chunk in &step.chunks {
            let chunk = self.mask.outgoing(chunk);
            self.send(&name, chunk.as_bytes(), &[])?;
            // The moment between the chunks is what the case is about.
            std::thread::sleep(self.timing.grace);
        }
        if let Some(op) = &step.op {
            self.act(&name, op)?;
        }
        let reply = step.timeout.map_or(self.timing.reply, Duration::from_secs_f64);
        let mut got =
            if step.nocollect { Arrivals::new() } else { self.collect(want, reply.max(self.timing.reply)) };
        self.observe_process(step, want, &mut got);
        Ok(got)
    }

    fn act(&mut self, name: &str, op: &Op) -> Result<(), Difference> {
        match op {
            Op::Connect { socket, negotiate } => {
                self.connect(name, socket)?;
                if *negotiate {
                    self.negotiate(name, br#"{"execute":"qmp_capabilities"}"#)?;
                }
            }
            Op::Close => {
                self.ends.remove(name);
            }
            Op::ShutdownWrite => {
                let end = self.end(name)?;
                rustix::net::shutdown(end, rustix::net::Shutdown::Write)
                    .map_err(|e| Difference::trouble(&format!("shutdown: {e}")))?;
            }
            Op::Sleep(ms) => std::thread::sleep(Duration::from_millis(*ms)),
            Op::Wait | Op::Exit | Op::FdCount => {}
            Op::FifoOpenWrite => {
                let fifo = self.server.dir().join("fifo");
                crate::poll_until(self.timing.server, || {
                    wire::open_file(&fifo, OFlags::WRONLY | OFlags::NONBLOCK).is_ok()
                });
            }
            Op::PeerSend { peer, data } => {
                let data = self.mask.outgoing(data);
                self.send(peer, data.as_bytes(), &[])?;
            }
            Op::PeerClose { peer } => {
                self.ends.remove(peer);
            }
        }
        Ok(())
    }

    /// What is compared about the process itself.
    fn observe_process(&mut self, step: &Step, want: &Arrivals, got: &mut Arrivals) {
        let seen = match step.op {
            Some(Op::Exit) => match self.server.process.wait_exit(self.timing.server) {
                Some(status) => match status.code() {
                    Some(code) => format!("<exit {code}>"),
                    None => format!("<{status}>"),
                },
                None => "<still running>".to_owned(),
            },
            Some(Op::FdCount) => {
                // A server may still be closing what it no longer needs.
                let wanted = want.get("proc").and_then(|lines| lines.first());
                crate::poll_until(self.timing.reply, || wanted.is_none_or(|wanted| *wanted == self.fds()));
                self.fds()
            }
            _ => return,
        };
        got.insert("proc".to_owned(), vec![seen]);
    }

    fn fds(&self) -> String {
        let now = i128::try_from(self.server.process.fd_count()).unwrap_or_default();
        let before = i128::try_from(self.fds_before).unwrap_or_default();
        format!("<fds {:+}>", now - before)
    }

    fn end(&mut self, name: &str) -> Result<&mut End, Difference> {
        self.ends.get_mut(name).ok_or_else(|| Difference::trouble(&format!("connection {name} is not open")))
    }

    fn send_step(
        &mut self,
        name: &str,
        bytes: &[u8],
        fds: &[OwnedFd],
        bytewise: bool,
    ) -> Result<(), Difference> {
        if !bytewise {
            return self.send(name, bytes, fds);
        }
        for byte in bytes.chunks(1) {
            self.send(name, byte, &[])?;
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }

    fn send(&mut self, name: &str, bytes: &[u8], fds: &[OwnedFd]) -> Result<(), Difference> {
        let limit = self.timing.server;
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.end(name)?.send(bytes, &borrowed, limit);
        Ok(())
    }

    /// A descriptor of the named kind; what can be talked to on its other end joins [`Runner::ends`].
    fn make_fd(&mut self, kind: &str) -> Result<OwnedFd, Difference> {
        let file = self.server.dir().join("file");
        let null = std::path::Path::new("/dev/null");
        let made = match kind {
            "null_r" => wire::open_file(null, OFlags::RDONLY),
            "null_w" => wire::open_file(null, OFlags::WRONLY),
            "null_rw" => wire::open_file(null, OFlags::RDWR),
            "file_r" => wire::open_file(&file, OFlags::RDONLY),
            "file_rw" => wire::open_file(&file, OFlags::RDWR),
            _ => self.make_pair(kind),
        };
        made.map_err(|e| Difference::trouble(&format!("descriptor '{kind}': {e}")))
    }

    fn make_pair(&mut self, kind: &str) -> std::io::Result<OwnedFd> {
        let (name, kept, passed) = match kind.split_once(':') {
            Some(("sock", name)) => {
                let (kept, passed) = UnixStream::pair()?;
                kept.set_nonblocking(true)?;
                (name, OwnedFd::from(kept), OwnedFd::from(passed))
            }
            Some(("pipe", name)) => {
                let (kept, passed) = pipe_with(PipeFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(&kept, true)?;
                (name, kept, passed)
            }
            _ => return Err(std::io::Error::other("no such kind")),
        };
        self.ends.insert(name.to_owned(), End::new(kept));
        Ok(passed)
    }

    /// Reads until all that is wanted has come, and the grace after it has passed; at most `limit`.
    fn collect(&mut self, want: &Arrivals, limit: Duration) -> Arrivals {
        let mut got = Arrivals::new();
        let mut until = Instant::now() + limit;
        let mut graceful = false;
        loop {
            if !graceful && self.satisfied(&got, want) {
                graceful = true;
                until = Instant::now() + self.timing.grace;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.wait_readable(left) {
                break;
            }
            self.read_ready(&mut got);
        }
        for (name, end) in &mut self.ends {
            if let Some(tail) = end.take_tail() {
                let tail = format!("<TAIL>{}", self.mask.incoming(&tail));
                got.entry(name.clone()).or_default().push(tail);
            }
        }
        got
    }

    /// Waits for something to read. False when nothing came in time, or nothing can come any more.
    fn wait_readable(&self, limit: Duration) -> bool {
        let live = self.ends.values().filter(|end| !end.eof);
        let mut entries: Vec<_> = live.map(|end| PollFd::new(end, PollFlags::IN)).collect();
        let Ok(timeout) = Timespec::try_from(limit) else { return false };
        !entries.is_empty() && poll(&mut entries, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    fn read_ready(&mut self, got: &mut Arrivals) {
        for (name, end) in self.ends.iter_mut().filter(|(_, end)| !end.eof) {
            end.pump();
            let mut lines: Vec<_> = end.take_lines().iter().map(|line| self.mask.incoming(line)).collect();
            if end.eof {
                lines.extend(end.take_tail().map(|tail| format!("<TAIL>{}", self.mask.incoming(&tail))));
                lines.push("<EOF>".to_owned());
            }
            if !lines.is_empty() {
                got.entry(name.clone()).or_default().append(&mut lines);
            }
        }
    }

    fn satisfied(&self, got: &Arrivals, want: &Arrivals) -> bool {
        want.iter().filter(|(name, _)| *name != "proc").all(|(name, lines)| {
            let tails = lines.iter().filter(|line| line.starts_with("<TAIL>")).count();
            let have = got.get(name).map_or(0, Vec::len);
            let tail_seen = || self.ends.get(name).is_some_and(|end| end.has_tail() || end.eof);
            have >= lines.len() - tails && (tails == 0 || tail_seen())
        })
    }
}
