//! Limits of monitors, and every way that might lead round them: whatever a limited session makes or hands in has at most
//! its rights.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::{Value, json};
use vmm_integration::client::{Client, QmpError};
use vmm_integration::vmm::{Setup, Vmm};
use vmm_integration::wire::open_file;
use vmm_integration::{LIMIT, poll_until};

/// A `vmmd` whose monitor 0 may do everything, and another one with these limits.
fn limited(limits: &str) -> (Vmm, Client, Client) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limited.sock");
    let chardev = format!("socket,id=limited,path={},server=on,wait=off", path.display());
    let mon = format!("limited,mode=control,{limits}");
    let extra = ["-chardev", &chardev, "-mon", &mon];
    let vmm = Vmm::with(Setup { extra: &extra, ..Setup::default() });
    let client = negotiated(&path);
    let all = vmm.client(0);
    (vmm, all, client)
}

fn negotiated(path: &Path) -> Client {
    let mut client = Client::connect(path).unwrap();
    client.negotiate();
    client
}

fn refused(command: &str) -> Result<Value, QmpError> {
    generic(&format!("The command '{command}' is not allowed on this monitor"))
}

fn generic(desc: &str) -> Result<Value, QmpError> {
    Err(QmpError { class: "GenericError".to_owned(), desc: desc.to_owned() })
}

fn add_socket(client: &mut Client, id: &str, path: &Path) {
    let addr = json!({"type": "unix", "data": {"path": path}});
    let data = json!({"addr": addr, "server": true, "wait": false});
    let arguments = json!({"id": id, "backend": {"type": "socket", "data": data}});
    assert_eq!(client.call("chardev-add", arguments), Ok(json!({})));
}

fn add_monitor(client: &mut Client, kind: &str, id: &str, chardev: &str) {
    let arguments = json!({"qom-type": kind, "id": id, "chardev": chardev});
    assert_eq!(client.call("object-add", arguments), Ok(json!({})));
}

/// One end of a pair, passed by `getfd`; the other end.
fn pass_socket(client: &mut Client, name: &str) -> UnixStream {
    let (here, there) = UnixStream::pair().unwrap();
    assert_eq!(client.getfd(name, &OwnedFd::from(there)), Ok(json!({})));
    here
}

#[test]
fn a_monitor_that_a_limited_session_makes_is_as_limited() {
    let (vmm, _, mut limited) = limited("allow=object-add:monitor-qmp,allow=chardev-add,allow=query-*");
    let path = vmm.dir().join("made.sock");
    add_socket(&mut limited, "c", &path);
    // Its properties cannot say otherwise.
    let wide = json!({"qom-type": "monitor-qmp", "id": "m", "chardev": "c", "allow": ["*"]});
    assert_eq!(limited.call("object-add", wide), Ok(json!({})));
    let mut made = negotiated(&path);
    assert!(made.call("query-status", json!({})).is_ok());
    assert_eq!(made.call("stop", json!({})), refused("stop"));
    // Nor can a monitor that was made by way of that one.
    let next = vmm.dir().join("next.sock");
    add_socket(&mut made, "d", &next);
    add_monitor(&mut made, "monitor-qmp", "n", "d");
    assert_eq!(negotiated(&next).call("stop", json!({})), refused("stop"));
}

#[test]
fn a_chardev_takes_its_makers_limits_to_whoever_serves_it() {
    let (vmm, mut all, mut limited) = limited("allow=chardev-add:socket");
    let path = vmm.dir().join("c.sock");
    add_socket(&mut limited, "c", &path);
    add_monitor(&mut all, "monitor-qmp", "m", "c");
    let mut client = negotiated(&path);
    assert_eq!(client.call("stop", json!({})), refused("stop"));
    let null = json!({"id": "n", "backend": {"type": "null", "data": {}}});
    let text = "The command 'chardev-add' is not allowed for 'null' on this monitor";
    assert_eq!(limited.call("chardev-add", null.clone()), generic(text));
    assert_eq!(all.call("chardev-add", null), Ok(json!({})));
}

#[test]
fn a_client_that_is_handed_to_another_monitor_stays_limited() {
    let (_vmm, _all, mut limited) = limited("allow=getfd,allow=add_client,allow=query-status");
    let peer = pass_socket(&mut limited, "a");
    let hand = json!({"protocol": "compat_monitor0", "fdname": "a"});
    assert_eq!(limited.call("add_client", hand), Ok(json!({})));
    let mut client = Client::over(peer).unwrap();
    client.negotiate();
    assert!(client.call("query-status", json!({})).is_ok());
    assert_eq!(client.call("stop", json!({})), refused("stop"));
    assert_eq!(client.call("query-name", json!({})), refused("query-name"));
}

#[test]
fn a_client_that_is_handed_to_a_chardev_stays_limited_when_a_monitor_comes() {
    let (vmm, mut all, mut limited) = limited("allow=getfd,allow=add_client");
    add_socket(&mut all, "c", &vmm.dir().join("c.sock"));
    let peer = pass_socket(&mut limited, "a");
    assert_eq!(limited.call("add_client", json!({"protocol": "c", "fdname": "a"})), Ok(json!({})));
    add_monitor(&mut all, "monitor-qmp", "m", "c");
    let mut client = Client::over(peer).unwrap();
    client.negotiate();
    assert_eq!(client.call("stop", json!({})), refused("stop"));
    // Others that come by the same chardev are not.
    assert_eq!(negotiated(&vmm.dir().join("c.sock")).call("stop", json!({})), Ok(json!({})));
}

#[test]
fn the_human_monitor_command_is_no_way_round() {
    let (_vmm, mut all, mut limited) = limited("allow=query-*,allow=human-monitor-command:print");
    let human = |client: &mut Client, line: &str| {
        let said = client.call("human-monitor-command", json!({ "command-line": line })).unwrap();
        said.as_str().unwrap().to_owned()
    };
    let text = |command: &str| format!("Error: The command '{command}' is not allowed on this monitor\r\n");
    for (line, command) in [
        ("stop", "stop"),
        ("c", "cont"),
        ("quit", "quit"),
        ("object_add iothread,id=x", "object-add"),
        ("chardev-add null,id=x", "chardev-add"),
        ("chardev-remove compat_monitor0", "chardev-remove"),
        ("system_reset", "system_reset"),
        ("o/b 0x70 1", "o"),
        ("i/b 0x70", "i"),
        ("qom-list /", "qom-list"),
        ("info qom-tree", "qom-get"),
    ] {
        assert_eq!(human(&mut limited, line), text(command), "{line}");
    }
    assert_eq!(human(&mut limited, "info status"), "VM status: running\r\n");
    assert_eq!(human(&mut limited, "p 6*7"), "0x2a\r\n");
    assert_eq!(human(&mut all, "stop"), "");
}

#[test]
fn a_human_monitor_that_a_limited_session_makes_is_as_limited() {
    let (vmm, _, mut limited) = limited("allow=object-add:monitor-hmp,allow=chardev-add,allow=query-*");
    let path = vmm.dir().join("h.sock");
    add_socket(&mut limited, "c", &path);
    add_monitor(&mut limited, "monitor-hmp", "h", "c");
    let mut people = Client::connect(&path).unwrap();
    assert!(people.line().contains("monitor - type 'help'"));
    people.send("stop\ninfo status\n");
    assert!(people.line().ends_with("stop\u{1b}[K"));
    assert_eq!(people.line(), "Error: The command 'stop' is not allowed on this monitor");
    people.line();
    assert_eq!(people.line(), "VM status: running");
}

#[test]
fn limits_are_no_properties_that_can_be_set() {
    let (vmm, mut all, mut limited) = limited("allow=qom-set,allow=object-add,allow=chardev-add");
    add_socket(&mut limited, "c", &vmm.dir().join("c.sock"));
    let read_only = json!({"qom-type": "monitor-qmp", "id": "m", "chardev": "c", "read-only": true});
    assert_eq!(limited.call("object-add", read_only), Ok(json!({})));
    for (property, value) in [
        ("allow", json!(["*"])),
        ("deny", json!([])),
        ("read-only", json!(false)),
        ("fdsets", json!("all")),
        ("allowed-uids", json!([0])),
        ("max-clients", json!(1)),
        ("chardev", json!("compat_monitor0")),
    ] {
        let set = json!({"path": "/objects/m", "property": property, "value": value});
        let text = format!("Property 'monitor-qmp.{property}' is not writable");
        for client in [&mut limited, &mut all] {
            assert_eq!(client.call("qom-set", set.clone()), generic(&text));
        }
    }
    let pretty = json!({"path": "/objects/m", "property": "pretty", "value": true});
    assert_eq!(limited.call("qom-set", pretty), Ok(json!({})));
}

#[test]
fn another_monitors_fd_set_is_out_of_reach_by_every_path() {
    let (vmm, mut all, mut limited) = limited("fdsets=own");
    let null = || open_file(Path::new("/dev/null"), OFlags::WRONLY).unwrap();
    let added = all.call_with_fds("add-fd", json!({"fdset-id": 7}), &[null().as_fd()]).unwrap();
    assert_eq!(added["fdset-id"], 7);
    assert_eq!(limited.run("query-fdsets"), json!([]));
    let extend = limited.call_with_fds("add-fd", json!({"fdset-id": 7}), &[null().as_fd()]);
    assert_eq!(extend, generic("File descriptor set 7 belongs to another monitor"));
    let remove = limited.call("remove-fd", json!({"fdset-id": 7}));
    assert_eq!(remove, generic("File descriptor named 'fdset-id:7' not found"));
    let open = |id: &str| json!({"id": id, "backend": {"type": "file", "data": {"out": "/dev/fdset/7", "append": true}}});
    assert!(limited.call("chardev-add", open("f")).unwrap_err().desc.contains("/dev/fdset/7"));
    assert_eq!(all.call("chardev-add", open("f")), Ok(json!({})));
    // What it makes is as limited: a monitor of its making sees its own sets and no others.
    add_socket(&mut limited, "c", &vmm.dir().join("c.sock"));
    add_monitor(&mut limited, "monitor-qmp", "m", "c");
    let mut made = negotiated(&vmm.dir().join("c.sock"));
    let own = limited.call_with_fds("add-fd", json!({}), &[null().as_fd()]).unwrap();
    assert_eq!(made.run("query-fdsets")[0]["fdset-id"], own["fdset-id"]);
    assert_eq!(made.run("query-fdsets").as_array().unwrap().len(), 1);
}

#[test]
fn a_refusal_is_logged_with_process_and_user() {
    let (mut vmm, _all, mut limited) = limited("read-only=on");
    assert_eq!(limited.call("stop", json!({})), refused("stop"));
    let pid = format!("pid={}", std::process::id());
    let uid = format!("uid={}", rustix::process::getuid().as_raw());
    let process = vmm.process();
    let logged = poll_until(LIMIT, || {
        let log = process.stderr();
        log.lines()
            .any(|line| line.contains("refused by policy") && line.contains(&pid) && line.contains(&uid))
    });
    assert!(logged, "{}", process.stderr());
}

#[test]
fn users_that_are_not_listed_get_nothing() {
    let own = rustix::process::getuid().as_raw();
    let dir = tempfile::tempdir().unwrap();
    let (yes, no) = (dir.path().join("yes.sock"), dir.path().join("no.sock"));
    let chardev =
        |id: &str, path: &Path| format!("socket,id={id},path={},server=on,wait=off", path.display());
    let (first, second) = (chardev("yes", &yes), chardev("no", &no));
    let (mon, not) =
        (format!("yes,mode=control,allowed-uids={own}"), format!("no,mode=control,allowed-uids={}", own + 1));
    let extra = ["-chardev", &first, "-mon", &mon, "-chardev", &second, "-mon", &not];
    let _vmm = Vmm::with(Setup { extra: &extra, ..Setup::default() });
    negotiated(&yes).run("query-status");
    assert_eq!(Client::connect(&no).unwrap().next_line(), None, "not even the greeting");
}

#[test]
fn whoever_looks_sees_who_is_there() {
    let (_vmm, mut all, mut limited) = limited("read-only=on");
    let _ = limited.call("stop", json!({}));
    let monitors = all.run("x-query-monitors");
    let find = |id: &str| monitors.as_array().unwrap().iter().find(|it| it["id"] == id).unwrap().clone();
    let (open, limited) = (find("compat_monitor0"), find("limited"));
    assert_eq!(
        (&open["mode"], &open["max-clients"], &limited["chardev"]),
        (&json!("control"), &json!(64), &json!("limited"))
    );
    let session = &limited["sessions"][0];
    assert_eq!(session["pid"], i64::from(std::process::id()));
    assert_eq!((&session["restricted"], &session["negotiated"]), (&json!(true), &json!(true)));
    assert_eq!((&session["commands"], &session["errors"]), (&json!(2), &json!(1)));
    let asking = &open["sessions"][0];
    assert_eq!(
        (&asking["restricted"], &asking["queued"], &asking["outbox-bytes"]),
        (&json!(false), &json!(0), &json!(0))
    );
}

#[test]
fn a_log_is_a_file_whatever_it_is_the_log_of() {
    let (vmm, _, mut limited) = limited("allow=chardev-add:null");
    let victim = vmm.dir().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let logged = json!({"id": "n", "backend": {"type": "null", "data": {"logfile": victim}}});
    let text = "The command 'chardev-add' is not allowed for 'file' on this monitor";
    assert_eq!(limited.call("chardev-add", logged), generic(text));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn the_names_of_open_descriptors_are_no_way_to_fd_sets() {
    let (vmm, mut all, mut limited) = limited("fdsets=own");
    let victim = vmm.dir().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let file = open_file(&victim, OFlags::WRONLY).unwrap();
    let added = all.call_with_fds("add-fd", json!({}), &[file.as_fd()]).unwrap();
    for name in [format!("/proc/self/fd/{}", added["fd"]), format!("/dev/fd/{}", added["fd"])] {
        let open = json!({"id": "f", "backend": {"type": "file", "data": {"out": name}}});
        assert!(limited.call("chardev-add", open.clone()).is_err(), "{name}");
        let log = json!({"id": "n", "backend": {"type": "null", "data": {"logfile": name}}});
        assert!(limited.call("chardev-add", log).is_err(), "{name}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }
    let own = vmm.dir().join("own");
    let open = json!({"id": "f", "backend": {"type": "file", "data": {"out": own}}});
    assert_eq!(limited.call("chardev-add", open), Ok(json!({})));
}

#[test]
fn a_monitor_that_deletes_itself_deletes_nothing_that_its_maker_may_not() {
    let (vmm, mut all, mut limited) = limited("allow=object-add:monitor-qmp");
    add_socket(&mut all, "spare", &vmm.dir().join("spare.sock"));
    let monitor = json!({"qom-type": "monitor-qmp", "id": "m", "chardev": "spare", "close-action": "delete"});
    let text = "The command 'object-del' is not allowed for 'monitor-qmp' on this monitor";
    assert_eq!(limited.call("object-add", monitor), generic(text));
    let labels: Vec<_> =
        all.run("query-chardev").as_array().unwrap().iter().map(|c| c["label"].clone()).collect();
    assert!(labels.contains(&json!("spare")), "{labels:?}");
}

#[test]
fn a_client_that_is_handed_in_has_none_of_the_monitors_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limited.sock");
    let chardev = format!("socket,id=limited,path={},server=on,wait=off", path.display());
    let extra =
        ["-chardev", &chardev, "-mon", "limited,mode=control,allow=getfd,allow=add_client,allow=closefd"];
    let vmm = Vmm::with(Setup { options: "named-fds=monitor", extra: &extra, ..Setup::default() });
    let (mut all, mut limited) = (vmm.client(0), negotiated(&path));
    assert_eq!(
        all.getfd("precious", &open_file(Path::new("/dev/null"), OFlags::RDONLY).unwrap()),
        Ok(json!({}))
    );
    let peer = pass_socket(&mut limited, "a");
    let hand = json!({"protocol": "compat_monitor0", "fdname": "a"});
    assert_eq!(limited.call("add_client", hand), Ok(json!({})));
    let mut client = Client::over(peer).unwrap();
    client.negotiate();
    let text = "File descriptor named 'precious' not found";
    assert_eq!(client.call("closefd", json!({"fdname": "precious"})), generic(text));
    assert_eq!(all.call("closefd", json!({"fdname": "precious"})), Ok(json!({})));
}

#[test]
fn rules_with_types_open_nothing_else() {
    let (_vmm, _, mut limited) = limited("allow=*:null");
    assert_eq!(limited.call("stop", json!({})), refused("stop"));
    let remove = limited.call("chardev-remove", json!({"id": "compat_monitor0"}));
    assert_eq!(remove, generic("The command 'chardev-remove' is not allowed for 'socket' on this monitor"));
    let null = json!({"id": "n", "backend": {"type": "null", "data": {}}});
    assert_eq!(limited.call("chardev-add", null), Ok(json!({})));
    assert_eq!(limited.call("chardev-remove", json!({"id": "n"})), Ok(json!({})));
}
