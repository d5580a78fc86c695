//! Commands with arguments that nobody in his right mind would give.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use vmm_integration::client::Client;

use crate::frame::{Stage, attack, done};
use crate::tools::{client_of, file_on, full_listener, listener_on, monitor_on, pipe_on};

/// Makes it if it can be made, has a monitor write into it, and removes it.
fn try_out(client: &mut Client, mut arguments: Value) -> bool {
    arguments["id"] = json!("odd");
    let made = client.call("chardev-add", arguments).is_ok();
    if made {
        if client.call("object-add", monitor_on("m", "odd")).is_ok() {
            client.run("query-chardev");
            done(client, "object-del", json!({"id": "m"}));
        }
        done(client, "chardev-remove", json!({"id": "odd"}));
    }
    made
}

#[test]
fn chardevs_on_devices() {
    attack(|scene| {
        let mut client = scene.client();
        for path in ["/dev/full", "/dev/null", "/dev/zero", "/dev/random", "/dev/tty", "/dev/ptmx"] {
            for arguments in [file_on("", path), pipe_on("", path), listener_on("", path)] {
                try_out(&mut client, arguments);
            }
            scene.hold();
        }
    });
}

#[test]
fn chardevs_on_fifos_that_nobody_reads() {
    attack(|scene| {
        let mut client = scene.client();
        for end in ["", ".in", ".out"] {
            let path = scene.path(&format!("fifo{end}"));
            mknodat(CWD, &*path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }
        let path = scene.path("fifo");
        assert!(!try_out(&mut client, file_on("", &path)), "there is nobody at the other end");
        assert!(try_out(&mut client, pipe_on("", &path)));
        let log = json!({"backend": {"type": "null", "data": {"logfile": path}}});
        try_out(&mut client, log);
        scene.hold();
    });
}

#[test]
fn chardevs_on_directories_and_sockets() {
    attack(|scene| {
        let mut client = scene.client();
        let (dir, own) = (scene.dir().display().to_string(), scene.path("qmp0.sock"));
        for path in [&*dir, "/", "", ".", "/proc/self/fd", "/proc/self/exe"] {
            for arguments in [file_on("", path), pipe_on("", path), listener_on("", path)] {
                assert!(!try_out(&mut client, arguments), "{path}");
            }
        }
        for arguments in [file_on("", &own), pipe_on("", &own)] {
            assert!(!try_out(&mut client, arguments), "a socket");
        }
        scene.hold();
    });
}

#[test]
fn chardevs_on_its_own_descriptors() {
    attack(|scene| {
        let mut client = scene.client();
        for number in 0..40 {
            let path = format!("/proc/self/fd/{number}");
            // What it opens is opened anew: it is not the descriptor itself.
            try_out(&mut client, pipe_on("", &path));
        }
        scene.hold();
    });
}

#[test]
fn paths_that_are_too_long() {
    attack(|scene| {
        let mut client = scene.client();
        for length in [256, 4095, 4096, 1 << 20] {
            let path = scene.path(&"p".repeat(length));
            for arguments in [file_on("", &path), pipe_on("", &path), listener_on("", &path)] {
                assert!(!try_out(&mut client, arguments));
            }
        }
        scene.hold();
    });
}

#[test]
fn paths_with_a_zero_byte() {
    attack(|scene| {
        let mut client = scene.client();
        let path = scene.path("a\0b");
        for arguments in [file_on("", &path), pipe_on("", &path), listener_on("", &path)] {
            assert!(!try_out(&mut client, arguments));
        }
        assert!(!Path::new(&scene.path("a")).exists());
        scene.hold();
    });
}

#[test]
fn sockets_to_nowhere() {
    attack(|scene| {
        let mut client = scene.client();
        let inet = |host: &str, port: &str| {
            let addr = json!({"type": "inet", "data": {"host": host, "port": port}});
            json!({"backend": {"type": "socket", "data": {"addr": addr, "server": false}}})
        };
        for (host, port) in
            [("127.0.0.1", "1"), ("127.0.0.1", "99999"), ("127.0.0.1", "-1"), ("[::", "x"), ("\u{0}", "1")]
        {
            assert!(!try_out(&mut client, inet(host, port)), "{host}:{port}");
        }
        scene.hold();
    });
}

/// Somebody who listens and never accepts: only who connects to it waits.
#[test]
fn a_socket_whose_backlog_is_full() {
    attack(|scene| {
        let path = scene.path("full.sock");
        let full = full_listener(&path);
        let mut client = scene.client();
        client.send(json!({"execute": "chardev-add", "arguments": client_of("waits", &path)}).to_string());
        scene.hold();
        // Once nobody listens, it is refused, and ends.
        drop(full);
        client.reply();
        let _ = client.call("chardev-remove", json!({"id": "waits"}));
    });
}

/// Each of 65,535 ports would fail for the same reason.
#[test]
fn a_range_of_all_ports_of_an_address_of_somebody_elses() {
    attack(|scene| {
        let mut client = scene.client();
        let addr = json!({"type": "inet", "data": {"host": "192.0.2.1", "port": "1", "to": 65535}});
        let data = json!({"addr": addr, "server": true, "wait": false, "insecure": true});
        for _ in 0..20 {
            assert!(!try_out(&mut client, json!({"backend": {"type": "socket", "data": data}})));
        }
        scene.hold();
    });
}

#[test]
fn a_chardev_that_waits_for_ever() {
    attack(|scene| {
        let path = scene.path("waits.sock");
        let mut client = scene.client();
        let mut add = listener_on("waits", &path);
        add["backend"]["data"]["wait"] = json!(true);
        client.send(json!({"execute": "chardev-add", "arguments": add}).to_string());
        scene.hold();
        let mut other = scene.client();
        assert!(vmm_integration::poll_until(vmm_integration::LIMIT, || {
            other.call("chardev-remove", json!({"id": "waits"})).is_ok()
        }));
        assert!(client.reply().get("error").is_some());
    });
}

#[test]
fn ids_that_look_alike_or_lead_elsewhere() {
    attack(|scene| {
        let mut client = scene.client();
        for id in [
            "../../etc/passwd",
            "/",
            "",
            "a/b",
            "a\0b",
            "\u{202e}0rotinom_tapmoc",
            "compat_monitor０",
            "-1",
            "a b",
            "a,b=c",
            "%s%n",
            "\u{feff}",
            "é",
            "…",
        ] {
            // Chardevs' ids are free, but what stands in a tree has one place in it.
            if client.call("chardev-add", json!({"id": id, "backend": {"type": "null", "data": {}}})).is_ok()
            {
                done(&mut client, "chardev-remove", json!({"id": id}));
            }
            let refused = client.call("object-add", json!({"qom-type": "iothread", "id": id}));
            assert!(refused.is_err(), "{id:?}");
        }
        let listed = client.run("query-chardev");
        assert_eq!(listed.as_array().map(Vec::len), Some(2));
        scene.hold();
    });
}

#[test]
fn two_thousand_chardevs() {
    attack(|scene| {
        let mut client = scene.client();
        let ids = || (0..2000).map(|number| format!("null{number}"));
        for id in ids() {
            done(&mut client, "chardev-add", json!({"id": id, "backend": {"type": "null", "data": {}}}));
        }
        client.run("query-chardev");
        scene.hold();
        for id in ids() {
            done(&mut client, "chardev-remove", json!({"id": id}));
        }
    });
}

#[test]
fn an_id_of_a_megabyte() {
    let stage = Stage { slack: 16 << 10, ..Stage::default() };
    stage.attack(|scene| {
        let mut client = scene.client();
        let id = "i".repeat(1 << 20);
        for command in [
            json!({"execute": "object-add", "arguments": {"qom-type": id, "id": "i"}}),
            json!({"execute": "object-del", "arguments": {"id": id}}),
            json!({"execute": "chardev-remove", "arguments": {"id": id}}),
            json!({"execute": "qom-list", "arguments": {"path": id}}),
            json!({"execute": "qom-get", "arguments": {"path": "/", "property": id}}),
            json!({"execute": "closefd", "arguments": {"fdname": id}}),
        ] {
            client.send(command.to_string());
            let reply = client.reply();
            assert!(reply.get("error").is_some(), "{}: {reply}", command["execute"]);
        }
        // These are well-formed, but nothing is kept that is that long.
        let null = vmm_integration::wire::dev_null().unwrap();
        for round in 0..20 {
            let id = format!("{id}{round}");
            let refused = [
                client.call("object-add", json!({"qom-type": "iothread", "id": id})),
                client.call("chardev-add", json!({"id": id, "backend": {"type": "null", "data": {}}})),
                client.getfd(&id, &null),
            ];
            for refused in refused {
                assert!(refused.unwrap_err().to_string().contains("at most 1024 bytes"));
            }
        }
        let id = "i".repeat(1024);
        done(&mut client, "object-add", json!({"qom-type": "iothread", "id": id}));
        client.run("query-iothreads");
        done(&mut client, "object-del", json!({"id": id}));
        scene.hold();
    });
}

#[test]
fn paths_of_objects_without_end() {
    attack(|scene| {
        let mut client = scene.client();
        for path in ["/".repeat(100_000), "a/".repeat(50_000), "/objects/".repeat(1000), "../".repeat(1000)] {
            for command in ["qom-list", "qom-get"] {
                let _ = client.call(command, json!({"path": path, "property": "type"}));
            }
        }
        scene.hold();
    });
}

#[test]
fn memory_without_end() {
    attack(|scene| {
        let mut client = scene.client();
        for size in [0_u64, 1, u64::MAX, 1 << 62, (1 << 47) + 1, u64::MAX - 4095] {
            for kind in ["memory-backend-ram", "memory-backend-memfd"] {
                let object = json!({"qom-type": kind, "id": "huge", "size": size});
                if client.call("object-add", object).is_ok() {
                    done(&mut client, "object-del", json!({"id": "huge"}));
                }
            }
        }
        scene.hold();
    });
}

#[test]
fn iothreads_in_a_storm() {
    attack(|scene| {
        let mut client = scene.client();
        for _ in 0..5 {
            for number in 0..20 {
                done(&mut client, "object-add", json!({"qom-type": "iothread", "id": format!("io{number}")}));
            }
            client.run("query-iothreads");
            for number in 0..20 {
                done(&mut client, "object-del", json!({"id": format!("io{number}")}));
            }
        }
        scene.hold();
    });
}

#[test]
fn values_of_any_type_nest_as_deep_as_they_may() {
    attack(|scene| {
        let mut client = scene.client();
        for depth in [120, 400, 860, 1000, 1018] {
            let value = format!("{}{{}}{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            for request in [
                format!(
                    r#"{{"execute": "object-add", "arguments": {{"qom-type": "iothread", "id": "z", "x": {value}}}}}"#
                ),
                format!(r#"{{"execute": "device_add", "arguments": {{"driver": "z", "x": {value}}}}}"#),
                format!(
                    r#"{{"execute": "qom-set", "arguments": {{"path": "/nope", "property": "p", "value": {value}}}}}"#
                ),
            ] {
                client.send(request);
                assert!(client.reply().get("error").is_some());
            }
        }
        scene.hold();
    });
}

#[test]
fn an_argument_that_nobody_knows_ten_thousand_times() {
    attack(|scene| {
        let mut client = scene.client();
        let members: Vec<String> = (0..10_000).map(|number| format!("\"x{number}\": {number}")).collect();
        let request = format!(r#"{{"execute": "query-name", "arguments": {{{}}}}}"#, members.join(","));
        for _ in 0..5 {
            client.send(&request);
            assert!(client.reply().get("error").is_some());
        }
        scene.hold();
    });
}

#[test]
fn exported_devices_come_and_go_in_a_storm() {
    let stage =
        Stage { extra: &["-object", "iothread,id=io0", "-device", "edu,id=dev0"], ..Stage::default() };
    stage.attack(|scene| {
        let mut client = scene.client();
        let path = scene.path("vfu.sock");
        for _ in 0..30 {
            let socket = json!({"type": "unix", "path": path});
            let object = json!({"qom-type": "x-vfio-user-server", "id": "vfu", "socket": socket,
                "device": "dev0", "iothread": "io0"});
            done(&mut client, "object-add", object);
            let peer = server_peer(&path);
            done(&mut client, "x-query-vfio-user", json!({}));
            // With its client it may have gone by itself.
            let _ = client.call("object-del", json!({"id": "vfu"}));
            drop(peer);
        }
        scene.hold();
    });
}

fn server_peer(path: &str) -> Option<vmm_integration::vfio_user::Peer> {
    vmm_integration::vfio_user::Peer::connect_now(Path::new(path)).ok()
}
