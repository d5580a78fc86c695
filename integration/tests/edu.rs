//! Our edu device, over its vfio-user socket, held against QEMU's own edu on a `q35`.
//!
//! The same random accesses go to both: registers of every width and alignment, factorials, interrupts by pin and by message,
//! and DMA both ways. QEMU's processor runs a firmware of HLT instructions, so nobody else touches the device while its
//! clock goes. The streams are made from a seed that a failure prints; `EDU_SEED` runs one again and `EDU_STREAMS` says how
//! many to run. Where QEMU is not installed this says so and passes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use iothread::IoThread;
use pci_devices::Edu;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use tempfile::TempDir;
use vfio_user::Client;
use vfio_user_server::context::{Context, Exported, Listen};
use vmm_integration::qtest::{TestDriven, qemu_is_here};
use vmm_integration::random::Random;
use vmm_integration::{LIMIT, poll_until};

/// Where BAR 0 is put in QEMU.
const BAR: u64 = 0xe000_0000;
/// Memory of both, in bytes.
const MEMORY: u64 = 64 << 20;
/// Where DMA goes: far from all that a machine has in its first megabyte.
const TARGET: u64 = 0x10_0000;
/// Where QEMU's MSI is aimed.
const MESSAGE: u64 = 0x20_0000;
const MESSAGE_DATA: u32 = 0x4041;

const CONFIG: u32 = 7;
const MSI: u32 = 1;

/// A device, whoever's.
trait Device {
    fn read(&mut self, offset: u64, length: usize) -> Vec<u8>;
    fn write(&mut self, offset: u64, data: &[u8]);
    fn read_config(&mut self, offset: u64) -> u32;
    fn write_config(&mut self, offset: u64, value: u32);
    fn read_memory(&mut self, address: u64, length: usize) -> Vec<u8>;
    fn write_memory(&mut self, address: u64, data: &[u8]);
    fn use_msi(&mut self, on: bool);
    /// Whether there were messages since the last look.
    fn had_message(&mut self) -> bool;
}

/// QEMU's.
struct Theirs {
    machine: TestDriven,
    _dir: TempDir,
}

impl Theirs {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let firmware = dir.path().join("halt.bin");
        std::fs::write(&firmware, [0xf4; 0x1_0000]).unwrap();
        let firmware = firmware.to_string_lossy();
        let options =
            ["-nodefaults", "-machine", "q35", "-m", "64M", "-bios", &firmware, "-device", "edu,addr=5"];
        let mut this = Self { machine: TestDriven::start("qemu-system-x86_64", &options), _dir: dir };
        this.write_config(0x10, u32::try_from(BAR).unwrap());
        this
    }

    fn select(&mut self, offset: u64) {
        assert_eq!(self.machine.ask(&format!("outl 0xcf8 {:#x}", 0x8000_0000 | 5 << 11 | offset)), "OK");
    }

    fn get(&mut self, address: u64, length: usize) -> Vec<u8> {
        let answer = self.machine.ask(&format!("read {address:#x} {length:#x}"));
        let digits = answer.strip_prefix("OK 0x").unwrap_or_else(|| panic!("{answer}"));
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    fn put(&mut self, address: u64, data: &[u8]) {
        let digits: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = self.machine.ask(&format!("write {address:#x} {:#x} 0x{digits}", data.len()));
        assert_eq!(answer, "OK");
    }
}

impl Device for Theirs {
    fn read(&mut self, offset: u64, length: usize) -> Vec<u8> {
        self.get(BAR + offset, length)
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.put(BAR + offset, data);
    }

    fn read_config(&mut self, offset: u64) -> u32 {
        self.select(offset);
        let answer = self.machine.ask("inl 0xcfc");
        u32::from_str_radix(answer.strip_prefix("OK 0x").unwrap(), 16).unwrap()
    }

    fn write_config(&mut self, offset: u64, value: u32) {
        self.select(offset);
        assert_eq!(self.machine.ask(&format!("outl 0xcfc {value:#x}")), "OK");
    }

    fn read_memory(&mut self, address: u64, length: usize) -> Vec<u8> {
        self.get(address, length)
    }

    fn write_memory(&mut self, address: u64, data: &[u8]) {
        self.put(address, data);
    }

    fn use_msi(&mut self, on: bool) {
        if on {
            self.write_config(0x44, u32::try_from(MESSAGE).unwrap());
            self.write_config(0x48, 0);
            self.write_config(0x4c, MESSAGE_DATA);
        }
        self.write_config(0x40, if on { 1 << 16 } else { 0 });
        self.had_message();
    }

    fn had_message(&mut self) -> bool {
        let there = self.get(MESSAGE, 4);
        self.put(MESSAGE, &[0; 4]);
        there == MESSAGE_DATA.to_le_bytes()
    }
}

/// Ours.
struct Ours {
    client: Client,
    memory: OwnedFd,
    messages: OwnedFd,
    _exported: Exported,
    _iothread: IoThread,
    _dir: TempDir,
}

impl Ours {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edu.sock");
        let iothread = IoThread::builder("IO edu").start().unwrap();
        let context = Context::builder(Box::new(Edu::new())).listen(Listen::Path(path.clone()));
        let exported = context.map_err(|(e, _)| e).unwrap().spawn(&iothread.handle()).unwrap();
        let mut client = Client::new(&path).unwrap();
        let memory = memfd_create("memory", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, MEMORY).unwrap();
        client.dma_map(0, 0, MEMORY, memory.as_raw_fd()).unwrap();
        let messages = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let mut this = Self { client, memory, messages, _exported: exported, _iothread: iothread, _dir: dir };
        this.write_config(0x10, u32::try_from(BAR).unwrap());
        this
    }
}

impl Device for Ours {
    fn read(&mut self, offset: u64, length: usize) -> Vec<u8> {
        let mut data = vec![0x77; length];
        self.client.region_read(0, offset, &mut data).unwrap();
        data
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.client.region_write(0, offset, data).unwrap();
    }

    fn read_config(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.client.region_read(CONFIG, offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    fn write_config(&mut self, offset: u64, value: u32) {
        self.client.region_write(CONFIG, offset, &value.to_le_bytes()).unwrap();
    }

    fn read_memory(&mut self, address: u64, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        rustix::io::pread(&self.memory, &mut data, address).unwrap();
        data
    }

    fn write_memory(&mut self, address: u64, data: &[u8]) {
        rustix::io::pwrite(&self.memory, data, address).unwrap();
    }

    /// As QEMU's client does it: both the eventfd and the capability.
    fn use_msi(&mut self, on: bool) {
        if on {
            self.client.set_irqs(MSI, 0x24, 0, 1, &[self.messages.as_raw_fd()]).unwrap();
        } else {
            self.client.set_irqs(MSI, 0x21, 0, 0, &[]).unwrap();
        }
        self.write_config(0x40, if on { 1 << 16 } else { 0 });
        self.had_message();
    }

    fn had_message(&mut self) -> bool {
        rustix::io::read(&self.messages, &mut [0_u8; 8]).is_ok()
    }
}

/// Both devices, and what has been done to them.
struct Pair {
    ours: Ours,
    theirs: Theirs,
    random: Random,
    done: Vec<String>,
    msi: bool,
}

impl Pair {
    fn both<T>(&mut self, call: impl Fn(&mut dyn Device) -> T) -> (T, T) {
        (call(&mut self.ours), call(&mut self.theirs))
    }

    /// Asks both, and wants the same.
    #[track_caller]
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, call: impl Fn(&mut dyn Device) -> T) -> T {
        let (ours, theirs) = self.both(call);
        let last = &self.done[self.done.len().saturating_sub(30)..];
        assert_eq!(ours, theirs, "{what}: ours, theirs; before that: {last:#?}");
        ours
    }

    #[track_caller]
    fn read(&mut self, offset: u64, length: usize) -> Vec<u8> {
        self.same(&format!("read {offset:#x} {length}"), |device| device.read(offset, length))
    }

    fn read8(&mut self, offset: u64) -> u64 {
        u64::from_le_bytes(self.read(offset, 8).try_into().unwrap())
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut data = data.to_vec();
        // QEMU counts up to whatever number a factorial is asked for, and a thread of its goes on for minutes.
        for (_, byte) in (offset..).zip(&mut data).filter(|(at, _)| matches!(at, 0x0a | 0x0b)) {
            *byte = 0;
        }
        self.done.push(format!("write {offset:#x} {data:02x?}"));
        self.both(|device| device.write(offset, &data));
    }

    /// Waits until neither computes nor transfers, and the interrupts that come of it are there.
    #[track_caller]
    fn settle(&mut self) {
        let idle = |device: &mut dyn Device| {
            device.read(0x20, 1 + 3)[0] & 1 == 0 && device.read(0x98, 4)[0] & 1 == 0
        };
        assert!(poll_until(LIMIT, || idle(&mut self.ours) && idle(&mut self.theirs)), "{:#?}", self.done);
        // QEMU's thread says that it is done before it interrupts.
        assert!(
            poll_until(LIMIT, || self.ours.read(0x24, 4) == self.theirs.read(0x24, 4)),
            "{:#?}",
            self.done
        );
    }

    /// All that can be seen of both.
    #[track_caller]
    fn compare(&mut self) {
        self.settle();
        for offset in [0x00, 0x04, 0x08, 0x20, 0x24] {
            self.read(offset, 4);
        }
        for offset in [0x80, 0x88, 0x90, 0x98] {
            self.read(offset, 8);
        }
        // Command and status, with the level of the pin.
        self.same("config 4", |device| device.read_config(4));
        if self.msi {
            self.message();
        }
    }

    /// A message may come a little after what it tells of.
    fn message(&mut self) {
        let (mut ours, mut theirs) = self.both(|device| device.had_message());
        let same = poll_until(LIMIT, || {
            ours |= self.ours.had_message();
            theirs |= self.theirs.had_message();
            ours == theirs
        });
        assert!(same, "messages: ours {ours}, theirs {theirs}; {:#?}", self.done);
    }

    /// Something that a guest might do, or should not.
    fn step(&mut self) {
        let registers = [0x00, 0x04, 0x08, 0x20, 0x24, 0x60, 0x64, 0x80, 0x88, 0x90];
        match self.random.below(14) {
            0..=3 => {
                let offset = self.somewhere();
                let most = self.random.pick(&[8, 8, 8, 8, 8, 40]);
                let length = 1 + self.random.index(most);
                self.read(offset, length);
            }
            // Without the command register: a transfer that 7.2 does not like would end QEMU.
            4 | 5 => {
                let offset = self.random.below(0x98 - 16);
                let length = 1 + self.random.index(16);
                let data: Vec<u8> = (0..length).map(|_| self.byte()).collect();
                self.write(offset, &data);
            }
            6..=8 => {
                let offset = self.random.pick(&registers);
                let length = self.random.pick(&[4, 4, 8]);
                let data: Vec<u8> = (0..length).map(|_| self.byte()).collect();
                self.write(offset, &data);
            }
            9 => {
                let n = self.random.pick(&[0, 1, 5, 12, 13, 20, 33, 34, 35, 1000, 100_000]);
                let status = self.random.pick(&[0, 0x80, 0xff]);
                self.write(0x20, &[status, 0, 0, 0]);
                self.write(8, &u32::to_le_bytes(n));
            }
            10 => {
                self.msi = !self.msi;
                let on = self.msi;
                self.done.push(format!("MSI {on}"));
                self.both(|device| device.use_msi(on));
            }
            11 | 12 => {
                let (offset, bits) =
                    (self.random.pick(&[0x60, 0x64]), self.random.pick(&[1_u32, 2, 3, 0x101, !0]));
                self.write(offset, &bits.to_le_bytes());
            }
            _ => {
                let bits = self.random.pick(&[0x06_u32, 0x07, 0x406, 0x407]);
                self.done.push(format!("command {bits:#x}"));
                self.both(|device| device.write_config(4, bits));
            }
        }
        self.compare();
    }

    /// A transfer within the buffer's bounds, and not to its very end, which 7.2 takes for outside.
    fn transfer(&mut self) {
        let at = self.random.below(4096 - 1);
        let count = 1 + self.random.below(4096 - at - 1);
        // Above the 28 bits, which do not count.
        let outside = TARGET + self.random.below(0x1000) + (self.random.below(3) << 28);
        let inside = 0x4_0000 + at;
        let seed = self.byte();
        let data: Vec<u8> = (0..0x3000_usize).map(|n| (n / 7 + n).to_le_bytes()[0] ^ seed).collect();
        self.both(|device| device.write_memory(TARGET, &data));
        let from_device = self.random.one_in(2);
        let (source, destination) = if from_device { (inside, outside) } else { (outside, inside) };
        for (offset, value) in [(0x80, source), (0x88, destination), (0x90, count)] {
            self.write(offset, &value.to_le_bytes());
        }
        let command = 1 | u64::from(from_device) << 1 | self.random.pick(&[0, 4, 0xf8]);
        let command = command.to_le_bytes();
        let width = self.random.pick(&[4, 8]);
        self.write(0x98, &command[..width]);
        self.compare();
        self.same("memory", |device| device.read_memory(TARGET, 0x3000));
    }

    /// No memory there. (A device that is not bus master is the client's to hold back, so it is not compared.)
    fn transfer_in_vain(&mut self) {
        let outside = MEMORY + self.random.below(1 << 20);
        self.both(|device| device.write_memory(TARGET, &[0x5a; 0x1000]));
        let from_device = self.random.one_in(2);
        let (source, destination) = if from_device { (0x4_0100, outside) } else { (outside, 0x4_0100) };
        for (offset, value) in [(0x80, source), (0x88, destination), (0x90, 0x200)] {
            self.write(offset, &u64::to_le_bytes(value));
        }
        self.write(0x98, &[if from_device { 7 } else { 5 }, 0, 0, 0]);
        self.compare();
        // What is in the buffer now.
        for (offset, value) in [(0x80, 0x4_0000), (0x88, TARGET), (0x90, 0xfff), (0x98, 3)] {
            self.write(offset, &u64::to_le_bytes(value));
        }
        self.compare();
        self.same("memory", |device| device.read_memory(TARGET, 0x1000));
    }

    fn somewhere(&mut self) -> u64 {
        match self.random.below(6) {
            0 => self.random.below(0x10_0000 - 40),
            1 => 0x4_0000 + self.random.below(4096),
            _ => self.random.below(0xa8),
        }
    }

    fn byte(&mut self) -> u8 {
        let any = self.random.number().to_le_bytes()[0];
        self.random.pick(&[0, 0, 1, 0x80, 0xff, any])
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn edu_answers_as_qemus_does() {
    if !qemu_is_here(Path::new("qemu-system-x86_64")) {
        return;
    }
    let seeds = number("EDU_SEED")
        .map_or_else(|| (1..=number("EDU_STREAMS").unwrap_or(2)).collect(), |seed| vec![seed]);
    for seed in seeds {
        eprintln!("EDU_SEED={seed}");
        let (ours, theirs) = (Ours::start(), Theirs::start());
        let mut pair = Pair { ours, theirs, random: Random(seed), done: Vec::new(), msi: false };
        for offset in (0..256).step_by(4) {
            pair.same("config", |device| device.read_config(offset));
        }
        pair.both(|device| device.write_config(4, 6));
        for round in 0..6 {
            for _ in 0..40 {
                pair.step();
            }
            pair.both(|device| device.write_config(4, 6));
            pair.transfer();
            if round % 3 == 0 {
                pair.transfer_in_vain();
            }
        }
        assert_eq!(pair.read8(0x98) & 1, 0);
    }
}
