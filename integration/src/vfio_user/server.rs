//! A server with devices in a process of its own, and the checks that a client has left no trace on it.
//!
//! Servers are of two makes: a `vmmd`, with monitors, or `export-device`, which is the library alone and takes deadlines
//! and limits. `HOSTILE_SERVER=library` has all scenes use the latter, to tell apart where a fault is.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use super::message::Message;
use super::payload;
use super::peer::Peer;
use crate::process::Process;
use crate::vmm::{self, Vmm};
use crate::wire::is_listening;
use crate::{LIMIT, client, poll_until};

/// A device that a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// QEMU's teaching device: registers, a factorial, DMA through a buffer of its own.
    Edu,
    /// 2 MiB of memory as region 0, DMA on command by region 2, 8 MSI-X vectors.
    Scratch,
}

impl Device {
    fn name(self) -> &'static str {
        match self {
            Self::Edu => "edu",
            Self::Scratch => "scratch",
        }
    }
}

/// A running server; it and its directory are gone when this is dropped.
#[derive(Debug)]
pub struct Server {
    host: Host,
}

#[derive(Debug)]
enum Host {
    Vmmd(Vmm),
    Library(Process, TempDir),
}

impl Server {
    /// A `vmmd` that exports these devices, or the library alone if that is what the environment says.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn new(devices: &[Device]) -> Self {
        if std::env::var_os("HOSTILE_SERVER").is_some_and(|make| make == "library") {
            return Self::library(devices, &[]);
        }
        Self::vmmd(devices, 1)
    }

    /// A `vmmd` with `monitors` monitors that exports these devices, all on one iothread.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn vmmd(devices: &[Device], monitors: usize) -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("no directory: {e}"));
        let mut extra = vec!["-object".to_owned(), "iothread,id=io0".to_owned()];
        for (number, device) in devices.iter().enumerate() {
            let path = socket_path(dir.path(), number);
            extra.extend([
                "-device".to_owned(),
                format!("{},id=dev{number}", device.name()),
                "-object".to_owned(),
            ]);
            extra.push(format!(
                "x-vfio-user-server,id=vfu{number},type=unix,path={},device=dev{number},iothread=io0,reconnect=on",
                path.display()
            ));
        }
        let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
        let vmm = Vmm::with_dir(vmm::Setup { monitors, extra: &extra, ..vmm::Setup::default() }, dir);
        Self::ready(Host::Vmmd(vmm), devices.len())
    }

    /// The library alone, with further options of `export-device`.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn library(devices: &[Device], options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("no directory: {e}"));
        let mut argv = vec![beside("export-device").to_string_lossy().into_owned()];
        argv.extend(options.iter().map(|&option| option.to_owned()));
        for (number, device) in devices.iter().enumerate() {
            argv.push(format!("{}={}", device.name(), socket_path(dir.path(), number).display()));
        }
        let process = Process::spawn(&argv, dir.path()).unwrap_or_else(|e| panic!("{e}"));
        Self::ready(Host::Library(process, dir), devices.len())
    }

    #[track_caller]
    fn ready(host: Host, devices: usize) -> Self {
        let mut server = Self { host };
        let start = Instant::now();
        while !(0..devices).all(|device| is_listening(&server.socket(device))) {
            let running = server.process().is_running();
            let what = if running { "does not listen" } else { "ended at its start" };
            assert!(running && start.elapsed() < LIMIT, "the server {what}: {}", server.process().stderr());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        server
    }

    /// The `vmmd`.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn vmm(&self) -> &Vmm {
        match &self.host {
            Host::Vmmd(vmm) => vmm,
            Host::Library(..) => panic!("this server has no monitors"),
        }
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        match &mut self.host {
            Host::Vmmd(vmm) => vmm.process(),
            Host::Library(process, _) => process,
        }
    }

    /// The process, to look at.
    pub fn observe(&self) -> &Process {
        match &self.host {
            Host::Vmmd(vmm) => vmm.observe(),
            Host::Library(process, _) => process,
        }
    }

    /// How many descriptors it has, besides one that a process makes with its first interrupt and keeps.
    pub fn fd_count(&self) -> usize {
        let once = |link: &PathBuf| link.to_string_lossy().contains("memfd:vfio-user-signal");
        self.open_files().iter().filter(|link| !once(link)).count()
    }

    /// What its descriptors are.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let folder = format!("/proc/{}/fd", self.observe().pid());
        let links = std::fs::read_dir(folder).into_iter().flatten().flatten();
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).collect()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        match &self.host {
            Host::Vmmd(vmm) => vmm.dir(),
            Host::Library(_, dir) => dir.path(),
        }
    }

    /// The socket of the device with this number.
    pub fn socket(&self, device: usize) -> PathBuf {
        socket_path(self.dir(), device)
    }

    /// Connects to a device and says nothing.
    ///
    /// # Panics
    /// When nobody listens.
    #[track_caller]
    pub fn stranger(&self, device: usize) -> Peer {
        Peer::connect(&self.socket(device)).unwrap_or_else(|e| panic!("device {device}: {e}"))
    }

    /// A client of a device that has negotiated. That the client before has gone may take the server a moment.
    ///
    /// # Panics
    /// When none is served within [`LIMIT`].
    #[track_caller]
    pub fn peer(&self, device: usize) -> Peer {
        let start = Instant::now();
        loop {
            let mut peer = self.stranger(device);
            let version = peer.begin(&payload::qemu_version(), &[]);
            if let Some(reply) = peer.next_message() {
                assert!(reply.is_reply() && reply.header.id == version.id, "VERSION's reply: {reply:?}");
                assert_eq!(reply.errno(), None, "VERSION was refused");
                return peer;
            }
            assert!(start.elapsed() < LIMIT, "device {device} takes no new client");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

/// A server with one client at a time that may do what it likes, and an onlooker.
#[derive(Debug)]
pub struct Scene {
    server: Server,
    monitor: Option<client::Client>,
    fds: usize,
}

impl Scene {
    /// With one device.
    ///
    /// # Panics
    /// When the server does not serve.
    #[track_caller]
    pub fn new(device: Device) -> Self {
        Self::over(Server::new(&[device]))
    }

    /// With the edu device.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[track_caller]
    pub fn edu() -> Self {
        Self::new(Device::Edu)
    }

    /// With the scratch device.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[track_caller]
    pub fn scratch() -> Self {
        Self::new(Device::Scratch)
    }

    /// On this server.
    ///
    /// # Panics
    /// When it does not serve its first device.
    #[track_caller]
    pub fn over(server: Server) -> Self {
        let monitor = matches!(server.host, Host::Vmmd(_)).then(|| server.vmm().client(0));
        let mut scene = Self { server, monitor, fds: 0 };
        // A socket listens a moment before all that is behind it is there; with a client that is served, all is, and the
        // client's own connection.
        let peer = scene.server.peer(0);
        scene.fds = scene.server.fd_count() - 1;
        drop(peer);
        scene.well();
        scene
    }

    /// A client that has negotiated. The one before it must have left no descriptor.
    ///
    /// # Panics
    /// As [`Server::peer`], and when it has.
    #[track_caller]
    pub fn peer(&self) -> Peer {
        self.await_more_fds(0);
        self.server.peer(0)
    }

    /// A client that has said nothing. The one before it must have left no descriptor.
    ///
    /// # Panics
    /// As [`Server::stranger`], and when it has.
    #[track_caller]
    pub fn stranger(&self) -> Peer {
        self.await_more_fds(0);
        self.server.stranger(0)
    }

    /// A client that has negotiated with this message.
    ///
    /// # Panics
    /// When the server does not go along.
    #[track_caller]
    pub fn peer_after(&self, version: &Message) -> Peer {
        let mut peer = self.stranger();
        peer.ok(version);
        peer
    }

    /// The server.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Descriptors that the server has more than before any client.
    pub fn more_fds(&self) -> usize {
        self.server.fd_count().saturating_sub(self.fds)
    }

    /// Waits until the server has this many descriptors more than before any client; a client itself is one.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn await_more_fds(&self, more: usize) {
        let fds = self.fds + more;
        let came = poll_until(LIMIT, || self.server.fd_count() == fds);
        assert!(
            came,
            "{} descriptors more than before, not {more}: {:?}",
            self.more_fds(),
            self.server.open_files()
        );
    }

    /// That the monitor answers now, whatever a client does.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn monitor_answers(&mut self) {
        if let Some(monitor) = &mut self.monitor {
            monitor.run("query-status");
        }
    }

    /// What must hold whenever there is no client: the monitor answers, a fresh client is served on the same socket, and
    /// once it has gone no descriptor is left.
    ///
    /// # Panics
    /// When it does not hold.
    #[track_caller]
    pub fn well(&mut self) {
        self.monitor_answers();
        let mut fresh = self.peer();
        fresh.in_step();
        let id = fresh.ok(&payload::region_read(7, 0, 4));
        assert_eq!(id.len(), 20, "REGION_READ's reply: {id:02x?}");
        let none = [0xff; 4];
        assert_ne!(id[16..], none, "no vendor");
        drop(fresh);
        self.await_more_fds(0);
        assert!(self.server.process().is_running());
        let said = self.server.process().stderr();
        assert!(!said.contains("panicked"), "the server has panicked: {said}");
    }

    /// [`well`](Self::well), in the end.
    ///
    /// # Panics
    /// When the hostile client has left a trace.
    #[track_caller]
    pub fn unharmed(mut self) {
        self.well();
    }
}

fn socket_path(dir: &Path, device: usize) -> PathBuf {
    dir.join(format!("vfu{device}.sock"))
}

fn beside(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    let found = here.ancestors().map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run `cargo build -p vmm-integration`"))
}
