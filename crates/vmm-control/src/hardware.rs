//! What a machine may have, as far as monitors show it: virtual CPUs, I/O ports, KVM, an architecture.

use qmp_command::QapiType;
use serde::{Deserialize, Serialize};

/// A virtual CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vcpu {
    /// Its number, from 0.
    pub index: u32,
    /// The Linux id of the thread it runs on.
    pub thread_id: i32,
    /// Where it stands in the object tree.
    pub qom_path: String,
    /// Where it is plugged in. `None`: the machine has no such places.
    pub place: Option<CpuPlace>,
}

/// Where a virtual CPU is plugged in, counted from 0 within the part above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuPlace {
    /// Of the board.
    pub socket: u32,
    /// Of the socket.
    pub core: u32,
    /// Of the core.
    pub thread: u32,
}

/// The guest set its real-time clock: what a machine tells its clients with the event `RTC_CHANGE`.
///
/// At most one a second goes out; of those that come sooner the last does.
#[derive(Clone, Debug, Serialize, QapiType, PartialEq, Eq)]
#[qapi(name = "q_obj_RTC_CHANGE-arg")]
#[serde(rename_all = "kebab-case")]
pub struct RtcChange {
    /// How far the clock is now ahead of what it would show if nobody had set it, in seconds.
    pub offset: i64,
    /// The clock's place in the object tree.
    pub qom_path: String,
}

/// Whether KVM runs the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kvm {
    /// It is used.
    pub enabled: bool,
    /// It could be used.
    pub present: bool,
}

/// An I/O port bus. Accesses are the guest's own: they have side effects. They come from any thread, and must not block.
pub trait IoPorts: Send + Sync + 'static {
    /// Reads `size` bytes (1, 2 or 4) at `port`. What nobody answers reads as all ones.
    fn read(&self, port: u16, size: u8) -> u32;

    /// Writes the low `size` bytes (1, 2 or 4) of `value` to `port`. What nobody answers is ignored.
    fn write(&self, port: u16, size: u8, value: u32);
}

/// An architecture, by QEMU's name of it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[qapi(name = "SysEmuTarget")]
#[non_exhaustive]
pub enum Target {
    /// 64-bit Arm.
    #[serde(rename = "aarch64")]
    Aarch64,
    /// 64-bit RISC-V.
    #[serde(rename = "riscv64")]
    Riscv64,
    /// 64-bit x86.
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Target {
    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
            Self::X86_64 => "x86_64",
        }
    }
}
