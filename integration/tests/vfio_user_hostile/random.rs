//! What no rule was written for: random bytes, and valid messages with a few bits flipped.

use std::os::fd::AsFd;

use vmm_integration::random::Random;
use vmm_integration::vfio_user::fds::{event, guest_memory};
use vmm_integration::vfio_user::payload::{self, region_read, region_write, set_irqs};
use vmm_integration::vfio_user::{DmaMap, Message, Scene, irq};

const SEEDS: u64 = 12;

fn messages() -> Vec<Message> {
    vec![
        payload::get_info(),
        payload::region_info(0, 64),
        payload::region_io_fds(2, 64),
        payload::irq_info(2),
        set_irqs(irq::EVENTFD | irq::TRIGGER, irq::MSIX, 0, 1, &[]),
        set_irqs(irq::BOOL | irq::MASK, irq::MSIX, 0, 3, &[1, 0, 1]),
        region_read(0, 0, 64),
        region_write(0, 0, &[1; 64]),
        region_write(7, 4, &[6, 0]),
        DmaMap::new(0, 4096).message(),
        payload::dma_unmap(0, 0, 4096),
        payload::reset(),
    ]
}

#[test]
fn random_bytes_as_a_first_message() {
    let scene = Scene::edu();
    for seed in 0..100 {
        let mut random = Random(seed);
        let bytes: Vec<u8> = (0..200).flat_map(|_| random.number().to_ne_bytes()).collect();
        let mut peer = scene.stranger();
        peer.send_bytes(&bytes, &[]);
        peer.finish_sending();
        while peer.next_message().is_some() {}
    }
    scene.unharmed();
}

#[test]
fn random_bytes_after_the_negotiation() {
    let scene = Scene::edu();
    for seed in 0..100 {
        let mut random = Random(1000 + seed);
        let bytes: Vec<u8> = (0..200).flat_map(|_| random.number().to_ne_bytes()).collect();
        let mut peer = scene.peer();
        peer.send_bytes(&bytes, &[]);
        peer.finish_sending();
        while peer.next_message().is_some() {}
    }
    scene.unharmed();
}

#[test]
fn valid_messages_with_flipped_bits() {
    let scene = Scene::scratch();
    let memory = guest_memory(4096);
    let event = event();
    for seed in 0..SEEDS {
        let mut random = Random(2000 + seed);
        let mut peer = scene.peer();
        for _ in 0..200 {
            let all = messages();
            let mut bytes = all[random.index(all.len())].encode();
            for _ in 0..=random.index(4) {
                // Not in the size, which is a case of its own and would end most connections at once; nor in the type.
                let at = random.index(bytes.len());
                if !(4..9).contains(&at) {
                    bytes[at] ^= 1 << random.below(8);
                }
            }
            let fds = [memory.as_fd(), event.as_fd()];
            let fds = &fds[random.index(2)..][..random.index(2)];
            peer.send_bytes(&bytes, fds);
        }
        peer.finish_sending();
        while peer.next_message().is_some() {}
    }
    scene.unharmed();
}

#[test]
fn valid_messages_cut_and_glued_at_random() {
    let scene = Scene::scratch();
    for seed in 0..SEEDS {
        let mut random = Random(3000 + seed);
        let mut peer = scene.peer();
        let all = messages();
        let mut stream = Vec::new();
        let sent: Vec<u16> = (0..200)
            .map(|id| (id, random.index(all.len())))
            .map(|(id, which)| {
                stream.extend(all[which].clone().id(id).encode());
                id
            })
            .collect();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(1 + random.index(rest.len().min(100)));
            peer.send_bytes(piece, &[]);
            rest = left;
        }
        for id in sent {
            assert_eq!(peer.message().header.id, id, "seed {seed}");
        }
        peer.in_step();
    }
    scene.unharmed();
}
