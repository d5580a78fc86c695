//! Descriptors where none belong, more than belong, and descriptors that carry others.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use vmm_integration::vfio_user::fds::{Tracer, every_wrong_kind};
use vmm_integration::vfio_user::payload::{self, get_info};
use vmm_integration::vfio_user::{Body, DmaMap, Message, Scene, command, irq};
use vmm_integration::wire::{self, MAX_FDS};

/// One of each command, those that take descriptors included, all of which must be refused or need none.
fn commands() -> Vec<Message> {
    let mut commands = vec![
        get_info(),
        payload::region_info(0, 32),
        payload::region_info(0, 4096),
        payload::region_io_fds(0, 4096),
        payload::irq_info(irq::MSIX),
        payload::set_irqs(irq::NONE | irq::TRIGGER, irq::MSIX, 0, 0, &[]),
        payload::set_irqs(irq::BOOL | irq::TRIGGER, irq::MSIX, 0, 1, &[0]),
        payload::set_irqs(irq::EVENTFD | irq::TRIGGER, irq::MSIX, 0, 1, &[]),
        payload::region_read(7, 0, 4),
        payload::region_write(7, 0x3c, &[1]),
        DmaMap::new(0, 4096).message(),
        payload::dma_unmap(0, 0, 4096),
        payload::reset(),
    ];
    commands
        .extend([0, 11, 12, 14, 15, 16, 17, 18, 19, 999].map(|number| Message::command(number, vec![0; 24])));
    commands
}

#[test]
fn no_command_keeps_a_descriptor_that_is_no_use_to_it() {
    let scene = Scene::scratch();
    for message in commands() {
        for count in [1, 2, 16, 17, 64, MAX_FDS] {
            let mut tracer = Tracer::new();
            let mut peer = scene.peer();
            peer.tolerates(&message, &vec![tracer.fd(); count]);
            // Now, not when the client goes.
            tracer.closed();
        }
    }
    scene.unharmed();
}

#[test]
fn no_command_without_a_reply_keeps_one_either() {
    let scene = Scene::scratch();
    for message in commands() {
        let mut tracer = Tracer::new();
        let mut peer = scene.peer();
        peer.tolerates(&message.no_reply(), &[tracer.fd(); 4]);
        tracer.closed();
    }
    scene.unharmed();
}

#[test]
fn descriptors_of_half_a_header_go_with_their_client() {
    let scene = Scene::edu();
    let bytes = get_info().encode();
    for cut in 1..16 {
        let mut tracer = Tracer::new();
        let mut peer = scene.peer();
        peer.send_bytes(&bytes[..cut], &[tracer.fd(); 8]);
        drop(peer);
        tracer.closed();
    }
    scene.unharmed();
}

#[test]
fn descriptors_of_half_a_first_header_go_with_their_client() {
    let scene = Scene::edu();
    for _ in 0..50 {
        let mut tracer = Tracer::new();
        let mut peer = scene.stranger();
        peer.send_bytes(&[1, 2, 3, 4, 5], &[tracer.fd(); 8]);
        drop(peer);
        tracer.closed();
    }
    scene.unharmed();
}

#[test]
fn descriptors_of_a_message_that_ends_the_connection_are_closed() {
    let scene = Scene::edu();
    for size in [0, 15, u32::MAX] {
        let mut tracer = Tracer::new();
        let mut peer = scene.peer();
        peer.send_with(&get_info().size(size), &[tracer.fd(); 16]);
        peer.ended();
        tracer.closed();
    }
    scene.unharmed();
}

#[test]
fn descriptors_on_every_byte_are_closed() {
    let scene = Scene::edu();
    for message in commands() {
        let mut tracer = Tracer::new();
        let mut peer = scene.peer();
        for byte in message.encode() {
            peer.send_bytes(&[byte], &[tracer.fd(); 2]);
        }
        // The connection may have ended: more descriptors than any message takes.
        if peer.next_message().is_some() {
            peer.tolerates(&get_info(), &[]);
        }
        tracer.closed();
    }
    scene.unharmed();
}

#[test]
fn descriptors_in_the_middle_of_a_message_do_no_harm() {
    let scene = Scene::scratch();
    let bytes = payload::set_irqs(irq::EVENTFD | irq::TRIGGER, irq::MSIX, 0, 1, &[]).encode();
    for cut in 1..bytes.len() {
        let event = vmm_integration::vfio_user::fds::event();
        let mut peer = scene.peer();
        peer.send_bytes(&bytes[..cut], &[]);
        peer.send_bytes(&bytes[cut..], &[event.as_fd()]);
        if peer.next_message().is_some() {
            peer.tolerates(&get_info(), &[]);
        }
    }
    scene.unharmed();
}

#[test]
fn floods_of_descriptors_are_closed_as_they_come() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let mut tracer = Tracer::new();
    let fds = [tracer.fd(); 16];
    for _ in 0..500 {
        peer.tolerates(&get_info(), &fds);
        peer.tolerates(&Message::command(999, []), &fds);
    }
    tracer.closed();
    drop(peer);
    scene.unharmed();
}

#[test]
fn descriptors_that_carry_others_are_closed_with_all_they_carry() {
    let scene = Scene::edu();
    let mut tracer = Tracer::new();
    let (outer, inner) = UnixStream::pair().unwrap();
    wire::send(&outer, b"x", &[tracer.fd()]).unwrap();
    // And one that carries itself.
    let (this, other) = UnixStream::pair().unwrap();
    wire::send(&this, b"x", &[other.as_fd(), this.as_fd()]).unwrap();
    let mut peer = scene.peer();
    peer.tolerates(&get_info(), &[inner.as_fd(), this.as_fd(), other.as_fd()]);
    drop((outer, inner, this, other));
    tracer.closed();
    drop(peer);
    scene.unharmed();
}

#[test]
fn the_clients_own_connection_is_a_descriptor_as_others() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let own = peer.as_fd().try_clone_to_owned().unwrap();
    for message in commands() {
        peer.tolerates(&message, &[own.as_fd()]);
    }
    drop(own);
    drop(peer);
    scene.unharmed();
}

#[test]
fn descriptors_of_every_kind_on_every_command() {
    let scene = Scene::scratch();
    let dir = tempfile::tempdir().unwrap();
    let kinds = every_wrong_kind(dir.path()).unwrap();
    let mut peer = scene.peer();
    for (_, fd) in &kinds {
        for message in commands() {
            peer.tolerates(&message, &[fd.as_fd()]);
        }
    }
    drop(kinds);
    scene.await_more_fds(1);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_close_that_lingers_blocks_nobody() {
    let mut scene = Scene::edu();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // Nobody reads: what fills it up is never sent, and its close waits.
    socket.set_nonblocking(true).unwrap();
    while std::io::Write::write(&mut socket, &[0; 65_536]).is_ok() {}
    rustix::net::sockopt::set_socket_linger(&socket, Some(std::time::Duration::from_mins(10))).unwrap();
    let lingering = OwnedFd::from(socket);
    let mut peer = scene.peer();
    peer.tolerates(&get_info(), &[lingering.as_fd()]);
    drop(lingering);
    peer.in_step();
    drop(peer);
    scene.well();
    scene.unharmed();
}

#[test]
fn a_server_out_of_descriptors_recovers() {
    let mut scene = Scene::scratch();
    let mut peer = scene.peer();
    let pid = Pid::from_raw(i32::try_from(scene.server().process().pid()).unwrap());
    let open = scene.server().process().fd_count() as u64;
    let few = Rlimit { current: Some(open), ..getrlimit(Resource::Nofile) };
    let usual = prlimit(pid, Resource::Nofile, few).unwrap();
    let mut tracer = Tracer::new();
    for message in [
        get_info(),
        DmaMap::new(0, 4096).message(),
        payload::set_irqs(irq::EVENTFD | irq::TRIGGER, irq::MSIX, 0, 1, &[]),
    ] {
        // They cannot be received: the command is refused, or the connection ends.
        peer.tolerates(&message, &[tracer.fd(); 4]);
    }
    tracer.closed();
    drop(peer);
    prlimit(pid, Resource::Nofile, usual).unwrap();
    scene.well();
    scene.unharmed();
}

#[test]
fn nobody_can_connect_to_a_server_out_of_descriptors_but_later() {
    let mut scene = Scene::edu();
    let pid = Pid::from_raw(i32::try_from(scene.server().process().pid()).unwrap());
    let open = scene.server().process().fd_count() as u64;
    let few = Rlimit { current: Some(open), ..getrlimit(Resource::Nofile) };
    let usual = prlimit(pid, Resource::Nofile, few).unwrap();
    let mut waiting = scene.stranger();
    waiting.send(&payload::qemu_version());
    prlimit(pid, Resource::Nofile, usual).unwrap();
    drop(waiting);
    scene.well();
    scene.unharmed();
}

#[test]
fn descriptors_of_commands_that_are_refused_early_are_closed() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for number in [command::DEVICE_FEATURE, command::MIG_DATA_WRITE, command::DIRTY_PAGES] {
        let mut tracer = Tracer::new();
        peer.refused_with(&Message::command(number, Body::new().u32(8).u32(0)), &[tracer.fd(); 16]);
        tracer.closed();
    }
    drop(peer);
    scene.unharmed();
}
