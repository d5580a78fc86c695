//! Commands and events of an author's own stand beside the built-in ones as equals.

use crate::support::{Client, Toy, ask, built, directory, events, listen, watching};
use serde::{Deserialize, Serialize};
use serde_json::json;
use vmm_control::{Command, CommandError, Context, ControlPlane, EmitError, EventSpec, QapiType, RunState};

/// How a bell is rung.
#[derive(Clone, Deserialize, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
struct Bell {
    /// How often.
    how_often: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    mood: Option<Mood>,
}

#[derive(Clone, Copy, Deserialize, Serialize, QapiType)]
#[serde(rename_all = "lowercase")]
enum Mood {
    Merry,
    Solemn,
}

fn plane() -> ControlPlane {
    let builder = ControlPlane::builder(Toy::new(RunState::Running))
        .event(EventSpec::standard::<Bell>("RUNG"))
        .event(EventSpec::extension::<Bell>("__COM.EXAMPLE_RUNG"))
        .command_with(|plane| {
            let events = plane.events();
            Command::new("__com.example_ring").handler(move |_: Context, bell: Bell| {
                let events = events.clone();
                async move {
                    events.emit("RUNG", &bell)?;
                    events.emit("__COM.EXAMPLE_RUNG", &bell)?;
                    Ok(bell)
                }
            })
        })
        .command(Command::new("x-blocks").read_only().blocking(|_: Context, bell: Bell| Ok(bell.how_often)));
    built(builder)
}

#[tokio::test]
async fn arguments_and_values_are_the_authors_types() {
    let plane = plane();
    let session = plane.connect();
    let bell = json!({"how-often": 3, "mood": "merry"});
    assert_eq!(ask(&session, "__com.example_ring", &bell).await, bell);
    assert_eq!(ask(&session, "x-blocks", json!({"how-often": 3})).await, 3);
    for (arguments, error) in [
        (json!({}), "GenericError: Parameter 'how-often' is missing"),
        (
            json!({"how-often": 1, "mood": "angry"}),
            "GenericError: Parameter 'mood' does not accept value 'angry'",
        ),
        (json!({"how-often": -1}), "GenericError: Parameter 'how-often' expects uint32_t"),
        (json!({"how-often": true}), "GenericError: Parameter 'how-often' expects uint64"),
        (json!({"how-often": 1, "who": "me"}), "GenericError: Parameter 'who' is unexpected"),
    ] {
        assert_eq!(ask(&session, "x-blocks", &arguments).await, error, "{arguments}");
    }
}

#[tokio::test]
async fn events_reach_those_who_want_them() {
    let plane = plane();
    let (mut plain, mut keen) = (watching(&plane), watching(&plane));
    ask(&keen, "x-events", json!({"enable": ["__COM.EXAMPLE_RUNG"]})).await;
    ask(&plain, "__com.example_ring", json!({"how-often": 1})).await;
    assert_eq!(events(&mut plain), ["RUNG"]);
    assert_eq!(events(&mut keen), ["RUNG", "__COM.EXAMPLE_RUNG"]);
}

#[tokio::test]
async fn they_look_on_the_wire_as_built_in_ones_do() {
    let (plane, dir) = (plane(), directory());
    let mut client = Client::new(&listen(&plane, dir.path(), "q").await).await;
    let request =
        r#"{"execute": "__com.example_ring", "arguments": {"how-often": 2, "mood": "solemn"}, "id": 5}"#;
    let event = client.ask(request).await;
    assert!(event.starts_with("{\"timestamp\": {\"seconds\": "), "{event}");
    assert!(
        event.ends_with(r#""event": "RUNG", "data": {"mood": "solemn", "how-often": 2}}"#)
            || event.ends_with(r#""event": "RUNG", "data": {"how-often": 2, "mood": "solemn"}}"#),
        "{event}"
    );
    let reply = client.line().await;
    assert!(reply.starts_with("{\"return\": {") && reply.ends_with("}, \"id\": 5}"), "{reply}");
    plane.close().await;
}

#[tokio::test]
async fn what_was_not_declared_is_not_raised() {
    let plane = plane();
    let mut session = watching(&plane);
    let error = plane.events().emit_plain("X_OTHER").unwrap_err();
    assert!(matches!(error, EmitError::Undeclared(_)));
    assert!(events(&mut session).is_empty());
}

#[tokio::test]
async fn sessions_see_events_from_their_own_start() {
    let plane = plane();
    plane.events().emit_plain("STOP").unwrap();
    let mut session = watching(&plane);
    assert!(session.try_next_event().is_none());
    let events = plane.events();
    let waits = tokio::spawn(async move { session.next_event().await });
    std::thread::spawn(move || events.emit_plain("RESUME").unwrap()).join().unwrap();
    assert_eq!(waits.await.unwrap().unwrap().name, "RESUME");
}

#[tokio::test]
async fn a_command_goes_on_when_nobody_waits_for_it() {
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let wait = std::sync::Mutex::new(Some(wait));
    let (ended, end) = std::sync::mpsc::channel();
    let slow = Command::new("x-slow").handler(move |_: Context, (): ()| {
        let (wait, ended) = (wait.lock().unwrap().take(), ended.clone());
        async move {
            wait.ok_or_else(|| CommandError::generic("it is called once"))?.await?;
            Ok(ended.send(())?)
        }
    });
    let plane = built(ControlPlane::builder(Toy::new(RunState::Running)).command(slow));
    let session = plane.connect();
    let mut call = tokio_test::task::spawn(ask(&session, "x-slow", ()));
    tokio_test::assert_pending!(call.poll());
    drop(call);
    go.send(()).unwrap();
    // It is exclusive: this one runs when it has ended.
    assert_eq!(ask(&session, "stop", ()).await, json!({}));
    assert_eq!(end.try_recv(), Ok(()));
}

#[tokio::test]
async fn a_dropped_plane_ends_its_own_sessions_too() {
    let plane = plane();
    let mut session = watching(&plane);
    plane.events().emit_plain("STOP").unwrap();
    drop(plane);
    assert_eq!(session.next_event().await.unwrap().name, "STOP", "what was raised is not lost");
    assert_eq!(session.next_event().await, None);
}
