//! What the machine is made of: its architecture, UUID, virtual CPUs, KVM; waking it; the clock that its guest sets.

use std::sync::Arc;

use qmp_command::{Command, Context, QapiType};
use qmp_monitor::EventSpec;
use serde::{Deserialize, Serialize};

use crate::hardware::{CpuPlace, RtcChange, Target, Vcpu};
use crate::plane::Shared;

/// Whether KVM runs the guest.
#[derive(Debug, Serialize, QapiType)]
struct KvmInfo {
    /// It does.
    enabled: bool,
    /// It could.
    present: bool,
}

/// The guest's UUID.
#[derive(Debug, Serialize, QapiType)]
struct UuidInfo {
    /// In the usual form. All zeros when it has none.
    #[serde(rename = "UUID")]
    uuid: String,
}

/// The architecture of the guest.
#[derive(Debug, Serialize, QapiType)]
struct TargetInfo {
    /// QEMU's name of it.
    arch: Target,
}

/// Where a virtual CPU is plugged in.
#[derive(Debug, Serialize, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
struct CpuInstanceProperties {
    /// NUMA node.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<i64>,
    /// Socket of the board, or of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_id: Option<i64>,
    /// Die of the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    die_id: Option<i64>,
    /// Cluster of the die.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<i64>,
    /// Core of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    core_id: Option<i64>,
    /// Thread of the core.
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<i64>,
}

impl From<CpuPlace> for CpuInstanceProperties {
    fn from(place: CpuPlace) -> Self {
        Self {
            node_id: None,
            socket_id: Some(place.socket.into()),
            die_id: None,
            cluster_id: None,
            core_id: Some(place.core.into()),
            thread_id: Some(place.thread.into()),
        }
    }
}

/// A virtual CPU.
#[derive(Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
struct CpuInfoFast {
    /// Its number.
    cpu_index: i64,
    /// Where it stands in the object tree.
    qom_path: String,
    /// The thread of the host that runs it.
    thread_id: i64,
    /// Where it is plugged in, if the machine has such places.
    #[serde(skip_serializing_if = "Option::is_none")]
    props: Option<CpuInstanceProperties>,
    /// Its architecture.
    #[serde(flatten)]
    #[qapi(union = "target")]
    target: CpuTarget,
}

/// What only CPUs of one architecture have: nothing, for those that there are.
#[derive(Debug, Serialize, QapiType)]
#[serde(tag = "target")]
#[qapi(tag_enum = "Target")]
enum CpuTarget {
    /// 64-bit Arm.
    #[serde(rename = "aarch64")]
    Aarch64,
    /// 64-bit RISC-V.
    #[serde(rename = "riscv64")]
    Riscv64,
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl From<Target> for CpuTarget {
    fn from(target: Target) -> Self {
        match target {
            Target::Aarch64 => Self::Aarch64,
            Target::Riscv64 => Self::Riscv64,
            Target::X86_64 => Self::X86_64,
        }
    }
}

impl CpuInfoFast {
    fn new(vcpu: Vcpu, target: Target) -> Self {
        Self {
            cpu_index: vcpu.index.into(),
            qom_path: vcpu.qom_path,
            thread_id: vcpu.thread_id.into(),
            props: vcpu.place.map(Into::into),
            target: target.into(),
        }
    }
}

pub(super) fn events() -> Vec<EventSpec> {
    let rtc_change = EventSpec::standard::<RtcChange>("RTC_CHANGE");
    vec![rtc_change.doc("The guest set its real-time clock.").throttled()]
}

pub(super) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    vec![
        query_kvm(plane),
        query_uuid(plane),
        query_target(plane),
        query_cpus_fast(plane),
        system_wakeup(plane),
    ]
}

fn query_kvm(plane: &Arc<Shared>) -> Command {
    let machine = plane.machine.clone();
    Command::new("query-kvm")
        .doc("Says whether KVM runs the guest, and whether it could.")
        .read_only()
        .handler(move |_: Context, (): ()| {
            let kvm = machine.kvm();
            std::future::ready(Ok(KvmInfo { enabled: kvm.enabled, present: kvm.present }))
        })
}

fn query_uuid(plane: &Arc<Shared>) -> Command {
    let machine = plane.machine.clone();
    Command::new("query-uuid")
        .doc("Says the guest's UUID, all zeros if it has none.")
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, (): ()| {
            std::future::ready(Ok(UuidInfo { uuid: hyphenated(machine.uuid()) }))
        })
}

/// `12345678-9abc-def0-1234-56789abcdef0`.
fn hyphenated(uuid: [u8; 16]) -> String {
    let n = u128::from_be_bytes(uuid);
    let group = |shift: u32, digits: u32| n >> shift & ((1 << (4 * digits)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        group(96, 8),
        group(80, 4),
        group(64, 4),
        group(48, 4),
        group(0, 12)
    )
}

fn query_target(plane: &Arc<Shared>) -> Command {
    let machine = plane.machine.clone();
    Command::new("query-target")
        .doc("Says the guest's architecture.")
        .read_only()
        .handler(move |_: Context, (): ()| std::future::ready(Ok(TargetInfo { arch: machine.target() })))
}

fn query_cpus_fast(plane: &Arc<Shared>) -> Command {
    let machine = plane.machine.clone();
    Command::new("query-cpus-fast")
        .doc("Lists the virtual CPUs and the threads that run them.")
        .read_only()
        .handler(move |_: Context, (): ()| {
            let target = machine.target();
            let list = machine.vcpus().into_iter().map(|vcpu| CpuInfoFast::new(vcpu, target));
            std::future::ready(Ok(list.collect::<Vec<_>>()))
        })
}

fn system_wakeup(plane: &Arc<Shared>) -> Command {
    let machine = plane.machine.clone();
    Command::new("system_wakeup").doc("Wakes a suspended guest.").handler(move |_: Context, (): ()| {
        let machine = machine.clone();
        async move { machine.wakeup().await }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_five_groups() {
        let bytes = 0x1234_5678_9abc_def0_0123_4567_89ab_cdef_u128.to_be_bytes();
        assert_eq!(hyphenated(bytes), "12345678-9abc-def0-0123-456789abcdef");
        assert_eq!(hyphenated([0; 16]), "00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn a_cpu_is_written_as_qemu_writes_it() {
        let place = CpuPlace { socket: 1, core: 2, thread: 0 };
        let vcpu = Vcpu { index: 3, thread_id: 77, qom_path: "/machine/x".to_owned(), place: Some(place) };
        let json = serde_json::to_value(CpuInfoFast::new(vcpu, Target::X86_64)).unwrap();
        let wanted = serde_json::json!({
            "cpu-index": 3, "qom-path": "/machine/x", "thread-id": 77, "target": "x86_64",
            "props": {"socket-id": 1, "core-id": 2, "thread-id": 0},
        });
        assert_eq!(json, wanted);
    }
}
