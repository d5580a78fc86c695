//! The edu device's registers, named as its public description names them, and what drives them.

use std::io;
use std::time::{Duration, Instant};

use crate::mapping::Mapping;
use crate::pci::{EDU, Function, Intx};

/// Identification: `0xRRrr00ed`, with a major and a minor version.
pub(crate) const ID: usize = 0x00;
/// Reads back inverted.
pub(crate) const LIVENESS: usize = 0x04;
/// Takes n, becomes n!.
pub(crate) const FACTORIAL: usize = 0x08;
/// [`COMPUTING`] and [`FACTORIAL_INTERRUPT`].
pub(crate) const STATUS: usize = 0x20;
/// What raised the interrupt.
pub(crate) const INTERRUPT_STATUS: usize = 0x24;
/// Raises an interrupt with the bits written.
pub(crate) const INTERRUPT_RAISE: usize = 0x60;
/// Takes the bits written out of the interrupt status.
pub(crate) const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
const DMA_SOURCE: usize = 0x80;
const DMA_DESTINATION: usize = 0x88;
const DMA_COUNT: usize = 0x90;
const DMA_COMMAND: usize = 0x98;

/// In [`STATUS`]: a factorial is on its way.
pub(crate) const COMPUTING: u32 = 0x01;
/// In [`STATUS`]: raise an interrupt when it is done.
pub(crate) const FACTORIAL_INTERRUPT: u32 = 0x80;
/// In [`INTERRUPT_STATUS`]: a factorial is done.
pub(crate) const FACTORIAL_DONE: u32 = 0x001;
/// In [`INTERRUPT_STATUS`]: a transfer is done.
pub(crate) const DMA_DONE: u32 = 0x100;

const DMA_START: u64 = 1;
const DMA_TO_MEMORY: u64 = 2;
const DMA_INTERRUPT: u64 = 4;

/// Where the device's buffer is, as its DMA registers name it.
const BUFFER: u64 = 0x4_0000;

/// How long the device may take for anything. Its transfers wait 100 ms on purpose, and the whole guest is emulated.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// Where a transfer goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    /// From guest memory into the buffer.
    ToDevice,
    /// From the buffer into guest memory.
    ToMemory,
}

/// The device, ready to be driven.
#[derive(Debug)]
pub(crate) struct Edu {
    pub(crate) function: Function,
    pub(crate) registers: Mapping,
    pub(crate) intx: Intx,
}

impl Edu {
    /// Finds it, enables it, maps its registers and takes its INTx.
    pub(crate) fn open(address: Option<&str>) -> io::Result<Self> {
        let function = Function::open(address, EDU)?;
        let intx = function.intx()?;
        function.enable()?;
        let registers = function.bar0()?;
        let edu = Self { function, registers, intx };
        // What a guest before us may have left behind.
        edu.write(INTERRUPT_ACKNOWLEDGE, u32::MAX);
        edu.write(STATUS, 0);
        edu.function.unmask_intx()?;
        Ok(edu)
    }

    /// Reads a 4-byte register.
    pub(crate) fn read(&self, register: usize) -> u32 {
        self.registers.read(register)
    }

    /// Writes a 4-byte register.
    pub(crate) fn write(&self, register: usize, value: u32) {
        self.registers.write(register, value);
    }

    /// Waits for `done`, at most [`LIMIT`].
    pub(crate) fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<(), String> {
        let start = Instant::now();
        while !done(self) {
            if start.elapsed() > LIMIT {
                return Err(format!("{what} does not come within {} s", LIMIT.as_secs()));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Starts a transfer of `count` bytes between guest memory at `address` and the start of the buffer.
    pub(crate) fn start_dma(&self, direction: Direction, address: u64, count: usize, interrupt: bool) {
        let (source, destination, command) = match direction {
            Direction::ToDevice => (address, BUFFER, DMA_START),
            Direction::ToMemory => (BUFFER, address, DMA_START | DMA_TO_MEMORY),
        };
        self.registers.write(DMA_SOURCE, source);
        self.registers.write(DMA_DESTINATION, destination);
        self.registers.write(DMA_COUNT, count as u64);
        self.registers.write(DMA_COMMAND, if interrupt { command | DMA_INTERRUPT } else { command });
    }

    /// Whether a transfer is on its way.
    pub(crate) fn dma_runs(&self) -> bool {
        self.registers.read::<u64>(DMA_COMMAND) & DMA_START != 0
    }
}
