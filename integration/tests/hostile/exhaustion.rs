//! A process that has run out of something: what it was asked for fails, with its reason, and all goes on.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;
use vmm_integration::client::Client;
use vmm_integration::{LIMIT, poll_until};

use crate::frame::{Scene, Stage, attack, done};
use crate::tools::{Lingering, borrowed, file_on, let_go, listener_on, nulls};

/// A process that may open so many descriptors more, until this is dropped. (The limit is one of numbers, and what has
/// been closed leaves gaps.)
pub(crate) struct Few {
    pid: Option<Pid>,
    usual: Rlimit,
}

/// What was seen of the table holds for 10 ms and a tick of the kernel's, of 10 ms at most: nobody whose limit others change is told.
const LIMIT_IS_SEEN: std::time::Duration = std::time::Duration::from_millis(25);

impl Few {
    pub(crate) fn more(scene: &Scene, more: usize) -> Self {
        let pid = Pid::from_raw(i32::try_from(scene.pid()).unwrap());
        let open = scene.fd_numbers();
        let current = (0..).filter(|number| !open.contains(number)).nth(more);
        let few = Rlimit { current, maximum: getrlimit(Resource::Nofile).maximum };
        let usual = prlimit(pid, Resource::Nofile, few).unwrap();
        std::thread::sleep(LIMIT_IS_SEEN);
        Self { pid, usual }
    }
}

impl Drop for Few {
    fn drop(&mut self) {
        prlimit(self.pid, Resource::Nofile, self.usual).unwrap();
        std::thread::sleep(LIMIT_IS_SEEN);
    }
}

#[test]
fn no_descriptor_for_a_client() {
    attack(|scene| {
        let few = Few::more(scene, 0);
        let waiting: Vec<_> = (0..10).map(|_| UnixStream::connect(scene.socket()).unwrap()).collect();
        scene.hold();
        scene.hold();
        // It does not go round in circles meanwhile.
        let before = scene.cpu_ticks();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(scene.cpu_ticks() - before < 15, "it tries without pause");
        drop(few);
        // They are all let in.
        for client in waiting {
            Client::over(client).unwrap().negotiate();
        }
    });
}

#[test]
fn no_descriptor_for_a_message() {
    attack(|scene| {
        let mut client = scene.client();
        let few = Few::more(scene, 10);
        let fds = nulls(100);
        // The session may be told an error or be ended; it must not get a descriptor out of a cut message.
        client.send_with_fds(r#"{"execute": "getfd", "arguments": {"fdname": "cut"}}"#, &borrowed(&fds));
        if let Some(reply) = client.next_line() {
            assert!(reply.contains("error"), "{reply}");
        }
        scene.hold();
        drop(few);
    });
}

#[test]
fn no_descriptor_for_a_message_of_one() {
    attack(|scene| {
        let mut client = scene.client();
        let few = Few::more(scene, 0);
        let fds = nulls(1);
        for _ in 0..20 {
            client.send_with_fds(r#"{"execute": "getfd", "arguments": {"fdname": "cut"}}"#, &borrowed(&fds));
            let Some(reply) = client.next_line() else { break };
            assert!(reply.contains("error"), "{reply}");
        }
        scene.hold();
        drop(few);
    });
}

/// What the kernel cannot hand over it closes, in the call that was to receive it.
#[test]
fn no_descriptor_for_what_lingers() {
    attack(|scene| {
        for _ in 0..3 {
            let (fd, mut bomb) = Lingering::inside(1);
            let plain = Lingering::new();
            let mut client = scene.client();
            let few = Few::more(scene, 0);
            client.send_with_fds(r#"{"execute": "query-name"}"#, &[fd.as_fd(), plain.fd().as_fd()]);
            let_go(fd);
            bomb.leave();
            scene.hold();
            drop(few);
            drop(client);
            scene.hold();
        }
    });
}

#[test]
fn no_descriptor_for_a_chardev() {
    attack(|scene| {
        let mut client = scene.client();
        let few = Few::more(scene, 0);
        let path = scene.path("x.sock");
        for arguments in [listener_on("x", &path), file_on("x", &scene.path("f"))] {
            let refused = client.call("chardev-add", arguments).unwrap_err();
            assert!(refused.desc.contains("Too many open files"), "{refused}");
        }
        scene.hold();
        drop(few);
        done(&mut client, "chardev-add", listener_on("x", &path));
        done(&mut client, "chardev-remove", json!({"id": "x"}));
    });
}

#[test]
fn no_descriptor_for_an_iothread_or_memory() {
    attack(|scene| {
        let mut client = scene.client();
        let few = Few::more(scene, 0);
        for object in [
            json!({"qom-type": "iothread", "id": "x"}),
            json!({"qom-type": "memory-backend-memfd", "id": "x", "size": 4096}),
        ] {
            let refused = client.call("object-add", object).unwrap_err();
            assert!(!refused.desc.is_empty());
        }
        scene.hold();
        drop(few);
        done(&mut client, "object-add", json!({"qom-type": "iothread", "id": "x"}));
        done(&mut client, "object-del", json!({"id": "x"}));
    });
}

#[test]
fn no_descriptor_for_a_duplicate_of_a_set() {
    attack(|scene| {
        let mut client = scene.client();
        let file =
            vmm_integration::wire::open_file(std::path::Path::new("/dev/null"), rustix::fs::OFlags::WRONLY);
        client.call_with_fds("add-fd", json!({"fdset-id": 1}), &[file.unwrap().as_fd()]).unwrap();
        let few = Few::more(scene, 0);
        let refused = client.call("chardev-add", file_on("f", "/dev/fdset/1")).unwrap_err();
        assert!(refused.desc.contains("Too many open files"), "{refused}");
        scene.hold();
        drop(few);
        done(&mut client, "chardev-add", file_on("f", "/dev/fdset/1"));
        done(&mut client, "chardev-remove", json!({"id": "f"}));
        done(&mut client, "remove-fd", json!({"fdset-id": 1}));
    });
}

#[test]
fn descriptors_run_out_and_come_back_all_the_time() {
    attack(|scene| {
        for more in 0..12 {
            let few = Few::more(scene, more);
            let clients: Vec<_> = (0..10).map(|_| UnixStream::connect(scene.socket()).unwrap()).collect();
            let fds = nulls(5);
            for client in &clients {
                let _ = vmm_integration::wire::send(
                    client,
                    b"{\"execute\": \"qmp_capabilities\"}",
                    &borrowed(&fds),
                );
            }
            scene.hold();
            drop(clients);
            drop(few);
        }
        // Whoever comes now is let in, at the latest when the listener tries again.
        assert!(poll_until(LIMIT, || scene.client().run("query-name").is_object()));
    });
}

/// A user who may have no thread more than there are. Root may always, so this needs another user to become.
#[test]
fn no_thread_for_anything() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("SKIPPED: only root can start it as a user who has no other process");
    }
    let uid = 61_000 + std::process::id() % 4000;
    let user = format!("--reuid={uid}");
    let under = ["setpriv", &*user, "--regid=65534", "--clear-groups"].map(str::to_owned).into();
    Stage { under, uid: Some(uid), ..Stage::default() }.attack(|scene| {
        let mut client = scene.client();
        let limit = |threads: &str| {
            let (pid, threads) = (scene.pid().to_string(), format!("--nproc={threads}:"));
            let as_user = [&*user, "--regid=65534", "--clear-groups", "prlimit", "--pid", &*pid, &*threads];
            assert!(std::process::Command::new("setpriv").args(as_user).status().unwrap().success());
        };
        limit("1");
        // What needs a thread fails with its reason; all else goes on.
        for (command, arguments) in [
            ("object-add", json!({"qom-type": "iothread", "id": "x"})),
            ("object-add", json!({"qom-type": "memory-backend-ram", "id": "x", "size": 65536})),
            ("qom-set", json!({"path": "/machine", "property": "type", "value": 1})),
            ("chardev-add", file_on("f", "/dev/null")),
        ] {
            let refused = client.call(command, arguments).unwrap_err();
            assert!(refused.desc.contains("Resource temporarily unavailable"), "{command}: {refused}");
        }
        for number in 0..5 {
            let (fd, mut bomb) = Lingering::inside(1);
            client.getfd(&format!("bomb{number}"), &fd).unwrap();
            let_go(fd);
            bomb.leave();
            done(&mut client, "closefd", json!({"fdname": format!("bomb{number}")}));
            scene.hold();
        }
        client.run("query-commands");
        limit("1000");
        done(&mut client, "object-add", json!({"qom-type": "iothread", "id": "x"}));
        done(&mut client, "object-del", json!({"id": "x"}));
        // What waited is closed when there is something else to close, at the latest.
        drop(client);
        drop(scene.client());
    });
}

#[test]
fn no_memory_for_a_message() {
    let stage = Stage { slack: 64 << 10, ..Stage::default() };
    stage.attack(|scene| {
        // Not the message's own limit, but what an object asks for.
        let mut client = scene.client();
        let huge = json!({"qom-type": "memory-backend-ram", "id": "huge", "size": 1_u64 << 46});
        if client.call("object-add", huge).is_ok() {
            done(&mut client, "object-del", json!({"id": "huge"}));
        }
        scene.hold();
    });
}

#[test]
fn signals_that_mean_nothing() {
    attack(|scene| {
        use rustix::process::Signal;
        for _ in 0..20 {
            // It ignores what its runtime ignores; the others would end it by right.
            scene.signal(Signal::PIPE);
            scene.signal(Signal::CHILD);
            scene.signal(Signal::WINCH);
            scene.signal(Signal::URG);
        }
        scene.hold();
    });
}

#[test]
fn stops_and_goes_on() {
    attack(|scene| {
        let mut client = scene.client();
        for _ in 0..5 {
            scene.signal(rustix::process::Signal::STOP);
            client.send(r#"{"execute": "query-name"}"#);
            scene.signal(rustix::process::Signal::CONT);
            client.reply();
        }
        scene.hold();
    });
}
