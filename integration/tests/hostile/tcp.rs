//! TCP: who comes by network, or by a browser.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use vmm_integration::LIMIT;

use crate::frame::{Scene, Stage};
use crate::tools::Again;

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
            rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
        }
        scene.hold();
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
            let socket = connect(address);
            // Reset, so that no port stays behind.
            let _ = rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        });
        for _ in 0..5 {
            scene.hold();
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
