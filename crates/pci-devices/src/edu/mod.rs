//! QEMU's educational device.

mod pieces;
mod registers;
mod transfer;

use std::time::Duration;

use vfio_user_server::pci::{Bar, Msi, PciSpec};
use vfio_user_server::{DeviceContext, DmaDone, Errno, PciDevice};

use pieces::pieces;
use registers::{Registers, Surroundings};
use transfer::{BUFFER_SIZE, Transfer};

/// From the start of a transfer until it is done: as in QEMU.
const TRANSFER_TIME: Duration = Duration::from_millis(100);
/// Of the timer; there is one.
const TRANSFER: u64 = 0;
/// Bus addresses that the device reaches unless it is told otherwise: 28 bits, as in QEMU.
const DMA_MASK: u64 = 0x0fff_ffff;

/// The device that QEMU calls `edu` (1234:11e8): a liveness check, factorials in the background, interrupts, and DMA to and
/// from a buffer of 4096 bytes.
///
/// Its registers, their access rules and its timing are QEMU's, as its documentation (`docs/specs/edu.rst`) and experiments
/// with versions 7.2 and 11.1 have them. BAR 0 has 1 MiB:
///
/// | offset | register | |
/// |---|---|---|
/// | 0x00 | identification | `0x010000ed`, read-only |
/// | 0x04 | liveness check | reads the inverse of what was written |
/// | 0x08 | factorial | write n, wait until status bit 0x01 is clear, read n! modulo 2^32 |
/// | 0x20 | status | 0x01 computing (read-only), 0x80 interrupt 0x1 when a factorial is done |
/// | 0x24 | interrupt status | read-only |
/// | 0x60 | interrupt raise | its bits are added to the status |
/// | 0x64 | interrupt acknowledge | its bits are removed from the status |
/// | 0x80 | DMA source | 64 bits |
/// | 0x88 | DMA destination | 64 bits |
/// | 0x90 | DMA count | in bytes, 64 bits |
/// | 0x98 | DMA command | 1 start (and running), 2 from the device to memory, 4 interrupt 0x100 when done |
///
/// Below 0x80 accesses have 4 bytes, from there on 4 or 8. Everything else reads as ones and takes nothing; what is shorter
/// or not aligned reads as 0. The buffer is at 0x40000 for DMA, and cannot be reached through the BAR.
///
/// Interrupts are messages once the driver uses MSI (the client has given it an eventfd, or its capability is switched
/// on), else the level of the pin, as long as the interrupt status is not 0.
///
/// # What differs from QEMU
/// * A reset is one: registers, buffer and what goes on are as after power-on. QEMU's keeps its registers. A device that is
///   exported goes from guest to guest.
/// * A transfer that is not within the buffer is refused: nothing is copied, which is logged once, and otherwise it
///   ends as any other. That is what QEMU 11.1 does; 7.2 ends the whole process.
/// * A factorial takes no longer for a large number: from 34 on it is 0 modulo 2^32.
/// * The bus master bit is not looked at: the client that owns the memory does that, and answers messages or does not map.
/// * A client that goes takes its transfer with it; a factorial is done at once.
#[derive(Debug)]
pub struct Edu {
    registers: Registers,
    mask: u64,
    memory: Box<[u8; BUFFER_SIZE]>,
    /// Lent to transfers, and used again.
    buffer: Vec<u8>,
    /// Where in `memory` the data of the transfer that is under way belongs.
    reading: Option<usize>,
    /// Counts resets and clients: what belongs to earlier ones is ignored.
    age: u64,
    /// A transfer has been refused, which has been logged.
    refused: bool,
}

impl Edu {
    /// The device after power-on.
    pub fn new() -> Self {
        Self {
            registers: Registers::default(),
            mask: DMA_MASK,
            memory: Box::new([0; BUFFER_SIZE]),
            buffer: Vec::new(),
            reading: None,
            age: 0,
            refused: false,
        }
    }

    /// Bits of a bus address that the device drives, 28 of them if this is not called. Others are taken for 0.
    #[must_use]
    pub fn dma_mask(mut self, mask: u64) -> Self {
        self.mask = mask;
        self
    }

    /// Begins what the registers ask for, now that its time has come.
    fn transfer(&mut self, cx: &mut DeviceContext<'_>) {
        let transfer = self.registers.transfer(self.mask);
        match transfer {
            Transfer::Read { iova, at, count } => {
                self.reading = Some(at);
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.resize(count, 0);
                cx.start_dma_read(iova, buffer, self.age);
            }
            Transfer::Write { iova, at, count } => {
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.clear();
                buffer.extend_from_slice(&self.memory[at..at + count]);
                cx.start_dma_write(iova, buffer, self.age);
            }
            Transfer::Nothing => self.registers.transferred(cx),
            Transfer::OutOfBounds => {
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::warn!("edu: a transfer that is not within its buffer was refused (said once)");
                }
                self.registers.transferred(cx);
            }
        }
    }
}

impl Default for Edu {
    fn default() -> Self {
        Self::new()
    }
}

impl PciDevice for Edu {
    fn spec(&self) -> PciSpec {
        PciSpec::builder(0x1234, 0x11e8)
            .revision(0x10)
            .class(0x00_ff00)
            .subsystem(0x1af4, 0x1100)
            .interrupt_pin()
            .msi(Msi { vectors: 1, address64: true, maskable: false })
            .bar(0, Bar::registers(0x10_0000))
            .build()
            .expect("it is the same each time, and a test builds it")
    }

    fn read(&mut self, _: &mut DeviceContext<'_>, _: u8, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.registers.read(offset, data);
        Ok(())
    }

    fn write(&mut self, cx: &mut DeviceContext<'_>, _: u8, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.registers.write(offset, data, cx);
        Ok(())
    }

    fn config_written(&mut self, cx: &mut DeviceContext<'_>, _: u16, _: u16) {
        self.registers.config_written(cx);
    }

    fn reset(&mut self, cx: &mut DeviceContext<'_>) {
        self.registers = Registers::default();
        self.memory.fill(0);
        self.reading = None;
        self.age += 1;
        cx.set_intx(false);
    }

    fn attached(&mut self, cx: &mut DeviceContext<'_>) {
        self.registers.attached(cx);
    }

    fn hangup(&mut self, cx: &mut DeviceContext<'_>) {
        self.registers.hangup(cx);
        self.reading = None;
        self.age += 1;
    }

    fn timer(&mut self, cx: &mut DeviceContext<'_>, _: u64) {
        self.transfer(cx);
    }

    fn work(&mut self, cx: &mut DeviceContext<'_>, _: u64) {
        self.registers.compute(cx);
    }

    fn dma_done(&mut self, cx: &mut DeviceContext<'_>, done: DmaDone) {
        if done.tag == self.age {
            if let Some(at) = self.reading.take() {
                // The buffer comes back as it was given: it fits.
                let target = self.memory.iter_mut().skip(at).zip(&done.buffer);
                // After an error there are zeroes, as after one of the bus.
                target.for_each(|(to, from)| *to = if done.result.is_ok() { *from } else { 0 });
            }
            self.registers.transferred(cx);
        }
        self.buffer = done.buffer;
    }
}

impl Surroundings for DeviceContext<'_> {
    fn msi(&self) -> bool {
        self.msi_enabled() || self.config().msi_enabled()
    }

    fn message(&mut self) {
        self.raise_msi(0);
    }

    fn level(&mut self, high: bool) {
        self.set_intx(high);
    }

    fn compute_later(&mut self) {
        self.work_later(0);
    }

    fn transfer_later(&mut self) {
        let due = self.now() + TRANSFER_TIME;
        self.set_timer(TRANSFER, due);
    }
}
