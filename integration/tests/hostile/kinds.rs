//! Descriptors of odd kinds, given to every command that takes one.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::json;
use vmm_integration::client::Client;
use vmm_integration::vfio_user::fds::every_wrong_kind;
use vmm_integration::wire::{self, MAX_FDS, open_file};

use crate::frame::{Scene, attack, done};
use crate::tools::{
    borrowed, file_on, listener_on, monitor_on, nulls, pipe_on, socket_of_fd, without_monitor,
};

/// Whatever is answered: it is answered, and nothing of it stays.
fn every_way(scene: &Scene, client: &mut Client, fd: &OwnedFd) {
    client.getfd("odd", fd).unwrap();
    let _ = client.call("add_client", json!({"protocol": "compat_monitor0", "fdname": "odd"}));
    for server in [false, true] {
        client.getfd("odd", fd).unwrap();
        if client.call("chardev-add", socket_of_fd("odd", "odd", server)).is_ok() {
            if client.call("object-add", monitor_on("m", "odd")).is_ok() {
                scene.hold();
                done(client, "object-del", json!({"id": "m"}));
            }
            done(client, "chardev-remove", json!({"id": "odd"}));
        }
        let _ = client.call("closefd", json!({"fdname": "odd"}));
    }
    client.call_with_fds("add-fd", json!({"fdset-id": 9}), &[fd.as_fd()]).unwrap();
    client.run("query-fdsets");
    for chardev in [
        pipe_on("odd", "/dev/fdset/9"),
        json!({"id": "odd", "backend": {"type": "file", "data": {"out": "/dev/fdset/9", "in": "/dev/fdset/9"}}}),
        json!({"id": "odd", "backend": {"type": "null", "data": {"logfile": "/dev/fdset/9"}}}),
    ] {
        if client.call("chardev-add", chardev).is_ok() {
            if client.call("object-add", monitor_on("m", "odd")).is_ok() {
                scene.hold();
                done(client, "object-del", json!({"id": "m"}));
            }
            done(client, "chardev-remove", json!({"id": "odd"}));
        }
    }
    done(client, "remove-fd", json!({"fdset-id": 9}));
}

fn each_of(kinds: impl FnOnce(&Path) -> Vec<OwnedFd>) {
    attack(|scene| {
        let mut client = scene.client();
        for fd in kinds(scene.dir()) {
            every_way(scene, &mut client, &fd);
        }
    });
}

#[test]
fn path_only_descriptors() {
    each_of(|dir| {
        std::fs::write(dir.join("file"), "x").unwrap();
        let paths = [dir.to_owned(), dir.join("file"), dir.join("qmp0.sock"), "/dev/null".into()];
        paths.iter().map(|path| open_file(path, OFlags::PATH).unwrap()).collect()
    });
}

#[test]
fn directories() {
    each_of(|dir| {
        vec![open_file(dir, OFlags::RDONLY).unwrap(), open_file(Path::new("/"), OFlags::RDONLY).unwrap()]
    });
}

#[test]
fn files_of_proc() {
    each_of(|_| {
        ["/proc/self/maps", "/proc/self/mem", "/proc/self/status", "/proc/net/unix"]
            .map(|path| open_file(Path::new(path), OFlags::RDONLY).unwrap())
            .into()
    });
}

/// A file to which a write of any length takes nothing, without an error. It is a monitor's all the same, and then it ends.
#[test]
fn the_memory_of_a_process_that_has_gone() {
    attack(|scene| {
        let mut client = scene.client();
        let mut process = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let memory = open_file(Path::new(&format!("/proc/{}/mem", process.id())), OFlags::WRONLY).unwrap();
        drop(process.stdin.take());
        process.wait().unwrap();
        client.call_with_fds("add-fd", json!({"fdset-id": 9}), &[memory.as_fd()]).unwrap();
        done(&mut client, "chardev-add", file_on("odd", "/dev/fdset/9"));
        done(&mut client, "object-add", monitor_on("m", "odd"));
        scene.hold();
        without_monitor(&mut client, "m", "odd");
        done(&mut client, "remove-fd", json!({"fdset-id": 9}));
    });
}

#[test]
fn devices() {
    each_of(|_| {
        ["/dev/zero", "/dev/full", "/dev/null", "/dev/urandom"]
            .map(|path| open_file(Path::new(path), OFlags::RDWR).unwrap())
            .into()
    });
}

#[test]
fn datagram_and_sequenced_sockets() {
    each_of(|_| {
        let (datagram, kept) = UnixDatagram::pair().unwrap();
        let pair =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        vec![datagram.into(), kept.into(), pair.0, pair.1]
    });
}

#[test]
fn listening_sockets_as_clients() {
    each_of(|dir| {
        let listener = UnixListener::bind(dir.join("l")).unwrap();
        vec![listener.into(), std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()]
    });
}

#[test]
fn sockets_that_are_not_connected() {
    each_of(|_| {
        let new = |family| rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        vec![new(AddressFamily::UNIX), new(AddressFamily::INET), new(AddressFamily::INET6)]
    });
}

#[test]
fn sockets_of_other_families() {
    each_of(|_| {
        let raw = |family, kind| rustix::net::socket(family, kind, None).ok();
        // Netlink and packet sockets, where this process may have them.
        [raw(AddressFamily::NETLINK, SocketType::RAW), raw(AddressFamily::PACKET, SocketType::DGRAM)]
            .into_iter()
            .flatten()
            .collect()
    });
}

#[test]
fn polls_of_polls() {
    each_of(|_| {
        use rustix::event::epoll;
        let new = || epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let (inner, outer) = (new(), new());
        let data = epoll::EventData::new_u64(1);
        epoll::add(&outer, &inner, data, epoll::EventFlags::IN).unwrap();
        vec![outer, inner]
    });
}

#[test]
fn events_timers_and_signals() {
    each_of(|_| {
        use rustix::event::{EventfdFlags, eventfd};
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let event = eventfd(u32::MAX - 1, EventfdFlags::CLOEXEC).unwrap();
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
        let pid =
            rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
        vec![event, timer, pid.unwrap()]
    });
}

#[test]
fn kinds_that_are_no_memory() {
    each_of(|dir| every_wrong_kind(dir).unwrap().into_iter().map(|(_, fd)| fd).collect());
}

#[test]
fn memory_that_shrinks() {
    each_of(|_| {
        let memory = vmm_integration::vfio_user::fds::memory(1 << 20, true);
        rustix::fs::ftruncate(&memory, 0).unwrap();
        vec![memory]
    });
}

/// A socket that carries itself, and two that carry each other: nobody has them any more, and they have each other.
#[test]
fn sockets_in_a_ring() {
    attack(|scene| {
        for _ in 0..50 {
            let mut client = scene.client();
            let (a, b) = UnixStream::pair().unwrap();
            let (c, d) = UnixStream::pair().unwrap();
            wire::send(&a, b"x", &[a.as_fd(), b.as_fd(), c.as_fd()]).unwrap();
            wire::send(&c, b"x", &[b.as_fd(), d.as_fd()]).unwrap();
            client.getfd("ring", &b.into()).unwrap();
            client.getfd("gnir", &d.into()).unwrap();
            drop((a, c));
        }
        scene.hold();
    });
}

/// A session that was sent the other end of its own connection keeps it open: its client can go and it does not see it. It
/// takes up what it took up before, until somebody hangs up on it.
#[test]
fn a_connection_that_carries_its_other_end() {
    attack(|scene| {
        let mut client = scene.client();
        let path = scene.path("own.sock");
        done(&mut client, "chardev-add", listener_on("own", &path));
        done(&mut client, "object-add", monitor_on("m", "own"));
        for _ in 0..20 {
            let mut other = Client::connect(Path::new(&path)).unwrap();
            other.negotiate();
            let own = OwnedFd::from(other.socket().try_clone().unwrap());
            other.getfd("own", &own).unwrap();
            other.send_with_fds(" ", &[own.as_fd()]);
        }
        scene.hold();
        done(&mut client, "yank", json!({"instances": [{"type": "chardev", "id": "own"}]}));
        without_monitor(&mut client, "m", "own");
    });
}

#[test]
fn a_flood_of_descriptors_that_nobody_takes() {
    attack(|scene| {
        let fds = nulls(MAX_FDS);
        let mut client = scene.client();
        for round in 0..100 {
            let request = format!("{{\"execute\": \"query-name\", \"id\": {round}}}");
            client.send_with_fds(request, &borrowed(&fds));
            assert_eq!(client.reply()["id"], round);
            assert!(scene.more_fds() <= 1 + MAX_FDS, "more than the newest message's");
        }
        scene.hold();
    });
}

#[test]
fn a_flood_of_descriptors_without_waiting() {
    attack(|scene| {
        let fds = nulls(MAX_FDS);
        let mut client = scene.client();
        for round in 0..100 {
            let request = format!("{{\"execute\": \"query-name\", \"id\": {round}}}");
            client.send_with_fds(request, &borrowed(&fds));
        }
        for round in 0..100 {
            assert_eq!(client.reply()["id"], round);
        }
    });
}

#[test]
fn descriptors_on_every_byte() {
    attack(|scene| {
        let fds = nulls(3);
        let mut client = scene.client();
        for _ in 0..5 {
            for byte in br#"{"execute": "getfd", "arguments": {"fdname": "x"}, "id": 1}"# {
                client.send_with_fds([*byte], &borrowed(&fds));
            }
            let reply = client.reply();
            assert_eq!(reply["id"], 1, "{reply}");
        }
        scene.hold();
    });
}

#[test]
fn descriptors_with_garbage() {
    attack(|scene| {
        let fds = nulls(20);
        let mut client = scene.client();
        for garbage in ["@", "}{", "[\u{1}", "\0\0\0", "{\"execute\":", "\u{1}"] {
            client.send_with_fds(garbage, &borrowed(&fds));
        }
        client.send(r#"{"execute": "query-name", "id": "after"}"#);
        while client.reply().get("id").is_none_or(|id| id != "after") {}
        assert!(scene.more_fds() <= 1 + fds.len());
        scene.hold();
    });
}

#[test]
fn thousands_of_names() {
    attack(|scene| {
        let null = wire::dev_null().unwrap();
        let mut client = scene.client();
        for name in 0..400 {
            client.getfd(&format!("{}{name}", "n".repeat(1000)), &null).unwrap();
        }
        scene.hold();
    });
}

#[test]
fn hundreds_of_sets() {
    attack(|scene| {
        let null = wire::dev_null().unwrap();
        let mut client = scene.client();
        for set in 0..300_i64 {
            let id = i64::MAX - set;
            let arguments = json!({"fdset-id": id, "opaque": "o".repeat(1000)});
            client.call_with_fds("add-fd", arguments, &[null.as_fd()]).unwrap();
        }
        client.run("query-fdsets");
        scene.hold();
        for set in 0..300_i64 {
            done(&mut client, "remove-fd", json!({"fdset-id": i64::MAX - set}));
        }
    });
}
