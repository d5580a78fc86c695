//! The board's parts in the object tree: `qom-list` shows them, `qom-get` reads them, nobody makes or removes them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vmm_control::objects::AttachError;
use vmm_control::{CpuPlace, Object, Objects, QapiType, Vcpu};

use super::rtc::device::RtcDevice;

/// The type of a virtual CPU.
const CPU_TYPE: &str = "board-x86_64-cpu";
/// QEMU's name of the clock's type.
const RTC_TYPE: &str = "mc146818rtc";

/// Shows all of them where the board says that they are.
pub(super) fn attach(objects: &Objects, vcpus: Vec<Vcpu>, rtc: &Arc<RtcDevice>) -> Result<(), AttachError> {
    for vcpu in vcpus {
        put(objects, &vcpu.qom_path, CPU_TYPE, Cpu(vcpu.place.unwrap_or_default()))?;
    }
    put(objects, rtc.qom_path(), RTC_TYPE, Rtc(rtc.clone()))
}

fn put(objects: &Objects, path: &str, kind: &str, object: impl Object) -> Result<(), AttachError> {
    // A path without a parent is none of the board's.
    let (parent, name) = path.rsplit_once('/').unwrap_or_default();
    objects.attach(parent, name, kind, object)
}

struct Cpu(CpuPlace);

/// What a virtual CPU shows.
#[derive(Serialize, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
struct BoardCpuProperties {
    /// Its socket of the board.
    socket_id: i32,
    /// Its core of the socket.
    core_id: i32,
    /// Its thread of the core.
    thread_id: i32,
}

impl Object for Cpu {
    type Properties = BoardCpuProperties;

    fn properties(&self) -> Self::Properties {
        // A board has 255 CPUs at most.
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let CpuPlace { socket, core, thread } = self.0;
        BoardCpuProperties { socket_id: number(socket), core_id: number(core), thread_id: number(thread) }
    }
}

struct Rtc(Arc<RtcDevice>);

/// What a real-time clock shows.
#[derive(Serialize, Deserialize, QapiType)]
struct Mc146818rtcProperties {
    /// Its first I/O port.
    iobase: u16,
    /// What it shows now.
    date: RtcDate,
}

/// A date, with the members that C has for one.
#[derive(Serialize, Deserialize, QapiType)]
struct RtcDate {
    /// The year less 1900.
    tm_year: i64,
    /// From 0.
    tm_mon: i64,
    /// From 1.
    tm_mday: i64,
    /// Of the day.
    tm_hour: i64,
    /// Of the hour.
    tm_min: i64,
    /// Of the minute.
    tm_sec: i64,
}

impl Object for Rtc {
    type Properties = Mc146818rtcProperties;

    fn properties(&self) -> Self::Properties {
        let shown = self.0.shown();
        let date = RtcDate {
            tm_year: shown.year - 1900,
            tm_mon: shown.month - 1,
            tm_mday: shown.day,
            tm_hour: shown.hour,
            tm_min: shown.minute,
            tm_sec: shown.second,
        };
        Mc146818rtcProperties { iobase: RtcDevice::PORT, date }
    }
}
