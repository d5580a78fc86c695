//! Before the machine is initialised.

use std::sync::Arc;

use serde_json::{Value, json};
use vmm_control::qmp_command::Metadata;
use vmm_control::{Authority, CommandError, CommandResult, Context, ControlPlane, LocalSession, RunState};

use crate::support::{Toy, ask, built, events, watching};

async fn refusal(session: &LocalSession, command: &str) -> String {
    session.execute::<_, Value>(command, &()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn only_what_allows_it_can_be_used_until_the_machine_is_initialized() {
    let machine = Toy::new(RunState::Prelaunch);
    let plane = built(ControlPlane::builder(machine.clone()).preconfig(true));
    let mut session = watching(&plane);
    for command in ["stop", "cont", "getfd", "closefd", "add-fd", "remove-fd", "query-fdsets", "system_reset"]
    {
        assert_eq!(
            refusal(&session, command).await,
            format!("The command '{command}' is permitted only after machine initialization has completed"),
            "before its arguments are looked at"
        );
    }
    assert_eq!(ask(&session, "query-status", ()).await["status"], "prelaunch");
    assert_eq!(ask(&session, "query-name", ()).await, json!({}));
    assert!(machine.asked().is_empty());

    assert_eq!(ask(&session, "x-exit-preconfig", ()).await, json!({}));
    assert_eq!(machine.asked(), ["initialize", "cont"]);
    assert_eq!(events(&mut session), ["RESUME"]);
    assert_eq!(ask(&session, "stop", ()).await, json!({}));
    let text = "The command is permitted only before machine initialization";
    assert_eq!(refusal(&session, "x-exit-preconfig").await, text);
}

#[tokio::test]
async fn a_machine_that_is_to_start_paused_does() {
    let machine = Toy::new(RunState::Prelaunch);
    let plane = built(ControlPlane::builder(machine.clone()).preconfig(true).start_paused(true));
    let mut session = watching(&plane);
    ask(&session, "x-exit-preconfig", ()).await;
    assert_eq!((machine.asked(), events(&mut session)), (vec!["initialize"], vec![]));
}

#[tokio::test]
async fn a_machine_that_cannot_be_initialized_stays_as_it_was() {
    let plane = built(ControlPlane::builder(Toy::broken(RunState::Prelaunch)).preconfig(true));
    let session = plane.connect();
    assert_eq!(refusal(&session, "x-exit-preconfig").await, "initialize is broken");
    assert!(refusal(&session, "cont").await.contains("only after machine initialization"));
}

#[tokio::test]
async fn without_preconfig_there_is_nothing_to_exit() {
    let plane = built(ControlPlane::builder(Toy::new(RunState::Running)));
    let text = "The command is permitted only before machine initialization";
    assert_eq!(refusal(&plane.connect(), "x-exit-preconfig").await, text);
}

#[tokio::test]
async fn an_authors_authority_comes_after_the_phase() {
    struct NoNames;
    impl Authority for NoNames {
        fn authorize(&self, command: &Metadata, _: &Context) -> CommandResult<()> {
            if command.name == "query-name" { Err(CommandError::generic("secret")) } else { Ok(()) }
        }
    }
    let builder = ControlPlane::builder(Toy::new(RunState::Prelaunch)).preconfig(true);
    let plane = built(builder.authority(Arc::new(NoNames)));
    assert_eq!(refusal(&plane.connect(), "query-name").await, "secret");
    assert!(refusal(&plane.connect(), "stop").await.contains("only after"));
}
