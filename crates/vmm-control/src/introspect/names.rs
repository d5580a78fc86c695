//! Whose names are whose.
//!
//! The QMP specification keeps names without a prefix for QEMU. What others add is called `__RFQDN_name`, with their
//! domain read backwards (`__com.example_snapshot`), or `x-name` while it may change; events likewise in capitals. A
//! name that does not keep to it may get a meaning of QEMU's own one day, and then clients take the one for the other.

/// QEMU 7.2's commands without `x-`, in order.
#[rustfmt::skip]
const COMMANDS: &[&str] = &[
    "add-fd", "add_client", "announce-self", "balloon", "block-commit", "block-dirty-bitmap-add",
    "block-dirty-bitmap-clear", "block-dirty-bitmap-disable", "block-dirty-bitmap-enable",
    "block-dirty-bitmap-merge", "block-dirty-bitmap-remove", "block-export-add", "block-export-del",
    "block-job-cancel", "block-job-complete", "block-job-dismiss", "block-job-finalize", "block-job-pause",
    "block-job-resume", "block-job-set-speed", "block-latency-histogram-set", "block-set-write-threshold",
    "block-stream", "block_resize", "block_set_io_throttle", "blockdev-add", "blockdev-backup",
    "blockdev-change-medium", "blockdev-close-tray", "blockdev-create", "blockdev-del",
    "blockdev-insert-medium", "blockdev-mirror", "blockdev-open-tray", "blockdev-remove-medium",
    "blockdev-reopen", "blockdev-snapshot", "blockdev-snapshot-delete-internal-sync",
    "blockdev-snapshot-internal-sync", "blockdev-snapshot-sync", "calc-dirty-rate", "cancel-vcpu-dirty-limit",
    "change-backing-file", "change-vnc-password", "chardev-add", "chardev-change", "chardev-remove",
    "chardev-send-break", "client_migrate_info", "closefd", "cont", "device-list-properties", "device_add",
    "device_del", "display-reload", "display-update", "drive-backup", "drive-mirror", "dump-guest-memory",
    "dumpdtb", "eject", "expire_password", "getfd", "human-monitor-command", "inject-nmi", "input-send-event",
    "job-cancel", "job-complete", "job-dismiss", "job-finalize", "job-pause", "job-resume", "memsave",
    "migrate", "migrate-continue", "migrate-incoming", "migrate-pause", "migrate-recover",
    "migrate-set-capabilities", "migrate-set-parameters", "migrate-start-postcopy", "migrate_cancel",
    "nbd-server-add", "nbd-server-remove", "nbd-server-start", "nbd-server-stop", "netdev_add", "netdev_del",
    "object-add", "object-del", "pmemsave", "qmp_capabilities", "qom-get", "qom-list", "qom-list-properties",
    "qom-list-types", "qom-set", "query-acpi-ospm-status", "query-balloon", "query-block",
    "query-block-exports", "query-block-jobs", "query-blockstats", "query-chardev", "query-chardev-backends",
    "query-colo-status", "query-command-line-options", "query-commands", "query-cpu-definitions",
    "query-cpu-model-expansion", "query-cpus-fast", "query-current-machine", "query-dirty-rate",
    "query-display-options", "query-dump", "query-dump-guest-memory-capability", "query-fdsets",
    "query-hotpluggable-cpus", "query-iothreads", "query-jobs", "query-kvm", "query-machines", "query-memdev",
    "query-memory-devices", "query-memory-size-summary", "query-mice", "query-migrate",
    "query-migrate-capabilities", "query-migrate-parameters", "query-name", "query-named-block-nodes",
    "query-pci", "query-pr-managers", "query-qmp-schema", "query-replay", "query-rocker",
    "query-rocker-of-dpa-flows", "query-rocker-of-dpa-groups", "query-rocker-ports", "query-rx-filter",
    "query-sev", "query-sev-attestation-report", "query-sev-capabilities", "query-sev-launch-measure",
    "query-sgx", "query-sgx-capabilities", "query-spice", "query-stats", "query-stats-schemas",
    "query-status", "query-target", "query-tpm", "query-tpm-models", "query-tpm-types", "query-uuid",
    "query-vcpu-dirty-limit", "query-version", "query-vm-generation-id", "query-vnc", "query-vnc-servers",
    "query-xen-replication-status", "query-yank", "quit", "remove-fd", "replay-break", "replay-delete-break",
    "replay-seek", "ringbuf-read", "ringbuf-write", "rtc-reset-reinjection", "screendump", "send-key",
    "set-action", "set-numa-node", "set-vcpu-dirty-limit", "set_link", "set_password",
    "sev-inject-launch-secret", "snapshot-delete", "snapshot-load", "snapshot-save", "stop",
    "system_powerdown", "system_reset", "system_wakeup", "trace-event-get-state", "trace-event-set-state",
    "transaction", "watchdog-set-action", "xen-colo-do-checkpoint", "xen-load-devices-state",
    "xen-save-devices-state", "xen-set-global-dirty-log", "xen-set-replication", "yank",
];

/// QEMU 7.2's events, in order.
#[rustfmt::skip]
const EVENTS: &[&str] = &[
    "ACPI_DEVICE_OST", "BALLOON_CHANGE", "BLOCK_EXPORT_DELETED", "BLOCK_IMAGE_CORRUPTED", "BLOCK_IO_ERROR",
    "BLOCK_JOB_CANCELLED", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_ERROR", "BLOCK_JOB_PENDING", "BLOCK_JOB_READY",
    "BLOCK_WRITE_THRESHOLD", "COLO_EXIT", "DEVICE_DELETED", "DEVICE_TRAY_MOVED", "DEVICE_UNPLUG_GUEST_ERROR",
    "DUMP_COMPLETED", "FAILOVER_NEGOTIATED", "GUEST_CRASHLOADED", "GUEST_PANICKED", "JOB_STATUS_CHANGE",
    "MEMORY_DEVICE_SIZE_CHANGE", "MEMORY_FAILURE", "MEM_UNPLUG_ERROR", "MIGRATION", "MIGRATION_PASS",
    "NETDEV_STREAM_CONNECTED", "NETDEV_STREAM_DISCONNECTED", "NIC_RX_FILTER_CHANGED", "POWERDOWN",
    "PR_MANAGER_STATUS_CHANGED", "QUORUM_FAILURE", "QUORUM_REPORT_BAD", "RDMA_GID_STATUS_CHANGED", "RESET",
    "RESUME", "RTC_CHANGE", "SHUTDOWN", "SPICE_CONNECTED", "SPICE_DISCONNECTED", "SPICE_INITIALIZED",
    "SPICE_MIGRATE_COMPLETED", "STOP", "SUSPEND", "SUSPEND_DISK", "UNPLUG_PRIMARY", "VFU_CLIENT_HANGUP",
    "VNC_CONNECTED", "VNC_DISCONNECTED", "VNC_INITIALIZED", "VSERPORT_CHANGE", "WAKEUP", "WATCHDOG",
];

/// Whether an author may give this name to a command: it is QEMU's (and then the command should be QEMU's too), or has a
/// prefix that QEMU's names will never have.
pub(crate) fn is_command_name(name: &str) -> bool {
    name.starts_with("x-") || is_downstream(name) || COMMANDS.binary_search(&name).is_ok()
}

/// The same for an event.
pub(crate) fn is_event_name(name: &str) -> bool {
    name.starts_with("X_") || is_downstream(name) || EVENTS.binary_search(&name).is_ok()
}

/// Whether a name is `__RFQDN_name`. Its letters are checked when it is registered.
fn is_downstream(name: &str) -> bool {
    let domain = name.strip_prefix("__").and_then(|name| name.split_once('_'));
    domain.is_some_and(|(domain, rest)| domain.contains('.') && !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_called_what() {
        assert!(COMMANDS.is_sorted() && EVENTS.is_sorted());
        for name in ["x-draw", "__com.example_draw", "migrate", "block_resize", "query-block"] {
            assert!(is_command_name(name), "{name}");
        }
        for name in ["draw", "query-drawing", "__draw", "__example_draw", "__com.example_", "xdraw"] {
            assert!(!is_command_name(name), "{name}");
        }
        assert!(["X_DREW", "__COM.EXAMPLE_DREW", "MIGRATION"].into_iter().all(is_event_name));
        assert!(!["DREW", "x-drew", "__DREW"].into_iter().any(is_event_name));
    }
}
