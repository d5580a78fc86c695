//! PCI devices, and their export to another process.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use vfio_user::Client;
use vmm_control::objects::Plain;
use vmm_control::objects::pci::pci_device_type;
use vmm_control::vfio_user_server::pci::{Bar, PciSpec};
use vmm_control::vfio_user_server::{DeviceContext, Errno, PciDevice};
use vmm_control::{
    Builder, ControlPlane, Creation, LocalSession, ObjectType, Policy, QapiType, Rules, RunState,
    ShutdownCause,
};

use crate::support::{PATIENCE, Toy, ask, ask_with, built, directory, events, watching};

/// What a cell is told.
#[derive(Deserialize, Serialize, QapiType)]
struct CellProperties {
    /// What it holds at first.
    content: Option<u32>,
}

/// A device that holds a number, in the first register of BAR 0. Writing to the second blocks for as many milliseconds;
/// writing to the third panics.
struct Cell(u32);

impl PciDevice for Cell {
    fn spec(&self) -> PciSpec {
        PciSpec::builder(0x1234, 1).bar(0, Bar::registers(4096)).build().unwrap()
    }

    fn read(&mut self, _: &mut DeviceContext<'_>, _: u8, _: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.copy_from_slice(&self.0.to_le_bytes()[..data.len()]);
        Ok(())
    }

    fn write(&mut self, _: &mut DeviceContext<'_>, _: u8, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let number = u32::from_le_bytes(data.try_into().unwrap());
        match offset {
            0 => self.0 = number,
            4 => std::thread::sleep(Duration::from_millis(number.into())),
            _ => panic!("as it was told"),
        }
        Ok(())
    }

    fn reset(&mut self, _: &mut DeviceContext<'_>) {
        self.0 = 0;
    }
}

fn builder() -> Builder {
    let cell = pci_device_type("x-cell", |_: &Creation, mut properties: CellProperties| {
        let content = *properties.content.get_or_insert(7);
        Ok((properties, Cell(content)))
    });
    let lamp = ObjectType::new("x-lamp", |_: &Creation, _| Ok(Plain)).parent("device");
    ControlPlane::builder(Toy::new(RunState::Running)).device_type(cell).device_type(lamp)
}

/// A plane with a device called `c`, a session that sees events, and a folder for sockets.
struct House {
    plane: ControlPlane,
    session: LocalSession,
    directory: TempDir,
}

impl House {
    async fn new() -> Self {
        Self::of(builder()).await
    }

    async fn of(builder: Builder) -> Self {
        let plane = built(builder);
        let session = watching(&plane);
        let house = Self { plane, session, directory: directory() };
        house.done("device_add", json!({"driver": "x-cell", "id": "c"})).await;
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn ask(&self, command: &str, arguments: Value) -> Value {
        ask(&self.session, command, arguments).await
    }

    async fn done(&self, command: &str, arguments: Value) {
        assert_eq!(self.ask(command, arguments.clone()).await, json!({}), "{command} {arguments}");
    }

    async fn refused(&self, command: &str, arguments: Value, text: &str) {
        let said = self.ask(command, arguments.clone()).await;
        assert_eq!(said, format!("GenericError: {text}"), "{command} {arguments}");
    }

    /// An export of the device on the socket `s`, with more to say.
    fn export(&self, more: Value) -> Value {
        let path = self.path("s");
        let mut all = json!({
            "qom-type": "x-vfio-user-server", "id": "v", "device": "c", "socket": {"type": "unix", "path": path},
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    }

    /// The next event: its name and data.
    async fn event(&mut self) -> (String, Value) {
        let event = tokio::time::timeout(PATIENCE, self.session.next_event()).await;
        let event = event.expect("an event in time").unwrap();
        (event.name.into_owned(), serde_json::to_value(&event.data).unwrap())
    }

    async fn hangup(&mut self) {
        let data = json!({
            "vfu-id": "v", "vfu-qom-path": "/objects/v", "dev-id": "c", "dev-qom-path": "/machine/peripheral/c",
        });
        assert_eq!(self.event().await, ("VFU_CLIENT_HANGUP".to_owned(), data));
    }

    /// What is said of the one export there is.
    async fn query(&self) -> Value {
        let Value::Array(mut list) = self.ask("x-query-vfio-user", json!({})).await else { panic!() };
        assert_eq!(list.len(), 1);
        list.remove(0)
    }

    /// Whether a device can be lent anew, and what it holds then.
    async fn content(&self) -> u32 {
        let own = json!({"id": "w", "socket": {"type": "unix", "path": self.path("w")}});
        self.done("object-add", self.export(own)).await;
        let client = attach(self.path("w")).await;
        let (client, content) = with(client, content).await;
        self.done("object-del", json!({"id": "w"})).await;
        drop(client);
        content
    }
}

/// A client that has negotiated.
async fn attach(path: PathBuf) -> Client {
    tokio::task::spawn_blocking(move || Client::new(&path).unwrap()).await.unwrap()
}

/// Does something with a client that blocks.
async fn with<R: Send + 'static>(
    mut client: Client,
    act: impl FnOnce(&mut Client) -> R + Send + 'static,
) -> (Client, R) {
    tokio::task::spawn_blocking(move || {
        let done = act(&mut client);
        (client, done)
    })
    .await
    .unwrap()
}

fn content(client: &mut Client) -> u32 {
    let mut data = [0; 4];
    client.region_read(0, 0, &mut data).unwrap();
    u32::from_le_bytes(data)
}

fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok()).collect()
}

#[tokio::test]
async fn a_device_is_served_and_comes_back_with_its_state() {
    let house = House::new().await;
    house.done("object-add", house.export(json!({}))).await;
    let client = attach(house.path("s")).await;
    let (client, read) = with(client, |client| {
        let before = content(client);
        client.region_write(0, 0, &99_u32.to_le_bytes()).unwrap();
        before
    })
    .await;
    assert_eq!(read, 7);
    house.done("object-del", json!({"id": "v"})).await;
    assert!(!house.path("s").exists());
    // Its own end is no hang-up of the client.
    drop(client);
    assert_eq!(house.content().await, 99);
    house.done("device_del", json!({"id": "c"})).await;
}

#[tokio::test]
async fn what_is_wrong_is_said_in_qemus_words() {
    let house = House::new().await;
    house.done("device_add", json!({"driver": "x-lamp", "id": "lamp"})).await;
    let add = |more| house.refused_add(more);
    for (more, text) in [
        (json!({"device": "nope"}), "vfu: Device nope not found"),
        (json!({"device": "../peripheral/c"}), "vfu: Device ../peripheral/c not found"),
        (json!({"device": "lamp"}), "vfu: lamp not a PCI device"),
        (json!({"iothread": "io"}), "vfu: iothread 'io' not found"),
        (json!({"socket": {"type": "nope"}}), "Parameter 'type' does not accept value 'nope'"),
        (json!({"socket": {}}), "Parameter 'socket.type' is missing"),
        (json!({"socket": {"type": "unix"}}), "Parameter 'socket.path' is missing"),
        (json!({"socket": 1}), "Invalid parameter type for 'socket', expected: object"),
        (json!({"socket": {"type": "fd", "str": "f"}}), "File descriptor named 'f' has not been found"),
        (
            json!({"socket": {"type": "unix", "path": "/nope/s"}}),
            "vfu: Failed to create context - No such file or directory",
        ),
        (
            json!({"socket": {"type": "unix", "path": ""}}),
            "vfu: Failed to create context - No such file or directory",
        ),
        (
            json!({"socket": {"type": "unix", "path": "x".repeat(200)}}),
            "vfu: Failed to create context - File name too long",
        ),
        (
            json!({"socket": {"type": "unix", "path": "", "abstract": true}}),
            "vfu: Failed to create context - Invalid argument",
        ),
        (json!({"dma": "nope"}), "Parameter 'dma' does not accept value 'nope'"),
        (json!({"reconnect": 1}), "Invalid parameter type for 'reconnect', expected: boolean"),
        (json!({"allowed-uids": [-1]}), "Parameter 'null' expects uint32_t"),
        (json!({"nope": 1}), "Parameter 'nope' is unexpected"),
        (json!({"id": "1"}), "Parameter 'id' expects an identifier"),
    ] {
        assert_eq!(add(more.clone()).await, format!("GenericError: {text}"), "{more}");
    }
    for missing in ["socket", "device"] {
        let mut export = house.export(json!({}));
        export.as_object_mut().unwrap().remove(missing);
        house.refused("object-add", export, &format!("Parameter '{missing}' is missing")).await;
    }
    // None of these has kept the device, and none has asked for a shutdown.
    assert_eq!(house.content().await, 7);
    assert!(house.plane.objects().children("/objects").is_empty());
}

impl House {
    async fn refused_add(&self, more: Value) -> Value {
        self.ask("object-add", self.export(more)).await
    }
}

#[cfg(feature = "tcp")]
#[tokio::test]
async fn only_unix_sockets() {
    let house = House::new().await;
    let tcp = json!({"socket": {"type": "inet", "host": "", "port": "0"}});
    house.refused("object-add", house.export(tcp), "vfu: Unsupported socket type - inet").await;
}

#[tokio::test]
async fn what_fails_leaves_nothing_behind() {
    let mut house = House::of(builder().auto_shutdown(true)).await;
    let taken = UnixListener::bind(house.path("s")).unwrap();
    let text = "vfu: Failed to create context - Address already in use";
    house.done("object-add", json!({"qom-type": "iothread", "id": "io"})).await;
    for more in [json!({"id": "leaves-nothing"}), json!({"iothread": "io"})] {
        house.refused("object-add", house.export(more), text).await;
    }
    assert!(house.path("s").exists(), "the other's socket stays");
    assert!(!threads().iter().any(|name| name.starts_with("IO leaves-noth")), "{:?}", threads());
    house.done("object-del", json!({"id": "io"})).await;
    // A file that no socket is.
    std::fs::write(house.path("f"), "precious").unwrap();
    let file = json!({"socket": {"type": "unix", "path": house.path("f")}});
    house.refused("object-add", house.export(file), text).await;
    assert_eq!(std::fs::read(house.path("f")).unwrap(), b"precious");
    // A duplicate fails before it listens.
    drop(taken);
    house.done("object-add", house.export(json!({}))).await;
    house.done("device_add", json!({"driver": "x-cell", "id": "d"})).await;
    let second = json!({"device": "d", "socket": {"type": "unix", "path": house.path("t")}});
    let duplicate = "attempt to add duplicate property 'v' to object (type 'container')";
    house.refused("object-add", house.export(second), duplicate).await;
    assert!(!house.path("t").exists());
    house.done("device_del", json!({"id": "d"})).await;
    assert_eq!(events(&mut house.session), ["DEVICE_DELETED"], "nothing has shut down");
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced() {
    let house = House::new().await;
    drop(UnixListener::bind(house.path("s")).unwrap());
    house.done("object-add", house.export(json!({}))).await;
    drop(attach(house.path("s")).await);
}

#[tokio::test]
async fn properties_of_a_server_that_is_there() {
    let house = House::new().await;
    let more = json!({"dma": "map", "allowed-uids": [0, rustix::process::getuid().as_raw()]});
    house.done("object-add", house.export(more)).await;
    let of = |property: &str| json!({"path": "/objects/v", "property": property});
    for property in ["socket", "device"] {
        let text = format!("Property 'x-vfio-user-server.{property}' is not readable");
        house.refused("qom-get", of(property), &text).await;
        let mut set = of(property);
        set.as_object_mut().unwrap().insert("value".into(), "x".into());
        house.refused("qom-set", set, "vfu: Unable to set device property - server busy").await;
    }
    assert_eq!(house.ask("qom-get", of("dma")).await, "map");
    assert_eq!(house.ask("qom-get", of("reconnect")).await, false);
    assert_eq!(house.ask("qom-get", of("iothread")).await, Value::Null);
    let mut set = of("dma");
    set.as_object_mut().unwrap().insert("value".into(), "auto".into());
    house.refused("qom-set", set, "Property 'x-vfio-user-server.dma' is not writable").await;
    // As QEMU, it looks at the type of a name first.
    let mut set = of("device");
    set.as_object_mut().unwrap().insert("value".into(), 1.into());
    house.refused("qom-set", set, "Invalid parameter type for 'device', expected: string").await;
    // All the same they are listed.
    let Value::Array(list) = house.ask("qom-list", json!({"path": "/objects/v"})).await else { panic!() };
    let names: Vec<_> = list.iter().map(|property| property["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"socket") && names.contains(&"device"), "{names:?}");
}

#[tokio::test]
async fn who_is_used_stays() {
    let house = House::new().await;
    house.done("object-add", json!({"qom-type": "iothread", "id": "io"})).await;
    house.done("object-add", house.export(json!({"iothread": "io"}))).await;
    house.refused("object-del", json!({"id": "io"}), "object 'io' is in use, can not be deleted").await;
    let text = "vfu: x-vfio-user-server for c must be deleted before unplugging";
    house.refused("device_del", json!({"id": "c"}), text).await;
    let other = json!({"id": "w", "socket": {"type": "unix", "path": house.path("w")}});
    let text = "vfu: Device c is exported by x-vfio-user-server 'v' already";
    house.refused("object-add", house.export(other), text).await;
    assert!(!house.path("w").exists());
    house.done("object-del", json!({"id": "v"})).await;
    house.done("object-del", json!({"id": "io"})).await;
    house.done("device_del", json!({"id": "c"})).await;
}

#[tokio::test]
async fn it_goes_with_its_client() {
    let mut house = House::new().await;
    let mut other = watching(&house.plane);
    house.done("object-add", house.export(json!({}))).await;
    let client = attach(house.path("s")).await;
    let (client, ()) = with(client, |client| client.region_write(0, 0, &5_u32.to_le_bytes()).unwrap()).await;
    drop(client);
    house.hangup().await;
    house.refused("object-del", json!({"id": "v"}), "object 'v' not found").await;
    assert!(!house.path("s").exists());
    assert_eq!(house.content().await, 5, "its state stays");
    house.done("device_del", json!({"id": "c"})).await;
    assert_eq!(events(&mut other), ["VFU_CLIENT_HANGUP", "DEVICE_DELETED"], "on every monitor, once");
}

#[tokio::test]
async fn with_reconnect_it_waits_for_the_next_client() {
    let mut house = House::new().await;
    house.done("object-add", house.export(json!({"reconnect": true}))).await;
    for expected in [7, 8, 9_u32] {
        let client = attach(house.path("s")).await;
        let (client, read) = with(client, move |client| {
            let read = content(client);
            client.region_write(0, 0, &(expected + 1).to_le_bytes()).unwrap();
            read
        })
        .await;
        assert_eq!(read, expected);
        drop(client);
        house.hangup().await;
    }
    assert_eq!(house.query().await["stats"]["clients"], 3);
    house.done("object-del", json!({"id": "v"})).await;
    assert_eq!(events(&mut house.session), [""; 0]);
}

#[tokio::test]
async fn who_has_not_negotiated_has_not_hung_up() {
    let mut house = House::new().await;
    house.done("object-add", house.export(json!({}))).await;
    drop(UnixStream::connect(house.path("s")).unwrap());
    // The next one is served after that one has gone.
    let client = attach(house.path("s")).await;
    let info = house.query().await;
    assert_eq!((&info["stats"]["refused"], &info["stats"]["clients"]), (&json!(1), &json!(1)));
    assert_eq!(events(&mut house.session), [""; 0]);
    drop(client);
    house.hangup().await;
}

#[tokio::test]
async fn the_machine_shuts_down_with_the_last_one_if_it_is_to() {
    let mut house = House::of(builder().auto_shutdown(true)).await;
    house.done("device_add", json!({"driver": "x-cell", "id": "d"})).await;
    house.done("object-add", house.export(json!({}))).await;
    let second = json!({"id": "w", "device": "d", "socket": {"type": "unix", "path": house.path("t")}});
    house.done("object-add", house.export(second)).await;
    house.done("object-del", json!({"id": "w"})).await;
    let client = attach(house.path("s")).await;
    assert_eq!(events(&mut house.session), [""; 0], "one is left");
    drop(client);
    house.hangup().await;
    let shutdown = json!({"guest": true, "reason": "guest-shutdown"});
    assert_eq!(house.event().await, ("SHUTDOWN".to_owned(), shutdown));
    assert_eq!(house.plane.shutdown_requested().await, ShutdownCause::GuestShutdown);
}

#[tokio::test]
async fn deleting_the_last_one_shuts_down_too() {
    let mut house = House::of(builder().auto_shutdown(true)).await;
    house.done("object-add", house.export(json!({}))).await;
    house.done("object-del", json!({"id": "v"})).await;
    assert_eq!(house.event().await.0, "SHUTDOWN");
}

#[tokio::test]
async fn by_itself_nothing_shuts_down() {
    let mut house = House::new().await;
    house.done("object-add", house.export(json!({}))).await;
    house.done("object-del", json!({"id": "v"})).await;
    house.done("system_powerdown", json!({})).await;
    assert_eq!(events(&mut house.session), ["POWERDOWN"]);
}

#[tokio::test]
async fn an_exports_state_can_be_asked() {
    let house = House::new().await;
    assert_eq!(house.ask("x-query-vfio-user", json!({})).await, json!([]));
    house.done("object-add", json!({"qom-type": "iothread", "id": "io"})).await;
    house.done("object-add", house.export(json!({"iothread": "io"}))).await;
    let info = house.query().await;
    let path = house.path("s").display().to_string();
    for (member, value) in [
        ("id", json!("v")),
        ("qom-path", json!("/objects/v")),
        ("device", json!("c")),
        ("iothread", json!("io")),
        ("socket", json!(format!("unix:{path}"))),
        ("state", json!("listening")),
        ("reconnect", json!(false)),
        ("dma", json!("auto")),
        ("busy", json!(false)),
        ("maps", json!([])),
        ("map-count", json!(0)),
        ("mapped-bytes", json!(0)),
        ("client", Value::Null),
    ] {
        assert_eq!(info[member], value, "{member}");
    }
    let threads = house.ask("query-iothreads", json!({})).await;
    assert_eq!(info["thread-id"], threads[0]["thread-id"]);

    let client = attach(house.path("s")).await;
    let memory = sealed_memory();
    let file = memory.try_clone().unwrap();
    let (client, ()) = with(client, move |client| {
        client.dma_map(0, 0x1000, 8192, std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
        content(client);
    })
    .await;
    // A context counts what it has done when its turn ends, which may be after its client has heard of it.
    let counted = async {
        loop {
            let info = house.query().await;
            if info["stats"]["reads"] != json!(0) {
                return info;
            }
            tokio::task::yield_now().await;
        }
    };
    let info = tokio::time::timeout(PATIENCE, counted).await.unwrap();
    assert_eq!(info["state"], "serving");
    assert_eq!(info["client"]["pid"], std::process::id());
    assert_eq!(info["client"]["version"], "0.0");
    assert_eq!(info["client"]["capabilities"]["max-msg-fds"], 1);
    assert_eq!((&info["map-count"], &info["mapped-bytes"]), (&json!(1), &json!(8192)));
    let map = json!({"iova": 0x1000, "size": 8192, "readable": true, "writable": true, "path": "direct"});
    assert_eq!(info["maps"], json!([map]));
    assert_eq!((&info["stats"]["reads"], &info["stats"]["read-bytes"]), (&json!(1), &json!(4)));
    let latency: u64 = info["stats"]["latency"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(latency, 1);

    let human = house.ask("human-monitor-command", json!({"command-line": "info vfio-user"})).await;
    let human = human.as_str().unwrap();
    for part in [&format!("v: c on unix:{path}\r\n"), "state=serving", "iothread=io", "maps: 1, 8192 bytes"] {
        assert!(human.contains(part), "{part}: {human}");
    }
    drop(client);
}

fn sealed_memory() -> OwnedFd {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
    let file = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, 8192).unwrap();
    fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    file
}

#[tokio::test]
async fn a_busy_device_does_not_hold_up_who_asks() {
    let house = House::new().await;
    house.done("object-add", house.export(json!({}))).await;
    let client = attach(house.path("s")).await;
    let write = with(client, |client| client.region_write(0, 4, &2500_u32.to_le_bytes()).unwrap());
    let write = tokio::spawn(write);
    // Until it has begun, it is not busy.
    let start = std::time::Instant::now();
    let info = loop {
        let info = house.query().await;
        if info["busy"] == true {
            break info;
        }
        assert!(start.elapsed() < PATIENCE);
    };
    assert_eq!((&info["state"], &info["client"]), (&json!("serving"), &Value::Null));
    assert_eq!(house.ask("query-status", json!({})).await["status"], "running");
    drop(write.await.unwrap());
}

#[tokio::test]
async fn a_yank_hangs_up() {
    let mut house = House::new().await;
    house.done("object-add", house.export(json!({}))).await;
    let instance = json!({"type": "x-vfio-user", "id": "v"});
    assert_eq!(house.ask("query-yank", json!({})).await, json!([instance]));
    let client = attach(house.path("s")).await;
    house.done("yank", json!({"instances": [instance]})).await;
    house.hangup().await;
    house.refused("object-del", json!({"id": "v"}), "object 'v' not found").await;
    assert_eq!(house.ask("query-yank", json!({})).await, json!([]));
    let gone = house.ask("yank", json!({"instances": [instance]})).await;
    assert_eq!(gone, "DeviceNotFound: Instance not found");
    drop(client);
}

#[tokio::test]
async fn a_passed_socket_is_taken_once() {
    let mut house = House::new().await;
    // One that listens.
    let listener = UnixListener::bind(house.path("l")).unwrap();
    let getfd = |name: &'static str, fd: OwnedFd| {
        ask_with(&house.session, "getfd", json!({ "fdname": name }), vec![fd])
    };
    assert_eq!(getfd("l", listener.into()).await, json!({}));
    let on = |name: &str| json!({"socket": {"type": "fd", "str": name}, "reconnect": true});
    house.done("object-add", house.export(on("l"))).await;
    let (client, _) = with(attach(house.path("l")).await, content).await;
    assert_eq!(house.query().await["socket"], "fd:l");
    drop(client);
    house.hangup().await;
    house.done("object-del", json!({"id": "v"})).await;
    let text = "File descriptor named 'l' has not been found";
    house.refused("object-add", house.export(on("l")), text).await;
    // One that is connected has one client only.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let getfd = |name: &'static str, fd: OwnedFd| {
        ask_with(&house.session, "getfd", json!({ "fdname": name }), vec![fd])
    };
    assert_eq!(getfd("p", theirs.try_clone().unwrap().into()).await, json!({}));
    let text = "vfu: reconnect needs a socket that listens";
    house.refused("object-add", house.export(on("p")), text).await;
    assert_eq!(getfd("p", theirs.into()).await, json!({}));
    house.done("object-add", house.export(json!({"socket": {"type": "fd", "str": "p"}}))).await;
    assert_eq!(house.query().await["id"], "v");
    // What is none.
    let file = std::fs::File::open("/dev/null").unwrap();
    house.done("device_add", json!({"driver": "x-cell", "id": "d"})).await;
    assert_eq!(getfd("n", file.into()).await, json!({}));
    let none = json!({"id": "w", "device": "d", "socket": {"type": "fd", "str": "n"}});
    let said = house.ask("object-add", house.export(none)).await;
    assert!(said.as_str().unwrap().starts_with("GenericError: vfu: Failed to create context - "), "{said}");
    drop(ours);
}

#[tokio::test]
async fn an_abstract_name() {
    let house = House::new().await;
    let name = format!("vmm-control-test-{}", std::process::id());
    let socket = json!({"socket": {"type": "unix", "path": name, "abstract": true}});
    house.done("object-add", house.export(socket)).await;
    assert_eq!(house.query().await["socket"], format!("unix:{name},abstract=on"));
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    drop(UnixStream::connect_addr(&address).unwrap());
}

#[tokio::test]
async fn a_device_that_panics_takes_only_its_export_along() {
    let mut house = House::new().await;
    house.done("object-add", json!({"qom-type": "iothread", "id": "io"})).await;
    house.done("device_add", json!({"driver": "x-cell", "id": "d"})).await;
    // Even one that would take another client.
    house.done("object-add", house.export(json!({"iothread": "io", "reconnect": true}))).await;
    let second = json!({"id": "w", "device": "d", "iothread": "io", "socket": {"type": "unix", "path": house.path("t")}});
    house.done("object-add", house.export(second)).await;
    let other = attach(house.path("t")).await;
    let client = attach(house.path("s")).await;
    let (_, failed) = with(client, |client| client.region_write(0, 8, &[0; 4]).is_err()).await;
    assert!(failed);
    house.hangup().await;
    house.refused("object-del", json!({"id": "v"}), "object 'v' not found").await;
    let text = "vfu: Device c has failed and must be unplugged";
    house.refused("object-add", house.export(json!({})), text).await;
    house.done("device_del", json!({"id": "c"})).await;
    assert_eq!(with(other, content).await.1, 7);
}

#[tokio::test]
async fn policies_hold_for_exports() {
    let house = House::new().await;
    let session = |rules: Rules| house.plane.connect_with(Policy::from(rules));
    let limited = session(Rules::new().allow(["object-add:iothread", "device_add:x-lamp", "yank"]).unwrap());
    let text =
        "GenericError: The command 'object-add' is not allowed for 'x-vfio-user-server' on this monitor";
    assert_eq!(ask(&limited, "object-add", house.export(json!({}))).await, text);
    let text = "GenericError: The command 'device_add' is not allowed for 'x-cell' on this monitor";
    assert_eq!(ask(&limited, "device_add", json!({"driver": "x-cell", "id": "e"})).await, text);
    // Another session's descriptors are out of reach.
    let allowed = session(Rules::new().allow(["object-add:x-vfio-user-server"]).unwrap());
    let listener = UnixListener::bind(house.path("l")).unwrap();
    ask_with(&house.session, "getfd", json!({"fdname": "l"}), vec![listener.into()]).await;
    let fd = json!({"socket": {"type": "fd", "str": "l"}});
    let text = "GenericError: File descriptor named 'l' has not been found";
    assert_eq!(ask(&allowed, "object-add", house.export(fd)).await, text);
    assert_eq!(ask(&allowed, "object-add", house.export(json!({}))).await, json!({}));
    let watcher = session(Rules::new().read_only(true));
    assert!(ask(&watcher, "x-query-vfio-user", ()).await.is_array());
    let text = "GenericError: The command 'object-del' is not allowed on this monitor";
    assert_eq!(ask(&watcher, "object-del", json!({"id": "v"})).await, text);
}

#[tokio::test]
async fn a_plane_that_is_dropped_stops_its_exports() {
    let house = House::new().await;
    house.done("object-add", house.export(json!({"id": "dropped"}))).await;
    let client = attach(house.path("s")).await;
    let House { plane, session, directory } = house;
    assert!(threads().iter().any(|name| name.starts_with("IO dropped")));
    drop(session);
    plane.close().await;
    assert!(!directory.path().join("s").exists());
    assert!(!threads().iter().any(|name| name.starts_with("IO dropped")));
    drop(client);
}

#[tokio::test]
async fn a_pci_device_is_what_qemus_are() {
    let house = House::new().await;
    let of = |property: &str| json!({"path": "/machine/peripheral/c", "property": property});
    for (property, value) in [
        ("content", json!(7)),
        ("addr", json!(-1)),
        ("legacy-addr", json!("<unset>")),
        ("romfile", json!("")),
        ("romsize", json!(u32::MAX)),
        ("rombar", json!(1)),
        ("multifunction", json!(false)),
        ("x-pcie-lnksta-dllla", json!(true)),
        ("x-pcie-extcap-init", json!(true)),
        ("failover_pair_id", json!("")),
        ("acpi-index", json!(0)),
        ("realized", json!(true)),
    ] {
        assert_eq!(house.ask("qom-get", of(property)).await, value, "{property}");
    }
    let mut set = of("content");
    set.as_object_mut().unwrap().insert("value".into(), 1.into());
    let text = "Attempt to set property 'content' on device 'c' (type 'x-cell') after it was realized";
    house.refused("qom-set", set, text).await;
    let add = |property: &str, value: &str| json!({"driver": "x-cell", "id": "d", property: value});
    for (property, value, text) in [
        ("addr", "99", "Property 'x-cell.addr' doesn't take value '99'"),
        ("romfile", "rom.bin", "Property 'x-cell.romfile' doesn't take value 'rom.bin'"),
        ("rombar", "x", "Parameter 'rombar' expects integer"),
        ("multifunction", "maybe", "Parameter 'multifunction' expects 'on' or 'off'"),
        ("content", "x", "Parameter 'content' expects integer"),
        ("nope", "x", "Property 'x-cell.nope' not found"),
    ] {
        house.refused("device_add", add(property, value), text).await;
    }
    house.done("device_add", json!({"driver": "x-cell", "id": "d", "addr": "5.1", "content": "9"})).await;
    let of = |property: &str| json!({"path": "/machine/peripheral/d", "property": property});
    assert_eq!(house.ask("qom-get", of("addr")).await, 41);
    assert_eq!(house.ask("qom-get", of("legacy-addr")).await, "05.1");
    assert_eq!(house.ask("qom-get", of("content")).await, 9);

    let list = |implements: &str| json!({"implements": implements, "abstract": true});
    let cell = json!({"name": "x-cell", "parent": "pci-device"});
    assert_eq!(house.ask("qom-list-types", list("conventional-pci-device")).await, json!([cell]));
    let parent = json!({"name": "pci-device", "parent": "device", "abstract": true});
    let Value::Array(all) = house.ask("qom-list-types", list("pci-device")).await else { panic!() };
    assert!(all.len() == 2 && all.contains(&cell) && all.contains(&parent), "{all:?}");
    let Value::Array(properties) = house.ask("qom-list-properties", json!({"typename": "x-cell"})).await
    else {
        panic!()
    };
    let shown: Vec<_> =
        properties.iter().map(|it| (it["name"].as_str().unwrap(), it["type"].as_str().unwrap())).collect();
    // Recorded from QEMU 7.2's edu, which has a property of its own in the same place.
    let recorded = [
        ("type", "string"),
        ("parent_bus", "link<bus>"),
        ("realized", "bool"),
        ("hotplugged", "bool"),
        ("hotpluggable", "bool"),
        ("failover_pair_id", "str"),
        ("romfile", "str"),
        ("addr", "int32"),
        ("romsize", "uint32"),
        ("x-pcie-lnksta-dllla", "bool"),
        ("rombar", "uint32"),
        ("x-pcie-extcap-init", "bool"),
        ("acpi-index", "uint32"),
        ("multifunction", "bool"),
        ("legacy-addr", "str"),
        ("content", "uint32"),
    ];
    assert_eq!(shown, recorded);
}

#[tokio::test]
async fn objects_are_written_as_qemus_manual_writes_them() {
    let house = House::new().await;
    let path = house.path("s");
    let line = format!("object_add x-vfio-user-server,id=v,type=unix,path={},device=c", path.display());
    assert_eq!(house.ask("human-monitor-command", json!({"command-line": line})).await, "");
    assert_eq!(house.query().await["id"], "v");
    drop(attach(path).await);
}
