//! Many clients of one iothread, and many one after the other.

use std::os::fd::AsFd;

use rustix::process::Signal;
use vmm_integration::random::Random;
use vmm_integration::vfio_user::fds::{borrow, events, guest_memory};
use vmm_integration::vfio_user::payload::{get_info, region_read, region_write, scratch_start, set_irqs};
use vmm_integration::vfio_user::server::Device;
use vmm_integration::vfio_user::{DmaMap, Header, Peer, Scene, Server, irq};
use vmm_integration::{LIMIT, poll_until};

const CYCLES: u64 = 1000;
const CONTEXTS: usize = 64;

/// A client that maps, assigns, leaves something undone, and goes.
fn cycle(server: &Server, number: u64) {
    let mut peer = server.peer(0);
    let memory = guest_memory(1 << 20);
    for n in 0..4 {
        peer.send_with(&DmaMap::new(n << 20, 1 << 20).message(), &[memory.as_fd()]);
    }
    peer.send(&DmaMap::new(8 << 20, 1 << 20).message());
    let events = events(8);
    peer.send_with(&set_irqs(irq::EVENTFD | irq::TRIGGER, irq::MSIX, 0, 8, &[]), &borrow(&events));
    for _ in 0..6 {
        assert_eq!(peer.message().errno(), None);
    }
    match number % 5 {
        // A question is not answered.
        0 => {
            peer.send(&scratch_start(8 << 20, 1, 4096));
            assert!(!peer.message().is_reply());
        }
        // The device has hours of work.
        1 => peer.send(&scratch_start(0, u32::MAX, 1 << 20)),
        // Half a message, with descriptors.
        2 => peer.send_bytes(&get_info().encode()[..9], &[memory.as_fd(); 8]),
        // Replies are not read.
        3 => peer.send_bytes(&region_read(0, 0, 1 << 16).encode().repeat(20), &[]),
        _ => peer.in_step(),
    }
}

#[test]
fn a_thousand_clients_leave_nothing() {
    let mut scene = Scene::over(Server::new(&[Device::Scratch]));
    for number in 0..50 {
        cycle(scene.server(), number);
    }
    scene.well();
    // Those that close what clients have left end when there is nothing to close.
    let mappings = |server: &Server| {
        std::fs::read_to_string(format!("/proc/{}/maps", server.observe().pid())).unwrap().lines().count()
    };
    let least_threads = |scene: &mut Scene| {
        let mut least = u64::MAX;
        poll_until(std::time::Duration::from_secs(3), || {
            least = least.min(scene.server().process().threads());
            false
        });
        least
    };
    let threads = least_threads(&mut scene);
    let (maps, rss) = (mappings(scene.server()), scene.server().process().rss_kib());
    for number in 0..CYCLES {
        cycle(scene.server(), number);
    }
    scene.well();
    assert!(poll_until(LIMIT, || scene.server().process().threads() <= threads), "threads are left");
    // What an allocator keeps, and stacks of threads that have ended, which are kept for the next ones: some, however many
    // clients there were, but not one for every tenth client.
    let most = maps + usize::try_from(CYCLES / 10).unwrap();
    let came = poll_until(LIMIT, || mappings(scene.server()) <= most);
    assert!(came, "{} mappings, there were {maps}", mappings(scene.server()));
    let grown = scene.server().process().rss_kib().saturating_sub(rss);
    assert!(grown < 4 << 10, "grown by {grown} KiB");
    scene.unharmed();
}

#[test]
fn sixty_four_contexts_are_each_served_right() {
    let server = Server::new(&[Device::Scratch; CONTEXTS]);
    let mut peers: Vec<Peer> = (0..CONTEXTS).map(|device| server.peer(device)).collect();
    let mut random = Random(64);
    // What each has written where, to be read back by itself only.
    let mut kept = vec![[0_u8; 256]; CONTEXTS];
    let mut open: Vec<Vec<(Header, Vec<u8>)>> = vec![Vec::new(); CONTEXTS];
    for step in 0..20_000 {
        let who = random.index(CONTEXTS);
        let at = random.index(248);
        if random.one_in(2) {
            let value = random.number().to_ne_bytes();
            kept[who][at..at + 8].copy_from_slice(&value);
            peers[who].send(&region_write(0, at as u64, &value).no_reply());
        } else {
            let header = peers[who].begin(&region_read(0, at as u64, 8), &[]);
            open[who].push((header, kept[who][at..at + 8].to_vec()));
        }
        if open[who].len() > 16 || step + CONTEXTS > 20_000 {
            for (header, expected) in open[who].drain(..) {
                assert_eq!(
                    peers[who].outcome(&header).unwrap()[16..],
                    expected,
                    "context {who}, step {step}"
                );
            }
        }
    }
    for (who, (peer, open)) in peers.iter_mut().zip(open).enumerate() {
        for (header, expected) in open {
            assert_eq!(peer.outcome(&header).unwrap()[16..], expected, "context {who}");
        }
        peer.in_step();
    }
}

/// One that has thousands of commands waiting is not done before each of the others has had its one. (As many as its socket holds
/// while the server is stopped: all the while that this client takes to read 63 answers, the server goes on.)
#[test]
fn sixty_four_contexts_are_each_served_fairly() {
    const GREED: usize = 5000;
    let mut server = Server::new(&[Device::Scratch; CONTEXTS]);
    let mut peers: Vec<Peer> = (0..CONTEXTS).map(|device| server.peer(device)).collect();
    let greedy = get_info().encode().repeat(GREED);
    let all = GREED * 32;
    let mut early = Vec::new();
    for _ in 0..5 {
        // Stopped, so that all commands are there before the first is served. The greedy one comes first.
        server.process().signal(Signal::STOP).unwrap();
        peers[0].send_bytes(&greedy, &[]);
        let asked: Vec<Header> =
            peers[1..].iter_mut().map(|peer| peer.begin(&region_read(7, 0, 4), &[])).collect();
        server.process().signal(Signal::CONT).unwrap();
        for (peer, header) in peers[1..].iter_mut().zip(&asked) {
            peer.outcome(header).unwrap();
        }
        let done = peers[0].pending();
        for _ in 0..GREED {
            assert_eq!(peers[0].message().errno(), None);
        }
        if done < all {
            return;
        }
        early.push(done);
    }
    panic!("63 contexts have waited for one, in each of 5 rounds: {early:?} of {all} bytes");
}
