//! A PCI function as Linux shows it in sysfs: its config space, its first BAR, and the driver that hands its INTx to us.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::mapping::Mapping;

/// Vendor and device id of the edu device.
pub(crate) const EDU: (u16, u16) = (0x1234, 0x11e8);

const COMMAND: u64 = 0x04;
const STATUS: u64 = 0x06;
const CAPABILITIES: u64 = 0x34;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;
const COMMAND_INTX_OFF: u16 = 1 << 10;
const STATUS_INTERRUPT: u16 = 1 << 3;

/// A function of the PCI bus.
#[derive(Debug)]
pub(crate) struct Function {
    dir: PathBuf,
    config: File,
}

impl Function {
    /// Opens the function at `address` (such as `0000:00:02.0`), or the first one with the ids `id`.
    pub(crate) fn open(address: Option<&str>, id: (u16, u16)) -> io::Result<Self> {
        let bus = Path::new("/sys/bus/pci/devices");
        let mut dirs: Vec<PathBuf> = match address {
            Some(address) => vec![bus.join(address)],
            None => fs::read_dir(bus)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?,
        };
        dirs.sort();
        for dir in dirs {
            let config = OpenOptions::new().read(true).write(true).open(dir.join("config"))?;
            let function = Self { dir, config };
            if (function.word(0)?, function.word(2)?) == id {
                return Ok(function);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("no PCI function {:04x}:{:04x}", id.0, id.1)))
    }

    /// Where it is on the bus.
    pub(crate) fn address(&self) -> String {
        self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Reads 2 bytes of config space.
    pub(crate) fn word(&self, offset: u64) -> io::Result<u16> {
        let mut bytes = [0; 2];
        self.config.read_exact_at(&mut bytes, offset)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Writes 2 bytes of config space.
    pub(crate) fn set_word(&self, offset: u64, value: u16) -> io::Result<()> {
        self.config.write_all_at(&value.to_le_bytes(), offset)
    }

    /// Writes 4 bytes of config space.
    pub(crate) fn set_dword(&self, offset: u64, value: u32) -> io::Result<()> {
        self.config.write_all_at(&value.to_le_bytes(), offset)
    }

    /// Lets it answer accesses to its memory, and access ours.
    pub(crate) fn enable(&self) -> io::Result<()> {
        let command = self.word(COMMAND)? | COMMAND_MEMORY | COMMAND_MASTER;
        self.set_word(COMMAND, command)
    }

    /// Lets INTx through, which `uio_pci_generic` masks whenever it takes one. The device must have been told that the last
    /// one is served.
    pub(crate) fn unmask_intx(&self) -> io::Result<()> {
        let command = self.word(COMMAND)? & !COMMAND_INTX_OFF;
        self.set_word(COMMAND, command)
    }

    /// Whether its status register says that it asserts INTx.
    pub(crate) fn asserts_intx(&self) -> io::Result<bool> {
        Ok(self.word(STATUS)? & STATUS_INTERRUPT != 0)
    }

    /// Where the capability with this id begins.
    pub(crate) fn capability(&self, id: u8) -> io::Result<Option<u64>> {
        let mut at = self.word(CAPABILITIES)? & 0xfc;
        // A list is never longer than what fits of it into 192 bytes.
        for _ in 0..48 {
            if at == 0 {
                break;
            }
            let [this, next] = self.word(at.into())?.to_le_bytes();
            if this == id {
                return Ok(Some(at.into()));
            }
            at = u16::from(next & 0xfc);
        }
        Ok(None)
    }

    /// Maps BAR 0.
    pub(crate) fn bar0(&self) -> io::Result<Mapping> {
        let file = OpenOptions::new().read(true).write(true).open(self.dir.join("resource0"))?;
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Mapping::of_file(&file, len)
    }

    /// Binds `uio_pci_generic` to it, unless it is bound, and opens what that driver makes of its INTx.
    pub(crate) fn intx(&self) -> io::Result<Intx> {
        let uio = self.dir.join("uio");
        if !uio.exists() {
            let ids = format!("{:04x} {:04x}", self.word(0)?, self.word(2)?);
            fs::write("/sys/bus/pci/drivers/uio_pci_generic/new_id", ids)?;
        }
        let node = fs::read_dir(uio)?.next().ok_or(io::ErrorKind::NotFound)??.file_name();
        let device = File::open(Path::new("/dev").join(node))?;
        Ok(Intx { device })
    }
}

/// INTx as `uio_pci_generic` hands it over: the kernel takes the interrupt, masks it in the command register, and counts.
#[derive(Debug)]
pub(crate) struct Intx {
    device: File,
}

impl Intx {
    /// Waits for an interrupt. Returns how many there were since the driver was bound; `None` when none comes in time.
    pub(crate) fn wait(&mut self, limit: Duration) -> io::Result<Option<u32>> {
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(&self.device, PollFlags::IN)], Some(&limit))? == 0 {
            return Ok(None);
        }
        let mut count = [0; 4];
        self.device.read_exact(&mut count)?;
        Ok(Some(u32::from_ne_bytes(count)))
    }
    /// How many interrupts the guest's processor has taken on its line. More than were waited for came for nothing: the
    /// line was still up when the driver had nothing to serve.
    pub(crate) fn taken() -> io::Result<u64> {
        let table = fs::read_to_string("/proc/interrupts")?;
        let line = table.lines().find(|line| line.ends_with("uio_pci_generic")).unwrap_or_default();
        Ok(line.split_ascii_whitespace().skip(1).map_while(|count| count.parse::<u64>().ok()).sum())
    }
}
