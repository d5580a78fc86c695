//! Other users, and monitors that somebody wants to keep full.
//!
//! To be another user takes root; without, those cases say that they are skipped.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
use serde_json::json;
use vmm_integration::client::Client;
use vmm_integration::{LIMIT, poll_until};

use crate::frame::{Scene, Stage, attack};
use crate::tools::{Again, client_of, full_listener};

/// A user and a group that nobody is listed as.
pub(crate) const STRANGER: (u32, u32) = (61_700, 61_700);

/// Connects as somebody else. An error is the system's: the socket's mode, say.
pub(crate) fn connect_as((uid, gid): (u32, u32), path: PathBuf) -> std::io::Result<UnixStream> {
    let connecting = std::thread::spawn(move || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        UnixStream::connect(path)
    });
    connecting.join().unwrap()
}

/// Whether others can be had, and if so lets them reach the sockets, as far as those let them.
pub(crate) fn others_can_be_had(scene: &Scene) -> bool {
    let root = rustix::process::getuid().is_root();
    if root {
        std::fs::set_permissions(scene.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    } else {
        eprintln!("SKIPPED: only root can come as another user");
    }
    root
}

/// All that somebody is sent before he is let go.
pub(crate) fn hears(mut socket: UnixStream) -> String {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut all = Vec::new();
    // A reset is an end, too.
    let _ = socket.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn another_user_does_not_get_at_the_socket() {
    attack(|scene| {
        if others_can_be_had(scene) {
            for _ in 0..50 {
                let refused = connect_as(STRANGER, scene.socket()).unwrap_err();
                assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
            }
            scene.hold();
        }
    });
}

#[test]
fn a_user_who_is_not_listed_hears_nothing() {
    let stage = Stage { options: "allowed-uids=0,allowed-uids=61800", ..Stage::default() };
    stage.attack(|scene| {
        if others_can_be_had(scene) {
            for _ in 0..100 {
                assert_eq!(hears(connect_as(STRANGER, scene.socket()).unwrap()), "");
            }
            let said = scene.vmm().observe().stderr();
            assert!(said.contains("refused") && said.contains("61700"), "the log says who it was: {said}");
            assert!(said.lines().count() < 50, "a flood of them does not fill the log");
            let listed = connect_as((61_800, 61_700), scene.socket()).unwrap();
            Client::over(listed).unwrap().negotiate();
            scene.hold();
        }
    });
}

#[test]
fn a_group_that_is_listed_is_let_in() {
    let stage = Stage { options: "allowed-uids=0,allowed-gids=61800", ..Stage::default() };
    stage.attack(|scene| {
        if others_can_be_had(scene) {
            assert_eq!(hears(connect_as(STRANGER, scene.socket()).unwrap()), "");
            let member = connect_as((61_700, 61_800), scene.socket()).unwrap();
            Client::over(member).unwrap().negotiate();
            scene.hold();
        }
    });
}

/// More places than there are are wanted by clients that never negotiate: whoever does gets one all the same.
#[test]
fn a_monitor_full_of_those_who_never_negotiate() {
    attack(|scene| {
        let mute: Vec<_> = (0..80).map(|_| UnixStream::connect(scene.socket()).unwrap()).collect();
        for _ in 0..3 {
            scene.client().run("query-name");
        }
        scene.hold();
        drop(mute);
    });
}

#[test]
fn a_monitor_full_of_one_users_sessions() {
    let stage = Stage { options: "allowed-uids=0,allowed-uids=61800,max-clients=8", ..Stage::default() };
    stage.attack(|scene| {
        if others_can_be_had(scene) {
            let greedy: Vec<_> = (0..7)
                .map(|_| {
                    let socket = connect_as((61_800, 61_800), scene.socket()).unwrap();
                    let mut client = Client::over(socket).unwrap();
                    client.negotiate();
                    client
                })
                .collect();
            // Our own user has one place, the witness's, of four that are its share.
            scene.client().run("query-name");
            scene.client().run("query-name");
            scene.hold();
            drop(greedy);
        }
    });
}

/// A session ends when its command has, which these would have none of. (It takes ten seconds.)
#[test]
fn a_monitor_full_of_commands_that_would_never_end() {
    let stage = Stage { options: "max-clients=8", ..Stage::default() };
    stage.attack(|scene| {
        let path = scene.path("full.sock");
        let full = full_listener(&path);
        for number in 0..7 {
            let add = client_of(&format!("never{number}"), &path);
            let mut client = scene.client();
            client.send(json!({"execute": "chardev-add", "arguments": add}).to_string());
        }
        // They have left; and somebody comes.
        scene.client().run("query-name");
        scene.hold();
        drop(full);
    });
}

/// Who may not connect, and does so as fast as it goes.
#[test]
fn a_flood_of_refused_connections() {
    let stage = Stage { options: "allowed-uids=0,allowed-uids=61800", ..Stage::default() };
    stage.attack(|scene| {
        if others_can_be_had(scene) {
            let path = scene.socket();
            let flood = Again::and_again(move || {
                // Of this thread alone.
                let (uid, gid) = (Uid::from_raw(STRANGER.0), Gid::from_raw(STRANGER.1));
                set_thread_res_gid(gid, gid, gid).unwrap();
                set_thread_res_uid(uid, uid, uid).unwrap();
                drop(UnixStream::connect(&path));
            });
            for _ in 0..5 {
                scene.hold();
            }
            drop(flood);
        }
    });
}

/// They keep no descriptor of the process's, though its places stay taken.
#[test]
fn clients_that_hang_up_while_they_wait_for_a_place() {
    let stage = Stage { options: "max-clients=4", ..Stage::default() };
    stage.attack(|scene| {
        let taken: Vec<_> = (0..3).map(|_| scene.client()).collect();
        let full = scene.vmm().fd_count();
        for _ in 0..3 {
            let waiting: Vec<_> = (0..30).map(|_| UnixStream::connect(scene.socket()).unwrap()).collect();
            scene.vmm().await_fd_count(full + waiting.len());
            drop(waiting);
            scene.vmm().await_fd_count(full);
        }
        scene.hold();
        drop(taken);
    });
}

/// The names of the abstract name space have no mode.
#[test]
fn another_user_at_an_abstract_name() {
    let name = format!("vmmd-hostile-{}", std::process::id());
    let monitor: &'static str = format!("unix:{name},abstract=on,server=on,wait=off").leak();
    let extra: &'static [&'static str] = Box::leak(Box::new(["-qmp", monitor]));
    Stage { extra, ..Stage::default() }.attack(|scene| {
        let address = || {
            use std::os::linux::net::SocketAddrExt;
            std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap()
        };
        let own = UnixStream::connect_addr(&address()).unwrap();
        Client::over(own).unwrap().negotiate();
        if others_can_be_had(scene) {
            for _ in 0..20 {
                let address = address();
                let connecting = std::thread::spawn(move || {
                    let uid = Uid::from_raw(STRANGER.0);
                    set_thread_res_uid(uid, uid, uid).unwrap();
                    UnixStream::connect_addr(&address)
                });
                // Refused when it connects, or let go without a word.
                if let Ok(socket) = connecting.join().unwrap() {
                    assert_eq!(hears(socket), "");
                }
            }
            scene.hold();
        }
    });
}

#[test]
fn another_user_at_an_exported_device() {
    let stage = Stage {
        extra: &[
            "-object",
            "iothread,id=io0",
            "-device",
            "edu,id=dev0",
            "-object",
            "x-vfio-user-server,id=vfu0,type=unix,path={}/dev0.sock,device=dev0,iothread=io0,reconnect=on,\
             allowed-uids.0=0,allowed-uids.1=61800",
        ],
        ..Stage::default()
    };
    stage.attack(|scene| {
        if others_can_be_had(scene) {
            let path = scene.dir().join("dev0.sock");
            assert!(poll_until(LIMIT, || path.exists()));
            for _ in 0..20 {
                assert_eq!(hears(connect_as(STRANGER, path.clone()).unwrap()), "");
            }
            scene.hold();
        }
    });
}
