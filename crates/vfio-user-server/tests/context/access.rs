//! What reaches the device, and what comes back.

use std::any::Any;
use std::os::fd::AsFd;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::*;

#[test]
fn registers_memory_and_configuration_space_answer() {
    let house = House::new(|builder| builder);
    let mut client = house.connect();
    assert_eq!(client.write(0, VALUE, 42).error, 0);
    assert_eq!(client.read(0, VALUE), 42);
    assert_eq!(client.write(1, 0x100, 0x0123_4567_89ab_cdef).error, 0);
    assert_eq!(client.read(1, 0x100), 0x0123_4567_89ab_cdef);
    assert_eq!(client.read(7, 0) & 0xffff_ffff, 0x5678_1234);
    let error = client.ask(9, &region(0, 64, 4));
    assert_eq!((error.error, error.body.len()), (6, 0), "the device's own error, ENXIO");
}

#[test]
fn a_client_of_the_vfio_user_crate_is_served() {
    let house = House::new(|builder| builder);
    let mut client = vfio_user::Client::new(&house.path).unwrap();
    client.region_write(0, VALUE, &7_u64.to_le_bytes()).unwrap();
    let mut value = [0; 8];
    client.region_read(0, VALUE, &mut value).unwrap();
    assert_eq!(u64::from_le_bytes(value), 7);
    assert_eq!(client.region(2).unwrap().size, 8192);
    assert!(client.region(2).unwrap().file_offset.is_some(), "it can be mapped");
    assert_eq!(client.get_irq_info(2).unwrap().count, 4);
    let memory = rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&memory, 1 << 20).unwrap();
    use std::os::fd::AsRawFd;
    client.dma_map(0, 0x10_0000, 1 << 20, memory.as_raw_fd()).unwrap();
    client.dma_unmap(0x10_0000, 1 << 20).unwrap();
    client.reset().unwrap();
    client.region_read(0, VALUE, &mut value).unwrap();
    assert_eq!(u64::from_le_bytes(value), 0);
}

#[test]
fn a_deferred_access_holds_up_no_other() {
    let house = House::new(|builder| builder);
    let mut client = house.connect();
    let deferred = client.send(10, 0, &write_body(0, DEFERRED, &[0; 8]));
    assert_eq!(client.read(0, VALUE), 0, "served meanwhile");
    assert!(matches!(house.next_told(), Told::Attached));
    assert_eq!(house.next_told(), Told::Deferred);
    house.exported().handle().run(|device, cx| {
        let device = (device as &mut dyn Any).downcast_mut::<Device>().unwrap();
        let token = device.token.take().unwrap();
        cx.complete_write(token);
        cx.complete_write(token);
    });
    let reply = client.receive();
    assert_eq!((reply.id, reply.error), (deferred, 0));
    assert_eq!(client.read(0, VALUE), 0, "the second completion was ignored");
}

#[test]
fn a_write_without_a_reply_that_is_deferred_comes_before_later_replies() {
    let house = House::new(|builder| builder);
    let mut client = house.connect();
    client.send(10, 0x10, &write_body(0, DEFERRED, &[0; 8]));
    let read = client.send(9, 0, &region(0, VALUE, 8));
    assert!(matches!(house.next_told(), Told::Attached));
    assert_eq!(house.next_told(), Told::Deferred);
    house.exported().handle().run(|device, cx| {
        let device = (device as &mut dyn Any).downcast_mut::<Device>().unwrap();
        device.value = 5;
        cx.complete_write(device.token.take().unwrap());
    });
    let reply = client.receive();
    assert_eq!((reply.id, reply.body[16]), (read, 5));
}

#[test]
fn interrupts_reach_their_eventfds() {
    let house = House::new(|builder| builder);
    let mut client = house.connect();
    let (pin, vector) = (eventfd(), eventfd());
    assert_eq!(client.set_irqs(0x24, 0, 0, 1, &[pin.as_fd()]).error, 0);
    assert_eq!(client.set_irqs(0x24, 2, 3, 1, &[vector.as_fd()]).error, 0);
    client.write(0, FIRE, 3);
    assert_eq!(signalled(&vector), 1);
    client.write(0, LEVEL, 1);
    assert_eq!(signalled(&pin), 1);
    // Fired means masked; while the level is high, each unmasking fires again.
    client.set_irqs(0x11, 0, 0, 1, &[]);
    assert_eq!(signalled(&pin), 1);
    house.exported().handle().raise_msix(3);
    assert_eq!(signalled(&vector), 1);
    // Counted at the end of the turn.
    while house.exported().handle().stats().interrupts < 4 {
        std::thread::yield_now();
    }
}

#[test]
fn the_command_register_holds_the_pin_back() {
    const CONFIG: u32 = 7;
    let house = House::new(|builder| builder);
    let mut client = house.connect();
    let pin = eventfd();
    client.set_irqs(0x24, 0, 0, 1, &[pin.as_fd()]);
    client.write(0, LEVEL, 1);
    assert_eq!(signalled(&pin), 1);
    // As a guest's driver does it: off, served, on. The client lets go at once.
    let command = |client: &mut Client, value: u16| {
        assert_eq!(client.ask(10, &write_body(CONFIG, 4, &value.to_le_bytes())).error, 0);
    };
    command(&mut client, 0x402);
    client.set_irqs(0x11, 0, 0, 1, &[]);
    client.write(0, LEVEL, 0);
    command(&mut client, 0x002);
    assert!(is_silent(&pin), "there is nothing left to serve");
    command(&mut client, 0x402);
    client.write(0, LEVEL, 1);
    assert!(is_silent(&pin), "it is off");
    command(&mut client, 0x002);
    assert_eq!(signalled(&pin), 1, "it is on, and high");
    command(&mut client, 0x402);
    command(&mut client, 0x002);
    assert!(is_silent(&pin), "fired once, and not let go of");
}

#[test]
fn a_client_that_lets_go_of_the_pin_by_an_eventfd_is_heard() {
    let house = House::new(|builder| builder);
    let mut client = house.connect();
    let (pin, resample) = (eventfd(), eventfd());
    client.set_irqs(0x24, 0, 0, 1, &[pin.as_fd()]);
    assert_eq!(client.set_irqs(0x14, 0, 0, 1, &[resample.as_fd()]).error, 0);
    client.write(0, LEVEL, 1);
    assert_eq!(signalled(&pin), 1);
    rustix::io::write(&resample, &1_u64.to_ne_bytes()).unwrap();
    assert_eq!(signalled(&pin), 1, "still high, so it fires again");
}

#[test]
fn dma_by_messages_goes_on_while_other_commands_are_served() {
    let house = House::new(|builder| builder);
    let mut client = house.connect();
    assert_eq!(client.map(0x1000, 0x1000, None).error, 0);
    let write = client.send(10, 0, &write_body(0, DMA, &0x1010_u64.to_le_bytes()));
    let command = client.receive();
    assert_eq!((command.command, command.flags & 0xf), (11, 0));
    assert_eq!(command.body, [0x1010_u64.to_ne_bytes(), 16_u64.to_ne_bytes()].concat());
    assert_eq!(client.read(0, VALUE), 0, "the device is not waited for");
    let answer = [command.body.clone(), 77_u64.to_le_bytes().to_vec(), vec![0; 8]].concat();
    use std::io::Write;
    client.stream.write_all(&message(command.id, 11, 1, &answer)).unwrap();
    let reply = client.receive();
    assert_eq!((reply.id, reply.error), (write, 0));
    assert_eq!(client.read(0, VALUE), 77);
}

#[test]
fn dma_ends_when_its_memory_is_unmapped_or_its_answer_does_not_come() {
    let house = House::new(|builder| builder.limits(impatient()));
    let mut client = house.connect();
    client.map(0x1000, 0x1000, None);
    let write = client.send(10, 0, &write_body(0, DMA, &0x1000_u64.to_le_bytes()));
    let late = client.receive();
    let reply = client.receive();
    assert_eq!((reply.id, reply.error), (write, 14), "the answer did not come in time");
    let write = client.send(10, 0, &write_body(0, DMA, &0x1000_u64.to_le_bytes()));
    client.receive();
    let range = [24_u32.to_ne_bytes(), 0_u32.to_ne_bytes()].concat();
    let range = [range, 0x1000_u64.to_ne_bytes().to_vec(), 0x1000_u64.to_ne_bytes().to_vec()].concat();
    client.send(3, 0, &range);
    let mut replies = [client.receive(), client.receive()];
    replies.sort_by_key(|reply| reply.command);
    assert_eq!((replies[0].command, replies[0].error), (3, 0));
    assert_eq!((replies[1].id, replies[1].error), (write, 14));
    // The first answer comes after all: it is nobody's.
    use std::io::Write;
    let body = [late.body.clone(), vec![0; 16]].concat();
    client.stream.write_all(&message(late.id, 11, 1, &body)).unwrap();
    assert_eq!(client.read(0, VALUE), 0);
}

#[test]
fn dma_to_shared_memory_is_done_at_once() {
    let house = House::new(|builder| builder);
    let mut client = house.connect();
    let memory = rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&memory, 4096).unwrap();
    rustix::fs::fcntl_add_seals(&memory, rustix::fs::SealFlags::SHRINK).unwrap();
    rustix::io::pwrite(&memory, &99_u64.to_le_bytes(), 8).unwrap();
    assert_eq!(client.map(0x1000, 4096, Some(memory.as_fd())).error, 0);
    assert_eq!(client.write(0, DMA, 0x1008).error, 0);
    assert_eq!(client.read(0, VALUE), 99);
    let (tell, report) = channel();
    house.exported().handle().report(move |report| tell.send(report).unwrap());
    let report = report.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!((report.map_count, report.mapped_bytes), (1, 4096));
    assert_eq!(report.maps[0].path, vfio_user_server::dma::DmaPath::Direct);
    assert_eq!(report.client.unwrap().credentials.unwrap().uid, rustix::process::getuid().as_raw());
}

#[test]
fn timers_work_and_doorbells_call_the_device() {
    let house = House::new(|builder| builder);
    let mut client = house.connect();
    client.write(0, TIMER, 0);
    assert_eq!(
        [house.next_told(), house.next_told(), house.next_told()],
        [Told::Attached, Told::Timer, Told::Work]
    );
    let reply = client.ask(6, &[256_u32, 0, 0, 0].iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<_>>());
    assert_eq!((reply.error, reply.body.len()), (0, 16 + 40));
}

#[test]
fn a_device_that_panics_ends_its_context_alone() {
    let mut house = House::new(|builder| builder);
    let mut client = house.connect();
    assert!(matches!(house.next_event(), vfio_user_server::context::Event::Attached(_)));
    client.send(10, 0, &write_body(0, PANIC, &[0; 8]));
    client.wait_closed();
    assert!(matches!(house.next_event(), vfio_user_server::context::Event::Hangup { .. }));
    assert!(house.exported.take().unwrap().finish().is_none());
    let (tell, told) = channel();
    house.iothread.handle().run(move |_| tell.send(()).unwrap()).unwrap();
    told.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[test]
fn commands_larger_than_a_sockets_buffer_pass_on_the_twin_socket() {
    let house = House::new(|builder| builder);
    let mut client = Client::silent(&house.path);
    let mut twin = Client::over(client.negotiate_twin());
    assert_eq!(client.map(0, 1 << 20, None).error, 0);
    let write = client.send(10, 0, &write_body(0, DMA_OUT, &[0; 8]));
    let command = twin.receive();
    assert_eq!((command.command, command.body.len()), (12, 16 + (1 << 20)));
    assert!(command.body[16..].iter().all(|byte| *byte == 0x5a));
    use std::io::Write;
    twin.stream.write_all(&message(command.id, 12, 1, &command.body[..16])).unwrap();
    let reply = client.receive();
    assert_eq!((reply.id, reply.error), (write, 0));
}
