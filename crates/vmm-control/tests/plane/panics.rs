//! Objects of an author's that are clumsy: what they leave behind.

use serde::{Deserialize, Serialize};
use serde_json::json;
use vmm_control::{CommandResult, Context, ControlPlane, Creation, Object, ObjectType, QapiType, RunState};

use crate::support::{Toy, ask, built};

/// Panics while it is made, or while it is removed.
struct Clumsy {
    late: bool,
}

/// When it panics.
#[derive(Deserialize, Serialize, QapiType)]
struct ClumsyProperties {
    /// Not before it is removed.
    late: bool,
}

impl Object for Clumsy {
    type Properties = ClumsyProperties;

    fn properties(&self) -> ClumsyProperties {
        ClumsyProperties { late: self.late }
    }

    async fn complete(&self, _: &Creation) -> CommandResult<()> {
        assert!(self.late, "it is clumsy");
        Ok(())
    }

    async fn delete(&self, _: &Context) -> CommandResult<()> {
        panic!("it is clumsy")
    }
}

#[tokio::test]
async fn an_object_that_panics_is_gone_or_stays_as_it_was() {
    let ty = |name| ObjectType::new(name, |_: &Creation, p: ClumsyProperties| Ok(Clumsy { late: p.late }));
    let builder = ControlPlane::builder(Toy::new(RunState::Running));
    let plane = built(builder.object_type(ty("x-clumsy")).device_type(ty("x-clumsy-device")));
    let session = plane.connect();
    let add = |id: &str, late: bool| json!({"qom-type": "x-clumsy", "id": id, "late": late});
    let plug = json!({"driver": "x-clumsy-device", "id": "p", "late": false});
    for (command, arguments) in [("object-add", add("o", false)), ("device_add", plug)] {
        let failed = ask(&session, command, arguments).await;
        assert_eq!(
            failed,
            format!("GenericError: The command {command} failed unexpectedly; the log has the reason")
        );
    }
    assert!(!plane.objects().contains("/objects/o") && !plane.objects().contains("/machine/peripheral/p"));
    assert_eq!(ask(&session, "object-add", add("o", true)).await, json!({}));
    for _ in 0..2 {
        let failed = ask(&session, "object-del", json!({"id": "o"})).await;
        assert_eq!(
            failed,
            "GenericError: The command object-del failed unexpectedly; the log has the reason"
        );
        assert!(plane.objects().acquire::<Clumsy>("/objects/o").is_some(), "it can still be used");
    }
}
