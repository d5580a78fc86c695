//! Other users, and monitors that somebody wants to keep full.
//!
//! To be another user takes root; without, those cases say that they are skipped.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
use serde_json::json;
use vmm_integration::client::Client;
use vmm_integration::wire::{self, MAX_FDS, dev_null, open_file};
use vmm_integration::{LIMIT, poll_until};

use crate::frame::{Scene, Stage, attack, done};
use crate::tools::{Again, Lingering, borrowed, client_of, full_listener};

/// A user and a group that nobody is listed as.
pub(crate) const STRANGER: (u32, u32) = (61_700, 61_700);

/// Makes this thread alone somebody else's.
fn become_of((uid, gid): (u32, u32)) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// Connects as somebody else. An error is the system's: the socket's mode, say.
pub(crate) fn connect_as(user: (u32, u32), path: PathBuf) -> std::io::Result<UnixStream> {
    let connecting = std::thread::spawn(move || {
        become_of(user)?;
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

/// Who is refused is closed with all that he has sent, and that does not fill the process's table: others have room in it.
#[test]
fn a_user_who_is_not_listed_sends_descriptors_without_end() {
    let under = ["prlimit", "--nofile=1024"].map(str::to_owned).into();
    let stage = Stage { options: "allowed-uids=0,allowed-uids=61800", under, ..Stage::default() };
    stage.attack(|scene| {
        if others_can_be_had(scene) {
            let null = dev_null().unwrap();
            let mut modest = scene.client();
            let names: Vec<_> = (0..30).map(|number| format!("n{number}")).collect();
            names.iter().for_each(|name| drop(modest.getfd(name, &null).unwrap()));
            let floods: Vec<_> = (0..2).map(|_| send_and_send(STRANGER, scene.socket())).collect();
            let mut busy = scene.client();
            for number in 0..400 {
                let id = format!("c{number}");
                let backend = json!({"type": "null", "data": {}});
                done(&mut busy, "chardev-add", json!({"id": id, "backend": backend}));
                done(&mut busy, "chardev-remove", json!({"id": id}));
                busy.getfd("a", &null).unwrap();
            }
            scene.hold();
            drop(floods);
            names.iter().for_each(|name| drop(done(&mut modest, "closefd", json!({"fdname": name}))));
        }
    });
}

/// Connects again and again as somebody else, each time with four messages full of descriptors.
fn send_and_send(user: (u32, u32), path: PathBuf) -> Again {
    let file = open_file(Path::new("/proc/self/status"), OFlags::RDONLY).unwrap();
    let mut is_other = false;
    Again::and_again(move || {
        if !std::mem::replace(&mut is_other, true) {
            become_of(user).unwrap();
        }
        let socket = UnixStream::connect(&path).unwrap();
        for _ in 0..4 {
            // It may have been hung up on.
            let _ = wire::send(&socket, b"x", &[file.as_fd(); MAX_FDS]);
        }
    })
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
                become_of(STRANGER).unwrap();
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

/// A socket whose close lasts, whatever is looked for in it, and who keeps it from ending. Whose it is cannot be told by it.
fn nobodys(dir: &Path, number: usize) -> (OwnedFd, Lingering) {
    let mut bomb = Lingering::new();
    let name = |what: &str| dir.join(format!("{what}{number}"));
    let listener = UnixListener::bind(name("listens")).unwrap();
    let client = UnixStream::connect(name("listens")).unwrap();
    wire::send(&client, b"x", &[bomb.fd().as_fd()]).unwrap();
    bomb.leave();
    let receiver = UnixDatagram::bind(name("receives")).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(name("receives")).unwrap();
    wire::send(&sender, b"x", &[listener.as_fd()]).unwrap();
    (receiver.into(), bomb)
}

/// Whether a process has a memfd open.
fn has_memory(pid: u32) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let names = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    names.map(|name| name.display().to_string()).any(|name| name.starts_with("/memfd:"))
}

/// One user's client of a device leaves behind more closes that do not end than a user has threads for.
#[test]
fn another_users_closes_do_not_end_at_an_exported_device() {
    /// What one user's closes may take up.
    const THREADS: usize = 64;
    let stage = Stage {
        extra: &[
            "-object",
            "iothread,id=io0",
            "-device",
            "edu,id=dev0",
            "-device",
            "edu,id=dev1",
            "-object",
            "x-vfio-user-server,id=vfu0,type=unix,path={}/dev0.sock,device=dev0,iothread=io0,reconnect=on,\
             allowed-uids.0=0,allowed-uids.1=61700",
            "-object",
            "x-vfio-user-server,id=vfu1,type=unix,path={}/dev1.sock,device=dev1,iothread=io0,reconnect=on",
        ],
        ..Stage::default()
    };
    stage.attack(|scene| {
        if others_can_be_had(scene) {
            let sockets = ["dev0.sock", "dev1.sock"].map(|name| scene.dir().join(name));
            assert!(poll_until(LIMIT, || sockets.iter().all(|path| path.exists())));
            let mut bombs = Vec::new();
            for _ in 0..(THREADS + 16) / 8 {
                let socket = connect_as(STRANGER, sockets[0].clone()).unwrap();
                let (fds, more): (Vec<_>, Vec<_>) =
                    (0..8).map(|number| nobodys(scene.dir(), bombs.len() + number)).unzip();
                // The beginning of a message. They have come with it, beside the connection, before ours are closed, so that ours
                // are not the last.
                wire::send(&socket, b"z", &borrowed(&fds)).unwrap();
                assert!(poll_until(LIMIT, || scene.more_fds() > fds.len()));
                drop(fds);
                bombs.extend(more);
            }
            let tasks = || std::fs::read_dir(format!("/proc/{}/task", scene.pid())).unwrap().count();
            assert!(poll_until(LIMIT, || tasks() > THREADS));
            for _ in 0..3 {
                let socket = UnixStream::connect(&sockets[1]).unwrap();
                let memory: Vec<_> =
                    (0..16).map(|_| vmm_integration::vfio_user::fds::memory(4096, true)).collect();
                wire::send(&socket, b"z", &borrowed(&memory)).unwrap();
                drop(socket);
                assert!(poll_until(LIMIT, || !has_memory(scene.pid())), "another's memory stays open");
            }
            scene.hold();
            drop(bombs);
        }
    });
}
