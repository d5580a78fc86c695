//! Descriptors whose close blocks, wherever they may be when they are closed.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use vmm_integration::client::Client;
use vmm_integration::wire::{self, dev_null};

use crate::exhaustion::Few;
use crate::frame::{Scene, Stage, attack, done};
use crate::tools::{
    Lingering, file_on, hand_in, let_go, listener_on, monitor_on, pipe_on, socket_of_fd, without_monitor,
};

/// Both a socket whose close waits and one inside which there is such a one: the former can be told not to wait.
fn bombs() -> Vec<(OwnedFd, Lingering)> {
    let plain = Lingering::new();
    let own = plain.fd().try_clone().unwrap();
    vec![(own, plain), Lingering::inside(1), Lingering::inside(3)]
}

/// Sends each bomb with `request`, has nobody else keep it, and then does `then`.
fn each(scene: &Scene, negotiated: bool, request: &str, then: impl Fn(&mut Client)) {
    for (fd, mut bomb) in bombs() {
        let mut client = if negotiated { scene.client() } else { scene.stranger() };
        if !negotiated {
            client.greeting();
        }
        client.send_with_fds(request, &[fd.as_fd()]);
        if negotiated && !request.trim().is_empty() {
            client.reply();
        } else {
            // The connection and the descriptor.
            scene.await_more_fds(2);
        }
        let_go(fd);
        bomb.leave();
        then(&mut client);
        scene.hold();
        drop(client);
        scene.hold();
        // Only now does anybody let go of the other end.
        drop(bomb);
    }
}

#[test]
fn lingers_before_negotiation() {
    attack(|scene| each(scene, false, " ", |_| {}));
}

#[test]
fn lingers_pending_when_its_client_leaves() {
    attack(|scene| each(scene, true, " ", |_| {}));
}

#[test]
fn lingers_with_a_command_that_wants_none() {
    attack(|scene| each(scene, true, r#"{"execute": "query-name"}"#, |_| {}));
}

#[test]
fn lingers_pending_and_is_replaced_by_another_write() {
    let replace = |client: &mut Client| {
        client.send_with_fds(r#"{"execute": "query-name"}"#, &[dev_null().unwrap().as_fd()]);
        client.reply();
    };
    attack(|scene| each(scene, true, " ", replace));
}

#[test]
fn lingers_under_a_name_that_is_closed() {
    let request = r#"{"execute": "getfd", "arguments": {"fdname": "bomb"}}"#;
    attack(|scene| {
        each(scene, true, request, |client| drop(done(client, "closefd", json!({"fdname": "bomb"}))));
    });
}

#[test]
fn lingers_under_a_name_that_another_gets() {
    let request = r#"{"execute": "getfd", "arguments": {"fdname": "bomb"}}"#;
    attack(|scene| {
        each(scene, true, request, |client| drop(client.getfd("bomb", &dev_null().unwrap()).unwrap()));
    });
}

#[test]
fn lingers_under_a_name_when_its_client_leaves() {
    let request = r#"{"execute": "getfd", "arguments": {"fdname": "bomb"}}"#;
    attack(|scene| each(scene, true, request, |_| {}));
}

#[test]
fn lingers_with_a_name_that_is_refused() {
    let request = r#"{"execute": "getfd", "arguments": {"fdname": "1"}}"#;
    attack(|scene| each(scene, true, request, |_| {}));
}

#[test]
fn lingers_in_a_set_that_is_removed() {
    let request = r#"{"execute": "add-fd", "arguments": {"fdset-id": 7}}"#;
    attack(|scene| {
        each(scene, true, request, |client| drop(done(client, "remove-fd", json!({"fdset-id": 7}))));
    });
}

#[test]
fn lingers_for_a_set_that_cannot_be() {
    let request = r#"{"execute": "add-fd", "arguments": {"fdset-id": -7}}"#;
    attack(|scene| each(scene, true, request, |_| {}));
}

#[test]
fn lingers_in_a_set_as_a_chardev() {
    let request = r#"{"execute": "add-fd", "arguments": {"fdset-id": 7}}"#;
    attack(|scene| {
        each(scene, true, request, |client| {
            done(client, "chardev-add", pipe_on("set", "/dev/fdset/7"));
            done(client, "remove-fd", json!({"fdset-id": 7}));
            done(client, "chardev-remove", json!({"id": "set"}));
        });
    });
}

#[test]
fn lingers_as_the_log_of_a_chardev() {
    attack(|scene| {
        for (fd, mut bomb) in bombs() {
            let mut client = scene.client();
            client.call_with_fds("add-fd", json!({"fdset-id": 7}), &[fd.as_fd()]).unwrap();
            let_go(fd);
            bomb.leave();
            let log = json!({"type": "null", "data": {"logfile": "/dev/fdset/7"}});
            // It can be read too, so it is not what a log is.
            let refused = client.call("chardev-add", json!({"id": "log", "backend": log})).unwrap_err();
            assert!(refused.desc.starts_with("Failed to add chardev 'log'"), "{refused}");
            done(&mut client, "remove-fd", json!({"fdset-id": 7}));
            scene.hold();
        }
    });
}

#[test]
fn lingers_as_a_client_that_is_not_taken() {
    let request = r#"{"execute": "getfd", "arguments": {"fdname": "bomb"}}"#;
    attack(|scene| {
        each(scene, true, request, |client| {
            client.call("add_client", json!({"protocol": "nobody", "fdname": "bomb"})).unwrap_err();
        });
    });
}

#[test]
fn lingers_as_a_client_of_a_display_that_is_not_there() {
    let request = r#"{"execute": "getfd", "arguments": {"fdname": "bomb"}}"#;
    attack(|scene| {
        each(scene, true, request, |client| {
            // As in QEMU this succeeds, whether there is one or not.
            done(client, "add_client", json!({"protocol": "vnc", "fdname": "bomb"}));
        });
    });
}

#[test]
fn lingers_as_a_client_that_is_handed_in() {
    attack(|scene| {
        let mut client = scene.client();
        let path = scene.path("other.sock");
        done(&mut client, "chardev-add", listener_on("other", &path));
        done(&mut client, "object-add", monitor_on("m", "other"));
        for _ in 0..3 {
            let mut bomb = Lingering::new();
            hand_in(&mut client, "other", bomb.fd());
            bomb.leave();
            scene.hold();
            done(&mut client, "yank", json!({"instances": [{"type": "chardev", "id": "other"}]}));
            scene.hold();
        }
        without_monitor(&mut client, "m", "other");
    });
}

#[test]
fn lingers_as_a_chardev_that_is_removed() {
    let request = r#"{"execute": "getfd", "arguments": {"fdname": "bomb"}}"#;
    attack(|scene| {
        each(scene, true, request, |client| {
            done(client, "chardev-add", socket_of_fd("own", "bomb", false));
            done(client, "chardev-remove", json!({"id": "own"}));
        });
    });
}

#[test]
fn lingers_as_a_chardev_that_is_hung_up_on() {
    let request = r#"{"execute": "getfd", "arguments": {"fdname": "bomb"}}"#;
    attack(|scene| {
        each(scene, true, request, |client| {
            done(client, "chardev-add", socket_of_fd("own", "bomb", false));
            done(client, "object-add", monitor_on("m", "own"));
            done(client, "yank", json!({"instances": [{"type": "chardev", "id": "own"}]}));
            without_monitor(client, "m", "own");
        });
    });
}

#[test]
fn lingers_as_a_chardev_whose_id_is_taken() {
    let request = r#"{"execute": "getfd", "arguments": {"fdname": "bomb"}}"#;
    attack(|scene| {
        each(scene, true, request, |client| {
            client.call("chardev-add", socket_of_fd("compat_monitor0", "bomb", false)).unwrap_err();
        });
    });
}

#[test]
fn lingers_as_the_socket_of_an_exported_device() {
    let request = r#"{"execute": "getfd", "arguments": {"fdname": "bomb"}}"#;
    let stage =
        Stage { extra: &["-object", "iothread,id=io0", "-device", "edu,id=dev0"], ..Stage::default() };
    stage.attack(|scene| {
        each(scene, true, request, |client| {
            let socket = json!({"type": "fd", "str": "bomb"});
            let object = json!({"qom-type": "x-vfio-user-server", "id": "vfu", "socket": socket,
                "device": "dev0", "iothread": "io0"});
            // A TCP socket is refused. One that carries such is a client that leaves, and its object goes with it.
            let _ = client.call("object-add", object);
            let _ = client.call("object-del", json!({"id": "vfu"}));
        });
    });
}

#[test]
fn lingers_in_a_queued_request_whose_client_leaves() {
    let stage = Stage { extra: &["--test-commands"], ..Stage::default() };
    stage.attack(|scene| {
        let fifo = scene.path("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &*fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for (fd, mut bomb) in bombs() {
            let mut client = scene.stranger();
            client.greeting();
            done(&mut client, "qmp_capabilities", json!({"enable": ["oob"]}));
            client.send(json!({"execute": "x-test-block", "arguments": {"path": fifo}}).to_string());
            for request in 0..4 {
                let request = format!(r#"{{"execute": "query-name", "id": {request}}}"#);
                client.send_with_fds(request, &[fd.as_fd()]);
            }
            client.send_with_fds(r#"{"exec-oob": "query-yank", "id": "read"}"#, &[]);
            assert_eq!(client.reply()["id"], "read");
            let_go(fd);
            bomb.leave();
            drop(client);
            scene.hold();
            drop(std::fs::File::options().write(true).open(&fifo).unwrap());
            scene.hold();
        }
    });
}

#[test]
fn lingers_in_the_backlog_of_a_listener_that_goes() {
    attack(|scene| {
        let mut client = scene.client();
        let path = scene.path("other.sock");
        for (fd, mut bomb) in bombs() {
            done(&mut client, "chardev-add", listener_on("other", &path));
            let waiting = UnixStream::connect(&path).unwrap();
            wire::send(&waiting, b"x", &[fd.as_fd()]).unwrap();
            drop(waiting);
            let_go(fd);
            bomb.leave();
            done(&mut client, "chardev-remove", json!({"id": "other"}));
            scene.hold();
        }
    });
}

#[test]
fn lingers_in_the_backlog_of_a_passed_listener() {
    attack(|scene| {
        let mut client = scene.client();
        for (fd, mut bomb) in bombs() {
            let path = scene.path("passed.sock");
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            client.getfd("passed", &listener.try_clone().unwrap().into()).unwrap();
            let waiting = UnixStream::connect(&path).unwrap();
            wire::send(&waiting, b"x", &[fd.as_fd()]).unwrap();
            drop((waiting, listener));
            let_go(fd);
            bomb.leave();
            done(&mut client, "closefd", json!({"fdname": "passed"}));
            scene.hold();
            std::fs::remove_file(path).unwrap();
        }
    });
}

#[test]
fn lingers_unread_on_a_connection_that_is_hung_up_on() {
    attack(|scene| {
        let mut client = scene.client();
        let path = scene.path("other.sock");
        done(&mut client, "chardev-add", listener_on("other", &path));
        done(&mut client, "object-add", monitor_on("m", "other"));
        for (fd, mut bomb) in bombs() {
            let mut other = Client::connect(Path::new(&path)).unwrap();
            other.negotiate();
            // Whether the session reads it before it is hung up on or not: neither may block.
            other.send_with_fds(" ", &[fd.as_fd()]);
            done(&mut client, "yank", json!({"instances": [{"type": "chardev", "id": "other"}]}));
            let_go(fd);
            bomb.leave();
            assert_eq!(other.next_line(), None);
            scene.hold();
        }
        without_monitor(&mut client, "m", "other");
    });
}

const SERIAL: Stage = Stage {
    extra: &[
        "-machine",
        "board",
        "-chardev",
        "socket,id=ser,path={}/ser.sock,server=on,wait=off",
        "-serial",
        "chardev:ser",
    ],
    options: "",
    under: Vec::new(),
    uid: None,
    slack: 0,
};

/// What the kernel cannot hand over it closes, in the call that was to receive it.
#[test]
fn lingers_on_the_line_of_a_serial_port_and_no_descriptor_is_free() {
    SERIAL.attack(|scene| {
        for (fd, mut bomb) in bombs() {
            let client = UnixStream::connect(scene.path("ser.sock")).unwrap();
            scene.hold();
            let few = Few::more(scene, 0);
            wire::send(&client, b"x", &[fd.as_fd()]).unwrap();
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
fn lingers_on_the_line_of_a_serial_port() {
    SERIAL.attack(|scene| {
        for (fd, mut bomb) in bombs() {
            let client = UnixStream::connect(scene.path("ser.sock")).unwrap();
            // What has no use for descriptors may take the bytes without them.
            wire::send(&client, b"x", &[fd.as_fd()]).unwrap();
            let_go(fd);
            bomb.leave();
            scene.hold();
            drop(client);
            scene.hold();
        }
    });
}

/// A TCP socket whose lock its sender holds for as long as he likes: he sends from memory that he does not let be read. Even
/// to tell the socket not to linger waits for that lock.
#[test]
fn the_sender_holds_the_sockets_lock() {
    the_sender_holds_the_lock_of("socket");
}

/// The same of a pipe, from a client that never negotiates. Nobody else has the end that was passed.
#[test]
fn the_sender_holds_the_pipes_lock() {
    the_sender_holds_the_lock_of("pipe");
}

fn the_sender_holds_the_lock_of(kind: &str) {
    attack(|scene| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/holds_lock.py");
        let attacker = Command::new("python3")
            .arg(script)
            .arg(scene.socket())
            .arg(kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut attacker) = attacker else { return eprintln!("SKIPPED: python3 is not there") };
        let mut said = String::new();
        BufReader::new(attacker.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.starts_with("SKIPPED") {
            attacker.wait().unwrap();
            return eprintln!("{said}");
        }
        assert_eq!(said, "passed\n");
        scene.hold();
        attacker.kill().unwrap();
        attacker.wait().unwrap();
    });
}

#[test]
fn two_hundred_linger_at_once() {
    attack(|scene| {
        let mut all: Vec<_> = (0..200).map(|_| Lingering::inside(1)).collect();
        let mut client = scene.client();
        for (number, (fd, _)) in all.iter().enumerate() {
            client.getfd(&format!("n{number}"), fd).unwrap();
        }
        let bombs: Vec<_> = all.drain(..).map(|(_, bomb)| bomb).collect();
        drop(client);
        scene.hold();
        // And a descriptor that waits for nobody is closed all the same.
        let mut client = scene.client();
        client.getfd("null", &dev_null().unwrap()).unwrap();
        done(&mut client, "closefd", json!({"fdname": "null"}));
        drop(bombs);
    });
}

#[test]
fn threads_that_closed_go_when_nothing_comes() {
    attack(|scene| {
        let mut client = scene.client();
        for _ in 0..20 {
            let (fd, _bomb) = Lingering::inside(1);
            client.getfd("bomb", &fd).unwrap();
        }
        done(&mut client, "chardev-add", file_on("f", &scene.path("f")));
        done(&mut client, "chardev-remove", json!({"id": "f"}));
        drop(client);
        scene.before().threads_go();
    });
}
