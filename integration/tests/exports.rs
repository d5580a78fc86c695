//! Devices that a `vmmd` process exports, as its command line and its files say, and what monitors see of that.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use vmm_integration::client::Client;
use vmm_integration::process::Process;
use vmm_integration::vmm::{Setup, Vmm, program};
use vmm_integration::{LIMIT, poll_until};

/// A folder for the sockets of a test, and the path of one.
fn socket() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.sock");
    (dir, path)
}

/// edu's answer to who it is.
const EDU: u32 = 0x0100_00ed;

fn identification(path: &Path) -> u32 {
    let mut client = vfio_user::Client::new(path).unwrap();
    let mut data = [0; 4];
    client.region_read(0, 0, &mut data).unwrap();
    u32::from_le_bytes(data)
}

/// Waits for VFU_CLIENT_HANGUP of this export, whatever else comes before it.
fn await_hangup(client: &mut Client, id: &str) -> Value {
    let event = client.event("VFU_CLIENT_HANGUP");
    assert_eq!(event["data"]["vfu-id"], id, "{event}");
    event["data"].clone()
}

fn refusal(client: &mut Client, command: &str, arguments: Value) -> String {
    client.call(command, arguments).unwrap_err().desc
}

/// QEMU makes such objects after devices, wherever they stand.
#[test]
fn the_order_of_options_does_not_matter() {
    let (_dir, path) = socket();
    for (text, device_first) in [
        ("x-vfio-user-server,id=v,type=unix,path=PATH,device=e,iothread=io", false),
        ("x-vfio-user-server,id=v,socket.type=unix,socket.path=PATH,device=e", true),
        (
            r#"{"qom-type": "x-vfio-user-server", "id": "v", "device": "e",
                "socket": {"type": "unix", "path": "PATH"}, "iothread": "io"}"#,
            false,
        ),
    ] {
        let text = text.replace("PATH", path.to_str().unwrap());
        let object = ["-object", &text];
        let device = ["-device", "edu,id=e,dma_mask=0xffffffff"];
        let mut extra = if device_first { [device, object] } else { [object, device] }.concat();
        extra.extend(["-object", "iothread,id=io"]);
        let vmm = Vmm::with(Setup { extra: &extra, ..Setup::default() });
        let mut client = vmm.client(0);
        let list = client.run("x-query-vfio-user");
        assert_eq!(list[0]["id"], "v", "{text}: {list}");
        let mask = json!({"path": "/machine/peripheral/e", "property": "dma_mask"});
        assert_eq!(client.call("qom-get", mask).unwrap(), 0xffff_ffff_u32);
        assert_eq!(identification(&path), EDU);
    }
}

#[test]
fn two_monitors_see_the_client_go_and_then_everything_is_as_before() {
    let (_dir, path) = socket();
    let extra = ["-device", "edu,id=e"];
    let vmm = Vmm::with(Setup { monitors: 2, extra: &extra, ..Setup::default() });
    let (mut one, mut other) = (vmm.client(0), vmm.client(1));
    other.run("query-name");
    let before = vmm.fd_count();
    let export = json!({
        "qom-type": "x-vfio-user-server", "id": "v", "device": "e",
        "socket": {"type": "unix", "path": path},
    });
    for _ in 0..3 {
        one.call("object-add", export.clone()).unwrap();
        let busy = "vfu: x-vfio-user-server for e must be deleted before unplugging";
        assert_eq!(refusal(&mut other, "device_del", json!({"id": "e"})), busy);
        assert_eq!(identification(&path), EDU);
        let data = json!({
            "vfu-id": "v", "vfu-qom-path": "/objects/v",
            "dev-id": "e", "dev-qom-path": "/machine/peripheral/e",
        });
        assert_eq!(await_hangup(&mut one, "v"), data);
        assert_eq!(await_hangup(&mut other, "v"), data);
        assert_eq!(refusal(&mut other, "object-del", json!({"id": "v"})), "object 'v' not found");
        assert!(!path.exists());
    }
    vmm.await_fd_count(before);
    one.call("device_del", json!({"id": "e"})).unwrap();
}

#[test]
fn a_server_that_reconnects_has_many_clients_and_leaks_nothing() {
    let (_dir, path) = socket();
    let export = format!("x-vfio-user-server,id=v,type=unix,path={},device=s,reconnect=on", path.display());
    let extra = ["-device", "scratch,id=s,mmap=on", "-object", &export];
    let vmm = Vmm::with(Setup { extra: &extra, ..Setup::default() });
    let mut client = vmm.client(0);
    client.run("query-name");
    let once = || {
        let mut peer = vfio_user::Client::new(&path).unwrap();
        peer.region_write(0, 64, &[7]).unwrap();
    };
    let before = vmm.fd_count();
    for _ in 0..50 {
        once();
        await_hangup(&mut client, "v");
    }
    // A client's socket is closed by another thread, a moment later.
    vmm.await_fd_count(before);
    assert_eq!(client.run("x-query-vfio-user")[0]["stats"]["clients"], 50);
    // Memory has kept what was written.
    let mut peer = vfio_user::Client::new(&path).unwrap();
    let mut data = [0];
    peer.region_read(0, 64, &mut data).unwrap();
    assert_eq!(data, [7]);
    client.call("yank", json!({"instances": [{"type": "x-vfio-user", "id": "v"}]})).unwrap();
    await_hangup(&mut client, "v");
    client.call("object-del", json!({"id": "v"})).unwrap();
}

#[test]
fn with_auto_shutdown_the_process_ends_with_its_last_client() {
    let (_dir, path) = socket();
    let export = format!("x-vfio-user-server,id=v,type=unix,path={},device=e", path.display());
    let extra = ["-machine", "none,auto-shutdown=on", "-device", "edu,id=e", "-object", &export];
    let mut vmm = Vmm::with(Setup { extra: &extra, ..Setup::default() });
    let mut client = vmm.client(0);
    assert_eq!(identification(&path), EDU);
    await_hangup(&mut client, "v");
    let shutdown = client.event("SHUTDOWN");
    assert_eq!(shutdown["data"], json!({"guest": true, "reason": "guest-shutdown"}));
    assert_eq!(vmm.exit_code(), 0);
}

/// QEMU leaves the file of a failed server behind.
#[test]
fn what_cannot_be_exported_ends_the_start() {
    let (dir, path) = socket();
    for (object, reason) in [
        ("x-vfio-user-server,id=v,type=unix,path=PATH,device=nope", "vfu: Device nope not found"),
        (
            "x-vfio-user-server,id=v,type=unix,path=/nope/v.sock,device=e",
            "vfu: Failed to create context - No such file or directory",
        ),
        ("x-vfio-user-server,id=v,type=inet,host=,port=0,device=e", "vfu: Unsupported socket type - inet"),
        ("x-vfio-user-server,id=v,type=unix,path=PATH", "Parameter 'device' is missing"),
        ("x-vfio-user-server,id=v,device=e", "Parameter 'socket' is missing"),
        ("x-vfio-user-server,id=v,type=fd,str=77,device=e", "fd 77 cannot be used: Bad file descriptor"),
    ] {
        let object = object.replace("PATH", path.to_str().unwrap());
        let program = program();
        let argv =
            [&program.to_string_lossy(), "-machine", "none", "-device", "edu,id=e", "-object", &object];
        let mut process = Process::spawn(&argv.map(str::to_owned), dir.path()).unwrap();
        let status = process.wait_exit(LIMIT).unwrap();
        assert_eq!(status.code(), Some(1), "{object}");
        let said = process.stderr();
        assert!(said.contains(&format!("vmmd: -object {object}: {reason}")), "{object}: {said}");
        assert!(!path.exists());
    }
}

/// An inherited socket is known by its number.
#[test]
fn a_socket_that_is_inherited() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inherited.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let script = format!(
        "exec {} -machine none -device edu,id=e -object x-vfio-user-server,id=v,type=fd,str=7,device=e 7<&{}",
        program().display(),
        listener.as_raw_fd()
    );
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let argv = ["/bin/sh", "-c", &script].map(str::to_owned);
    let _process = Process::spawn(&argv, dir.path()).unwrap();
    assert_eq!(identification(&path), EDU);
}

#[test]
fn a_file_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("run")).unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/vfio-user.toml");
    // Its paths are relative.
    let script = format!(
        "cd {} && exec {} --config {}",
        dir.path().display(),
        program().display(),
        sample.canonicalize().unwrap().display()
    );
    let argv = ["/bin/sh", "-c", &script];
    let _process = Process::spawn(&argv, dir.path()).unwrap();
    let monitor = dir.path().join("run/qmp.sock");
    let mut client = None;
    assert!(poll_until(LIMIT, || {
        client = Client::connect(&monitor).ok();
        client.is_some()
    }));
    let mut client = client.unwrap();
    // It is greeted once everything else is there.
    client.negotiate();
    let list = client.run("x-query-vfio-user");
    assert_eq!(list.as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!(identification(&dir.path().join("run/edu.sock")), EDU);
    await_hangup(&mut client, "vfu0");
    assert!(client.run("x-query-vfio-user").as_array().unwrap().iter().any(|it| it["id"] == "vfu0"));
}
