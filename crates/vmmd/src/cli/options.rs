//! The table of options: those offered, those that are accepted because they ask for nothing, those that QEMU has and
//! `vmmd` has not.
//!
//! # What is accepted and does nothing, and why that is honest
//!
//! * `-nodefaults`, `-no-user-config`, `-no-fd-bootchk`: `vmmd` has no default devices, no user configuration and
//!   boots from nothing; they ask for what is so anyway.
//! * `-display none`, `-nographic`, `-vga none`, `-net none`, `-nic none`, `-parallel none`, `-serial none`,
//!   `-monitor none`, `-overcommit` with everything off: they ask for a thing not to
//!   be there. Any other value is refused. QEMU's `-nographic` also puts a serial port and a human monitor on
//!   stdio unless there is `-nodefaults`; `vmmd` makes
//!   neither unless it is told to, so stdio stays untouched.
//! * `-k LANG`, `-L DIR`: there is no keyboard and no firmware that they could be about.
//! * `-only-migratable`: there is no device that could not be migrated.
//! * `-accel`, `-machine accel=`, `-enable-kvm`: the name must exist; no guest code runs on any of them. `qtest` puts the
//!   guest's clock into the hands of the test program.
//! * `-rtc driftfix=`: no guest gets interrupts that could be late.
//! * `-name debug-threads=`: threads are always named. `-action panic=` and `watchdog=`: neither can happen.
//!
//! A request for protection (`-runas`, `-chroot`) is refused, because to ignore it would be a lie.

use super::Opt;

/// Where `-help` lists an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Who it is.
    Identity,
    /// What the machine is made of.
    Hardware,
    /// Sockets and monitors.
    Monitors,
    /// How the guest starts and ends.
    Run,
    /// The process.
    Process,
    /// Help and version.
    Help,
    /// Accepted, does nothing.
    Accepted,
    /// Not offered.
    Refused,
}

/// One option.
#[derive(Debug)]
pub struct OptionSpec {
    /// Its name without dashes.
    pub name: &'static str,
    /// What its value is called in help; `None` if it takes none.
    pub value: Option<&'static str>,
    /// What it means.
    pub opt: Opt,
    /// Where help lists it.
    pub group: Group,
    /// What help says about it.
    pub help: &'static str,
}

/// The option called `name`, without dashes. Names are exact.
#[must_use]
pub fn find(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.name == name)
}

/// The names of all options that do something or are accepted, for suggestions.
pub fn offered() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().filter(|option| option.group != Group::Refused).map(|option| option.name)
}

const fn option(
    name: &'static str,
    value: Option<&'static str>,
    opt: Opt,
    group: Group,
    help: &'static str,
) -> OptionSpec {
    OptionSpec { name, value, opt, group, help }
}

/// Accepted, does nothing.
const fn idle(name: &'static str, value: Option<&'static str>) -> OptionSpec {
    OptionSpec { name, value, opt: Opt::Idle { values: &[], reason: "" }, group: Group::Accepted, help: "" }
}

/// Accepted with one of `values`, does nothing; refused with any other for `reason`.
const fn absent(
    name: &'static str,
    value: &'static str,
    values: &'static [&'static str],
    reason: &'static str,
) -> OptionSpec {
    OptionSpec {
        name,
        value: Some(value),
        opt: Opt::Idle { values, reason },
        group: Group::Accepted,
        help: "",
    }
}

/// QEMU has it, we have not.
const fn no(name: &'static str, reason: &'static str) -> OptionSpec {
    OptionSpec { name, value: None, opt: Opt::NotOffered(reason), group: Group::Refused, help: "" }
}

const DISKS: &str = "it has no disks";
const DEVICES: &str = "devices are not given on the command line";
const MEMORY: &str = "only the size of the guest's memory can be chosen";
const CPUS: &str = "the virtual CPUs have no model, as they run no guest code";
const FIRMWARE: &str = "the guest boots nothing";
const DISPLAY: &str = "it has no display";
const PORTS: &str = "its machines have no such port";
const AUDIO: &str = "it has no sound";
const NETWORK: &str = "it has no network";
const MIGRATION: &str = "it does not migrate or load state";
const DEBUG: &str = "it runs no guest code that could be traced or debugged";
const LOGGING: &str = "logging is set by RUST_LOG and --log-format";
const RIGHTS: &str = "it does not confine itself; let whoever starts it do that";
const X86: &str = "no machine of it has this";
const XEN: &str = "it does not run under Xen";
const USB: &str = "it has no USB";

/// All options, in the order in which help lists them.
pub const OPTIONS: &[OptionSpec] = &[
    option(
        "name",
        Some("[guest=]NAME[,process=PROC]"),
        Opt::Name,
        Group::Identity,
        "the guest's name, the process's name",
    ),
    option(
        "machine",
        Some("board|none[,accel=A[:B...]][,auto-shutdown=on]"),
        Opt::Machine,
        Group::Identity,
        "the machine (board), the accelerators to try; 'help' lists them",
    ),
    option("uuid", Some("UUID"), Opt::Uuid, Group::Identity, "the guest's UUID"),
    option("M", Some("..."), Opt::Machine, Group::Identity, "the same as -machine"),
    option(
        "accel",
        Some("NAME"),
        Opt::Accel,
        Group::Identity,
        "an accelerator (no guest code runs on it); may be repeated",
    ),
    option("enable-kvm", None, Opt::EnableKvm, Group::Identity, "the same as -machine accel=kvm"),
    option(
        "smp",
        Some("[cpus=]N[,maxcpus=N][,sockets=N][,cores=N][,threads=N]"),
        Opt::Smp,
        Group::Hardware,
        "how many virtual CPUs (1), and how they are packed",
    ),
    option(
        "m",
        Some("[size=]SIZE"),
        Opt::Memory,
        Group::Hardware,
        "the memory, in MiB or with K, M, G or T behind the number (128M)",
    ),
    option(
        "rtc",
        Some("[base=utc|localtime|DATE][,clock=host|rt|vm]"),
        Opt::Rtc,
        Group::Hardware,
        "what the clock shows at first (utc), and what drives it (host)",
    ),
    option(
        "qtest",
        Some("DEV"),
        Opt::Qtest,
        Group::Hardware,
        "let one of QEMU's test programs drive the machine",
    ),
    option(
        "qtest-log",
        Some("FILE|none"),
        Opt::QtestLog,
        Group::Hardware,
        "where to note what it says and gets (stderr)",
    ),
    option(
        "serial",
        Some("DEV|none"),
        Opt::Serial,
        Group::Hardware,
        "a serial port on DEV; up to four, without interrupts",
    ),
    option("qmp", Some("DEV"), Opt::Qmp { pretty: false }, Group::Monitors, "a QMP monitor on DEV"),
    option(
        "qmp-pretty",
        Some("DEV"),
        Opt::Qmp { pretty: true },
        Group::Monitors,
        "the same with indented replies",
    ),
    option(
        "chardev",
        Some("socket|stdio|null|file|pipe,id=ID[,...]"),
        Opt::Chardev,
        Group::Monitors,
        "a character device; 'help' lists them",
    ),
    option(
        "mon",
        Some("[chardev=]ID[,mode=control|readline][,...]"),
        Opt::Mon,
        Group::Monitors,
        "a monitor on the chardev ID, with limits if need be",
    ),
    option("monitor", Some("DEV|none"), Opt::Monitor, Group::Monitors, "a monitor for people on DEV"),
    option(
        "object",
        Some("TYPE,id=ID[,...]"),
        Opt::Object,
        Group::Monitors,
        "an object, as object-add makes it; 'help' lists them",
    ),
    option(
        "device",
        Some("DRIVER[,id=ID][,...]"),
        Opt::Device,
        Group::Monitors,
        "a device, as device_add plugs it; 'help' lists them",
    ),
    option(
        "add-fd",
        Some("fd=FD,set=SET[,opaque=TEXT]"),
        Opt::AddFd,
        Group::Monitors,
        "put the inherited descriptor FD into fd set SET",
    ),
    option(
        "budget",
        Some("[memory=SIZE][,fds=N]"),
        Opt::Budget,
        Group::Monitors,
        "what all clients together may make it hold (256M, a quarter of its fds)",
    ),
    option(
        "metrics",
        Some("unix:PATH[,abstract=on[,tight=off]][,allowed-uids=UID][,allowed-gids=GID]"),
        Opt::Metrics,
        Group::Monitors,
        "serve counters for Prometheus over HTTP; who may connect as on a DEV",
    ),
    option("S", None, Opt::Paused, Group::Run, "do not start the virtual CPUs; wait for 'cont'"),
    option(
        "preconfig",
        None,
        Opt::Preconfig,
        Group::Run,
        "wait for x-exit-preconfig before the machine is made",
    ),
    option("no-shutdown", None, Opt::NoShutdown, Group::Run, "stay, stopped, when the guest shuts down"),
    option("no-reboot", None, Opt::NoReboot, Group::Run, "exit instead of resetting the guest"),
    option(
        "action",
        Some("reboot=reset|shutdown,shutdown=poweroff|pause"),
        Opt::Action,
        Group::Run,
        "the same two in other words",
    ),
    option(
        "config",
        Some("FILE"),
        Opt::ConfigFile,
        Group::Process,
        "read FILE (TOML) first; options override it, lists grow",
    ),
    option(
        "log-format",
        Some("text|json"),
        Opt::LogFormat,
        Group::Process,
        "how log lines on stderr look (text)",
    ),
    option("msg", Some("timestamp=on|off"), Opt::Msg, Group::Process, "put the time before each log line"),
    option(
        "pidfile",
        Some("FILE"),
        Opt::Pidfile,
        Group::Process,
        "write the process's id to FILE and lock it",
    ),
    option(
        "daemonize",
        None,
        Opt::Daemonize,
        Group::Process,
        "go into the background once all sockets listen",
    ),
    option(
        "sandbox",
        Some("on|off[,log=on]"),
        Opt::Sandbox,
        Group::Process,
        "refuse system calls that are not needed (off), or only log them",
    ),
    option(
        "test-commands",
        None,
        Opt::TestCommands,
        Group::Process,
        "add commands that hold monitors up, for tests of them",
    ),
    option(
        "dump-schema",
        Some("qapi|markdown|json"),
        Opt::DumpSchema,
        Group::Help,
        "print a description of the QMP interface",
    ),
    option("version", None, Opt::Version, Group::Help, "print the version"),
    option("help", None, Opt::Help, Group::Help, "print this text"),
    option("h", None, Opt::Help, Group::Help, "the same"),
    option("display", Some("none"), Opt::Display, Group::Accepted, ""),
    option("overcommit", Some("mem-lock=off,cpu-pm=off"), Opt::Overcommit, Group::Accepted, ""),
    idle("nodefaults", None),
    idle("no-user-config", None),
    idle("nographic", None),
    absent("parallel", "none", &["none"], PORTS),
    absent("vga", "none", &["none"], DISPLAY),
    absent("net", "none", &["none"], NETWORK),
    absent("nic", "none", &["none"], NETWORK),
    idle("only-migratable", None),
    idle("no-fd-bootchk", None),
    idle("k", Some("LANG")),
    idle("L", Some("DIR")),
    no("acpitable", FIRMWARE),
    no("alt-grab", DISPLAY),
    no("append", FIRMWARE),
    no("async-teardown", MEMORY),
    no("audio", AUDIO),
    no("audio-help", AUDIO),
    no("audiodev", AUDIO),
    no("bios", FIRMWARE),
    no("blockdev", DISKS),
    no("boot", FIRMWARE),
    no("bt", NETWORK),
    no("cdrom", DISKS),
    no("chroot", RIGHTS),
    no("compat", "it marks nothing as deprecated or unstable"),
    no("cpu", CPUS),
    no("ctrl-grab", DISPLAY),
    no("D", LOGGING),
    no("d", LOGGING),
    no("debugcon", DEVICES),
    no("dfilter", DEBUG),
    no("drive", DISKS),
    no("dtb", FIRMWARE),
    no("dump-vmstate", MIGRATION),
    no("echr", "it has no multiplexed terminal"),
    no("enable-sync-profile", DEBUG),
    no("fda", DISKS),
    no("fdb", DISKS),
    no("fsdev", DISKS),
    no("full-screen", DISPLAY),
    no("fw_cfg", FIRMWARE),
    no("g", DISPLAY),
    no("gdb", DEBUG),
    no("global", DEVICES),
    no("hda", DISKS),
    no("hdb", DISKS),
    no("hdc", DISKS),
    no("hdd", DISKS),
    no("icount", DEBUG),
    no("incoming", MIGRATION),
    no("initrd", FIRMWARE),
    no("iscsi", DISKS),
    no("kernel", FIRMWARE),
    no("loadvm", MIGRATION),
    no("mem-path", MEMORY),
    no("mem-prealloc", MEMORY),
    no("mtdblock", DISKS),
    no("netdev", NETWORK),
    no("no-acpi", X86),
    no("no-hpet", X86),
    no("no-quit", DISPLAY),
    no("numa", MEMORY),
    no("old-param", FIRMWARE),
    no("option-rom", FIRMWARE),
    no("perfmap", DEBUG),
    no("pflash", DISKS),
    no("plugin", DEBUG),
    no("portrait", DISPLAY),
    no("prom-env", FIRMWARE),
    no("readconfig", "its configuration files are TOML, see --config"),
    no("rotate", DISPLAY),
    no("runas", RIGHTS),
    no("s", DEBUG),
    no("sd", DISKS),
    no("sdl", DISPLAY),
    no("seed", DEBUG),
    no("semihosting", DEBUG),
    no("semihosting-config", DEBUG),
    no("set", DEVICES),
    no("singlestep", DEBUG),
    no("smbios", FIRMWARE),
    no("snapshot", DISKS),
    no("spice", DISPLAY),
    no("tb-size", DEBUG),
    no("tpmdev", DEVICES),
    no("trace", LOGGING),
    no("usb", USB),
    no("usbdevice", USB),
    no("virtfs", DISKS),
    no("vnc", DISPLAY),
    no("watchdog-action", DEVICES),
    no("win2k-hack", DISKS),
    no("xen-attach", XEN),
    no("xen-domid", XEN),
    no("xen-domid-restrict", XEN),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_reasons_given() {
        let mut seen = HashSet::new();
        for option in OPTIONS {
            assert!(seen.insert(option.name), "{} is listed twice", option.name);
            assert_eq!(
                option.group == Group::Refused,
                matches!(option.opt, Opt::NotOffered(_)),
                "{}",
                option.name
            );
            let needs_help = !matches!(option.group, Group::Refused | Group::Accepted);
            assert_eq!(needs_help, !option.help.is_empty(), "{}", option.name);
        }
    }
}
