//! Clients that do not take what they are sent.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt;
use serde_json::json;
use vmm_integration::client::Client;

use crate::frame::{Stage, attack, done};
use crate::tools::drain;

/// Replies that wait for a client that does not read them: 16 MiB a session, and what the allocator keeps of that.
const UNREAD: Stage = Stage { extra: &[], options: "", under: Vec::new(), uid: None, slack: 64 << 10 };

/// Asks until the server takes no more, because nobody reads what it answers.
fn stuff(client: &mut Client) {
    client.socket().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let batch = "{\"execute\": \"query-commands\"}".repeat(500);
    for _ in 0..500 {
        if let Err(e) = client.try_send(batch.as_bytes(), &[]) {
            assert_eq!(e.kind(), ErrorKind::WouldBlock, "it pushes back, it does not hang up");
            return;
        }
    }
    panic!("it takes requests without end");
}

#[test]
fn one_client_never_reads() {
    UNREAD.attack(|scene| {
        let before = scene.rss_kib();
        let mut client = scene.client();
        stuff(&mut client);
        scene.hold();
        let grown = scene.rss_kib().saturating_sub(before);
        assert!(grown < 100 << 10, "{grown} KiB: unread replies are kept without end");
    });
}

#[test]
fn eight_clients_never_read() {
    UNREAD.attack(|scene| {
        let mut clients: Vec<_> = (0..8).map(|_| scene.client()).collect();
        clients.iter_mut().for_each(stuff);
        scene.hold();
    });
}

/// Buffers of many sizes, of two kinds of monitor: what they leave must go back to the system.
#[test]
fn clients_of_two_kinds_never_read() {
    let extra = &["-monitor", "unix:{}/human.sock,server=on,wait=off"];
    Stage { extra, slack: 24 << 10, ..Stage::default() }.attack(|scene| {
        for _ in 0..2 {
            let mut clients: Vec<_> = (0..10).map(|_| scene.client()).collect();
            clients.iter_mut().for_each(stuff);
            let people: Vec<_> = (0..10)
                .map(|_| {
                    let mut person = UnixStream::connect(scene.path("human.sock")).unwrap();
                    person.set_nonblocking(true).unwrap();
                    let _ = person.write(&b"help\n".repeat(3000));
                    person
                })
                .collect();
            scene.hold();
            drop((clients, people));
        }
    });
}

#[test]
fn reads_late() {
    UNREAD.attack(|scene| {
        let mut client = scene.client();
        let count = 2000;
        let mut writer = client.socket().try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            writer.write_all("{\"execute\": \"query-commands\"}".repeat(count).as_bytes())
        });
        scene.hold();
        for _ in 0..count {
            assert!(client.reply()["return"].is_array());
        }
        sending.join().unwrap().unwrap();
    });
}

#[test]
fn reads_a_byte_at_a_time() {
    attack(|scene| {
        let mut client = scene.client();
        client.send(r#"{"execute": "query-commands"}"#.repeat(20));
        let mut socket = client.socket();
        for _ in 0..3000 {
            socket.read_exact(&mut [0]).unwrap();
        }
        scene.hold();
    });
}

#[test]
fn has_room_for_next_to_nothing() {
    attack(|scene| {
        let socket = UnixStream::connect(scene.socket()).unwrap();
        sockopt::set_socket_recv_buffer_size(&socket, 1).unwrap();
        sockopt::set_socket_send_buffer_size(&socket, 1).unwrap();
        let mut client = Client::over(socket).unwrap();
        client.negotiate();
        for _ in 0..20 {
            client.run("query-commands");
        }
        scene.hold();
    });
}

#[test]
fn events_that_nobody_reads() {
    UNREAD.attack(|scene| {
        let unread: Vec<_> = (0..4).map(|_| scene.client()).collect();
        let mut other = scene.vmm().client(1);
        // The witness's own sessions get them too, and must read each before their answers.
        for _ in 0..200 {
            other.send(r#"{"execute": "stop"}{"execute": "cont"}"#.repeat(10));
            for _ in 0..20 {
                other.reply();
            }
            other.kept_events();
            std::thread::sleep(Duration::from_millis(1));
        }
        scene.hold();
        drop(unread);
    });
}

#[test]
fn leaves_without_reading_the_reply() {
    attack(|scene| {
        for _ in 0..50 {
            let mut client = scene.client();
            client.send(r#"{"execute": "query-qmp-schema"}"#.repeat(5));
        }
        scene.hold();
    });
}

#[test]
fn leaves_in_the_middle_of_a_reply() {
    attack(|scene| {
        for size in 0..50 {
            let mut client = scene.client();
            client.send(r#"{"execute": "query-qmp-schema"}"#);
            let _ = client.socket().read(&mut vec![0; 1 << (size % 16)]);
        }
        scene.hold();
    });
}

#[test]
fn does_not_want_to_read_any_more() {
    attack(|scene| {
        for _ in 0..50 {
            let mut client = scene.client();
            client.socket().shutdown(Shutdown::Read).unwrap();
            // The connection may be over before all is sent.
            let _ = client.try_send(r#"{"execute": "query-commands"}"#.repeat(10).as_bytes(), &[]);
        }
        scene.hold();
    });
}

#[test]
fn half_closes_after_its_commands() {
    attack(|scene| {
        for _ in 0..20 {
            let mut client = scene.client();
            client.send(r#"{"execute": "query-name", "id": 1}{"execute": "query-name", "id": 2}{"exec"#);
            client.socket().shutdown(Shutdown::Write).unwrap();
            assert_eq!((client.reply()["id"].clone(), client.reply()["id"].clone()), (json!(1), json!(2)));
            assert_eq!(client.next_line(), None);
        }
        scene.hold();
    });
}

#[test]
fn half_closes_and_does_not_read() {
    UNREAD.attack(|scene| {
        let mut client = scene.client();
        client.send(r#"{"execute": "query-qmp-schema"}"#.repeat(30));
        client.socket().shutdown(Shutdown::Write).unwrap();
        scene.hold();
        let reading = drain(client.socket().try_clone().unwrap());
        reading.join().unwrap();
    });
}

#[test]
fn a_reply_larger_than_any_buffer_is_left_unread() {
    UNREAD.attack(|scene| {
        let mut client = scene.client();
        client.send(format!("{{\"execute\": \"query-name\", \"id\": \"{}\"}}", "i".repeat(8 << 20)));
        scene.hold();
        let mut other = scene.client();
        done(&mut other, "query-name", json!({}));
    });
}
