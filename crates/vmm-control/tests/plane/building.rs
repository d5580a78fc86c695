//! What keeps a plane from being built, and a monitor from being added.

use std::sync::Arc;

use crate::support::{Client, Toy, ask, built, directory, listen, plain};
use serde_json::json;
use vmm_control::chardev::{Address, Backend, Chardev, SocketOptions};
use vmm_control::objects::Plain;
use vmm_control::qmp_command::Metadata;
use vmm_control::{
    Authority, BuildError, Builder, Command, CommandError, Context, ControlPlane, Creation, EventSpec,
    MonitorConfig, MonitorError, ObjectType, RunState, RunStateCell, ShutdownCause, Version,
};

fn toy() -> Toy {
    Toy::new(RunState::Running)
}

#[test]
fn a_plane_needs_a_runtime() {
    let error = ControlPlane::builder(toy()).build().unwrap_err();
    assert!(matches!(error, BuildError::NoRuntime));
    assert_eq!(error.to_string(), "a control plane is built inside a tokio runtime");
}

/// The runtime may be entered instead of run.
#[test]
fn an_entered_runtime_will_do() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let entered = runtime.enter();
    let plane = plain(&toy());
    drop(entered);
    runtime.block_on(async {
        assert_eq!(ask(&plane.connect(), "query-name", ()).await, json!({}));
        plane.close().await;
    });
}

#[tokio::test]
async fn names_of_built_in_commands_and_events_are_taken() {
    let stop = Command::new("stop").handler(async |_: Context, (): ()| Ok(()));
    let error = ControlPlane::builder(toy()).command(stop).build().unwrap_err();
    assert_eq!(error.to_string(), "the command \"stop\" is registered twice");
    let error = ControlPlane::builder(toy()).event(EventSpec::standard::<()>("STOP")).build().unwrap_err();
    assert_eq!(error.to_string(), "the event \"STOP\" is declared twice");
    let error = ControlPlane::builder(toy()).event(EventSpec::standard::<()>("stop")).build().unwrap_err();
    assert!(matches!(error, BuildError::Event(_)));
}

#[tokio::test]
async fn a_monitor_has_an_id_and_a_chardev_of_its_own() {
    let (plane, dir) = (plain(&toy()), directory());
    let open = async |id: &str| {
        let backend = Backend::Socket(SocketOptions::server(Address::unix(dir.path().join(id))));
        Arc::new(Chardev::open(id, backend, 128).await.unwrap())
    };
    let (one, other) = (open("one").await, open("other").await);
    plane.add_monitor(MonitorConfig::new("m"), &one, 64).unwrap();
    let error = plane.add_monitor(MonitorConfig::new("m"), &other, 64).unwrap_err();
    assert!(matches!(&error, MonitorError::Duplicate(id) if id == "m"));
    assert_eq!(error.to_string(), "a monitor 'm' exists already");
    let error = plane.add_monitor(MonitorConfig::new("n"), &one, 64).unwrap_err();
    assert_eq!(error.to_string(), "Device 'one' is in use");
    for id in ["", "a/b", "m/"] {
        let error = plane.add_monitor(MonitorConfig::new(id), &other, 64).unwrap_err();
        assert!(matches!(error, MonitorError::IllegalId(illegal) if illegal == id));
    }
    plane.add_monitor(MonitorConfig::new("n"), &other, 64).unwrap();
    plane.close().await;
}

#[tokio::test]
async fn a_monitor_can_go_and_another_take_its_chardev() {
    let (plane, dir) = (plain(&toy()), directory());
    let path = dir.path().join("q");
    let backend = Backend::Socket(SocketOptions::server(Address::unix(&path)));
    let chardev = Arc::new(Chardev::open("c", backend, 128).await.unwrap());
    plane.add_monitor(MonitorConfig::new("m"), &chardev, 64).unwrap();
    let other = listen(&plane, dir.path(), "other").await;
    let (mut first, mut apart) = (Client::new(&path).await, Client::new(&other).await);
    assert!(!plane.remove_monitor("n").await);
    assert!(plane.remove_monitor("m").await);
    assert_eq!(first.rest().await, "", "its sessions end");
    assert!(!plane.remove_monitor("m").await);
    assert_eq!(apart.ask("{\"execute\": \"query-fdsets\"}").await, "{\"return\": []}", "and no other's");
    plane.add_monitor(MonitorConfig::new("m"), &chardev, 64).unwrap();
    Client::new(&path).await;
    plane.close().await;
}

#[tokio::test]
async fn an_author_chooses_the_version() {
    let version = Version { major: 8, minor: 1, micro: 2, package: "toy 3".into() };
    let plane = built(ControlPlane::builder(toy()).version(version));
    assert_eq!(
        ask(&plane.connect(), "query-version", ()).await,
        json!({"qemu": {"micro": 2, "minor": 1, "major": 8}, "package": "toy 3"})
    );
}

/// Lets those commands run that only look.
struct Watchers;

impl Authority for Watchers {
    fn authorize(&self, command: &Metadata, _: &Context) -> Result<(), CommandError> {
        let looks = command.name.starts_with("query-");
        looks.then_some(()).ok_or_else(|| CommandError::generic(format!("no {} here", command.name)))
    }
}

#[tokio::test]
async fn an_authority_is_asked_for_built_in_commands_too() {
    let machine = toy();
    let plane = built(ControlPlane::builder(machine.clone()).authority(Arc::new(Watchers)));
    let session = plane.connect();
    assert_eq!(ask(&session, "stop", ()).await, "GenericError: no stop here");
    assert_eq!(ask(&session, "query-name", ()).await, json!({}));
    assert!(machine.asked().is_empty());
}

fn plain_type(name: &'static str) -> ObjectType {
    ObjectType::new(name, |_: &Creation, _| Ok(Plain))
}

#[tokio::test]
async fn types_of_objects_and_devices_share_their_names_with_the_built_in_ones() {
    for (builder, name) in [
        (ControlPlane::builder(toy()).object_type(plain_type("iothread")), "iothread"),
        (ControlPlane::builder(toy()).device_type(plain_type("machine")), "machine"),
        (ControlPlane::builder(toy()).object_type(plain_type("x-a")).device_type(plain_type("x-a")), "x-a"),
    ] {
        assert_eq!(
            builder.build().unwrap_err().to_string(),
            format!("the type {name:?} is registered twice")
        );
    }
    // Not so what others are said to inherit from: it may be a type, before or after them.
    let child = || plain_type("x-child").parent("x-parent");
    for types in [[child(), plain_type("x-parent")], [plain_type("x-parent"), child()]] {
        let plane = built(types.into_iter().fold(ControlPlane::builder(toy()), Builder::object_type));
        let listed = ask(&plane.connect(), "qom-list-types", json!({"implements": "x-parent"})).await;
        assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    }
}

/// Keeps a hand on a machine that has nothing but a state.
#[tokio::test]
async fn a_run_state_is_a_machine_and_so_is_a_shared_one() {
    let machine = Arc::new(RunStateCell::new(RunState::Running));
    let plane = built(ControlPlane::builder(machine.clone()).no_shutdown(true));
    let session = plane.connect();
    for (command, state) in [("stop", RunState::Paused), ("cont", RunState::Running)] {
        session.call(command, &()).await.unwrap();
        assert_eq!(machine.get(), state, "{command}");
    }
    plane.handle().guest_shut_down(ShutdownCause::GuestShutdown).await.unwrap();
    assert_eq!(machine.get(), RunState::Shutdown);
    session.call("system_reset", &()).await.unwrap();
    assert_eq!(machine.get(), RunState::Prelaunch);
    let refused = session.call("nope", &()).await.unwrap_err();
    assert_eq!(refused.to_string(), "The command nope has not been found");
}
