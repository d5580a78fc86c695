//! The machine that `vmmd` is: virtual CPUs that run no guest code, memory, an I/O port bus, a real-time clock
//! and serial ports.
//!
//! [`Board::new`] decides nothing and opens nothing. [`Board::create`] makes the hardware: before the monitors open, or,
//! with `--preconfig`, when a client says so. Then the run state moves the rest: the virtual CPUs and the guest's clock
//! go on and stop with it, in that order when the machine stops, in the other when it goes on.
//!
//! `-machine none` has none of this hardware, and the same run states.
//!
//! # Names in the object tree
//!
//! Those that QEMU's `pc` happens to give: the first CPU is `/machine/unattached/device[0]`, the others follow from
//! `device[2]` on, and the RTC stands seven places behind them. `qom-list` shows them there.

mod bus;
mod clock;
mod memory;
mod objects;
mod rtc;
pub(crate) mod serial;
mod vcpus;

use std::sync::{Arc, OnceLock};

use vmm_control::objects::AttachError;
use vmm_control::{
    CommandError, CommandResult, CpuPlace, EventSender, IoPorts, Machine, Objects, RunState, RunStateCell,
    Vcpu,
};

use self::bus::{ClaimError, PortBus};
use self::clock::Drive;
pub use self::clock::VirtualClock;
use self::memory::Memory;
use self::rtc::base::{Base, host_time};
use self::rtc::device::RtcDevice;
use self::serial::port::SerialPort;
use self::vcpus::Vcpus;
use crate::config::{Config, MachineConfig, MachineKind};
use crate::errno;

/// Why the hardware cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The memory cannot be reserved. QEMU's words.
    #[error("cannot set up guest memory 'ram': {}", errno::text(.0))]
    Memory(std::io::Error),
    /// A virtual CPU's thread cannot be started.
    #[error("cannot start the threads of {count} virtual CPUs: {}", errno::text(.source))]
    Vcpus {
        /// How many there were to be.
        count: u32,
        /// Why.
        source: std::io::Error,
    },
    /// Two devices want the same I/O ports.
    #[error("{0}")]
    Ports(String),
    /// A part of the board has no place in the object tree.
    #[error(transparent)]
    Objects(#[from] AttachError),
}

impl From<ClaimError> for CreateError {
    fn from(error: ClaimError) -> Self {
        Self::Ports(error.to_string())
    }
}

/// The machine. Cheap to clone: all clones are the same one.
#[derive(Debug, Clone)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Option<String>,
    config: MachineConfig,
    state: RunStateCell,
    clock: Arc<VirtualClock>,
    /// In the order of `-serial`. They can be listened to before the board is made.
    serial: Vec<Arc<SerialPort>>,
    /// There once it was made.
    hardware: OnceLock<Hardware>,
    /// Where the hardware's events go, and where it is shown; once the plane exists.
    plane: OnceLock<(EventSender, Objects)>,
}

/// What only a board has.
#[derive(Debug)]
struct Hardware {
    vcpus: Vcpus,
    ports: Arc<PortBus>,
    rtc: Arc<RtcDevice>,
    _memory: Memory,
}

impl Board {
    /// The machine that `config` asks for, without hardware.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let waits = config.start_paused || config.preconfig;
        let state = if waits { RunState::Prelaunch } else { RunState::Running };
        let clock = Arc::new(VirtualClock::new(config.machine.is_test_driven()));
        let ports = if config.machine.kind == MachineKind::Board { config.serials.len() } else { 0 };
        Self(Arc::new(Inner {
            name: config.name.clone(),
            config: config.machine.clone(),
            state: RunStateCell::new(state),
            serial: (0..ports).map(|_| Arc::new(SerialPort::new(clock.clone()))).collect(),
            clock,
            hardware: OnceLock::new(),
            plane: OnceLock::new(),
        }))
    }

    /// Says where events go, and where the hardware is to be shown. To be called once, before [`create`](Self::create).
    pub fn connect(&self, events: EventSender, objects: Objects) {
        // A second plane around one board would be a mistake, but the first one keeps working.
        let _ = self.0.plane.set((events, objects));
    }

    /// Makes the hardware, and lets it run if the machine does. Does nothing when there is hardware already.
    ///
    /// # Errors
    /// What cannot be had; everything else is given back.
    pub async fn create(&self) -> Result<(), CreateError> {
        let inner = &self.0;
        if inner.config.kind == MachineKind::Board && inner.hardware.get().is_none() {
            let hardware = Hardware::new(&inner.config, &inner.clock, &inner.serial).await?;
            let hardware = inner.hardware.get_or_init(|| hardware);
            if let Some((events, objects)) = inner.plane.get() {
                hardware.rtc.connect(events.clone());
                objects::attach(objects, self.vcpus(), &hardware.rtc)?;
            }
            let count = inner.config.smp.cpus;
            tracing::info!(
                "there is no accelerator: {count} virtual CPU(s) have threads, and run no guest code"
            );
        }
        if inner.state.get().is_running() {
            self.run().await;
        }
        Ok(())
    }

    /// The guest's clock.
    #[must_use]
    pub fn clock(&self) -> &VirtualClock {
        &self.0.clock
    }

    /// Its serial ports, in the order of `-serial`.
    pub(crate) fn serial_ports(&self) -> &[Arc<SerialPort>] {
        &self.0.serial
    }

    /// Ends the virtual CPUs' threads and joins them. The machine is of no use afterwards.
    pub fn end(&self) {
        if let Some(hardware) = self.0.hardware.get() {
            hardware.vcpus.end();
        }
    }

    async fn run(&self) {
        self.0.clock.run();
        if let Some(hardware) = self.0.hardware.get() {
            hardware.vcpus.run().await;
        }
    }

    async fn pause(&self) {
        if let Some(hardware) = self.0.hardware.get() {
            hardware.vcpus.pause().await;
        }
        self.0.clock.pause();
    }
}

impl Hardware {
    async fn new(
        config: &MachineConfig,
        clock: &Arc<VirtualClock>,
        serial: &[Arc<SerialPort>],
    ) -> Result<Self, CreateError> {
        let memory = Memory::reserve(config.memory.bytes()).map_err(CreateError::Memory)?;
        let count = config.smp.cpus;
        let base = Base::new(config.rtc.base, i64::try_from(host_time().as_secs()).unwrap_or_default());
        let drive = Drive::new(config.rtc.clock, clock);
        let rtc = Arc::new(RtcDevice::new(base, drive, unattached(count + 8)));
        let mut ports = PortBus::default();
        ports.claim("rtc", RtcDevice::PORT, RtcDevice::PORTS, rtc.clone())?;
        for ((port, name), first) in serial.iter().zip(serial::NAMES).zip(serial::PORTS) {
            ports.claim(name, first, SerialPort::PORTS, port.clone())?;
        }
        let vcpus = Vcpus::start(count).await.map_err(|source| CreateError::Vcpus { count, source })?;
        tracing::debug!(memory = memory.size(), cpus = count, ?ports, "the board is made");
        Ok(Self { vcpus, ports: Arc::new(ports), rtc, _memory: memory })
    }
}

/// The place of a device that has no other.
fn unattached(number: u32) -> String {
    format!("/machine/unattached/device[{number}]")
}

impl Machine for Board {
    fn name(&self) -> Option<String> {
        self.0.name.clone()
    }

    fn run_state(&self) -> RunState {
        self.0.state.get()
    }

    fn machine_type(&self) -> &str {
        self.0.config.kind.word()
    }

    fn uuid(&self) -> [u8; 16] {
        self.0.config.uuid
    }

    fn vcpus(&self) -> Vec<Vcpu> {
        let Some(hardware) = self.0.hardware.get() else { return Vec::new() };
        let smp = &self.0.config.smp;
        let vcpu = |(index, thread_id): (u32, &i32)| Vcpu {
            index,
            thread_id: *thread_id,
            qom_path: unattached(if index == 0 { 0 } else { index + 1 }),
            place: Some(CpuPlace {
                socket: index / (smp.cores * smp.threads),
                core: index / smp.threads % smp.cores,
                thread: index % smp.threads,
            }),
        };
        (0..).zip(hardware.vcpus.thread_ids()).map(vcpu).collect()
    }

    fn status_note(&self) -> Option<String> {
        self.0.hardware.get()?;
        Some("no accelerator: the virtual CPUs run no guest code".to_owned())
    }

    fn io_ports(&self) -> Option<Arc<dyn IoPorts>> {
        let ports = self.0.hardware.get()?.ports.clone();
        Some(ports)
    }

    async fn initialize(&self) -> CommandResult<()> {
        self.create().await.map_err(|error| CommandError::generic(error.to_string()))
    }

    async fn stop(&self) -> CommandResult<()> {
        self.pause().await;
        self.0.state.stop();
        Ok(())
    }

    async fn cont(&self) -> CommandResult<()> {
        self.0.state.cont();
        if self.0.state.get().is_running() {
            self.run().await;
        }
        Ok(())
    }

    async fn shut_down(&self) -> CommandResult<()> {
        self.pause().await;
        self.0.state.shut_down();
        Ok(())
    }

    async fn reset(&self) -> CommandResult<()> {
        if let Some(hardware) = self.0.hardware.get() {
            hardware.rtc.reset();
        }
        self.0.serial.iter().for_each(|port| port.reset());
        self.0.state.reset();
        Ok(())
    }
}
