//! Edu over its socket.

use std::os::fd::AsRawFd;

use pci_devices::Edu;
use proptest::prelude::*;
use rustix::io::{pread, pwrite};

use crate::support::*;

const CONFIG: u32 = 7;

/// Memory and bus master on.
const MASTER: [u8; 2] = [6, 0];

impl Client {
    fn put(&mut self, offset: u64, value: u32) {
        self.write(0, offset, &value.to_le_bytes()).unwrap();
    }

    /// Starts a transfer.
    fn transfer(&mut self, source: u64, destination: u64, count: u64, command: u32) {
        for (offset, value) in [(0x80, source), (0x88, destination), (0x90, count)] {
            self.write(0, offset, &value.to_le_bytes()).unwrap();
        }
        self.put(0x98, command);
    }

    /// Serves DMA, until the transfer has ended.
    fn transferred(&mut self) {
        until(|| self.read32(0, 0x98) & 1 == 0);
    }
}

#[test]
fn the_clients_crate_drives_it() {
    let iothread = iothread();
    let house = House::new(Edu::new(), &iothread);
    let mut client = vfio_user::Client::new(&house.path).unwrap();
    assert_eq!(client.region(0).unwrap().size, 0x10_0000);
    assert_eq!((0..5).map(|n| client.get_irq_info(n).unwrap().count).take(3).collect::<Vec<_>>(), [1, 1, 0]);
    let pin = eventfd();
    client.set_irqs(INTX, 0x24, 0, 1, &[pin.as_raw_fd()]).unwrap();
    client.region_write(CONFIG, 4, &MASTER).unwrap();
    let get = |client: &mut vfio_user::Client, offset| {
        let mut data = [0; 4];
        client.region_read(0, offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    };
    assert_eq!(get(&mut client, 0), 0x0100_00ed);
    client.region_write(0, 4, &[1, 2, 3, 4]).unwrap();
    assert_eq!(get(&mut client, 4), !0x0403_0201);
    client.region_write(0, 0x20, &[0x80, 0, 0, 0]).unwrap();
    client.region_write(0, 8, &[12, 0, 0, 0]).unwrap();
    signalled(&pin);
    assert_eq!((get(&mut client, 8), get(&mut client, 0x24)), (479_001_600, 1));
    client.region_write(0, 0x64, &[1, 0, 0, 0]).unwrap();

    let memory = memory(1 << 20);
    client.dma_map(0, 0, 1 << 20, memory.as_raw_fd()).unwrap();
    pwrite(&memory, b"there and back", 0x1_2345).unwrap();
    for (offset, value) in [(0x80, 0x1_2345_u64), (0x88, 0x4_0ff2), (0x90, 14), (0x98, 5)] {
        client.region_write(0, offset, &value.to_le_bytes()).unwrap();
    }
    // The pin is re-armed by the client, as its guest serves the interrupt.
    client.set_irqs(INTX, 0x11, 0, 1, &[]).unwrap();
    signalled(&pin);
    assert_eq!((get(&mut client, 0x24), get(&mut client, 0x98)), (0x100, 4));
    for (offset, value) in [(0x80, 0x4_0ff2_u64), (0x88, 0x8000), (0x90, 14), (0x98, 3)] {
        client.region_write(0, offset, &value.to_le_bytes()).unwrap();
    }
    until(|| get(&mut client, 0x98) & 1 == 0);
    let mut back = [0; 14];
    pread(&memory, &mut back, 0x8000).unwrap();
    assert_eq!(&back, b"there and back");
}

#[test]
fn memory_without_descriptors_is_reached_by_messages() {
    let iothread = iothread();
    let house = House::new(Edu::new(), &iothread);
    let mut client = house.connect();
    client.map(0x4000, None);
    client.write(CONFIG, 4, &MASTER).unwrap();
    (0..0x1000).for_each(|at| client.memory[at] = (at % 251).to_le_bytes()[0]);
    client.transfer(0, 0x4_0000, 4096, 1);
    client.transferred();
    client.transfer(0x4_0001, 0x3000, 4095, 3);
    client.transferred();
    assert_eq!(client.memory[0x3000..0x3fff], client.memory[1..0x1000]);
    assert_eq!(client.asked.iter().map(|(_, _, count)| count).sum::<u64>(), 4096 + 4095);
    // A client that fails leaves zeroes, as an error of the bus does.
    client.refuse = Some(5);
    client.transfer(0, 0x4_0000, 16, 1);
    client.transferred();
    client.refuse = None;
    client.transfer(0x4_0000, 0x2000, 17, 3);
    client.transferred();
    assert_eq!(client.memory[0x2000..0x2011], [&[0; 16][..], &client.memory[16..17]].concat());
}

#[test]
fn the_mask_cuts_addresses() {
    let iothread = iothread();
    let house = House::new(Edu::new().dma_mask(0x1fff), &iothread);
    let mut client = house.connect();
    client.map(0x4000, None);
    client.write(CONFIG, 4, &MASTER).unwrap();
    client.transfer(0xffff_ffff_ffff_f008, 0x4_0000, 8, 1);
    client.transferred();
    assert_eq!(client.asked, [(DMA_READ, 0x1008, 8)]);
}

#[test]
fn a_message_for_each_raise_once_msi_is_used() {
    let iothread = iothread();
    let house = House::new(Edu::new(), &iothread);
    let mut client = house.connect();
    let (pin, message) = ([eventfd()], [eventfd()]);
    client.set_irqs(INTX, &pin);
    client.put(0x60, 1);
    assert_eq!(signalled(&pin[0]), 1);
    assert_eq!(client.read32(CONFIG, 4) >> 16, 0x18);
    client.set_irqs(MSI, &message);
    client.write(CONFIG, 0x42, &[1, 0]).unwrap();
    assert_eq!(client.read32(CONFIG, 4) >> 16, 0x10, "the pin is low");
    (0..3).for_each(|_| client.put(0x60, 1));
    assert_eq!(signalled(&message[0]), 3);
    client.put(0x64, 1);
    assert!(silent(&message[0]) && silent(&pin[0]));
}

#[test]
fn a_reset_is_one_and_ends_what_goes_on() {
    let iothread = iothread();
    let house = House::new(Edu::new(), &iothread);
    let mut client = house.connect();
    client.map(0x4000, None);
    client.write(CONFIG, 4, &MASTER).unwrap();
    client.put(0x60, 7);
    client.put(4, 9);
    client.transfer(0, 0x4_0000, 4096, 5);
    assert_eq!(client.ask(RESET, &[]), Ok(Vec::new()));
    let registers: Vec<u64> = [0x80, 0x88, 0x90, 0x98].map(|offset| client.read64(0, offset)).into();
    assert_eq!(registers, [0; 4]);
    assert_eq!([4, 8, 0x20, 0x24].map(|offset| client.read32(0, offset)), [0; 4]);
    assert_eq!(client.read32(CONFIG, 4), 0x0010_0000);
    // A transfer that is started now takes its own time, and the old one does not end it.
    client.write(CONFIG, 4, &MASTER).unwrap();
    client.transfer(0, 0x4_0000, 4, 1);
    client.transferred();
    assert_eq!(client.asked, [(DMA_READ, 0, 4)]);
}

#[test]
fn a_client_takes_its_transfer_with_it_and_leaves_the_rest() {
    let iothread = iothread();
    let house = House::new(Edu::new(), &iothread);
    let mut client = house.connect();
    client.map(0x4000, None);
    client.write(CONFIG, 4, &MASTER).unwrap();
    client.put(4, 5);
    client.put(0x60, 2);
    client.transfer(0, 0x4_0000, 4096, 5);
    drop(client);
    let mut client = house.connect();
    assert_eq!((client.read32(0, 4), client.read32(0, 0x24), client.read32(0, 0x98)), (!5, 2, 4));
    let pin = [eventfd()];
    client.set_irqs(INTX, &pin);
    assert_eq!(signalled(&pin[0]), 1, "what is pending is pending for the next");
    // While DMA by messages waits for an answer that never comes.
    client.map(0x4000, None);
    client.transfer(0, 0x4_0000, 16, 1);
    until(|| house.exported.handle().stats().dma_messages > 0);
    drop(client);
    let mut client = house.connect();
    assert_eq!(client.read32(0, 0x98), 0);
    client.map(0x4000, None);
    client.transfer(0, 0x4_0000, 16, 1);
    client.transferred();
    assert_eq!(client.asked, [(DMA_READ, 0, 16)]);
}

#[test]
fn impossible_transfers_end_as_others_do() {
    let iothread = iothread();
    let house = House::new(Edu::new().dma_mask(u64::MAX), &iothread);
    let mut client = house.connect();
    client.map(0x4000, None);
    client.write(CONFIG, 4, &MASTER).unwrap();
    let impossible = [
        (0, 0, 16),
        (0, 0x4_0ff8, 9),
        (0, u64::MAX, u64::MAX),
        (u64::MAX - 7, 0x4_0000, 64),
        (0x3ff8, 0x4_0000, 16),
        (0, 0x4_1000, 0),
    ];
    for (source, destination, count) in impossible {
        client.transfer(source, destination, count, 5);
        client.transferred();
        assert_eq!(client.read32(0, 0x24), 0x100);
        client.put(0x64, 0x100);
    }
    assert_eq!(client.asked, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A guest that writes anything anywhere, resets and hangs up, in any order.
    #[test]
    fn any_guest_is_survived(
        steps in prop::collection::vec(
            (prop_oneof![4 => 0_u64..0xa0, 1 => 0_u64..0xf_fff0], prop::collection::vec(any::<u8>(), 1..17), 0_u8..30),
            1..120),
        mask in any::<u64>(),
    ) {
        let iothread = iothread();
        let house = House::new(Edu::new().dma_mask(mask), &iothread);
        let mut client = house.connect();
        let memory = memory(0x4000);
        client.map(0x4000, Some(&memory));
        for (offset, data, what) in steps {
            match what {
                0 => _ = client.ask(RESET, &[]),
                1 => {
                    drop(client);
                    client = house.connect();
                    client.map(0x4000, Some(&memory));
                }
                2 => client.write(CONFIG, offset % 250, &data[..data.len().min(6)]).unwrap(),
                3 => client.set_irqs(MSI, &[eventfd()]),
                4 => client.put(0x98, u32::from(data[0]) | 1),
                5 => _ = client.read(0, offset, 16).unwrap(),
                _ => client.write(0, offset, &data).unwrap(),
            }
        }
        prop_assert_eq!(client.read32(0, 0), 0x0100_00ed);
        prop_assert_eq!(client.read32(CONFIG, 0), 0x11e8_1234);
    }
}
