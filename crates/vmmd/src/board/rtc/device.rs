//! The chip on the bus: it gets the time from the board's clocks, and what the guest sets becomes RTC_CHANGE.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use vmm_control::{EventSender, RtcChange};

use super::Rtc;
use super::base::{Base, host_time};
use crate::board::bus::PortDevice;
use crate::board::clock::{Drive, nanoseconds};
use crate::civil::Civil;

/// The two ports of an RTC.
pub(crate) struct RtcDevice {
    rtc: Mutex<Rtc>,
    drive: Drive,
    base: Base,
    qom_path: String,
    /// Set once the plane exists, which the board comes before.
    events: OnceLock<EventSender>,
}

impl RtcDevice {
    /// The first port: 0 is the index, 1 the data.
    pub(crate) const PORT: u16 = 0x70;
    /// How many there are.
    pub(crate) const PORTS: u16 = 2;

    /// A clock that shows what `base` says, and goes on with `drive`. Its seconds begin with the host's where it shows the
    /// host's time, else now.
    pub(crate) fn new(base: Base, drive: Drive, qom_path: String) -> Self {
        let in_step = matches!(drive, Drive::Host) && base.is_hosts_time();
        let (host, now) = (host_time(), drive.now());
        let second = base.civil(whole_seconds(host));
        let phase = if in_step { i64::from(host.subsec_nanos()) } else { 0 };
        Self { rtc: Mutex::new(Rtc::new(second, phase, now)), drive, base, qom_path, events: OnceLock::new() }
    }

    /// Where RTC_CHANGE goes. Only the first sender counts.
    pub(crate) fn connect(&self, events: EventSender) {
        // A second plane around one board would be a mistake, but the first one keeps working.
        let _ = self.events.set(events);
    }

    /// Its place in the object tree.
    pub(crate) fn qom_path(&self) -> &str {
        &self.qom_path
    }

    /// What it shows now.
    pub(crate) fn shown(&self) -> Civil {
        self.with(|rtc| rtc.shown(self.drive.now()))
    }

    /// What a reset of the machine does to it.
    pub(crate) fn reset(&self) {
        self.with(|rtc| rtc.reset(self.drive.now()));
    }

    fn with<T>(&self, f: impl FnOnce(&mut Rtc) -> T) -> T {
        f(&mut self.rtc.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the clients. With the chip locked, so that the last event is about the last write.
    fn announce(&self, second: i64) {
        let Some(events) = self.events.get() else { return };
        let offset = self.base.ahead(second, whole_seconds(host_time()));
        let change = RtcChange { offset, qom_path: self.qom_path.clone() };
        if let Err(error) = events.emit("RTC_CHANGE", &change) {
            tracing::error!(%error, "RTC_CHANGE was not raised");
        }
    }
}

impl PortDevice for RtcDevice {
    fn read(&self, offset: u16, _size: u8) -> u32 {
        self.with(|rtc| rtc.read(offset, self.drive.now())).into()
    }

    fn write(&self, offset: u16, _size: u8, value: u32) {
        self.with(|rtc| {
            if let Some(second) = rtc.write(offset, value.to_le_bytes()[0], self.drive.now()) {
                self.announce(second);
            }
        });
    }
}

impl fmt::Debug for RtcDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtcDevice").field("qom_path", &self.qom_path).finish_non_exhaustive()
    }
}

fn whole_seconds(since_1970: std::time::Duration) -> i64 {
    nanoseconds(since_1970) / 1_000_000_000
}
