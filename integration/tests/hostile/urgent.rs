//! What lingers comes with an urgent byte (`MSG_OOB`). A reader that does not take those in line has the kernel close it in the
//! next read, and does not see it in a look.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use vmm_integration::wire;
use vmm_integration::{LIMIT, poll_until};

use crate::frame::{Scene, Stage};
use crate::peers::{STRANGER, connect_as, others_can_be_had};
use crate::tools::{Lingering, let_go};

/// One of each kind of listener.
const ALL: Stage = Stage {
    extra: &[
        "-monitor",
        "unix:{}/human.sock,server=on,wait=off",
        "-metrics",
        "unix:{}/metrics.sock",
        "-serial",
        "unix:{}/serial.sock,server=on,wait=off",
        "-device",
        "scratch,id=d0",
        "-object",
        "x-vfio-user-server,id=v0,type=unix,path={}/dev0.sock,device=d0,reconnect=on",
    ],
    options: "",
    under: Vec::new(),
    uid: None,
    slack: 0,
};

/// What one user's closes that do not end may take up of threads, and some for connections of our own.
const SHARE: usize = 64 + 4;

fn paths(scene: &Scene) -> Vec<PathBuf> {
    let others =
        ["human.sock", "metrics.sock", "serial.sock", "dev0.sock"].map(|name| scene.dir().join(name));
    [scene.socket()].into_iter().chain(others).collect()
}

/// Sends a descriptor that lingers, inside of which there is another, on an urgent byte; nobody else keeps it. `None`: this
/// kernel has no such bytes.
fn send(stream: &UnixStream, before: &[u8]) -> Option<Lingering> {
    let (fd, mut bomb) = Lingering::inside(1);
    // With it, and not with what is ordinary before it.
    let _ = wire::send(stream, before, &[]);
    match wire::send_urgent(stream, b"!", &[fd.as_fd()]) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            eprintln!("SKIPPED: this kernel has no urgent bytes on unix sockets");
            return None;
        }
        // It was refused already.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        sent => assert_eq!(sent.unwrap(), 1),
    }
    let_go(fd);
    bomb.leave();
    Some(bomb)
}

#[test]
fn lingers_with_an_urgent_byte() {
    ALL.attack(|scene| {
        for path in paths(scene) {
            for (before, behind) in [("", "{}\n"), (" ", "")] {
                let mut stream = UnixStream::connect(&path).unwrap();
                let Some(bomb) = send(&stream, before.as_bytes()) else { return };
                // It may have been told that it is understood by nobody.
                let _ = stream.write_all(behind.as_bytes());
                scene.hold();
                drop((stream, bomb));
            }
        }
    });
}

/// One after another: each makes an ordinary byte of the one before.
#[test]
fn lingers_with_one_urgent_byte_after_another() {
    ALL.attack(|scene| {
        for path in paths(scene) {
            let mut stream = UnixStream::connect(&path).unwrap();
            let bombs: Option<Vec<_>> = (0..5).map(|_| send(&stream, b"")).collect();
            if bombs.is_none() {
                return;
            }
            let _ = stream.write_all(b" ");
            scene.hold();
            drop(stream);
            scene.hold();
        }
    });
}

/// Closes of what is unread in a connection are its client's, and a client has a share of the threads for that.
#[test]
fn urgent_bytes_that_nobody_has_read() {
    ALL.attack(|scene| {
        let mut bombs = Vec::new();
        for path in paths(scene).into_iter().take(3) {
            for _ in 0..40 {
                let stream = UnixStream::connect(&path).unwrap();
                let Some(bomb) = send(&stream, b"") else { return };
                bombs.push(bomb);
            }
        }
        scene.hold();
        let closers = scene.threads("fd-closer");
        assert!(closers <= SHARE, "{closers}");
        let client = UnixStream::connect(scene.socket()).unwrap();
        assert!(vmm_integration::client::Client::over(client).unwrap().greeting().is_object());
        drop(bombs);
        assert!(poll_until(LIMIT, || scene.threads("fd-closer") < SHARE / 2), "they go");
    });
}

#[test]
fn urgent_bytes_of_who_is_refused() {
    let stage = Stage { options: "allowed-uids=0,allowed-uids=61800", ..Stage::default() };
    stage.attack(|scene| {
        if !others_can_be_had(scene) {
            return;
        }
        let mut bombs = Vec::new();
        for _ in 0..100 {
            let stream = connect_as(STRANGER, scene.socket()).unwrap();
            let Some(bomb) = send(&stream, b"") else { return };
            bombs.push(bomb);
        }
        scene.hold();
        let closers = scene.threads("fd-closer");
        assert!(closers <= SHARE, "{closers}");
        drop(bombs);
    });
}
