//! Scratch over its socket.

use std::os::fd::AsFd;

use pci_devices::Scratch;
use rustix::fs::ftruncate;
use rustix::io::Errno;

use crate::support::*;

const MEMORY: u32 = 0;
const DMA: u32 = 2;
const READS: u64 = 0x10;

fn command(iova: u64, times: u32, length: u32) -> Vec<u8> {
    [&iova.to_le_bytes()[..], &times.to_le_bytes(), &length.to_le_bytes()].concat()
}

fn errno(errno: Errno) -> Result<(), u32> {
    Err(u32::try_from(errno.raw_os_error()).unwrap())
}

#[test]
fn its_memory_is_memory() {
    let iothread = iothread();
    let house = House::new(Scratch::new(), &iothread);
    let mut client = house.connect();
    let block: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 253).to_le_bytes()[0]).collect();
    client.write(MEMORY, 0x8_0000, &block).unwrap();
    assert_eq!(client.read(MEMORY, 0x8_0000, 1 << 20).unwrap(), block);
    assert_eq!(client.read32(MEMORY, (2 << 20) - 4), 0);
    assert!(client.read(MEMORY, (2 << 20) - 3, 4).is_err());
    let client = vfio_user::Client::new(&{
        drop(client);
        house.path.clone()
    })
    .unwrap();
    let sizes: Vec<u64> = (0..9).map(|n| client.region(n).map_or(0, |region| region.size)).collect();
    assert_eq!(sizes, [2 << 20, 0, 4096, 0, 0, 0, 0, 256, 0]);
    assert!(client.region(0).unwrap().file_offset.is_none());
}

#[test]
fn a_client_may_map_it_if_it_is_told_so() {
    let iothread = iothread();
    let house = House::new(Scratch::new().mmap(true), &iothread);
    let mut client = vfio_user::Client::new(&house.path).unwrap();
    client.region_write(0, 0x1_0000, b"both sides").unwrap();
    let region = client.region(0).unwrap();
    let file = region.file_offset.as_ref().unwrap();
    let mut data = [0; 10];
    rustix::io::pread(file.file(), &mut data, file.start() + 0x1_0000).unwrap();
    assert_eq!(&data, b"both sides");
    assert!(ftruncate(file.file(), 0).is_err(), "nobody takes it away");
}

#[test]
fn local_memory_is_read_before_the_answer() {
    let iothread = iothread();
    let house = House::new(Scratch::new(), &iothread);
    let mut client = house.connect();
    let memory = memory(4 << 20);
    client.map(4 << 20, Some(&memory));
    for (times, length, sum) in
        [(1, 4096, 1), (3, 1, 4), (0, 4096, 4), (9, 0, 4), (1000, 4096, 1004), (8, 1 << 20, 1012)]
    {
        client.write(DMA, 0, &command(0x1000, times, length)).unwrap();
        assert_eq!(client.read64(DMA, READS), sum);
    }
    assert_eq!(client.asked, []);
}

#[test]
fn other_memory_is_read_by_messages_before_the_answer() {
    let iothread = iothread();
    let house = House::new(Scratch::new(), &iothread);
    let mut client = house.connect();
    client.map(0x4000, None);
    client.write(DMA, 0, &command(0x234, 5, 0x1000)).unwrap();
    assert_eq!(client.asked, [(DMA_READ, 0x234, 0x1000); 5]);
    assert_eq!(client.read64(DMA, READS), 5);
    client.refuse = Some(19);
    assert_eq!(client.write(DMA, 0, &command(0, 1, 8)), Err(19));
    client.refuse = None;
    client.write(DMA, 0, &command(0, 1, 8)).unwrap();
}

#[test]
fn what_cannot_be_done_is_said() {
    let iothread = iothread();
    let house = House::new(Scratch::new(), &iothread);
    let mut client = house.connect();
    let memory = memory(0x4000);
    client.map(0x4000, Some(&memory));
    let cases = [
        (0_u64, 1, (1 << 20) + 1, Errno::INVAL),
        (0, 0, u32::MAX, Errno::INVAL),
        (0x4000, 1, 1, Errno::FAULT),
        (0x3fff, u32::MAX, 2, Errno::FAULT),
        (u64::MAX, 1, 2, Errno::FAULT),
    ];
    for (iova, times, length, error) in cases {
        assert_eq!(
            client.write(DMA, 0, &command(iova, times, length)),
            errno(error),
            "{iova:#x} {times} {length}"
        );
    }
    for (offset, length) in
        [(0, 8), (8, 16), (0x10, 8), (0x20, 8), (0x20, 2), (0x28, 4), (0x7fc, 8), (0xc08, 4)]
    {
        assert_eq!(client.write(DMA, offset, &vec![1; length]), errno(Errno::INVAL), "{offset:#x} {length}");
    }
    assert_eq!(client.write(DMA, 0x20, &8_u32.to_le_bytes()), errno(Errno::INVAL));
    assert_eq!(client.write(DMA, 0x24, &2_u32.to_le_bytes()), errno(Errno::INVAL));
    assert_eq!(client.read(DMA, 0, 4).map(|_| ()), errno(Errno::INVAL));
}

/// Far more than any test waits for.
fn endless() -> Vec<u8> {
    write_body(DMA, 0, &command(0, u32::MAX, 1 << 20))
}

#[test]
fn an_endless_command_holds_up_nobody() {
    let iothread = iothread();
    let (house, other) = (House::new(Scratch::new(), &iothread), House::new(Scratch::new(), &iothread));
    let (mut client, mut neighbour) = (house.connect(), other.connect());
    let memory = memory(1 << 20);
    client.map(1 << 20, Some(&memory));
    let id = client.send(REGION_WRITE, &endless(), &[]);
    for round in 0..50_u32 {
        neighbour.write(MEMORY, 8, &round.to_le_bytes()).unwrap();
        assert_eq!(neighbour.read32(MEMORY, 8), round);
    }
    // Its own client is served, too, if it asks for something else.
    let next = client.send(REGION_WRITE, &write_body(DMA, 0, &command(0, 1, 1)), &[]);
    client.write(MEMORY, 0, &[1; 64]).unwrap();
    let before = client.read64(DMA, READS);
    until(|| client.read64(DMA, READS) > before);
    // Until a reset.
    let reset = client.send(RESET, &[], &[]);
    let replies = [client.reply(), client.reply(), client.reply()];
    for canceled in [id, next] {
        assert!(replies.contains(&(canceled, errno(Errno::CANCELED).map(|()| Vec::new()))), "{replies:?}");
    }
    assert!(replies.contains(&(reset, Ok(Vec::new()))), "{replies:?}");
    assert_eq!(client.read64(DMA, READS), 0);
    client.write(DMA, 0, &command(0, 2, 16)).unwrap();
    assert_eq!(client.read64(DMA, READS), 2);
}

#[test]
fn a_client_that_goes_ends_its_command() {
    let iothread = iothread();
    let house = House::new(Scratch::new(), &iothread);
    let memory = memory(1 << 20);
    for fd in [Some(&memory), None, Some(&memory)] {
        let mut client = house.connect();
        client.map(1 << 20, fd);
        let before = client.read64(DMA, READS);
        client.memory = vec![0; 1 << 20];
        client.send(REGION_WRITE, &endless(), &[]);
        // With messages, the first of them is served on the way to a reply.
        until(|| client.read64(DMA, READS) > before);
    }
    let mut client = house.connect();
    client.map(1 << 20, Some(&memory));
    let before = client.read64(DMA, READS);
    client.write(DMA, 0, &command(0, 2, 16)).unwrap();
    assert_eq!(client.read64(DMA, READS), before + 2);
}

#[test]
fn interrupts_of_all_kinds() {
    let iothread = iothread();
    let house = House::new(Scratch::new(), &iothread);
    let mut client = house.connect();
    let vectors: Vec<_> = (0..8).map(|_| eventfd()).collect();
    client.set_irqs(MSIX, &vectors);
    for vector in [5_u32, 0, 7] {
        client.write(DMA, 0x20, &vector.to_le_bytes()).unwrap();
        assert_eq!(signalled(&vectors[vector as usize]), 1);
    }
    assert!(vectors.iter().all(silent));
    let pin = [eventfd()];
    client.set_irqs(INTX, &pin);
    client.write(DMA, 0x24, &1_u32.to_le_bytes()).unwrap();
    assert_eq!(signalled(&pin[0]), 1);
    // The table is memory, and masked after power-on.
    assert_eq!(client.read32(DMA, 0x80c), 1);
    client.write(DMA, 0x800, &[0xee; 16]).unwrap();
    assert_eq!(client.read32(DMA, 0x80c), 0xeeee_eeee);
}

#[test]
fn commands_are_done_one_after_the_other() {
    let iothread = iothread();
    let house = House::new(Scratch::new(), &iothread);
    let mut client = house.connect();
    client.map(1 << 20, None);
    client.memory = vec![0; 1 << 20];
    let ids: Vec<_> =
        (0..40).map(|_| client.send(REGION_WRITE, &write_body(DMA, 0, &command(0, 3, 64)), &[])).collect();
    let replies: Vec<_> = ids.iter().map(|_| client.reply()).collect();
    assert!(ids.iter().zip(&replies).all(|(id, reply)| *id == reply.0 && reply.1.is_ok()), "{replies:?}");
    assert_eq!(client.read64(DMA, READS), 120);
}

#[test]
fn a_large_write_arrives_whole_however_it_is_cut() {
    let iothread = iothread();
    let house = House::new(Scratch::new(), &iothread);
    let mut client = house.connect();
    let vector = eventfd();
    for (round, first) in [16, 31, 32, 33, 1000, 128 << 10, (1 << 20) - 1].into_iter().enumerate() {
        let data: Vec<u8> = (0..1_usize << 20).map(|n| (n / 251 + n + round).to_le_bytes()[0]).collect();
        let body = write_body(MEMORY, 0x1234, &data);
        let id = client.send_in_two(REGION_WRITE, &body, first);
        // Descriptors right behind it find their message.
        let irqs: Vec<u8> = [20, 0x24, 2, 3, 1].iter().flat_map(|n: &u32| n.to_ne_bytes()).collect();
        let next = client.send(SET_IRQS, &irqs, &[vector.as_fd()]);
        assert_eq!(client.reply().0, id);
        assert_eq!(client.reply(), (next, Ok(Vec::new())));
        assert_eq!(client.read(MEMORY, 0x1234, 1 << 20).unwrap(), data);
    }
    // What does not fit is refused, and what comes after it is understood.
    let id = client.send(REGION_WRITE, &write_body(MEMORY, (1 << 20) + 1, &vec![7; 1 << 20]), &[]);
    assert_eq!(client.reply(), (id, errno(Errno::INVAL).map(|()| Vec::new())));
    assert_eq!(client.read32(MEMORY, (1 << 20) + 0x1235), 0);
}
