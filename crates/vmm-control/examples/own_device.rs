//! A VMM with an object type, a device type and a human-monitor command of its own:
//! `cargo run -p vmm-control --features hmp --example own_device`.
//!
//! Its disks are throttled: a disk names a throttle, and while the disk is plugged that throttle cannot be deleted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::json;
use vmm_control::objects::Used;
use vmm_control::{
    CommandError, CommandResult, ControlPlane, Creation, HumanCommand, LocalSession, Object, ObjectType,
    PlaneHandle, QapiType, RunState, RunStateCell,
};

/// Properties of a throttle.
#[derive(Deserialize, Serialize, QapiType)]
struct ThrottleProperties {
    /// Bytes a second.
    limit: u64,
}

/// How fast something may be, read by whoever does it.
struct Throttle {
    limit: AtomicU64,
}

impl Object for Throttle {
    type Properties = ThrottleProperties;

    const SETTABLE: &'static [&'static str] = &["limit"];

    fn properties(&self) -> ThrottleProperties {
        ThrottleProperties { limit: self.limit.load(Ordering::Relaxed) }
    }

    fn set(&self, _: &'static str, new: ThrottleProperties) -> CommandResult<()> {
        self.limit.store(new.limit, Ordering::Relaxed);
        Ok(())
    }
}

/// Properties of a disk.
#[derive(Clone, Deserialize, Serialize, QapiType)]
struct DiskProperties {
    /// The id of its throttle.
    throttle: String,
}

struct Disk {
    properties: DiskProperties,
    /// While this lives, the throttle stays.
    throttle: Used<Throttle>,
}

impl Disk {
    fn new(creation: &Creation, properties: DiskProperties) -> CommandResult<Self> {
        let throttle = creation.plane.objects().acquire(&format!("/objects/{}", properties.throttle));
        let missing = || CommandError::generic(format!("throttle '{}' not found", properties.throttle));
        Ok(Self { throttle: throttle.ok_or_else(missing)?, properties })
    }
}

impl Object for Disk {
    type Properties = DiskProperties;

    fn properties(&self) -> DiskProperties {
        self.properties.clone()
    }
}

/// `info x-disks`
fn info_disks(plane: &PlaneHandle) -> HumanCommand {
    let objects = plane.objects().clone();
    let line = move |name: String| {
        let disk = objects.peek::<Disk>(&format!("/machine/peripheral/{name}"))?;
        let limit = disk.throttle.limit.load(Ordering::Relaxed);
        Some(format!("{name}: {limit} bytes/s ({})\n", disk.throttle.path()))
    };
    let objects = plane.objects().clone();
    HumanCommand::new("info x-disks").help("show the disks").read_only().immediate(move |_, _| {
        Ok(objects.children("/machine/peripheral").into_iter().filter_map(&line).collect())
    })
}

fn plane() -> Result<ControlPlane, vmm_control::BuildError> {
    let throttle = |_: &Creation, properties: ThrottleProperties| {
        Ok(Throttle { limit: AtomicU64::new(properties.limit) })
    };
    // A machine with nothing but a run state will do here; `own_command` shows one with more.
    ControlPlane::builder(RunStateCell::new(RunState::Running))
        .object_type(ObjectType::new("x-throttle", throttle))
        .device_type(ObjectType::new("x-disk", Disk::new).parent("device").links("throttle", "x-throttle"))
        .human_command_with(info_disks)
        .build()
}

/// Says what a command says.
async fn show(session: &LocalSession, command: &str, arguments: serde_json::Value) -> String {
    let said = match session.execute::<_, serde_json::Value>(command, &arguments).await {
        Ok(value) => value.as_str().map_or_else(|| value.to_string(), |text| text.trim_end().to_owned()),
        Err(error) => error.to_string(),
    };
    println!("{command}: {said}");
    said
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plane = plane()?;
    let mut session = plane.connect();
    session.watch();

    let plug = json!({"driver": "x-disk", "id": "d0", "throttle": "slow"});
    assert_eq!(show(&session, "device_add", plug.clone()).await, "throttle 'slow' not found");
    let slow = json!({"qom-type": "x-throttle", "id": "slow", "limit": 4096});
    assert_eq!(show(&session, "object-add", slow).await, "{}");
    assert_eq!(show(&session, "device_add", plug).await, "{}");
    let faster = json!({"path": "slow", "property": "limit", "value": 8192});
    assert_eq!(show(&session, "qom-set", faster).await, "{}");

    let disks = json!({"command-line": "info x-disks"});
    let said = show(&session, "human-monitor-command", disks).await;
    assert_eq!(said, "d0: 8192 bytes/s (/objects/slow)");

    let delete = json!({"id": "slow"});
    let in_use = "object 'slow' is in use, can not be deleted";
    assert_eq!(show(&session, "object-del", delete.clone()).await, in_use);
    assert_eq!(show(&session, "device_del", json!({"id": "d0"})).await, "{}");
    let event = session.try_next_event().ok_or("an event precedes the reply of what raised it")?;
    println!("{} {}", event.name, serde_json::to_string(&event.data)?);
    assert_eq!(show(&session, "object-del", delete).await, "{}");

    plane.close().await;
    Ok(())
}
