//! A device to measure with.

mod job;

use std::collections::VecDeque;

use vfio_user_server::dma::DmaError;
use vfio_user_server::pci::{Bar, Msix, PciSpec};
use vfio_user_server::protocol::AccessToken;
use vfio_user_server::{DeviceContext, DmaDone, Errno, PciDevice};

use job::{Job, Left};

/// Bytes of BAR 0.
const MEMORY: u64 = 2 << 20;
/// Commands that may wait for the one that runs.
const MAX_WAITING: usize = 256;
/// MSI-X vectors.
const VECTORS: u16 = 8;

/// Memory and DMA, with as little as possible of anything else: what is measured is the way to it.
///
/// BAR 0 is 2 MiB of memory, which clients may [map](Self::mmap). BAR 2 has 4 KiB:
///
/// | offset | bytes | |
/// |---|---|---|
/// | any | 16, write | DMA: `u64 iova, u32 n, u32 len`, little endian. `len` bytes (at most 1 MiB) are read from `iova` `n` times before the write is answered |
/// | 0x010 | 8, read | DMA reads done since the last reset |
/// | 0x020 | 4, write | fires this MSI-X vector |
/// | 0x024 | 4, write | the level of the interrupt pin, 0 or 1 |
/// | 0x800 | 128 | MSI-X table, 8 vectors |
/// | 0xc00 | 8 | MSI-X pending bits |
///
/// Any other access of BAR 2 is answered with `EINVAL`. A write of DMA that fails is answered with an errno: `EFAULT` for
/// memory that is not mapped, `EPERM`, `EIO`, `ETIMEDOUT`, or the client's own. One command runs at a time: others wait
/// for their turn, 256 of them at most, and more get `EBUSY`. `n` or `len` of 0 reads nothing and is answered at once. The bus master bit is not looked
/// at. A reset answers what runs or waits with `ECANCELED`; a client that goes ends it.
///
/// Memory that is reached without messages is read in place, in turns of at most 256 KiB; else each read is a message to the
/// client. The buffer is used again: nothing is allocated after the first read of a size.
#[derive(Debug, Default)]
pub struct Scratch {
    mmap: bool,
    job: Option<Job<AccessToken>>,
    /// Commands that wait for the one that runs.
    waiting: VecDeque<Job<AccessToken>>,
    buffer: Vec<u8>,
    /// Of the last reset or client: work and DMA of earlier ones is ignored.
    age: u64,
    reads: u64,
}

impl Scratch {
    /// The device after power-on. Clients cannot map its memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether clients may map BAR 0.
    #[must_use]
    pub fn mmap(mut self, on: bool) -> Self {
        self.mmap = on;
        self
    }

    /// A command of DMA has come.
    fn start(&mut self, cx: &mut DeviceContext<'_>, command: &[u8; 16]) -> Result<(), Errno> {
        let Some(mut left) = Left::parse(command)? else { return Ok(()) };
        if self.job.is_some() {
            if self.waiting.len() >= MAX_WAITING {
                return Err(Errno::BUSY);
            }
            self.waiting.push_back(Job { token: cx.defer(), left });
            return Ok(());
        }
        // Most end here, within the first turn, and need not be deferred.
        match self.run(cx, &mut left) {
            Turn::Done => Ok(()),
            Turn::Failed(error) => Err(error),
            Turn::Later(how) => {
                self.job = Some(Job { token: cx.defer(), left });
                self.go_on(cx, how);
                Ok(())
            }
        }
    }

    /// One turn of reading in place.
    fn run(&mut self, cx: &mut DeviceContext<'_>, left: &mut Left) -> Turn {
        self.buffer.resize(left.length(), 0);
        for _ in 0..left.turn() {
            match cx.dma_read(left.iova(), &mut self.buffer) {
                Ok(()) => self.reads += 1,
                Err(DmaError::NotLocal) => return Turn::Later(How::ByMessage),
                Err(error) => return Turn::Failed(errno(error)),
            }
            if left.one_done() {
                return Turn::Done;
            }
        }
        Turn::Later(How::InPlace)
    }

    fn go_on(&mut self, cx: &mut DeviceContext<'_>, how: How) {
        let Some(job) = &self.job else { return };
        match how {
            How::InPlace => cx.work_later(self.age),
            How::ByMessage => {
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.resize(job.left.length(), 0);
                cx.start_dma_read(job.left.iova(), buffer, self.age);
            }
        }
    }

    /// Answers the command that runs, and begins the next in a turn of its own.
    fn end(&mut self, cx: &mut DeviceContext<'_>, result: Result<(), Errno>) {
        if let Some(job) = self.job.take() {
            match result {
                Ok(()) => cx.complete_write(job.token),
                Err(error) => cx.fail(job.token, error),
            }
        }
        self.job = self.waiting.pop_front();
        if self.job.is_some() {
            cx.work_later(self.age);
        }
    }
}

/// How a turn has ended.
enum Turn {
    Done,
    Failed(Errno),
    Later(How),
}

/// How reading goes on.
#[derive(Debug, Clone, Copy)]
enum How {
    InPlace,
    ByMessage,
}

impl PciDevice for Scratch {
    fn spec(&self) -> PciSpec {
        let memory = if self.mmap { Bar::shared(MEMORY) } else { Bar::memory(MEMORY) };
        PciSpec::builder(0x1234, 0x5c7a)
            .class(0xff_0000)
            .interrupt_pin()
            .msix(Msix { vectors: VECTORS, table: (2, 0x800), pba: (2, 0xc00) })
            .bar(0, memory)
            .bar(2, Bar::registers(0x1000))
            .build()
            .expect("it is one of two, and a test builds both")
    }

    fn read(&mut self, _: &mut DeviceContext<'_>, _: u8, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        match (offset, data.len()) {
            (0x10, 8) => {
                data.copy_from_slice(&self.reads.to_le_bytes());
                Ok(())
            }
            _ => Err(Errno::INVAL),
        }
    }

    fn write(&mut self, cx: &mut DeviceContext<'_>, _: u8, offset: u64, data: &[u8]) -> Result<(), Errno> {
        if let Ok(command) = data.try_into() {
            return self.start(cx, command);
        }
        let value = u32::from_le_bytes(data.try_into().map_err(|_| Errno::INVAL)?);
        match (offset, u16::try_from(value)) {
            (0x20, Ok(vector)) if vector < VECTORS => cx.raise_msix(vector),
            (0x24, Ok(level @ (0 | 1))) => cx.set_intx(level == 1),
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    fn reset(&mut self, cx: &mut DeviceContext<'_>) {
        let all = self.job.take().into_iter().chain(self.waiting.drain(..));
        all.for_each(|job| cx.fail(job.token, Errno::CANCELED));
        self.age += 1;
        self.reads = 0;
        cx.set_intx(false);
    }

    fn hangup(&mut self, _: &mut DeviceContext<'_>) {
        self.job = None;
        self.waiting.clear();
        self.age += 1;
    }

    fn work(&mut self, cx: &mut DeviceContext<'_>, tag: u64) {
        let Some(job) = self.job.as_mut().filter(|_| tag == self.age) else { return };
        let mut left = job.left;
        let turn = self.run(cx, &mut left);
        if let Some(job) = &mut self.job {
            job.left = left;
        }
        match turn {
            Turn::Done => self.end(cx, Ok(())),
            Turn::Failed(error) => self.end(cx, Err(error)),
            Turn::Later(how) => self.go_on(cx, how),
        }
    }

    fn dma_done(&mut self, cx: &mut DeviceContext<'_>, done: DmaDone) {
        self.buffer = done.buffer;
        let Some(job) = self.job.as_mut().filter(|_| done.tag == self.age) else { return };
        match done.result {
            Err(error) => self.end(cx, Err(errno(error))),
            Ok(()) => {
                self.reads += 1;
                if job.left.one_done() {
                    self.end(cx, Ok(()));
                } else {
                    self.go_on(cx, How::ByMessage);
                }
            }
        }
    }
}

fn errno(error: DmaError) -> Errno {
    match error {
        DmaError::Unmapped => Errno::FAULT,
        DmaError::Permission => Errno::PERM,
        DmaError::Client(errno) => errno,
        DmaError::TimedOut => Errno::TIMEDOUT,
        _ => Errno::IO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_can_be_built() {
        for on in [false, true] {
            let spec = Scratch::new().mmap(on).spec();
            assert_eq!([0, 1, 2, 3].map(|bar| spec.bar_size(bar)), [MEMORY, 0, 0x1000, 0]);
            assert_eq!((spec.msix_vectors(), spec.msi_vectors(), spec.intx()), (8, 0, 1));
        }
    }
}
