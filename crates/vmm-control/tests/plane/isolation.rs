//! Nothing is global: planes of one process do not know of each other.

use std::fs::File;
use std::sync::Arc;

use crate::support::{Client, Toy, ask, ask_with, built, directory, events, listen, plain, watching};
use serde_json::json;
use tokio::sync::Notify;
use vmm_control::{Command, CommandResult, Context, ControlPlane, RunState, ShutdownCause};

#[tokio::test]
async fn two_planes_do_not_see_each_other() {
    let (a, b) = (Toy::new(RunState::Running), Toy::new(RunState::Running));
    let (plane_a, plane_b) = (plain(&a), plain(&b));
    let (mut on_a, mut on_b) = (watching(&plane_a), watching(&plane_b));

    ask(&on_a, "stop", ()).await;
    ask_with(&on_a, "add-fd", (), vec![File::open("/dev/null").unwrap().into()]).await;
    assert_eq!(events(&mut on_a), ["STOP"]);
    assert!(events(&mut on_b).is_empty());
    assert_eq!((a.state.get(), b.state.get()), (RunState::Paused, RunState::Running));
    assert_eq!(ask(&on_b, "query-fdsets", ()).await, json!([]));

    plane_a.shut_down(ShutdownCause::HostSignal);
    plane_a.close().await;
    assert_eq!(on_a.next_event().await.unwrap().name, "SHUTDOWN");
    assert_eq!(on_a.next_event().await, None);
    assert_eq!(ask(&on_b, "stop", ()).await, json!({}));
    assert_eq!(events(&mut on_b), ["STOP"]);
    assert_ne!(on_a.state().commands_served(), 0);
}

/// An exclusive command of one plane that never ends holds up no other plane.
#[tokio::test]
async fn permits_are_a_planes_own() {
    let started = Arc::new(Notify::new());
    let starts = started.clone();
    let never = Command::new("x-stuck").handler(move |_: Context, (): ()| {
        starts.notify_one();
        std::future::pending::<CommandResult<()>>()
    });
    let stuck = built(ControlPlane::builder(Toy::new(RunState::Running)).command(never));
    let (held, waits) = (stuck.connect(), stuck.connect());
    let held = tokio::spawn(async move { ask(&held, "x-stuck", ()).await });
    started.notified().await;
    let waits = tokio::spawn(async move { ask(&waits, "stop", ()).await });
    let free = plain(&Toy::new(RunState::Running));
    assert_eq!(ask(&free.connect(), "stop", ()).await, json!({}));
    assert_eq!(
        ask(&stuck.connect(), "query-fdsets", ()).await,
        json!([]),
        "what only looks waits for nobody"
    );
    assert!(!held.is_finished() && !waits.is_finished());
}

#[tokio::test]
async fn a_hundred_planes_fit_in_one_process() {
    let dir = directory();
    let mut planes = Vec::new();
    for n in 0..100 {
        let plane = plain(&Toy::named(&format!("vm{n}")));
        let path = listen(&plane, dir.path(), &format!("q{n}")).await;
        let client = Client::new(&path).await;
        planes.push((plane, path, client));
    }
    for (n, (_, _, client)) in planes.iter_mut().enumerate() {
        let name = client.ask("{\"execute\": \"query-name\"}").await;
        assert_eq!(name, format!("{{\"return\": {{\"name\": \"vm{n}\"}}}}"));
        assert!(client.ask("{\"execute\": \"stop\"}").await.contains("STOP"));
        assert_eq!(client.line().await, "{\"return\": {}}");
    }
    for (plane, path, mut client) in planes {
        plane.close().await;
        assert_eq!(client.rest().await, "", "its own event it has had, and no other");
        assert!(!path.exists());
    }
}
