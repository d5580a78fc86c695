//! `guest-test`: a Linux guest drives an edu device that another process exports over vfio-user. See `guest-test --help`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};
use vmm_integration::client::Client;
use vmm_integration::guest::{After, Assets, Guest, Memory};
use vmm_integration::vmm::{Setup, Vmm};
use vmm_integration::wire::is_listening;
use vmm_integration::{LIMIT, poll_until};

const HELP: &str = "\
A Linux guest in QEMU drives an edu device: identification, liveness, factorial, DMA both ways, INTx, MSI.

  guest-test                 the device is vmmd's, exported over vfio-user
  guest-test --own-edu       the device is QEMU's own: a check of what runs inside the guest

  --cache FOLDER             made by integration/guest/make-cache ($VMM_GUEST_CACHE, else target/guest-cache)
  --payload FILE             the static guest-edu (target/release/guest-edu)
  --only TEXT                only cases with TEXT in their name
  -v                         what the guests say
  -h, --help                 this text

Ends with `N passed, N failed, N skipped`; the exit code is 1 when a case failed, 2 when the options are wrong.";

/// The device's side of a case.
type Case = (&'static str, fn(&Scene) -> Result<(), String>);

const OWN_EDU: &[Case] = &[("QEMU's own edu passes the same checks", own_edu)];

const VFIO_USER: &[Case] = &[
    ("with reconnect=on, guest after guest works, whatever its memory is", guest_after_guest),
    ("without reconnect, the server object goes with its client", the_object_goes),
];

struct Scene {
    assets: Assets,
    verbose: bool,
}

#[derive(Default)]
struct Options {
    cache: Option<PathBuf>,
    payload: Option<PathBuf>,
    only: String,
    own_edu: bool,
    verbose: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("guest-test: {why} (see guest-test --help)");
            return ExitCode::from(2);
        }
    };
    let target = target_dir();
    let cache = options.cache.or_else(|| std::env::var_os("VMM_GUEST_CACHE").map(PathBuf::from));
    let cache = cache.unwrap_or_else(|| target.join("guest-cache"));
    let payload = options.payload.unwrap_or_else(|| target.join("release/guest-edu"));
    let scene = match Assets::gather(&cache, &payload) {
        Ok(assets) => Scene { assets, verbose: options.verbose },
        Err(e) => {
            eprintln!("guest-test: {e}");
            return ExitCode::FAILURE;
        }
    };
    run(&scene, if options.own_edu { OWN_EDU } else { VFIO_USER }, &options.only)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--cache" => options.cache = Some(value()?.into()),
            "--payload" => options.payload = Some(value()?.into()),
            "--only" => options.only = value()?,
            "--own-edu" => options.own_edu = true,
            "-v" => options.verbose = true,
            "-h" | "--help" => return Ok(None),
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(Some(options))
}

/// The folder that cargo builds into, of which this program is in a subfolder.
fn target_dir() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
}

fn run(scene: &Scene, cases: &[Case], only: &str) -> ExitCode {
    // The clients of monitors panic when something does not come, as a test's assertions do. What they say is a case's
    // outcome, and said there.
    std::panic::set_hook(Box::new(|_| ()));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, case) in cases {
        if !name.contains(only) {
            skipped += 1;
            continue;
        }
        let start = Instant::now();
        let outcome =
            catch_unwind(AssertUnwindSafe(|| case(scene))).unwrap_or_else(|panic| Err(words(&*panic)));
        let time = start.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("ok      {name} ({time:.1} s)");
            }
            Err(why) => {
                failed += 1;
                println!("FAILED  {name} ({time:.1} s): {why}");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

impl Scene {
    /// Boots a guest with `device`, has it run its checks, and leaves it running.
    fn guest(&self, memory: Memory, device: &str, after: After) -> Result<Guest, String> {
        let start = Instant::now();
        let mut guest = Guest::boot(&self.assets, memory, device, after).map_err(|e| e.to_string())?;
        let outcome = guest.passes();
        if self.verbose {
            println!("{}", guest.transcript());
        }
        outcome.map_err(|why| format!("{memory:?}: {why}"))?;
        println!(
            "        a guest with its memory as {memory:?} passed ({:.1} s)",
            start.elapsed().as_secs_f32()
        );
        Ok(guest)
    }
}

fn own_edu(scene: &Scene) -> Result<(), String> {
    scene.guest(Memory::Private, "edu", After::PowerOff)?.ends()
}

/// A `vmmd` that exports its `edu0` through the object `v`, watched on two monitors.
struct Exporter {
    vmm: Vmm,
    monitors: [Client; 2],
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl Exporter {
    /// `options` is appended to the object's, such as `,reconnect=on`.
    fn start(options: &str) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let socket = dir.path().join("edu.sock");
        let object =
            format!("x-vfio-user-server,id=v,type=unix,path={},device=edu0{options}", socket.display());
        let extra = ["-machine", "board", "-device", "edu,id=edu0", "-object", &object];
        let vmm = Vmm::with(Setup { monitors: 2, extra: &extra, ..Setup::default() });
        let monitors = [vmm.client(0), vmm.client(1)];
        Ok(Self { vmm, monitors, socket, _dir: dir })
    }

    /// What QEMU's `-device` takes to attach to it.
    fn device(&self) -> String {
        json!({"driver": "vfio-user-pci", "socket": {"type": "unix", "path": self.socket}}).to_string()
    }

    /// The event of a client's end arrives on both monitors, with the schema's four members and no more.
    fn sees_a_hang_up(&mut self) -> Result<(), String> {
        let wanted = json!({
            "vfu-id": "v",
            "vfu-qom-path": "/objects/v",
            "dev-id": "edu0",
            "dev-qom-path": "/machine/peripheral/edu0",
        });
        for (number, monitor) in self.monitors.iter_mut().enumerate() {
            let event = monitor.event("VFU_CLIENT_HANGUP");
            if event["data"] != wanted {
                return Err(format!("on monitor {number}: {event}"));
            }
        }
        Ok(())
    }

    fn still_answers(&mut self) -> Value {
        self.monitors[0].run("query-status")
    }
}

fn guest_after_guest(scene: &Scene) -> Result<(), String> {
    let mut exporter = Exporter::start(",reconnect=on")?;
    let device = exporter.device();
    // With the first interrupt the exporter makes a descriptor that it keeps; those of its clients go with them.
    let fds = exporter.vmm.fd_count() + 1;
    for memory in [Memory::Memfd, Memory::Memfd, Memory::File, Memory::Private] {
        let guest = scene.guest(memory, &device, After::Wait)?;
        exporter.still_answers();
        guest.kill().map_err(|e| e.to_string())?;
        exporter.sees_a_hang_up()?;
        if !poll_until(LIMIT, || exporter.vmm.fd_count() <= fds) {
            return Err(format!(
                "{memory:?}: {} descriptors are open, {fds} or less should be",
                exporter.vmm.fd_count()
            ));
        }
    }
    Ok(())
}

fn the_object_goes(scene: &Scene) -> Result<(), String> {
    let mut exporter = Exporter::start("")?;
    let guest = scene.guest(Memory::Memfd, &exporter.device(), After::Wait)?;
    let [monitor, _] = &mut exporter.monitors;
    let refused = monitor.call("device_del", json!({"id": "edu0"}));
    if refused.is_ok() {
        return Err("device_del took a device that is exported".to_owned());
    }
    guest.kill().map_err(|e| e.to_string())?;
    exporter.sees_a_hang_up()?;
    let socket = exporter.socket.clone();
    if !poll_until(LIMIT, || !is_listening(&socket)) {
        return Err("somebody still listens on the socket".to_owned());
    }
    let [monitor, _] = &mut exporter.monitors;
    match monitor.call("object-del", json!({"id": "v"})) {
        Err(e) if e.desc == "object 'v' not found" => {}
        other => return Err(format!("object-del of what is gone: {other:?}")),
    }
    monitor.call("device_del", json!({"id": "edu0"})).map_err(|e| e.to_string())?;
    Ok(())
}
