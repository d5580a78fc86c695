//! Each thread that a plane starts has a name, blocks all signals and is announced, whatever is in use. Alone in its process: it
//! looks at all threads of it.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use vmm_control::chardev::{Address, Backend, SocketOptions};
use vmm_control::hosting::PlaneThread;
use vmm_control::{
    Builder, Command, CommandError, Context, ControlPlane, HumanCommand, MonitorConfig, RunState,
    RunStateCell, ThreadKind,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Thread ids of this process.
fn tids() -> BTreeSet<u32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// What the kernel says of a thread: its name and the signals that it blocks. `None` when it has gone.
fn look(task: &str) -> Option<(String, u64)> {
    let status = fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    Some((field("Name:"), u64::from_str_radix(&field("SigBlk:"), 16).unwrap()))
}

/// All signals but those that cannot be blocked, the C library's own two, and those that a thread's own faults raise.
fn expected_mask() -> u64 {
    let open = [9, 19, 32, 33].into_iter().chain(thread_start::FAULTS);
    open.fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)))
}

/// What was announced, by thread.
type Announced = Arc<Mutex<BTreeMap<u32, (ThreadKind, String)>>>;

/// Notes what is announced, and looks at the thread while it is on it: some are there for a moment only.
fn note(announced: &Announced, kind: ThreadKind, name: &str) {
    let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    announced.lock().unwrap().insert(tid, (kind, name.to_owned()));
    check(&look("thread-self").unwrap(), name);
}

/// A thread that is called `name` is as it should be. The kernel shows 15 bytes of a name.
fn check((comm, blocked): &(String, u64), name: &str) {
    assert!(!name.is_empty());
    assert_eq!(*comm, name.get(..15).unwrap_or(name));
    assert_eq!(blocked & expected_mask(), expected_mask(), "{name} blocks {blocked:x}");
}

/// Looks at which threads there are, again and again, and gives all that it has seen.
fn sample(stop: &Arc<AtomicBool>) -> thread::JoinHandle<BTreeSet<u32>> {
    let stop = stop.clone();
    thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            seen.extend(tids());
            thread::yield_now();
        }
        seen
    })
}

struct Client(BufReader<UnixStream>);

impl Client {
    fn new(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self(BufReader::new(stream));
        client.line();
        client.send(r#"{"execute": "qmp_capabilities"}"#);
        client.line();
        client
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// Writes `text` with a descriptor.
    fn send_fd(&self, text: &str) {
        let fd: OwnedFd = fs::File::open("/dev/null").unwrap().into();
        let fds = [fd.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(self.0.get_ref(), &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)
            .unwrap();
    }
}

#[cfg(feature = "vfio-user")]
fn with_device(builder: Builder) -> Builder {
    use vmm_control::objects::pci::pci_device_type;
    use vmm_control::vfio_user_server::pci::{Bar, PciSpec};
    use vmm_control::vfio_user_server::{DeviceContext, Errno, PciDevice};

    struct Zero;
    impl PciDevice for Zero {
        fn spec(&self) -> PciSpec {
            PciSpec::builder(0x1234, 1).bar(0, Bar::registers(4096)).build().unwrap()
        }
        fn read(&mut self, _: &mut DeviceContext<'_>, _: u8, _: u64, data: &mut [u8]) -> Result<(), Errno> {
            data.fill(0);
            Ok(())
        }
        fn write(&mut self, _: &mut DeviceContext<'_>, _: u8, _: u64, _: &[u8]) -> Result<(), Errno> {
            Ok(())
        }
        fn reset(&mut self, _: &mut DeviceContext<'_>) {}
    }
    /// Nothing to say.
    #[derive(serde::Deserialize, serde::Serialize, vmm_control::QapiType)]
    struct ZeroProperties {}
    builder
        .device_type(pci_device_type("x-zero", |_: &vmm_control::Creation, p: ZeroProperties| Ok((p, Zero))))
}

#[cfg(not(feature = "vfio-user"))]
fn with_device(builder: Builder) -> Builder {
    builder
}

/// A plane with everything, and a handler that blocks until the channel that comes back hangs up.
fn plane(announced: &Announced) -> (PlaneThread, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let blocks = Command::new("x-block").concurrent().blocking(move |_: Context, (): ()| {
        match released.lock().unwrap().recv_timeout(PATIENCE) {
            Err(mpsc::RecvTimeoutError::Timeout) => Err(CommandError::generic("for too long")),
            _ => Ok(()),
        }
    });
    let builder = ControlPlane::builder(RunStateCell::new(RunState::Running))
        .command(blocks)
        .human_command(HumanCommand::new("x_bang").help("bang").immediate(|_, _| Ok("bang\n".to_owned())));
    let noted = announced.clone();
    let builder = with_device(builder).on_thread_start(move |kind, name| note(&noted, kind, name));
    (builder.start().unwrap(), release)
}

fn use_everything(plane: &PlaneThread, dir: &Path) {
    let session = plane.connect();
    let call = |command: &str, arguments: Value| {
        session.call(command, &arguments).unwrap_or_else(|error| panic!("{command} {arguments}: {error}"));
    };
    call("object-add", json!({"qom-type": "iothread", "id": "io0"}));
    for (kind, threads) in [("memory-backend-ram", 2), ("memory-backend-memfd", 1)] {
        let (size, prealloc) = (1 << 20, true);
        let memory = json!({
            "qom-type": kind, "id": kind, "size": size, "prealloc": prealloc, "prealloc-threads": threads
        });
        call("object-add", memory);
    }
    let file = json!({"type": "file", "data": {"out": dir.join("out"), "logfile": dir.join("log")}});
    call("chardev-add", json!({"id": "file", "backend": file}));
    if cfg!(feature = "tcp") {
        let address = json!({"type": "inet", "data": {"host": "localhost", "port": "0"}});
        let socket = json!({"type": "socket", "data": {"addr": address, "server": true, "wait": false}});
        call("chardev-add", json!({"id": "tcp", "backend": socket}));
    }
    if cfg!(feature = "vfio-user") {
        for (number, iothread) in [json!({"iothread": "io0"}), json!({})].into_iter().enumerate() {
            call("device_add", json!({"driver": "x-zero", "id": format!("d{number}")}));
            let path = dir.join(format!("v{number}"));
            let mut export = json!({
                "qom-type": "x-vfio-user-server", "id": format!("v{number}"), "device": format!("d{number}"),
                "socket": {"type": "unix", "path": path},
            });
            export.as_object_mut().unwrap().extend(iothread.as_object().unwrap().clone());
            call("object-add", export);
            vfio_user::Client::new(&path).unwrap().region_read(0, 0, &mut [0; 4]).unwrap();
        }
    }
    call("human-monitor-command", json!({"command-line": "x_bang"}));
    call("x-query-monitors", json!({}));
}

#[test]
fn each_thread_has_a_name_blocks_all_signals_and_is_announced() {
    let (stop, announced, before) = (Arc::<AtomicBool>::default(), Announced::default(), tids());
    let sampler = sample(&stop);
    let sampler_tid = *tids().difference(&before).next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");

    let (plane, release) = plane(&announced);
    // One that was passed, as by a service manager.
    let fd = std::os::unix::net::UnixListener::bind(&path).unwrap().into();
    let socket = Backend::Socket(SocketOptions::server(Address::Fd { fd, name: "listener".to_owned() }));
    plane.add_monitor(MonitorConfig::new("qmp"), socket, 8).unwrap();
    let human = Backend::Socket(SocketOptions::server(Address::unix(dir.path().join("hmp"))));
    plane.add_monitor(MonitorConfig::new("hmp").readline(true), human, 8).unwrap();
    let mut clients = [(); 3].map(|()| Client::new(&path));
    clients[0].send(r#"{"execute": "x-block"}"#);
    clients[1].send_fd(r#"{"execute": "query-name"}"#);
    clients[1].line();
    // In its place the first one is closed.
    clients[1].send_fd(r#"{"execute": "query-name"}"#);
    clients[1].line();
    use_everything(&plane, dir.path());

    // Now all that stays is there.
    let start = Instant::now();
    loop {
        // One that has just begun is not announced yet.
        let known: BTreeSet<_> = announced.lock().unwrap().keys().copied().collect();
        let unknown: Vec<_> = tids()
            .into_iter()
            .filter(|tid| !before.contains(tid) && *tid != sampler_tid && !known.contains(tid))
            .collect();
        if unknown.is_empty() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "not announced: {unknown:?}");
        thread::yield_now();
    }
    for (tid, (_, name)) in &*announced.lock().unwrap() {
        if let Some(seen) = look(&format!("self/task/{tid}")) {
            check(&seen, name);
        }
    }

    drop(release);
    clients[0].line();
    drop(clients);
    plane.close();
    stop.store(true, Ordering::Relaxed);
    let ours = [sampler_tid];
    let seen = sampler.join().unwrap();
    let announced = announced.lock().unwrap();
    let unknown: Vec<_> = seen
        .iter()
        .filter(|tid| !before.contains(tid) && !ours.contains(tid) && !announced.contains_key(tid))
        .collect();
    assert!(unknown.is_empty(), "there for a moment, and not announced: {unknown:?}");
    let kinds: BTreeSet<_> = announced.values().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ThreadKind::ALL.into(), "{announced:?}");

    // Those that close descriptors serve the whole process, and go when they have been idle; the others have gone.
    let left: Vec<_> = tids().into_iter().filter_map(|tid| announced.get(&tid)).collect();
    assert!(left.iter().all(|(kind, _)| *kind == ThreadKind::FdCloser), "{left:?}");
}
