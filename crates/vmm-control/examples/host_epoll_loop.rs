//! A VMM that owns all its state in one thread with an epoll loop: `cargo run -p vmm-control --example host_epoll_loop`.
//!
//! In that loop are the plane's calls, the devices' descriptors, what the vCPU threads have to say, and signals. Nothing of the
//! VMM's state has a lock, the author's own command included. What takes long is handed on, and completed later: `stop` by the
//! loop itself, when the last vCPU has paused; a snapshot by a device's thread, which raises an event first.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{EventfdFlags, epoll, eventfd};
use serde::{Deserialize, Serialize};
use vmm_control::chardev::{Address, Backend, SocketOptions};
use vmm_control::hosting::{
    Call, Completion, LoopHandle, MachineFacts, MachineQueue, MachineRequest, PlaneThread,
};
use vmm_control::{
    Builder, Command, CommandError, Context, ControlPlane, EventSender, EventSpec, MonitorConfig, QapiType,
    RunState, ShutdownCause, Vcpu,
};

const VCPUS: u32 = 2;

/// What the loop waits for.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Source {
    Calls,
    Signals,
    Shutdown,
    VcpuAcks,
    Doorbell,
}

impl Source {
    const ALL: [Self; 5] = [Self::Calls, Self::Signals, Self::Shutdown, Self::VcpuAcks, Self::Doorbell];
}

/// A vCPU's thread, which runs the guest while it is told to. A VMM with KVM kicks it out of the guest by a signal.
struct VcpuThread {
    orders: mpsc::Sender<RunState>,
    thread: JoinHandle<()>,
}

/// All state of the VMM. Only the loop's thread ever sees it.
struct Vmm {
    /// Where the loop says what the plane may know.
    machine: LoopHandle<Vmm>,
    vcpus: Vec<VcpuThread>,
    /// The vCPUs that have not heard the newest order yet, what they were told, and whom to tell in turn.
    awaited: Option<(u64, RunState, Completion<()>)>,
    /// How often the guest has rung the device's doorbell.
    rung: u64,
    /// Bytes that the guest shall have.
    memory: u64,
    /// The device thread that writes snapshots.
    snapshots: mpsc::Sender<(u64, Completion<()>)>,
}

impl Vmm {
    /// What the plane asks. Returns at once: `completion` answers, sooner or later.
    fn machine_call(&mut self, request: MachineRequest, completion: Completion<()>) {
        match request {
            MachineRequest::Stop => self.order(RunState::Paused, completion),
            MachineRequest::Cont => self.order(RunState::Running, completion),
            MachineRequest::Reset => {
                self.rung = 0;
                completion.complete(Ok(()));
            }
            _ => completion.complete(Err(CommandError::generic("this machine does not do that"))),
        }
    }

    fn order(&mut self, state: RunState, completion: Completion<()>) {
        for vcpu in &self.vcpus {
            // A thread that has gone will not acknowledge; a real VMM would end here.
            let _ = vcpu.orders.send(state);
        }
        self.awaited = Some((self.vcpus.len() as u64, state, completion));
    }

    /// So many vCPUs have heard.
    fn acknowledged(&mut self, count: u64) {
        let Some((left, state, completion)) = self.awaited.take() else { return };
        if left > count {
            self.awaited = Some((left - count, state, completion));
            return;
        }
        // First what is so, then the answer: the plane raises STOP or RESUME by it.
        self.machine.publish(|facts| facts.run_state = state);
        completion.complete(Ok(()));
    }
}

/// Inflates or deflates the balloon.
#[derive(Deserialize, QapiType)]
struct Balloon {
    /// Bytes that the guest shall have.
    #[qapi(size)]
    target: u64,
}

/// What the balloon did.
#[derive(Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
struct BalloonInfo {
    /// Bytes that the guest had.
    #[qapi(size)]
    before: u64,
    /// How often the guest has rung.
    rung: u64,
}

/// A snapshot has been written.
#[derive(Serialize, QapiType)]
struct SnapshotWritten {
    /// Its size in bytes.
    #[qapi(size)]
    bytes: u64,
}

/// The plane, with the author's own commands: what they do, they do in the loop.
fn plane(vmm: &LoopHandle<Vmm>) -> Builder {
    let (balloons, snapshots) = (vmm.clone(), vmm.clone());
    let balloon = Command::new("__com.example_balloon").handler(move |_: Context, balloon: Balloon| {
        balloons.run(move |vmm| {
            let before = std::mem::replace(&mut vmm.memory, balloon.target);
            Ok(BalloonInfo { before, rung: vmm.rung })
        })
    });
    let snapshot = Command::new("__com.example_snapshot").handler(move |_: Context, (): ()| {
        snapshots.call(|vmm, completion| {
            // When the thread has gone, the completion is dropped, which is an error to the client.
            let _ = vmm.snapshots.send((vmm.memory, completion));
        })
    });
    ControlPlane::builder(vmm.clone())
        .event(EventSpec::extension::<SnapshotWritten>("__COM.EXAMPLE_SNAPSHOT_WRITTEN"))
        .command(balloon)
        .command(snapshot)
}

/// A device's thread: no runtime, no state of the VMM's. What it raises before it completes precedes the reply.
fn write_snapshots(jobs: mpsc::Receiver<(u64, Completion<()>)>, events: EventSender) -> JoinHandle<()> {
    thread::spawn(move || {
        for (bytes, completion) in jobs {
            let raised = events.emit("__COM.EXAMPLE_SNAPSHOT_WRITTEN", &SnapshotWritten { bytes });
            completion.complete(raised.map_err(CommandError::from));
        }
    })
}

fn start_vcpu(acks: &Arc<OwnedFd>, doorbell: &Arc<OwnedFd>, ids: &mpsc::Sender<i32>) -> VcpuThread {
    let (orders, told) = mpsc::channel();
    let (acks, doorbell, ids) = (acks.clone(), doorbell.clone(), ids.clone());
    let thread = thread::spawn(move || {
        ids.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("the loop has not begun");
        for state in told {
            if state == RunState::Running {
                // The guest does something, and rings the device's doorbell (an ioeventfd).
                rustix::io::write(&doorbell, &1_u64.to_ne_bytes()).expect("the counter has room");
            }
            rustix::io::write(&acks, &1_u64.to_ne_bytes()).expect("the counter has room");
        }
    });
    VcpuThread { orders, thread }
}

/// What an eventfd has counted.
fn drain(eventfd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    rustix::io::read(eventfd, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
}

/// One life of the VMM: from the first thread to the last. Returns why it ended.
fn run(path: &Path, signals: &SignalFd) -> Result<ShutdownCause, Box<dyn Error>> {
    let counter = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new);
    let (acks, doorbell, (snapshots, jobs)) = (counter()?, counter()?, mpsc::channel());

    let mut calls = MachineQueue::new(MachineFacts::new(RunState::Prelaunch).name("looped"))?;
    let (ids, thread_ids) = mpsc::channel();
    let vcpus = (0..VCPUS).map(|_| start_vcpu(&acks, &doorbell, &ids)).collect();
    let mut vmm = Vmm { machine: calls.handle(), vcpus, awaited: None, rung: 0, memory: 1 << 30, snapshots };
    let vcpu = |(index, thread_id)| Vcpu {
        index,
        thread_id,
        qom_path: format!("/machine/unattached/device[{index}]"),
        place: None,
    };
    let vcpus = (0..VCPUS).zip(&thread_ids).map(vcpu).collect();
    vmm.machine.publish(|facts| facts.vcpus = vcpus);

    // The plane runs on a thread that it starts. On a runtime of the program's it would be `.build()`.
    let plane = plane(&vmm.machine).start()?;
    let device = write_snapshots(jobs, plane.events());
    let socket = Backend::Socket(SocketOptions::server(Address::unix(path)));
    plane.add_monitor(MonitorConfig::new("qmp"), socket, 64)?;

    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for source in Source::ALL {
        let fd = match source {
            Source::Calls => calls.as_fd(),
            Source::Signals => signals.as_fd(),
            Source::Shutdown => plane.shutdown_fd(),
            Source::VcpuAcks => acks.as_fd(),
            Source::Doorbell => doorbell.as_fd(),
        };
        epoll::add(&epoll, fd, epoll::EventData::new_u64(source as u64), epoll::EventFlags::IN)?;
    }
    let cause = serve(&epoll, &mut vmm, &mut calls, &plane, signals, [&acks, &doorbell])?;

    // First the queue, and the call that the loop itself has still open: they and all that come now fail at once, and their
    // clients hear of it. `close` would wait for them. What another thread has open it may still complete.
    drop((calls, vmm.awaited.take()));
    plane.close();
    let Vmm { vcpus, snapshots, .. } = vmm;
    drop(snapshots);
    device.join().expect("the device has not panicked");
    for VcpuThread { orders, thread } in vcpus {
        drop(orders);
        thread.join().expect("the thread has not panicked");
    }
    Ok(cause)
}

/// The loop.
fn serve(
    epoll: &OwnedFd,
    vmm: &mut Vmm,
    calls: &mut MachineQueue<Vmm>,
    plane: &PlaneThread,
    signals: &SignalFd,
    [acks, doorbell]: [&OwnedFd; 2],
) -> Result<ShutdownCause, Box<dyn Error>> {
    loop {
        let mut ready = Vec::with_capacity(Source::ALL.len());
        match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut ready), None) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited?,
        };
        for event in ready {
            match Source::ALL.into_iter().find(|source| *source as u64 == event.data.u64()) {
                Some(Source::Calls) => {
                    while let Some(call) = calls.try_next() {
                        match call {
                            Call::Machine(request, completion) => vmm.machine_call(request, completion),
                            Call::Task(task) => task.run(vmm),
                        }
                    }
                }
                Some(Source::VcpuAcks) => vmm.acknowledged(drain(acks)),
                Some(Source::Doorbell) => vmm.rung += drain(doorbell),
                // The plane raises SHUTDOWN, and its descriptor becomes readable.
                Some(Source::Signals) => {
                    while signals.read_signal()?.is_some() {
                        plane.shut_down(ShutdownCause::HostSignal);
                    }
                }
                Some(Source::Shutdown) => return Ok(plane.shutdown_cause().unwrap_or(ShutdownCause::None)),
                None => {}
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // The VMM's own signals, blocked before there is any thread. The plane's threads block all of them anyway.
    let mut terminate = SigSet::empty();
    terminate.add(Signal::SIGTERM);
    terminate.thread_block()?;
    let signals = SignalFd::with_flags(&terminate, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

    let dir = tempfile::tempdir()?;
    for (end, cause) in [("quit", ShutdownCause::HostQmpQuit), ("SIGTERM", ShutdownCause::HostSignal)] {
        let path = dir.path().join(end);
        let client = {
            let path = path.clone();
            thread::spawn(move || client(path, end).expect("the client is served"))
        };
        let ended = run(&path, &signals)?;
        println!("the end: {ended:?}");
        assert_eq!(ended, cause);
        client.join().expect("the client has not panicked");
    }
    Ok(())
}

/// A manager, as it might be in another process.
fn client(path: PathBuf, end: &str) -> Result<(), Box<dyn Error>> {
    let mut stream = loop {
        // The VMM is starting meanwhile.
        match UnixStream::connect(&path) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                thread::yield_now();
            }
            connected => break BufReader::new(connected?),
        }
    };
    let mut seen = String::new();
    for (request, expected) in [
        (r#"{"execute": "qmp_capabilities"}"#, vec!["QMP", "return"]),
        (
            r#"{"execute": "x-events", "arguments": {"enable": ["__COM.EXAMPLE_SNAPSHOT_WRITTEN"]}}"#,
            vec!["return"],
        ),
        (r#"{"execute": "cont"}"#, vec!["RESUME", "return"]),
        (r#"{"execute": "__com.example_balloon", "arguments": {"target": 4096}}"#, vec!["before"]),
        (r#"{"execute": "stop"}"#, vec!["STOP", "return"]),
        (r#"{"execute": "__com.example_snapshot"}"#, vec![r#"{"bytes": 4096}"#, "return"]),
        (r#"{"execute": "system_powerdown"}"#, vec!["POWERDOWN", "this machine does not do that"]),
        (r#"{"execute": "query-status"}"#, vec!["paused"]),
    ] {
        stream.get_mut().write_all(request.as_bytes())?;
        for part in expected {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            print!("client: {line}");
            assert!(line.contains(part), "{line} has {part}");
        }
    }
    match end {
        "quit" => stream.get_mut().write_all(br#"{"execute": "quit"}"#)?,
        _ => rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?,
    }
    stream.read_to_string(&mut seen)?;
    print!("client: {seen}");
    assert!(seen.contains("SHUTDOWN"));
    Ok(())
}
