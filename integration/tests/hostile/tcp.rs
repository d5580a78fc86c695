//! TCP: who comes by network, or by a browser.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use vmm_integration::LIMIT;

use crate::frame::{Scene, Stage, done};
use crate::tools::{Again, monitor_on, socket_of_fd, without_monitor};

const TCP: Stage = Stage {
    extra: &[
        "-chardev",
        "socket,id=tcp,host=127.0.0.1,port=0,server=on,wait=off",
        "-mon",
        "tcp,mode=control",
    ],
    options: "",
    under: Vec::new(),
    uid: None,
    slack: 48 << 10,
};

fn address(scene: &Scene) -> SocketAddr {
    let chardevs = scene.client().run("query-chardev");
    let tcp = chardevs.as_array().unwrap().iter().find(|chardev| chardev["label"] == "tcp").unwrap();
    let name = tcp["filename"].as_str().unwrap();
    let address = name.strip_prefix("disconnected:tcp:").unwrap().strip_suffix(",server=on").unwrap();
    address.parse().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Somebody who means no harm is not held up by those who do. (The usual is a fraction of a millisecond.)
fn an_honest_client_is_served(address: SocketAddr) {
    let start = Instant::now();
    let mut honest = connect(address);
    honest.write_all(br#"{"execute": "qmp_capabilities"}"#).unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"{\"return\": {}}\r\n") {
        let mut byte = [0];
        honest.read_exact(&mut byte).unwrap();
        said.extend(byte);
    }
    let waited = start.elapsed();
    // A full backlog may have cost it a second twice.
    assert!(waited < Duration::from_secs(5), "it waited {waited:?}");
}

/// Reset as it is closed, so that no port stays behind.
fn reset(socket: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
}

/// All that comes until the end, whatever kind of end it is.
fn rest(mut socket: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = socket.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn scans_the_port() {
    TCP.attack(|scene| {
        let address = address(scene);
        for _ in 0..300 {
            drop(connect(address));
        }
        an_honest_client_is_served(address);
        scene.hold();
    });
}

#[test]
fn resets_the_connection() {
    TCP.attack(|scene| {
        let address = address(scene);
        for round in 0..100 {
            let mut socket = connect(address);
            if round % 2 == 0 {
                socket.write_all(br#"{"execute": "qmp_capabilities"}{"execute": "query-commands"}"#).unwrap();
            }
            reset(socket);
        }
        an_honest_client_is_served(address);
        scene.hold();
    });
}

/// Those that are reset before they are accepted are accepted all the same; also from a socket that somebody passed.
#[test]
fn resets_in_the_backlog() {
    TCP.attack(|scene| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = listener.local_addr().unwrap();
        let mut client = scene.client();
        client.getfd("passed", &listener.into()).unwrap();
        done(&mut client, "chardev-add", socket_of_fd("passed", "passed", true));
        done(&mut client, "object-add", monitor_on("m", "passed"));
        for address in [address(scene), passed] {
            for _ in 0..3 {
                // All at once, so that many of them are there before the first is accepted.
                let sockets: Vec<_> = (0..40).map(|_| connect(address)).collect();
                sockets.into_iter().for_each(reset);
                an_honest_client_is_served(address);
            }
            scene.hold();
        }
        without_monitor(&mut client, "m", "passed");
    });
}

#[test]
fn never_reads() {
    TCP.attack(|scene| {
        let mut socket = connect(address(scene));
        socket.write_all(br#"{"execute": "qmp_capabilities"}"#).unwrap();
        socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        while socket.write(&br#"{"execute": "query-commands"}"#.repeat(200)).is_ok() {}
        scene.hold();
    });
}

#[test]
fn leaves_requests_unfinished() {
    TCP.attack(|scene| {
        let address = address(scene);
        let open: Vec<_> = (0..20)
            .map(|_| {
                let mut socket = connect(address);
                socket.write_all(br#"{"execute": "qmp_capabilities", "id": ["#).unwrap();
                socket
            })
            .collect();
        scene.hold();
        drop(open);
    });
}

#[test]
fn a_storm_of_connections() {
    TCP.attack(|scene| {
        let address = address(scene);
        let storm = Again::and_again(move || {
            reset(connect(address));
        });
        for _ in 0..5 {
            scene.hold();
            an_honest_client_is_served(address);
        }
        drop(storm);
    });
}

/// What a page in somebody's browser can have sent, in whatever way: no command may be executed.
#[test]
fn requests_of_browsers() {
    TCP.attack(|scene| {
        let address = address(scene);
        let body = r#"{"execute": "qmp_capabilities"}{"execute": "stop"}"#;
        for head in [
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 52\r\n\r\n",
            "GET /",
            "PUT /x HTTP/1.0\r\n\r\n",
        ] {
            let mut socket = connect(address);
            // It may be cut off in the middle.
            let _ = socket.write_all(format!("{head}{body}").as_bytes());
            let _ = socket.shutdown(Shutdown::Write);
            let said = rest(socket);
            assert!(said.contains("QMP"), "{said}");
            scene.hold();
        }
    });
}

#[test]
fn sends_as_much_as_the_network_takes() {
    TCP.attack(|scene| {
        let mut socket = connect(address(scene));
        let reading = crate::tools::drain(socket.try_clone().unwrap());
        socket.write_all(br#"{"execute": "qmp_capabilities"}"#).unwrap();
        for _ in 0..30 {
            socket.write_all(&b"{\"execute\": \"query-name\"}".repeat(300)).unwrap();
        }
        scene.hold();
        socket.shutdown(Shutdown::Write).unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn a_name_without_end_before_it_negotiates() {
    TCP.attack(|scene| {
        let mut socket = connect(address(scene));
        socket.write_all(b"{\"execute\": \"").unwrap();
        for _ in 0..100 {
            if socket.write_all(&[b'x'; 65536]).is_err() {
                break;
            }
        }
        scene.hold();
    });
}
