//! `query-qmp-schema` of a plane.

use std::collections::HashSet;

use crate::support::{Toy, ask, built, plain};
use serde_json::Value;
use vmm_control::{Command, Context, ControlPlane, EventSpec, RunState};

async fn schema(plane: &ControlPlane) -> Vec<Value> {
    let Value::Array(list) = ask(&plane.connect(), "query-qmp-schema", ()).await else { panic!("no list") };
    list
}

fn names<'a>(list: &'a [Value], meta: &str) -> HashSet<&'a str> {
    let of = list.iter().filter(|entity| entity["meta-type"] == meta);
    of.filter_map(|entity| entity["name"].as_str()).collect()
}

#[tokio::test]
async fn every_command_is_in_it_and_every_reference_leads_somewhere() {
    let plane = plain(&Toy::new(RunState::Running));
    let list = schema(&plane).await;
    let commands: HashSet<_> = plane.router().commands().map(|command| command.name).collect();
    assert_eq!(names(&list, "command"), commands);
    assert!(names(&list, "event").is_superset(&HashSet::from(["STOP", "RESUME", "SHUTDOWN", "RESET"])));

    let known: HashSet<_> = list.iter().filter_map(|entity| entity["name"].as_str()).collect();
    assert_eq!(known.len(), list.len(), "a name stands twice");
    for entity in &list {
        for key in ["arg-type", "ret-type", "element-type"] {
            assert!(entity.get(key).is_none_or(|name| known.contains(name.as_str().unwrap())), "{entity}");
        }
        // An enum's members have no type.
        for part in ["members", "variants"].iter().filter_map(|key| entity[key].as_array()).flatten() {
            assert!(part.get("type").is_none_or(|name| known.contains(name.as_str().unwrap())), "{entity}");
        }
    }
}

#[tokio::test]
async fn an_authors_own_commands_and_events_are_in_it() {
    let own = Command::new("x-own").handler(async |_: Context, (): ()| Ok(vec![1_u8]));
    let builder = ControlPlane::builder(Toy::new(RunState::Running))
        .command(own)
        .event(EventSpec::extension::<()>("X_OWN"));
    let plane = built(builder);
    let list = schema(&plane).await;
    let command = list.iter().find(|entity| entity["name"] == "x-own").unwrap();
    assert_eq!(command["ret-type"], "[int]");
    assert!(names(&list, "event").contains("X_OWN"));
}
