//! Clients of an exported device beside those of monitors: neither may hold up the other.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use vmm_integration::passed::PassedListener;
use vmm_integration::vfio_user::payload::{get_info, qemu_version, region_read};
use vmm_integration::vfio_user::{MAX_TRANSFER, Peer};
use vmm_integration::wire::{self, MAX_FDS};

use crate::exhaustion::Few;
use crate::frame::{Scene, Stage, done};
use crate::tools::{Again, Lingering, borrowed, let_go, nulls};

/// Two devices on one iothread. (The first interrupt leaves a memfd that serves all later ones; none is raised here.)
const DEVICES: Stage = Stage {
    extra: &[
        "-object",
        "iothread,id=io0",
        "-device",
        "scratch,id=dev0",
        "-device",
        "edu,id=dev1",
        "-object",
        "x-vfio-user-server,id=vfu0,type=unix,path={}/dev0.sock,device=dev0,iothread=io0,reconnect=on",
        "-object",
        "x-vfio-user-server,id=vfu1,type=unix,path={}/dev1.sock,device=dev1,iothread=io0,reconnect=on",
    ],
    options: "",
    under: Vec::new(),
    uid: None,
    slack: 16 << 10,
};

fn peer(scene: &Scene, device: &str) -> Peer {
    let mut peer = Peer::connect(Path::new(&scene.path(device))).unwrap();
    peer.negotiate();
    peer
}

/// The second device's client, who must be answered all along.
fn goes_on(scene: &Scene, attack: impl FnOnce(&mut Peer)) {
    let mut honest = peer(scene, "dev1.sock");
    honest.in_step();
    attack(&mut honest);
    honest.in_step();
    scene.hold();
}

#[test]
fn a_device_is_flooded_with_descriptors() {
    DEVICES.attack(|scene| {
        goes_on(scene, |honest| {
            let fds = nulls(MAX_FDS);
            for _ in 0..20 {
                let socket = UnixStream::connect(scene.path("dev0.sock")).unwrap();
                let _ = wire::send(&socket, &qemu_version().encode(), &borrowed(&fds));
                honest.in_step();
            }
        });
    });
}

#[test]
fn a_device_is_sent_what_lingers() {
    DEVICES.attack(|scene| {
        goes_on(scene, |honest| {
            for depth in [0, 1, 3] {
                let (fd, mut bomb) = Lingering::inside(depth);
                let mut peer = peer(scene, "dev0.sock");
                peer.tolerates(&get_info(), &[fd.as_fd()]);
                let_go(fd);
                bomb.leave();
                honest.in_step();
                drop(peer);
                scene.hold();
                honest.in_step();
            }
        });
    });
}

/// The same where the process has no room for it: what the kernel cannot hand over it closes, in the call that was to receive it.
#[test]
fn a_device_is_sent_what_lingers_and_no_descriptor_is_free() {
    DEVICES.attack(|scene| {
        goes_on(scene, |honest| {
            let (fd, mut bomb) = Lingering::inside(1);
            let mut peer = peer(scene, "dev0.sock");
            let few = Few::more(scene, 0);
            peer.tolerates(&get_info(), &[fd.as_fd()]);
            let_go(fd);
            bomb.leave();
            honest.in_step();
            drop(few);
            drop(peer);
            scene.hold();
            honest.in_step();
        });
    });
}

#[test]
fn a_device_is_read_by_one_who_takes_nothing() {
    DEVICES.attack(|scene| {
        goes_on(scene, |honest| {
            let mut greedy = peer(scene, "dev0.sock");
            let flood = region_read(0, 0, MAX_TRANSFER).encode().repeat(100);
            greedy.stuff(&flood);
            for _ in 0..100 {
                honest.in_step();
            }
            scene.hold();
        });
    });
}

#[test]
fn clients_of_a_device_come_and_go_in_a_storm() {
    DEVICES.attack(|scene| {
        goes_on(scene, |honest| {
            let path = scene.path("dev0.sock");
            let storm = Again::and_again(move || drop(UnixStream::connect(&path)));
            for _ in 0..200 {
                honest.in_step();
            }
            scene.hold();
            drop(storm);
        });
    });
}

#[test]
fn a_devices_client_speaks_qmp_and_a_monitors_client_does_not() {
    DEVICES.attack(|scene| {
        goes_on(scene, |honest| {
            for _ in 0..20 {
                let device = UnixStream::connect(scene.path("dev0.sock")).unwrap();
                let _ = wire::send(&device, br#"{"execute": "qmp_capabilities"}{"execute": "quit"}"#, &[]);
                let monitor = UnixStream::connect(scene.socket()).unwrap();
                let _ = wire::send(&monitor, &qemu_version().encode(), &[]);
                honest.in_step();
            }
        });
    });
}

#[test]
fn a_device_is_asked_about_all_the_time() {
    DEVICES.attack(|scene| {
        goes_on(scene, |honest| {
            let mut client = scene.client();
            let asks = Again::and_again(move || {
                done(&mut client, "x-query-vfio-user", json!({}));
                done(&mut client, "x-query-iothread-stats", json!({}));
            });
            for _ in 0..300 {
                honest.in_step();
            }
            drop(asks);
        });
    });
}

/// A listener whose giver takes its clients away, on the iothread of another device.
#[test]
fn a_device_listens_on_a_passed_socket_that_blocks() {
    let stage = Stage {
        extra: &[
            "-object",
            "iothread,id=io0",
            "-device",
            "scratch,id=dev0",
            "-device",
            "edu,id=dev1",
            "-object",
            "x-vfio-user-server,id=vfu1,type=unix,path={}/dev1.sock,device=dev1,iothread=io0,reconnect=on",
        ],
        ..Stage::default()
    };
    stage.attack(|scene| {
        goes_on(scene, |honest| {
            let mut client = scene.client();
            let passed = Arc::new(PassedListener::unix(Path::new(&scene.path("passed.sock"))).unwrap());
            client.getfd("passed", passed.fd()).unwrap();
            let object = json!({"qom-type": "x-vfio-user-server", "id": "vfu", "device": "dev0", "iothread": "io0",
                "socket": {"type": "fd", "str": "passed"}, "reconnect": true});
            done(&mut client, "object-add", object);
            let own = passed.clone();
            let takes = Again::and_again(move || own.snatch());
            for _ in 0..300 {
                honest.in_step();
            }
            scene.hold();
            drop(takes);
            // It is left with an `accept` that waits for ever, unless it is ended.
            passed.leave_accepts_stuck(scene.pid(), 1);
            honest.in_step();
            done(&mut client, "object-del", json!({"id": "vfu"}));
        });
    });
}
