//! What policies refuse, on every way to a command.

use serde_json::json;
use vmm_control::qmp_protocol::ErrorClass;
use vmm_control::{LocalError, LocalSession, MonitorConfig, Policy, Rules, RunState};

use crate::support::{Toy, ask, ask_with, plain};

fn session(plane: &vmm_control::ControlPlane, rules: Rules) -> LocalSession {
    plane.connect_with(Policy::from(rules))
}

fn null() -> std::os::fd::OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

#[tokio::test]
async fn a_refusal_is_a_generic_error_and_says_who_refuses() {
    let plane = plain(&Toy::new(RunState::Running));
    let limited = session(&plane, Rules::new().allow(["query-*"]).unwrap());
    assert_eq!(ask(&limited, "query-name", ()).await, json!({}));
    let refused = limited.execute::<_, serde_json::Value>("stop", &()).await.unwrap_err();
    let LocalError::Command(error) = refused else { panic!("{refused}") };
    assert_eq!(error.class, ErrorClass::GenericError);
    assert_eq!(error.desc, "The command 'stop' is not allowed on this monitor");
    // Nothing is told of commands that do not exist, nor of what is wrong with the arguments of refused ones.
    let unknown = "CommandNotFound: The command nope has not been found";
    assert_eq!(ask(&limited, "nope", ()).await, unknown);
    let wrong = ask(&limited, "getfd", json!({"x": 1})).await;
    assert_eq!(wrong, "GenericError: The command 'getfd' is not allowed on this monitor");
}

#[tokio::test]
async fn types_of_objects_are_refused_one_by_one() {
    let plane = plain(&Toy::new(RunState::Running));
    let limited = session(&plane, Rules::new().deny(["object-add:memory-*", "qom-set:iothread"]).unwrap());
    let add = |kind: &str, id: &str| json!({"qom-type": kind, "id": id});
    assert_eq!(ask(&limited, "object-add", add("iothread", "io")).await, json!({}));
    let memory = json!({"qom-type": "memory-backend-ram", "id": "m", "size": 4096});
    let refused =
        "GenericError: The command 'object-add' is not allowed for 'memory-backend-ram' on this monitor";
    assert_eq!(ask(&limited, "object-add", &memory).await, refused);
    let set = json!({"path": "/objects/io", "property": "poll-max-ns", "value": 1});
    let refused = "GenericError: The command 'qom-set' is not allowed for 'iothread' on this monitor";
    assert_eq!(ask(&limited, "qom-set", &set).await, refused);
    assert_eq!(ask(&plane.connect(), "qom-set", &set).await, json!({}));
    let only = session(&plane, Rules::new().allow(["object-del:memory-*"]).unwrap());
    let refused = "GenericError: The command 'object-del' is not allowed for 'iothread' on this monitor";
    assert_eq!(ask(&only, "object-del", json!({"id": "io"})).await, refused);
}

#[tokio::test]
async fn read_only_reads() {
    let plane = plain(&Toy::new(RunState::Running));
    let limited = session(&plane, Rules::new().read_only(true));
    for command in ["query-status", "query-iothreads", "query-fdsets", "query-qmp-schema", "query-commands"] {
        assert!(!ask(&limited, command, ()).await.is_string(), "{command}");
    }
    for command in ["stop", "cont", "quit", "object-add", "object-del", "add-fd", "getfd", "x-exit-preconfig"]
    {
        let reply = ask(&limited, command, ()).await;
        assert_eq!(reply, format!("GenericError: The command '{command}' is not allowed on this monitor"));
    }
}

#[tokio::test]
async fn own_fd_sets_are_out_of_reach_for_others_and_the_other_way_round() {
    let plane = plain(&Toy::new(RunState::Running));
    let all = plane.connect();
    let (a, b) =
        (session(&plane, Rules::new().own_fd_sets(true)), session(&plane, Rules::new().own_fd_sets(true)));
    let set = |reply: &serde_json::Value| reply["fdset-id"].as_i64().unwrap();
    let common = set(&ask_with(&all, "add-fd", (), vec![null()]).await);
    let of_a = set(&ask_with(&a, "add-fd", (), vec![null()]).await);
    assert_ne!(common, of_a);

    let listed = ask(&a, "query-fdsets", ()).await;
    assert_eq!((listed.as_array().unwrap().len(), set(&listed[0])), (1, of_a));
    assert_eq!(ask(&b, "query-fdsets", ()).await, json!([]));
    assert_eq!(ask(&all, "query-fdsets", ()).await.as_array().unwrap().len(), 2);
    for (session, id) in [(&a, common), (&b, of_a)] {
        let extended = ask_with(session, "add-fd", json!({"fdset-id": id}), vec![null()]).await;
        let text = format!("GenericError: File descriptor set {id} belongs to another monitor");
        assert_eq!(extended, text);
        let text = format!("GenericError: File descriptor named 'fdset-id:{id}' not found");
        assert_eq!(ask(session, "remove-fd", json!({"fdset-id": id})).await, text);
    }
    assert_eq!(ask(&a, "remove-fd", json!({"fdset-id": of_a})).await, json!({}));
}

#[tokio::test]
async fn a_monitors_sessions_have_its_policy() {
    let plane = plain(&Toy::new(RunState::Running));
    let directory = crate::support::directory();
    let config = MonitorConfig::new("m").policy(Rules::new().read_only(true).into());
    let path = crate::support::listen_as(&plane, directory.path(), config).await;
    let mut client = crate::support::Client::new(&path).await;
    let reply = client.ask(r#"{"execute": "stop"}"#).await;
    assert!(reply.contains("The command 'stop' is not allowed on this monitor"), "{reply}");
    assert!(client.ask(r#"{"execute": "query-status"}"#).await.contains("running"));
}
