//! The client of the `vfio_user` crate, which Cloud Hypervisor uses, against the devices of a `vmmd` and against a backend that
//! was written for that crate's own server.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

use iothread::IoThread;
use rustix::fs::SealFlags;
use tempfile::TempDir;
use vfio_bindings::bindings::vfio::vfio_region_info;
use vfio_user::{Client, DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend, ServerRegion};
use vfio_user_server::adapter::Builder;
use vfio_user_server::context::{Exported, Listen};
use vmm_integration::LIMIT;
use vmm_integration::vfio_user::fds::{
    Tracer, count, event, events, every_wrong_kind, guest_memory, memory, sealed, signalled,
};
use vmm_integration::vfio_user::payload::{self, region_read, region_write, set_irqs};
use vmm_integration::vfio_user::server::Device;
use vmm_integration::vfio_user::{DmaMap, Peer, Server, irq};

const ASSIGN: u32 = irq::EVENTFD | irq::TRIGGER;
const FIRE: u32 = irq::NONE | irq::TRIGGER;

fn raw(fds: &[OwnedFd]) -> Vec<RawFd> {
    fds.iter().map(AsRawFd::as_raw_fd).collect()
}

fn read32(client: &mut Client, region: u32, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    client.region_read(region, offset, &mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}

#[test]
fn drives_edu_of_a_vmmd() {
    let server = Server::vmmd(&[Device::Edu], 1);
    let mut client = Client::new(&server.socket(0)).unwrap();
    assert_eq!(client.region(0).unwrap().size, 1 << 20);
    assert_eq!(client.region(8).unwrap().size, 0, "VGA, absent");
    assert_eq!(read32(&mut client, 7, 0), 0x11e8_1234);
    client.region_write(0, 4, &0x1234_5678_u32.to_le_bytes()).unwrap();
    assert_eq!(read32(&mut client, 0, 4), !0x1234_5678);
    // The factorial is computed in the background, and ends with an interrupt.
    let pin = event();
    client.set_irqs(irq::INTX, ASSIGN, 0, 1, &raw(std::slice::from_ref(&pin))).unwrap();
    client.region_write(0, 0x20, &0x80_u32.to_le_bytes()).unwrap();
    client.region_write(0, 8, &10_u32.to_le_bytes()).unwrap();
    signalled(&pin);
    assert_eq!(read32(&mut client, 0, 8), 3_628_800);
    client.region_write(0, 0x64, &1_u32.to_le_bytes()).unwrap();
    client.reset().unwrap();
    client.shutdown().unwrap();
}

#[test]
fn drives_scratch_of_a_vmmd() {
    let server = Server::vmmd(&[Device::Scratch], 1);
    let mut client = Client::new(&server.socket(0)).unwrap();
    assert_eq!(client.region(0).unwrap().size, 2 << 20);
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    client.region_write(0, 1 << 20, &data).unwrap();
    let mut back = vec![0; 1 << 20];
    client.region_read(0, 1 << 20, &mut back).unwrap();
    assert!(back == data);
    let memory = guest_memory(1 << 20);
    client.dma_map(0, 0x10_0000, 1 << 20, memory.as_raw_fd()).unwrap();
    let start = Vec::from(payload::Body::new().u64(0x10_0000).u32(4).u32(4096));
    client.region_write(2, 0, &start).unwrap();
    assert_eq!(client.get_irq_info(irq::MSIX).unwrap().count, 8);
    let events = events(8);
    client.set_irqs(irq::MSIX, ASSIGN, 0, 8, &raw(&events)).unwrap();
    client.set_irqs(irq::MSIX, FIRE, 2, 3, &[]).unwrap();
    assert_eq!(events.iter().map(count).collect::<Vec<_>>(), [0, 0, 1, 1, 1, 0, 0, 0]);
    client.dma_unmap(0x10_0000, 1 << 20).unwrap();
    client.reset().unwrap();
}

/// What a backend was called for.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Map { flags: u32, offset: u64, iova: u64, size: u64, file: bool },
    Unmap { iova: u64, size: u64 },
    Reset,
    Irqs { index: u32, flags: u32, start: u32, count: u32, fds: usize },
}

/// Region 0 is memory. A write to region 1 fires the vector that it names; a read of region 2 comes from the first map.
struct Backend {
    memory: Vec<u8>,
    vectors: Vec<Option<File>>,
    map: Option<(File, u64)>,
    calls: Sender<Call>,
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        match (region, &self.map) {
            (0, _) => data.copy_from_slice(&self.memory[at..at + data.len()]),
            (2, Some((file, start))) => file.read_exact_at(data, start + offset)?,
            _ => return Err(io::Error::from_raw_os_error(61)),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        match region {
            0 => self.memory[at..at + data.len()].copy_from_slice(data),
            _ => {
                let vector = self.vectors.get(usize::from(data[0])).and_then(Option::as_ref);
                let file = vector.ok_or(io::ErrorKind::NotFound)?;
                rustix::io::write(file, &1_u64.to_ne_bytes())?;
            }
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        iova: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        self.calls.send(Call::Map { flags: flags.bits(), offset, iova, size, file: fd.is_some() }).unwrap();
        if let Some(file) = fd {
            self.map = Some((file, offset));
        }
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, iova: u64, size: u64) -> io::Result<()> {
        self.calls.send(Call::Unmap { iova, size }).unwrap();
        self.map = None;
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.calls.send(Call::Reset).unwrap();
        self.memory.fill(0);
        Ok(())
    }

    fn set_irqs(&mut self, index: u32, flags: u32, start: u32, count: u32, fds: Vec<File>) -> io::Result<()> {
        self.calls.send(Call::Irqs { index, flags, start, count, fds: fds.len() }).unwrap();
        if count == 0 {
            self.vectors.fill_with(|| None);
        }
        if flags == ASSIGN {
            for (vector, fd) in (start as usize..).zip(fds) {
                self.vectors[vector] = Some(fd);
            }
        }
        Ok(())
    }
}

/// A backend behind the adapter, on an iothread.
struct Adapted {
    calls: Receiver<Call>,
    path: PathBuf,
    _exported: Exported,
    _iothread: IoThread,
    _dir: TempDir,
}

impl Adapted {
    fn new() -> Self {
        let (sender, calls) = channel();
        let backend = Backend {
            memory: vec![0; 4096],
            vectors: (0..8).map(|_| None).collect(),
            map: None,
            calls: sender,
        };
        // Read and write, write only, read only, and the rest absent.
        let sizes_and_flags =
            [(4096, 3), (16, 2), (4096, 1), (0, 0), (0, 0), (0, 0), (0, 0), (256, 0), (0, 0)];
        let region = |(index, (size, flags))| {
            let region_info = vfio_region_info { argsz: 32, flags, index, size, ..Default::default() };
            ServerRegion { region_info, sparse_areas: Vec::new(), mmap_fd: None }
        };
        let regions = (0..).zip(sizes_and_flags).map(region).collect();
        let irqs = [(0, 1), (1, 0), (2, 8), (3, 0), (4, 0)];
        let irqs = irqs.map(|(index, count)| IrqInfo { index, flags: 1, count }).to_vec();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backend.sock");
        let iothread = IoThread::builder("IO backend").start().unwrap();
        let builder = Builder::new(Box::new(backend), regions, irqs).resettable(true).reconnect(true);
        let context = builder.listen(Listen::Path(path.clone())).unwrap();
        let exported = context.spawn(&iothread.handle()).unwrap();
        Self { calls, path, _exported: exported, _iothread: iothread, _dir: dir }
    }

    fn peer(&self) -> Peer {
        let mut peer = Peer::connect(&self.path).unwrap();
        peer.negotiate();
        peer
    }

    #[track_caller]
    fn called(&self, call: &Call) {
        assert_eq!(self.calls.recv_timeout(LIMIT).as_ref(), Ok(call));
    }

    #[track_caller]
    fn not_called(&self) {
        let call = self.calls.try_recv();
        assert!(call.is_err(), "{call:?}");
    }
}

#[test]
fn a_backend_of_that_crate_serves_its_client_unchanged() {
    let adapted = Adapted::new();
    let mut client = Client::new(&adapted.path).unwrap();
    client.region_write(0, 100, b"as ever").unwrap();
    let mut back = [0; 7];
    client.region_read(0, 100, &mut back).unwrap();
    assert_eq!(&back, b"as ever");

    let memory = guest_memory(8192);
    rustix::io::pwrite(&memory, b"in the guest", 4096).unwrap();
    client.dma_map(4096, 0x1000, 4096, memory.as_raw_fd()).unwrap();
    adapted.called(&Call::Map { flags: 3, offset: 4096, iova: 0x1000, size: 4096, file: true });
    let mut data = [0; 12];
    client.region_read(2, 0, &mut data).unwrap();
    assert_eq!(&data, b"in the guest");

    let events = events(8);
    client.set_irqs(irq::MSIX, ASSIGN, 0, 8, &raw(&events)).unwrap();
    adapted.called(&Call::Irqs { index: irq::MSIX, flags: ASSIGN, start: 0, count: 8, fds: 8 });
    client.region_write(1, 0, &[5]).unwrap();
    assert_eq!(signalled(&events[5]), 1);

    client.reset().unwrap();
    adapted.called(&Call::Reset);
    client.dma_unmap(0x1000, 4096).unwrap();
    adapted.called(&Call::Unmap { iova: 0x1000, size: 4096 });
    adapted.not_called();
}

#[test]
fn a_backend_lets_go_when_its_client_goes() {
    let adapted = Adapted::new();
    let mut peer = adapted.peer();
    peer.ok(&DmaMap::new(0, 4096).message());
    adapted.called(&Call::Map { flags: 3, offset: 0, iova: 0, size: 4096, file: false });
    let event = event();
    peer.ok_with(&set_irqs(ASSIGN, irq::INTX, 0, 1, &[]), &[event.as_fd()]);
    adapted.called(&Call::Irqs { index: irq::INTX, flags: ASSIGN, start: 0, count: 1, fds: 1 });
    drop(peer);
    adapted.called(&Call::Irqs { index: irq::INTX, flags: FIRE, start: 0, count: 0, fds: 0 });
    adapted.called(&Call::Irqs { index: irq::MSIX, flags: FIRE, start: 0, count: 0, fds: 0 });
    adapted.called(&Call::Unmap { iova: 0, size: 4096 });
    // It stays: when it goes, that is told, too.
    let mut next = adapted.peer();
    next.in_step();
    adapted.not_called();
}

#[test]
fn a_backend_never_sees_what_is_wrong_in_itself() {
    let adapted = Adapted::new();
    let mut peer = adapted.peer();
    let memory = guest_memory(4096);
    for message in [
        region_read(0, 4096, 1),
        region_read(0, u64::MAX, 8),
        region_read(0, 0, u32::MAX),
        region_read(1, 0, 1),
        region_write(2, 0, &[1]),
        region_write(9, 0, &[1]),
        payload::region_write_of(0, 0, 8, &[1]),
        DmaMap::new(0, 0).message(),
        DmaMap::new(u64::MAX, 2).message(),
        DmaMap::new(0, 4096).flags(0xf0).message(),
        payload::dma_unmap(0, 0, 4096),
        set_irqs(FIRE, irq::MSIX, 8, 1, &[]),
        set_irqs(FIRE, irq::MSIX, 1, u32::MAX, &[]),
        set_irqs(ASSIGN | irq::NONE, irq::MSIX, 0, 1, &[]),
        set_irqs(irq::BOOL | irq::TRIGGER, irq::MSIX, 0, 3, &[1]),
    ] {
        peer.refused(&message);
    }
    adapted.not_called();
    peer.ok_with(&DmaMap::new(0, 4096).message(), &[memory.as_fd()]);
    adapted.called(&Call::Map { flags: 3, offset: 0, iova: 0, size: 4096, file: true });
    peer.refused(&DmaMap::new(100, 4096).message());
    peer.refused(&payload::dma_unmap(0, 0, 2048));
    adapted.not_called();
}

#[test]
fn a_backend_gets_no_memory_that_could_kill_it() {
    let adapted = Adapted::new();
    let mut peer = adapted.peer();
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = every_wrong_kind(dir.path()).unwrap();
    wrong.push(("memory without seals", memory(4096, false)));
    wrong.push(("memory that can still shrink", sealed(4096, SealFlags::GROW)));
    for (name, fd) in &wrong {
        let answer = peer.call_with(&DmaMap::new(0, 4096).message(), &[fd.as_fd()]);
        assert!(answer.is_err(), "{name} was handed to a backend");
        peer.in_step();
    }
    peer.refused_with(&DmaMap::new(0, 8192).message(), &[guest_memory(4096).as_fd()]);
    adapted.not_called();
    let mut tracer = Tracer::new();
    peer.refused_with(&DmaMap::new(0, 4096).message(), &[tracer.fd()]);
    tracer.closed();
}

#[test]
fn a_backend_gets_no_interrupts_that_are_no_eventfds() {
    let adapted = Adapted::new();
    let mut peer = adapted.peer();
    let dir = tempfile::tempdir().unwrap();
    for (name, fd) in every_wrong_kind(dir.path()).unwrap() {
        let answer = peer.call_with(&set_irqs(ASSIGN, irq::MSIX, 0, 1, &[]), &[fd.as_fd()]);
        assert!(answer.is_err(), "{name} was handed to a backend");
        peer.in_step();
    }
    adapted.not_called();
}

#[test]
fn a_backends_own_error_is_its_clients_and_never_nothing() {
    let adapted = Adapted::new();
    let mut peer = adapted.peer();
    assert_eq!(peer.refused(&region_read(2, 0, 4)), 61, "ENODATA, for there is no map");
    // An error of its own making, without an errno.
    peer.refused(&region_write(1, 0, &[3]));
}

#[test]
fn booleans_become_calls_for_single_vectors() {
    let adapted = Adapted::new();
    let mut peer = adapted.peer();
    peer.ok(&set_irqs(irq::BOOL | irq::TRIGGER, irq::MSIX, 2, 4, &[1, 0, 0, 1]));
    for start in [2, 5] {
        adapted.called(&Call::Irqs { index: irq::MSIX, flags: FIRE, start, count: 1, fds: 0 });
    }
    adapted.not_called();
}
