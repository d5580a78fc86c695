//! Commands that only look, and the choice of events.

use crate::support::{Client, Toy, ask, built, directory, events, listen, plain, watching};
use serde_json::{Value, json};
use vmm_control::{Command, Context, ControlPlane, EventSpec, RunState};

const NAMES: [&str; 19] = [
    "qmp_capabilities",
    "query-version",
    "query-commands",
    "query-name",
    "x-events",
    "query-qmp-schema",
    "query-status",
    "stop",
    "cont",
    "system_reset",
    "system_powerdown",
    "quit",
    "x-exit-preconfig",
    "getfd",
    "closefd",
    "add-fd",
    "remove-fd",
    "query-fdsets",
    "x-own",
];

#[tokio::test]
async fn query_version_names_the_dialect_and_the_product() {
    let plane = plain(&Toy::new(RunState::Running));
    let package = format!("vmm-control {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        ask(&plane.connect(), "query-version", ()).await,
        json!({"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": package})
    );
}

#[tokio::test]
async fn query_commands_lists_all_in_the_order_of_registration() {
    let own = Command::new("x-own").handler(async |_: Context, (): ()| Ok(()));
    let plane = built(ControlPlane::builder(Toy::new(RunState::Running)).command(own));
    let metadata: Vec<_> = plane.router().commands().map(|command| command.name).collect();
    let expected: Vec<Value> = metadata.iter().map(|name| json!({ "name": name })).collect();
    assert_eq!(ask(&plane.connect(), "query-commands", ()).await, Value::from(expected));
    assert_eq!((metadata.first(), metadata.last()), (Some(&"qmp_capabilities"), Some(&"x-own")));
    for name in NAMES {
        assert!(metadata.contains(&name), "{name}");
    }
    let built_in = plane.router().commands().take(metadata.len() - 1);
    let silent: Vec<_> =
        built_in.filter(|command| command.doc.is_empty()).map(|command| command.name).collect();
    assert!(silent.is_empty(), "{silent:?} say nothing of themselves");
}

#[tokio::test]
async fn query_name_omits_a_name_that_there_is_not() {
    let nameless = plain(&Toy::new(RunState::Running));
    assert_eq!(ask(&nameless.connect(), "query-name", ()).await, json!({}));
    let named = plain(&Toy::named("alpha"));
    assert_eq!(ask(&named.connect(), "query-name", ()).await, json!({"name": "alpha"}));
}

#[tokio::test]
async fn query_status_tells_every_state_in_qemus_words() {
    let machine = Toy::new(RunState::Prelaunch);
    let session = plain(&machine).connect();
    for (state, status) in [
        (RunState::Debug, "debug"),
        (RunState::Inmigrate, "inmigrate"),
        (RunState::InternalError, "internal-error"),
        (RunState::IoError, "io-error"),
        (RunState::Paused, "paused"),
        (RunState::Postmigrate, "postmigrate"),
        (RunState::Prelaunch, "prelaunch"),
        (RunState::FinishMigrate, "finish-migrate"),
        (RunState::RestoreVm, "restore-vm"),
        (RunState::Running, "running"),
        (RunState::SaveVm, "save-vm"),
        (RunState::Shutdown, "shutdown"),
        (RunState::Suspended, "suspended"),
        (RunState::Watchdog, "watchdog"),
        (RunState::GuestPanicked, "guest-panicked"),
        (RunState::Colo, "colo"),
    ] {
        machine.state.set(state);
        let expected = json!({"status": status, "singlestep": false, "running": state == RunState::Running});
        assert_eq!(ask(&session, "query-status", ()).await, expected);
    }
}

#[tokio::test]
async fn commands_without_arguments_take_none() {
    let session = plain(&Toy::new(RunState::Running)).connect();
    let none =
        ["query-version", "query-commands", "query-name", "query-status", "query-fdsets", "stop", "quit"];
    for command in none {
        assert_eq!(
            ask(&session, command, json!({"x": 1})).await,
            "GenericError: Parameter 'x' is unexpected",
            "{command}"
        );
    }
    assert_eq!(
        ask(&session, "query-nothing", ()).await,
        "CommandNotFound: The command query-nothing has not been found"
    );
}

#[tokio::test]
async fn a_session_of_the_process_has_negotiated() {
    let session = plain(&Toy::new(RunState::Running)).connect();
    assert_eq!(
        ask(&session, "qmp_capabilities", ()).await,
        "CommandNotFound: Capabilities negotiation is already complete, command ignored"
    );
    assert_eq!(
        ask(&session, "qmp_capabilities", json!({"enable": ["nope"]})).await,
        "GenericError: Parameter 'null' does not accept value 'nope'"
    );
}

/// The same, byte for byte as a client gets it.
#[tokio::test]
async fn members_come_in_qemus_order() {
    let (plane, dir) = (plain(&Toy::named("alpha")), directory());
    let mut client = Client::new(&listen(&plane, dir.path(), "q").await).await;
    let package = format!("vmm-control {}", env!("CARGO_PKG_VERSION"));
    for (command, reply) in [
        ("query-status", r#"{"status": "running", "singlestep": false, "running": true}"#),
        ("query-name", r#"{"name": "alpha"}"#),
        ("query-fdsets", "[]"),
        (
            "query-version",
            &format!(r#"{{"qemu": {{"micro": 0, "minor": 2, "major": 7}}, "package": "{package}"}}"#),
        ),
    ] {
        let request = format!(r#"{{"execute": "{command}", "id": 1}}"#);
        assert_eq!(client.ask(&request).await, format!(r#"{{"return": {reply}, "id": 1}}"#));
    }
    plane.close().await;
}

fn with_extensions() -> ControlPlane {
    built(
        ControlPlane::builder(Toy::new(RunState::Running))
            .event(EventSpec::extension::<()>("X_A"))
            .event(EventSpec::extension::<()>("X_B")),
    )
}

fn raise(plane: &ControlPlane) {
    for name in ["X_A", "STOP", "X_B"] {
        plane.events().emit_plain(name).unwrap();
    }
}

#[tokio::test]
async fn x_events_turns_events_on_and_off_for_its_session() {
    let plane = with_extensions();
    let (mut session, mut other) = (watching(&plane), watching(&plane));
    raise(&plane);
    assert_eq!(events(&mut session), ["STOP"], "what QEMU does not have is off at first");
    assert_eq!(ask(&session, "x-events", json!({"enable": ["X_A", "X_B"]})).await, json!({}));
    raise(&plane);
    assert_eq!(events(&mut session), ["X_A", "STOP", "X_B"]);
    assert_eq!(ask(&session, "x-events", json!({"disable": ["X_A"], "enable": ["X_B"]})).await, json!({}));
    raise(&plane);
    assert_eq!(events(&mut session), ["STOP", "X_B"]);
    assert_eq!(events(&mut other), ["STOP"; 3]);
    assert_eq!(ask(&session, "x-events", ()).await, json!({}), "nothing to do");
}

#[tokio::test]
async fn x_events_does_all_or_nothing() {
    let plane = with_extensions();
    let mut session = watching(&plane);
    for (arguments, error) in [
        (json!({"enable": ["X_A", "X_C"]}), "GenericError: Event 'X_C' not found"),
        (json!({"enable": ["X_A", "STOP"]}), "GenericError: Event 'STOP' is always on"),
        (json!({"enable": ["X_A"], "disable": ["STOP"]}), "GenericError: Event 'STOP' is always on"),
        (json!({"enable": ["X_A"], "disable": [""]}), "GenericError: Event '' not found"),
        (json!({"enable": "X_A"}), "GenericError: Invalid parameter type for 'enable', expected: array"),
        (json!({"enable": [1]}), "GenericError: Invalid parameter type for 'enable[0]', expected: string"),
    ] {
        assert_eq!(ask(&session, "x-events", arguments).await, error);
    }
    raise(&plane);
    assert_eq!(events(&mut session), ["STOP"]);
}
