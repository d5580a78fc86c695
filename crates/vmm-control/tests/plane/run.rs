//! The run state: who may change it when, and which events tell of it. Events are there when the reply is.

use crate::support::{Client, Toy, ask, built, directory, events, listen, plain, watching};
use serde_json::{Value, json};
use vmm_control::{ControlPlane, LocalSession, RunState, ShutdownCause, qmp_protocol};

fn nothing() -> Value {
    json!({})
}

fn session(machine: &Toy) -> (ControlPlane, LocalSession) {
    let plane = plain(machine);
    let session = watching(&plane);
    (plane, session)
}

/// The data of an event, as JSON.
fn data(session: &mut LocalSession) -> (String, Value) {
    let event = session.try_next_event().unwrap();
    let mut json = Vec::new();
    qmp_protocol::encode_event(&mut json, &event, qmp_protocol::Format::Compact);
    let line: Value = serde_json::from_slice(&json).unwrap();
    (event.name.into_owned(), line["data"].clone())
}

#[tokio::test]
async fn stop_and_cont_change_the_state_and_say_so() {
    let machine = Toy::new(RunState::Running);
    let (_plane, mut session) = session(&machine);
    assert_eq!(ask(&session, "stop", ()).await, nothing());
    assert_eq!(events(&mut session), ["STOP"]);
    assert_eq!(machine.state.get(), RunState::Paused);
    assert_eq!(ask(&session, "cont", ()).await, nothing());
    assert_eq!(events(&mut session), ["RESUME"]);
    assert_eq!(machine.state.get(), RunState::Running);
    assert_eq!(machine.asked(), ["stop", "cont"]);
}

#[tokio::test]
async fn what_changes_nothing_raises_nothing() {
    let machine = Toy::new(RunState::Running);
    let (_plane, mut session) = session(&machine);
    assert_eq!(ask(&session, "cont", ()).await, nothing());
    assert!(machine.asked().is_empty(), "a running machine is not asked to run");
    for state in [RunState::Paused, RunState::Prelaunch, RunState::Shutdown, RunState::Suspended] {
        machine.state.set(state);
        assert_eq!(ask(&session, "stop", ()).await, nothing());
        assert_eq!(machine.state.get(), state);
    }
    assert!(events(&mut session).is_empty());
}

#[tokio::test]
async fn a_machine_that_fails_raises_nothing() {
    let machine = Toy::broken(RunState::Running);
    let (_plane, mut session) = session(&machine);
    assert_eq!(ask(&session, "stop", ()).await, "GenericError: stop is broken");
    assert_eq!(ask(&session, "system_reset", ()).await, "GenericError: reset is broken");
    machine.state.set(RunState::Paused);
    assert_eq!(ask(&session, "cont", ()).await, "GenericError: cont is broken");
    assert!(events(&mut session).is_empty());
    assert_eq!(machine.asked(), ["stop", "reset", "cont"]);
}

#[tokio::test]
async fn cont_asks_for_a_reset_where_one_is_needed() {
    let machine = Toy::new(RunState::Running);
    let (_plane, mut session) = session(&machine);
    for state in [RunState::Shutdown, RunState::InternalError] {
        machine.state.set(state);
        let refused = "GenericError: Resetting the Virtual Machine is required";
        assert_eq!(ask(&session, "cont", ()).await, refused);
        assert_eq!(machine.state.get(), state);
        assert!(events(&mut session).is_empty() && machine.asked().is_empty());

        assert_eq!(ask(&session, "system_reset", ()).await, nothing());
        assert_eq!(ask(&session, "cont", ()).await, nothing());
        assert_eq!(events(&mut session), ["RESET", "RESUME"]);
        assert_eq!(machine.asked(), ["reset", "cont"]);
    }
}

#[tokio::test]
async fn cont_waits_for_neither_sleep_nor_migration() {
    let machine = Toy::new(RunState::Suspended);
    let (_plane, mut session) = session(&machine);
    assert_eq!(ask(&session, "cont", ()).await, nothing(), "only the guest wakes up");
    assert_eq!(machine.state.get(), RunState::Suspended);
    machine.state.set(RunState::FinishMigrate);
    assert_eq!(ask(&session, "cont", ()).await, "GenericError: Migration is not finalized yet");
    assert!(machine.asked().is_empty());
    assert!(events(&mut session).is_empty());
}

#[tokio::test]
async fn while_a_migration_comes_in_stop_and_cont_decide_what_follows() {
    for (commands, after) in [
        (&["stop"][..], RunState::Paused),
        (&["cont"], RunState::Running),
        (&["stop", "cont"], RunState::Running),
        (&["cont", "stop"], RunState::Paused),
    ] {
        let machine = Toy::new(RunState::Inmigrate);
        let (_plane, mut session) = session(&machine);
        for command in commands {
            assert_eq!(ask(&session, command, ()).await, nothing());
            assert_eq!(machine.state.get(), RunState::Inmigrate);
        }
        assert!(events(&mut session).is_empty());
        assert_eq!(machine.asked(), commands);
        machine.state.migration_arrived();
        assert_eq!(machine.state.get(), after, "{commands:?}");
    }
}

#[tokio::test]
async fn other_states_can_be_left_with_cont() {
    let machine = Toy::new(RunState::Prelaunch);
    let (_plane, mut session) = session(&machine);
    for state in [RunState::Prelaunch, RunState::IoError, RunState::Watchdog, RunState::Postmigrate] {
        machine.state.set(state);
        assert_eq!(ask(&session, "cont", ()).await, nothing());
        assert_eq!(machine.state.get(), RunState::Running);
    }
    assert_eq!(events(&mut session), ["RESUME"; 4]);
}

#[tokio::test]
async fn reset_and_powerdown_are_announced_with_their_cause() {
    let machine = Toy::new(RunState::Running);
    let (_plane, mut session) = session(&machine);
    assert_eq!(ask(&session, "system_reset", ()).await, nothing());
    let reason = json!({"guest": false, "reason": "host-qmp-system-reset"});
    assert_eq!(data(&mut session), ("RESET".to_owned(), reason));
    assert_eq!(ask(&session, "system_powerdown", ()).await, nothing());
    assert_eq!(data(&mut session), ("POWERDOWN".to_owned(), Value::Null));
    assert_eq!(machine.asked(), ["reset", "powerdown"]);
    assert_eq!(machine.state.get(), RunState::Running);
}

/// What the trait does by itself for those who do not say otherwise.
#[tokio::test]
async fn a_machine_need_not_reset_nor_react_to_its_button() {
    struct Minimal;
    impl vmm_control::Machine for Minimal {
        fn run_state(&self) -> RunState {
            RunState::Running
        }
        async fn stop(&self) -> vmm_control::CommandResult<()> {
            Ok(())
        }
        async fn cont(&self) -> vmm_control::CommandResult<()> {
            Ok(())
        }
    }
    let plane = built(ControlPlane::builder(Minimal));
    let mut session = watching(&plane);
    assert_eq!(ask(&session, "system_reset", ()).await, "GenericError: this machine cannot be reset");
    assert_eq!(ask(&session, "system_powerdown", ()).await, nothing());
    assert_eq!(ask(&session, "stop", ()).await, nothing());
    assert_eq!(events(&mut session), ["POWERDOWN"], "and it never stopped");
}

#[tokio::test]
async fn no_reboot_makes_a_reset_the_end() {
    let machine = Toy::new(RunState::Running);
    let plane = built(ControlPlane::builder(machine.clone()).no_reboot(true));
    let mut session = watching(&plane);
    assert_eq!(ask(&session, "system_reset", ()).await, nothing());
    let reason = json!({"guest": false, "reason": "host-qmp-system-reset"});
    assert_eq!(data(&mut session), ("SHUTDOWN".to_owned(), reason));
    assert_eq!(plane.shutdown_requested().await, ShutdownCause::HostQmpSystemReset);
    assert!(machine.asked().is_empty());
}

#[tokio::test]
async fn no_shutdown_leaves_a_stopped_machine() {
    let machine = Toy::new(RunState::Running);
    let plane = built(ControlPlane::builder(machine.clone()).no_reboot(true).no_shutdown(true));
    let mut session = watching(&plane);
    plane.handle().guest_shut_down(ShutdownCause::GuestShutdown).await.unwrap();
    assert_eq!(events(&mut session), ["SHUTDOWN", "STOP"]);
    assert_eq!(machine.state.get(), RunState::Shutdown);
    assert_eq!(ask(&session, "cont", ()).await, "GenericError: Resetting the Virtual Machine is required");
    // With no_reboot a reset is a shutdown too, and here that changes nothing any more.
    assert_eq!(ask(&session, "system_reset", ()).await, nothing());
    assert_eq!(events(&mut session), ["SHUTDOWN"]);
    assert_eq!(machine.asked(), ["shut_down", "shut_down"]);
    assert_eq!(ask(&session, "quit", ()).await, nothing());
    assert_eq!(events(&mut session), ["SHUTDOWN"], "quit ends it all the same");
    assert_eq!(plane.shutdown_requested().await, ShutdownCause::HostQmpQuit);
}

#[tokio::test]
async fn without_it_a_guest_that_shuts_down_ends_everything() {
    let machine = Toy::new(RunState::Running);
    let (plane, mut session) = session(&machine);
    plane.handle().guest_shut_down(ShutdownCause::GuestPanic).await.unwrap();
    let reason = json!({"guest": true, "reason": "guest-panic"});
    assert_eq!(data(&mut session), ("SHUTDOWN".to_owned(), reason));
    assert_eq!(plane.shutdown_requested().await, ShutdownCause::GuestPanic);
    assert!(machine.asked().is_empty());
}

#[tokio::test]
async fn quit_ends_everything_once() {
    let (plane, mut session) = session(&Toy::new(RunState::Paused));
    assert_eq!(ask(&session, "quit", ()).await, nothing());
    assert_eq!(ask(&session, "quit", ()).await, nothing());
    plane.shut_down(ShutdownCause::HostSignal);
    let reason = json!({"guest": false, "reason": "host-qmp-quit"});
    assert_eq!(data(&mut session), ("SHUTDOWN".to_owned(), reason));
    assert_eq!(session.next_event().await, None, "and nothing will ever come");
    assert_eq!(plane.shutdown_requested().await, ShutdownCause::HostQmpQuit, "the first cause counts");
    assert_eq!(plane.handle().shutdown_requested().await, ShutdownCause::HostQmpQuit);
}

#[tokio::test]
async fn the_guest_can_end_it_too() {
    let (plane, mut session) = session(&Toy::new(RunState::Running));
    let handle = plane.handle();
    std::thread::spawn(move || handle.shut_down(ShutdownCause::GuestShutdown)).join().unwrap();
    let reason = json!({"guest": true, "reason": "guest-shutdown"});
    assert_eq!(data(&mut session), ("SHUTDOWN".to_owned(), reason));
    assert_eq!(plane.shutdown_requested().await, ShutdownCause::GuestShutdown);
}

/// On the wire, on the session that asked and on another.
#[tokio::test]
async fn events_precede_replies_on_sockets() {
    let (plane, dir) = (plain(&Toy::new(RunState::Running)), directory());
    let path = listen(&plane, dir.path(), "q").await;
    let (mut client, mut other) = (Client::new(&path).await, Client::new(&path).await);
    for (command, event) in [
        ("stop", "STOP"),
        ("cont", "RESUME"),
        ("system_reset", "RESET"),
        ("system_powerdown", "POWERDOWN"),
        ("quit", "SHUTDOWN"),
    ] {
        let raised = client.ask(&format!("{{\"execute\": \"{command}\"}}")).await;
        assert!(raised.contains(&format!("\"event\": \"{event}\"")), "{raised}");
        assert_eq!(client.line().await, "{\"return\": {}}");
        assert_eq!(other.line().await, raised, "the same, with the same time");
    }
    assert_eq!(client.rest().await, "");
    assert_eq!(other.rest().await, "");
    plane.close().await;
}
