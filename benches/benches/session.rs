//! How long the vfio-user protocol takes for what guests wait for: without a socket, on a device that does nothing.
//!
//! The floor passes the same bytes through the same kind of buffer: in, their answer out.

#![expect(missing_docs, reason = "criterion_group! makes a public function without any")]

use std::hint::black_box;
use std::os::fd::OwnedFd;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fd_closer::Received;
use vfio_user_server::Errno;
use vfio_user_server::protocol::{
    Access, Channel, DeviceInfo, DmaMap, DmaUnmap, IoFd, IrqInfo, Outcome, RegionDescription, Session,
    SessionLimits, SetIrqs, Step, Target,
};

/// A device whose regions are all the same and hold nothing.
struct Nothing;

impl Target for Nothing {
    fn device_info(&self) -> DeviceInfo {
        DeviceInfo { reset: true, regions: 9, irqs: 5 }
    }

    fn region(&self, _: u32) -> RegionDescription<'_> {
        RegionDescription { size: 2 << 20, readable: true, writable: true, ..Default::default() }
    }

    fn io_fds(&self, _: u32) -> Vec<IoFd<'_>> {
        Vec::new()
    }

    fn irq_info(&self, _: u32) -> IrqInfo {
        IrqInfo::default()
    }

    fn set_irqs(&mut self, _: SetIrqs<'_>) -> Result<(), Errno> {
        Ok(())
    }

    fn dma_map(&mut self, _: DmaMap, _: Option<Received>) -> Result<(), Errno> {
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmap) -> Result<(), Errno> {
        Ok(())
    }

    fn region_read(&mut self, _: Access, data: &mut [u8]) -> Outcome {
        black_box(data);
        Outcome::Done
    }

    fn region_write(&mut self, _: Access, data: &[u8]) -> Outcome {
        black_box(data);
        Outcome::Done
    }

    fn reset(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    fn dma_reply(&mut self, _: u16, _: Result<&[u8], Errno>) {}

    fn twin_socket(&mut self) -> Option<OwnedFd> {
        None
    }
}

/// A message: its command, flags, and payload.
fn message(command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(16 + payload.len()).expect("messages are small");
    let head = [&7_u16.to_ne_bytes()[..], &command.to_ne_bytes(), &size.to_ne_bytes(), &flags.to_ne_bytes()];
    [&head.concat()[..], &[0; 4], payload].concat()
}

/// An access of region 0.
fn access(command: u16, flags: u32, count: u32, data: &[u8]) -> Vec<u8> {
    let place = [&64_u64.to_ne_bytes()[..], &0_u32.to_ne_bytes(), &count.to_ne_bytes()].concat();
    message(command, flags, &[&place[..], data].concat())
}

/// Name, bytes, the number of commands in them, bytes of the answers.
fn inputs() -> Vec<(&'static str, Vec<u8>, usize, usize)> {
    const NO_REPLY: u32 = 0x10;
    let read = access(9, 0, 4, &[]);
    let write = access(10, 0, 4, &[0; 4]);
    let posted = access(10, NO_REPLY, 4, &[0; 4]);
    vec![
        ("4-byte read", read.clone(), 1, 36),
        ("4-byte write", write, 1, 32),
        ("32 reads", read.repeat(32), 32, 32 * 36),
        ("32 posted writes", posted.repeat(32), 32, 0),
        ("4 KiB read", access(9, 0, 4096, &[]), 1, 32 + 4096),
        ("4 KiB write", access(10, 0, 4096, &[0; 4096]), 1, 32),
    ]
}

fn feed(session: &mut Session, bytes: &[u8]) {
    session.spare(Channel::Main)[..bytes.len()].copy_from_slice(bytes);
    session.received(Channel::Main, bytes.len(), []);
}

/// Executes all that is there and takes the answers. Gives how many commands there were, and bytes of answers.
fn drain(session: &mut Session) -> (usize, usize) {
    let mut count = 0;
    while let Ok(Step::Executed { .. }) = session.step(&mut Nothing) {
        count += 1;
    }
    let length = black_box(session.output(Channel::Main).bytes).len();
    session.sent(Channel::Main, length);
    (count, length)
}

fn accesses(c: &mut Criterion) {
    let mut group = c.benchmark_group("session");
    for (name, bytes, commands, answers) in inputs() {
        group.throughput(Throughput::Elements(commands as u64));
        group.bench_with_input(BenchmarkId::new("step", name), &bytes, |b, bytes| {
            let mut session = Session::new(SessionLimits::default());
            feed(&mut session, &message(1, 0, &[0; 4]));
            assert_eq!(drain(&mut session).0, 1, "the version");
            b.iter(|| {
                feed(&mut session, black_box(bytes));
                assert_eq!(drain(&mut session), (commands, answers));
            });
        });
        group.bench_with_input(BenchmarkId::new("floor", name), &bytes, |b, bytes| {
            let mut input = vec![0; 64 * 1024];
            let mut output = Vec::with_capacity(64 * 1024);
            b.iter(|| {
                input[..bytes.len()].copy_from_slice(black_box(bytes));
                output.clear();
                output.resize(answers, 0);
                black_box((&input, &output));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, accesses);
criterion_main!(benches);
