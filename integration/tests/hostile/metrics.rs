//! The listener for metrics: who asks, how, and who does not wait for the answer.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use vmm_integration::http::{Answer, SCRAPE, ask, scrape};
use vmm_integration::wire::{self, MAX_FDS, is_listening};
use vmm_integration::{LIMIT, poll_until};

use crate::exhaustion::Few;
use crate::frame::{Scene, Stage, done};
use crate::peers::{STRANGER, connect_as, hears, others_can_be_had};
use crate::tools::{Again, Lingering, borrowed, let_go, nulls};

const METRICS: Stage = Stage {
    extra: &["-metrics", "unix:{}/metrics.sock"],
    options: "",
    under: Vec::new(),
    uid: None,
    slack: 0,
};

/// As many as are served at once.
const PLACES: usize = 8;

#[track_caller]
fn socket(scene: &Scene) -> PathBuf {
    let path = scene.dir().join("metrics.sock");
    assert!(poll_until(LIMIT, || is_listening(&path)));
    path
}

fn connect(scene: &Scene) -> UnixStream {
    let stream = UnixStream::connect(socket(scene)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// All that comes until the end, whatever kind of end it is.
fn rest(mut stream: &UnixStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn another_user_does_not_get_at_the_metrics() {
    METRICS.attack(|scene| {
        if others_can_be_had(scene) {
            for _ in 0..50 {
                let refused = connect_as(STRANGER, socket(scene)).unwrap_err();
                assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
            }
            scene.hold();
        }
    });
}

#[test]
fn a_user_who_is_not_listed_gets_no_metrics() {
    let extra = &["-metrics", "unix:{}/metrics.sock,allowed-uids=0,allowed-uids=61800,allowed-gids=61900"];
    Stage { extra, ..METRICS }.attack(|scene| {
        if others_can_be_had(scene) {
            for _ in 0..100 {
                let mut stranger = connect_as(STRANGER, socket(scene)).unwrap();
                // It may be too late for that already.
                let _ = stranger.write_all(SCRAPE.as_bytes());
                assert_eq!(hears(stranger), "");
            }
            let said = scene.vmm().observe().stderr();
            let line = said.lines().find(|line| line.contains("refused")).unwrap_or_default();
            assert!(line.contains("metrics") && line.contains("61700"), "the log says who it was: {said}");
            assert!(said.lines().count() < 50, "a flood of them does not fill the log");
            for listed in [(61_800, 61_700), (61_700, 61_900)] {
                let mut listed = connect_as(listed, socket(scene)).unwrap();
                listed.write_all(SCRAPE.as_bytes()).unwrap();
                assert_eq!(Answer::read(&listed).unwrap().status, 200);
            }
            scene.hold();
        }
    });
}

/// Each byte comes in time, and the head never ends: its places are free again after a while.
#[test]
fn heads_that_do_not_end() {
    METRICS.attack(|scene| {
        let slow: Vec<_> = (0..PLACES).map(|_| connect(scene)).collect();
        let mut writers: Vec<_> = slow.iter().map(|stream| stream.try_clone().unwrap()).collect();
        writers.iter_mut().for_each(|stream| stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap());
        let drip = Again::and_again(move || {
            for stream in &mut writers {
                let _ = stream.write(b"x");
            }
            std::thread::sleep(Duration::from_millis(5));
        });
        let mut honest = connect(scene);
        honest.write_all(SCRAPE.as_bytes()).unwrap();
        assert_eq!(Answer::read(&honest).unwrap().status, 200, "whoever waits for a place gets one");
        for stream in &slow {
            assert!(!rest(stream).contains("200"));
        }
        drop(drip);
        scene.hold();
    });
}

#[test]
fn heads_that_are_too_large() {
    METRICS.attack(|scene| {
        for name in ["X-Long: ", "Cookie: ", ""] {
            for _ in 0..10 {
                let mut stream = connect(scene);
                let _ = stream.write_all(format!("GET /metrics HTTP/1.1\r\n{name}").as_bytes());
                for _ in 0..64 {
                    if stream.write_all(&[b'x'; 65536]).is_err() {
                        break;
                    }
                }
                let said = rest(&stream);
                assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
            }
        }
        let fields: String = (0..500).map(|field| format!("X{field}: y\r\n")).collect();
        let many = ask(&socket(scene), &format!("GET /metrics HTTP/1.1\r\n{fields}\r\n"));
        assert!(many.is_err() || many.is_ok_and(|answer| answer.status == 431));
        scrape(&socket(scene));
        scene.hold();
    });
}

#[test]
fn what_is_no_http() {
    METRICS.attack(|scene| {
        for garbage in [
            &b"\0\0\0\0\r\n\r\n"[..],
            b"{\"execute\": \"qmp_capabilities\"}\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /metrics HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"",
        ] {
            let mut stream = connect(scene);
            let _ = stream.write_all(garbage);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let said = rest(&stream);
            assert!(!said.contains(" 200 "), "{said}");
        }
        scrape(&socket(scene));
        scene.hold();
    });
}

#[test]
fn bodies_without_end() {
    METRICS.attack(|scene| {
        for head in [
            "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
            "POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n",
            "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n",
        ] {
            let mut stream = connect(scene);
            stream.write_all(head.as_bytes()).unwrap();
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
            let said = rest(&stream);
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 "), "{said}");
        }
        scene.hold();
    });
}

#[test]
fn a_storm_of_connections() {
    METRICS.attack(|scene| {
        let path = socket(scene);
        let storm = Again::and_again(move || drop(UnixStream::connect(&path).unwrap()));
        for _ in 0..5 {
            scene.hold();
        }
        drop(storm);
        scrape(&socket(scene));
    });
}

#[test]
fn more_clients_than_there_are_places() {
    METRICS.attack(|scene| {
        let mute: Vec<_> = (0..100).map(|_| connect(scene)).collect();
        scene.hold();
        assert!(scene.more_fds() <= PLACES, "others wait where they cost nothing");
        drop(mute);
        scrape(&socket(scene));
    });
}

#[test]
fn asks_again_and_again() {
    METRICS.attack(|scene| {
        let path = socket(scene);
        let asking: Vec<_> = (0..PLACES)
            .map(|_| {
                let path = path.clone();
                Again::and_again(move || drop(scrape(&path)))
            })
            .collect();
        for _ in 0..5 {
            scene.hold();
        }
        drop(asking);
    });
}

/// Answers of which a socket takes a part only.
#[test]
fn answers_that_nobody_reads() {
    METRICS.attack(|scene| {
        let mut client = scene.client();
        let names: Vec<_> = (0..300).map(|number| format!("m{number}{}", "x".repeat(1000))).collect();
        for name in &names {
            done(&mut client, "chardev-add", json!({"id": name, "backend": {"type": "null", "data": {}}}));
            done(&mut client, "object-add", json!({"qom-type": "monitor-qmp", "id": name, "chardev": name}));
        }
        let unread: Vec<_> = (0..PLACES)
            .map(|_| {
                let mut stream = connect(scene);
                stream.write_all(SCRAPE.as_bytes()).unwrap();
                stream
            })
            .collect();
        let full = |mut stream: &UnixStream| stream.read_exact(&mut [0; 1]).is_ok();
        assert!(unread.iter().all(full), "as many as there are places are being answered");
        scene.hold();
        // Whoever reads is served when their time is up.
        assert!(scrape(&socket(scene)).body.len() > 300_000);
        drop(unread);
        for name in &names {
            done(&mut client, "object-del", json!({"id": name}));
            done(&mut client, "chardev-remove", json!({"id": name}));
        }
    });
}

#[test]
fn goes_before_the_answer() {
    METRICS.attack(|scene| {
        for part in [SCRAPE, &SCRAPE[..20]] {
            for _ in 0..50 {
                connect(scene).write_all(part.as_bytes()).unwrap();
            }
        }
        scene.hold();
    });
}

#[test]
fn descriptors_with_a_request() {
    METRICS.attack(|scene| {
        let fds = nulls(MAX_FDS);
        for _ in 0..20 {
            let stream = connect(scene);
            for byte in SCRAPE.as_bytes() {
                wire::send(&stream, &[*byte], &borrowed(&fds[..3])).unwrap();
            }
            assert_eq!(Answer::read(&stream).unwrap().status, 200);
            let stream = connect(scene);
            wire::send(&stream, SCRAPE.as_bytes(), &borrowed(&fds)).unwrap();
            assert_eq!(Answer::read(&stream).unwrap().status, 200);
        }
        scene.hold();
    });
}

/// Descriptors whose close takes as long as their sender likes, wherever they are when the connection ends.
#[test]
fn lingers_with_a_request() {
    METRICS.attack(|scene| {
        for (sent, answered) in [(SCRAPE, true), (&SCRAPE[..20], false), ("no HTTP\r\n\r\n", false)] {
            let (fd, mut bomb) = Lingering::inside(1);
            let stream = connect(scene);
            wire::send(&stream, sent.as_bytes(), &[fd.as_fd()]).unwrap();
            // Behind what is read.
            let _ = wire::send(&stream, b"x", &[fd.as_fd()]);
            let_go(fd);
            bomb.leave();
            if answered {
                // What was not read of ours makes its end a reset.
                assert!(rest(&stream).starts_with("HTTP/1.1 200"));
            }
            scene.hold();
            drop(stream);
            scene.hold();
        }
    });
}

#[test]
fn lingers_in_front_of_a_full_listener() {
    METRICS.attack(|scene| {
        let mute: Vec<_> = (0..PLACES).map(|_| connect(scene)).collect();
        let (fd, mut bomb) = Lingering::inside(1);
        let waiting = connect(scene);
        wire::send(&waiting, SCRAPE.as_bytes(), &[fd.as_fd()]).unwrap();
        let_go(fd);
        bomb.leave();
        drop(waiting);
        scene.hold();
        drop(mute);
        scrape(&socket(scene));
    });
}

#[test]
fn no_descriptor_for_who_asks() {
    METRICS.attack(|scene| {
        let few = Few::more(scene, 0);
        let mut stream = connect(scene);
        stream.write_all(SCRAPE.as_bytes()).unwrap();
        scene.hold();
        let before = scene.cpu_ticks();
        std::thread::sleep(Duration::from_millis(200));
        assert!(scene.cpu_ticks() - before < 15, "it tries without pause");
        drop(few);
        assert_eq!(Answer::read(&stream).unwrap().status, 200, "who waited is served");
    });
}
