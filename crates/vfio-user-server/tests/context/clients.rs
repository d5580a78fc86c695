//! Clients that come, go, and misbehave.

use std::any::Any;
use std::io::Write;

use vfio_user_server::context::{Event, State};

use crate::support::*;

#[test]
fn the_context_ends_with_its_client() {
    let mut house = House::new(|builder| builder);
    let mut client = house.connect();
    client.write(0, VALUE, 9);
    drop(client);
    assert!(matches!(house.next_event(), Event::Attached(Some(_))));
    assert!(matches!(house.next_event(), Event::Hangup { .. }));
    assert_eq!(house.exported().handle().state(), State::Ended);
    assert!(!house.path.exists(), "the socket's file has gone");
    let mut device = house.exported.take().unwrap().finish().unwrap();
    let device = (&mut *device as &mut dyn Any).downcast_mut::<Device>().unwrap();
    assert_eq!(device.value, 9, "with its state");
    assert_eq!([house.next_told(), house.next_told()], [Told::Attached, Told::Hangup]);
}

#[test]
fn with_reconnect_the_next_client_finds_the_device_as_it_was() {
    let house = House::new(|builder| builder.reconnect(true));
    for round in 0..20 {
        let mut client = house.connect();
        assert_eq!(client.read(0, VALUE), round);
        client.write(0, VALUE, round + 1);
    }
}

#[test]
fn a_client_that_never_negotiated_ends_nothing() {
    let house = House::new(|builder| builder);
    for bytes in [&b""[..], b"half a", b"GET / HTTP/1.1\r\n\r\n_____"] {
        let mut client = Client::silent(&house.path);
        client.stream.write_all(bytes).unwrap();
    }
    let mut client = house.connect();
    assert_eq!(client.read(0, VALUE), 0);
    assert!(matches!(house.next_event(), Event::Attached(_)));
    assert_eq!(house.exported().handle().stats().refused, 3);
}

#[test]
fn the_next_client_waits_and_is_then_served() {
    let house = House::new(|builder| builder.reconnect(true));
    let mut first = house.connect();
    let mut second = Client::silent(&house.path);
    second.send(1, 0, &[0, 0, 0, 0]);
    assert_eq!(first.read(0, VALUE), 0);
    drop(first);
    assert_eq!(second.receive().error, 0);
    assert_eq!(second.read(0, VALUE), 0);
}

#[test]
fn silence_half_messages_and_unread_replies_have_deadlines() {
    let house = House::new(|builder| builder.reconnect(true).limits(impatient()));
    let mut silent = Client::silent(&house.path);
    silent.wait_closed();
    let mut half = house.connect();
    half.stream.write_all(&message(9, 9, 0, &region(0, 0, 8))[..20]).unwrap();
    half.wait_closed();
    let mut deaf = house.connect();
    let reads = message(9, 9, 0, &region(2, 0, 8192)).repeat(64);
    while deaf.stream.write_all(&reads).is_ok() {}
    let mut client = house.connect();
    assert_eq!(client.read(0, VALUE), 0);
}

#[test]
fn a_disconnect_is_a_hangup() {
    let house = House::new(|builder| builder.reconnect(true));
    let mut client = house.connect();
    assert!(matches!(house.next_event(), Event::Attached(_)));
    house.exported().handle().disconnect();
    client.wait_closed();
    assert!(matches!(house.next_event(), Event::Hangup { .. }));
    assert_eq!(house.connect().read(0, VALUE), 0);
}

#[test]
fn an_iothread_serves_many_contexts() {
    let houses: Vec<House> = (0..8).map(|_| House::new(|builder| builder)).collect();
    let mut clients: Vec<Client> = houses.iter().map(House::connect).collect();
    for round in 1..50 {
        for (number, client) in (0..).zip(&mut clients) {
            client.write(0, VALUE, round * 100 + number);
        }
        for (number, client) in (0..).zip(&mut clients) {
            assert_eq!(client.read(0, VALUE), round * 100 + number);
        }
    }
}

#[test]
fn what_a_client_sent_before_it_left_is_done() {
    let house = House::new(|builder| builder.reconnect(true));
    let mut client = house.connect();
    client.flood(10, 0x10, &write_body(0, COUNT, &[0; 8]), 1000);
    drop(client);
    assert_eq!(house.connect().read(0, VALUE), 1000);
}

#[test]
fn a_client_that_only_sends_no_more_gets_all_replies() {
    let house = House::new(|builder| builder.reconnect(true));
    let mut client = house.connect();
    client.flood(9, 0, &region(0, VALUE, 8), 1000);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..1000 {
        assert_eq!(client.receive().body.len(), 24);
    }
    client.wait_closed();
    assert_eq!(house.connect().read(0, VALUE), 0);
}

#[test]
fn what_is_asked_of_a_busy_context_is_not_forgotten() {
    let house = House::new(|builder| builder);
    let mut client = house.connect();
    for _ in 0..200 {
        let (tell, told) = std::sync::mpsc::channel();
        client.flood(10, 0x10, &write_body(0, COUNT, &[0; 8]), 300);
        house.exported().handle().run(move |_, _| tell.send(()).unwrap());
        // The client says nothing meanwhile.
        told.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    }
}

#[test]
fn dma_without_a_client_fails_and_is_told() {
    let house = House::new(|builder| builder.reconnect(true));
    drop(house.connect());
    assert_eq!([house.next_told(), house.next_told()], [Told::Attached, Told::Hangup]);
    house.exported().handle().run(|_, cx| cx.start_dma_read(0, vec![0; 16], 9));
    assert_eq!(house.next_told(), Told::Dma(false));
}

#[test]
fn a_context_with_a_client_can_be_handed_to_an_iothread() {
    use iothread::IoThread;
    use vfio_user_server::context::{Context, Listen};
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let context = Context::builder(device().0).listen(Listen::Fd(std::os::fd::OwnedFd::from(theirs).into()));
    let mut context = context.map_err(|(error, _)| error).unwrap();
    let mut client = Client::over(ours);
    client.send(1, 0, &[0; 4]);
    while context.state() != State::Serving {
        context.turn();
    }
    assert_eq!(client.receive().error, 0);
    let iothread = IoThread::builder("IO test").start().unwrap();
    let _exported = context.spawn(&iothread.handle()).unwrap();
    assert_eq!(client.read(0, VALUE), 0);
}
