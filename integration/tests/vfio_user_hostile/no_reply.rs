//! Commands that want no reply get none, not even an error.

use std::os::fd::AsFd;

use vmm_integration::vfio_user::fds::{event, guest_memory, signalled};
use vmm_integration::vfio_user::payload::{self, region_read, region_write, scratch_start, set_irqs};
use vmm_integration::vfio_user::peer::Choice;
use vmm_integration::vfio_user::{DmaMap, Memory, Message, Scene, irq};

#[test]
fn successes_are_not_answered() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for message in [
        payload::get_info(),
        payload::region_info(0, 4096),
        payload::region_io_fds(0, 4096),
        payload::irq_info(0),
        set_irqs(irq::NONE | irq::TRIGGER, irq::MSIX, 0, 0, &[]),
        region_read(0, 0, 4096),
        region_write(0, 0, &[1; 16]),
        DmaMap::new(0, 4096).message(),
        payload::dma_unmap(0, 0, 4096),
        payload::reset(),
    ] {
        let choice = peer.tolerates(&message.clone().no_reply(), &[]);
        assert_eq!(choice, Choice::Ignored, "{message:?}");
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn errors_are_not_answered() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for message in [
        payload::region_info(99, 4096),
        payload::region_io_fds(99, 4096),
        payload::irq_info(99),
        set_irqs(0, 99, 0, 0, &[]),
        region_read(99, 0, 4096),
        region_read(0, u64::MAX, 8),
        region_read(0, 0, u32::MAX),
        region_write(99, 0, &[1; 16]),
        payload::region_write_of(0, 0, 100, &[]),
        DmaMap::new(0, 0).message(),
        payload::dma_unmap(0, 0, 4096),
        payload::qemu_version(),
        Message::command(0, []),
        Message::command(11, vec![0; 16]),
        Message::command(16, vec![0; 8]),
        Message::command(999, vec![0; 4096]),
        Message::command(9, vec![0; 3]),
    ] {
        let choice = peer.tolerates(&message.clone().no_reply(), &[]);
        assert_eq!(choice, Choice::Ignored, "{message:?}");
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn they_are_done_all_the_same_and_before_what_follows() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for byte in 0..=u8::MAX {
        peer.send(&region_write(0, 64, &[byte; 8]).no_reply());
        assert_eq!(peer.ok(&region_read(0, 64, 8))[16..], [byte; 8]);
    }
    let event = event();
    let assign = set_irqs(irq::EVENTFD | irq::TRIGGER, irq::MSIX, 0, 1, &[]);
    peer.send_with(&assign.no_reply(), &[event.as_fd()]);
    peer.send(&set_irqs(irq::NONE | irq::TRIGGER, irq::MSIX, 0, 1, &[]).no_reply());
    assert_eq!(signalled(&event), 1);
    let memory = guest_memory(4096);
    peer.send_with(&DmaMap::new(0, 4096).message().no_reply(), &[memory.as_fd()]);
    peer.ok(&scratch_start(0, 1, 64));
    drop(peer);
    scene.unharmed();
}

#[test]
fn an_access_that_waits_for_the_client_is_not_answered_either() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    peer.ok(&DmaMap::new(0, 4096).message());
    peer.begin(&scratch_start(0, 1, 64).no_reply(), &[]);
    let question = peer.message();
    let answer = Memory::new(0, 64).answer(&question);
    peer.send(&answer);
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_hundred_thousand_of_them_are_served() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let burst = region_write(0, 0, &[7; 4]).no_reply().encode().repeat(1000);
    for _ in 0..100 {
        peer.send_bytes(&burst, &[]);
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}
