//! What a plane has with a feature and has not without it. The tests run with all features and with none.

use crate::support::{Toy, ask, plain};
use serde_json::json;
use vmm_control::RunState;

const HMP: bool = cfg!(feature = "hmp");
const VFIO_USER: bool = cfg!(feature = "vfio-user");

#[tokio::test]
async fn a_command_of_a_feature_is_not_there_without_it() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    for (feature, command) in [(HMP, "human-monitor-command"), (VFIO_USER, "x-query-vfio-user")] {
        let said = ask(&session, command, json!({"command-line": "info status"})).await.to_string();
        let unknown = format!("\"CommandNotFound: The command {command} has not been found\"");
        assert_eq!(said == unknown, !feature, "{said}");
        assert_eq!(plane.router().commands().any(|it| it.name == command), feature);
        let schema = ask(&session, "query-qmp-schema", ()).await;
        let listed = schema.as_array().into_iter().flatten().any(|entity| entity["name"] == command);
        assert_eq!(listed, feature, "{command} in the schema");
    }
}

#[tokio::test]
async fn a_type_of_a_feature_is_not_there_without_it() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    for (feature, name) in [(HMP, "monitor-hmp"), (VFIO_USER, "x-vfio-user-server")] {
        let types = ask(&session, "qom-list-types", ()).await;
        let listed = types.as_array().into_iter().flatten().any(|ty| ty["name"] == name);
        assert_eq!(listed, feature, "{name} among the types");
        // With the feature its properties are missed, without it the type is.
        let said = ask(&session, "object-add", json!({"qom-type": name, "id": "o"})).await.to_string();
        let unknown = format!("\"GenericError: Parameter 'qom-type' does not accept value '{name}'\"");
        assert_eq!(said == unknown, !feature, "{said}");
    }
}
