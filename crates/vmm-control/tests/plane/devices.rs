//! Devices: types of an author's own, properties as texts, use, and the event.

use serde::{Deserialize, Serialize};
use serde_json::json;
use vmm_control::objects::Creation;
use vmm_control::{
    CommandError, CommandResult, Context, ControlPlane, Object, ObjectType, QapiType, RunState,
};

use crate::support::{Toy, ask, built, events, watching};

/// What a bell is like.
#[derive(Clone, Deserialize, Serialize, QapiType)]
struct BellProperties {
    /// How loud it is.
    volume: Option<u8>,
    /// How much it can ring.
    #[qapi(size)]
    space: Option<u64>,
    /// Whether it is made of tin.
    tin: Option<bool>,
    /// Fails when it is plugged.
    cracked: Option<bool>,
}

struct Bell(BellProperties);

impl Object for Bell {
    type Properties = BellProperties;

    fn properties(&self) -> BellProperties {
        self.0.clone()
    }

    async fn complete(&self, _: &Creation) -> CommandResult<()> {
        match self.0.cracked {
            Some(true) => Err(CommandError::generic("it does not ring")),
            _ => Ok(()),
        }
    }

    async fn delete(&self, _: &Context) -> CommandResult<()> {
        match self.0.tin {
            Some(true) => Err(CommandError::generic("nobody takes it")),
            _ => Ok(()),
        }
    }
}

fn plane() -> ControlPlane {
    let bell = ObjectType::new("x-bell", |_: &Creation, properties| Ok(Bell(properties))).parent("device");
    built(ControlPlane::builder(Toy::new(RunState::Running)).device_type(bell))
}

#[tokio::test]
async fn properties_are_texts_with_the_meaning_of_their_types() {
    let plane = plane();
    let session = plane.connect();
    let add = |arguments| ask(&session, "device_add", arguments);
    let get = |property: &'static str| {
        let session = &session;
        async move {
            ask(session, "qom-get", json!({"path": "/machine/peripheral/b", "property": property})).await
        }
    };
    let bell = json!({"driver": "x-bell", "id": "b", "volume": "11", "space": "1M", "tin": "off"});
    assert_eq!(add(bell).await, json!({}));
    assert_eq!(
        (get("volume").await, get("space").await, get("tin").await),
        (json!(11), json!(1 << 20), json!(false))
    );
    assert_eq!(
        (get("type").await, get("realized").await, get("hotplugged").await),
        (json!("x-bell"), json!(true), json!(true))
    );
    // Numbers are as good as texts.
    assert_eq!(add(json!({"driver": "x-bell", "volume": 3})).await, json!({}));
    let long = "b".repeat(1025);
    for (wrong, text) in [
        (json!({"driver": "x-bell", "id": long}), "Parameter 'id' expects at most 1024 bytes"),
        (json!({"driver": "x-bell", "id": "b"}), "Duplicate device ID 'b'"),
        (json!({"driver": "x-bell", "id": "1"}), "Parameter 'id' expects an identifier"),
        (json!({"driver": "x-bell", "nope": 1}), "Property 'x-bell.nope' not found"),
        (json!({"driver": "x-bell", "bus": "pci.0"}), "Bus 'pci.0' not found"),
        (json!({"driver": "x-bell", "volume": "x"}), "Parameter 'volume' expects integer"),
        (json!({"driver": "x-bell", "volume": 256}), "Parameter 'volume' expects uint8_t"),
        (json!({"driver": "x-bell", "cracked": true}), "it does not ring"),
        (json!({"driver": "device"}), "Parameter 'driver' expects a non-abstract device type"),
        (json!({"driver": "iothread"}), "'iothread' is not a valid device model name"),
        (json!({}), "Parameter 'driver' is missing"),
    ] {
        let reply = add(wrong.clone()).await;
        assert!(reply.as_str().is_some_and(|reply| reply.starts_with("GenericError: ")), "{wrong}: {reply}");
        assert_eq!(reply, format!("GenericError: {text}"), "{wrong}");
    }
    assert_eq!(plane.objects().children("/machine/peripheral-anon"), ["device[0]"], "what failed is gone");
}

#[tokio::test]
async fn an_unplugged_device_is_announced_before_the_reply() {
    let plane = plane();
    let mut session = watching(&plane);
    for device in [json!({"driver": "x-bell", "id": "b"}), json!({"driver": "x-bell"})] {
        assert_eq!(ask(&session, "device_add", device).await, json!({}));
    }
    let delete = |id: &'static str| {
        let session = plane.connect();
        async move { ask(&session, "device_del", json!({ "id": id })).await }
    };
    let used = plane.objects().acquire::<Bell>("/machine/peripheral/b").unwrap();
    assert_eq!(delete("b").await, "GenericError: Device 'b' is in use");
    drop(used);
    assert_eq!(delete("b").await, json!({}));
    let event = session.try_next_event().unwrap();
    assert_eq!(event.name, "DEVICE_DELETED");
    let data = event.data.unwrap();
    let text = |member: &str| data.get(member).and_then(|value| value.as_str().map(str::to_owned));
    assert_eq!(
        (text("device").as_deref(), text("path").as_deref()),
        (Some("b"), Some("/machine/peripheral/b"))
    );
    assert_eq!(delete("b").await, "DeviceNotFound: Device 'b' not found");
    assert_eq!(delete("/machine/peripheral-anon/device[0]").await, json!({}));
    assert_eq!(events(&mut session), ["DEVICE_DELETED"]);
    assert_eq!(delete("/machine").await, "GenericError: /machine is not a hotpluggable device");
}

#[tokio::test]
async fn a_device_may_refuse_to_go() {
    let plane = plane();
    let session = plane.connect();
    let tin = json!({"driver": "x-bell", "id": "b", "tin": true});
    assert_eq!(ask(&session, "device_add", tin).await, json!({}));
    assert_eq!(ask(&session, "device_del", json!({"id": "b"})).await, "GenericError: nobody takes it");
    assert!(plane.objects().contains("/machine/peripheral/b"));
}
