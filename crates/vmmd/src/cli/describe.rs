//! The options with parameters, as `query-command-line-options` describes them: in QEMU's groups and order, with those
//! parameters that `vmmd` takes.

use vmm_control::{CommandLineOption, CommandLineParameter, CommandLineParameterType};

use CommandLineParameterType::{Boolean, Number, Size, String};

const fn of(name: &'static str, ty: CommandLineParameterType) -> CommandLineParameter {
    CommandLineParameter::new(name, ty)
}

/// All of them.
#[must_use]
pub fn command_line_options() -> Vec<CommandLineOption> {
    let machine = vec![
        of("auto-shutdown", Boolean).help("shut down when the last exported device has gone").default("off"),
        of("accel", String).help("accelerators to try, separated by ':'"),
        of("type", String).help("the machine"),
    ];
    let action = vec![
        of("watchdog", String),
        of("panic", String),
        of("reboot", String).default("reset"),
        of("shutdown", String).default("poweroff"),
    ];
    let name = vec![
        of("debug-threads", Boolean).help("threads always have names"),
        of("process", String).help("the name of the process"),
        of("guest", String).help("the name of the guest"),
    ];
    let add_fd = vec![
        of("opaque", String).help("a note that is shown with it"),
        of("set", Number).help("the set to add it to"),
        of("fd", Number).help("the inherited descriptor"),
    ];
    let smp = ["maxcpus", "threads", "cores", "clusters", "dies", "sockets", "cpus"];
    let rtc = vec![of("driftfix", String), of("clock", String), of("base", String)];
    let chardev = vec![
        of("named-fds", String).default("session"),
        of("max-clients", Number).default("64"),
        of("abstract", Boolean),
        of("tight", Boolean).default("on"),
        of("logappend", Boolean),
        of("logfile", String),
        of("append", Boolean),
        of("signal", Boolean),
        of("reconnect-ms", Number),
        of("reconnect", Number),
        of("nodelay", Boolean),
        of("server", Boolean),
        of("wait", Boolean),
        of("ipv6", Boolean),
        of("ipv4", Boolean),
        of("fd", String),
        of("port", String),
        of("host", String),
        of("path", String),
        of("backend", String),
    ];
    let mon = vec![
        of("named-fds", String).default("session"),
        of("max-clients", Number).default("64"),
        of("pretty", Boolean),
        of("chardev", String),
        of("mode", String),
    ];
    let mut sandbox = vec![of("enable", Boolean), of("log", Boolean)];
    sandbox
        .extend(["obsolete", "elevateprivileges", "spawn", "resourcecontrol"].map(|calls| of(calls, String)));
    vec![
        CommandLineOption::new("machine", machine),
        CommandLineOption::new("sandbox", sandbox),
        CommandLineOption::new("action", action),
        CommandLineOption::new("name", name),
        CommandLineOption::new("msg", vec![of("timestamp", Boolean)]),
        CommandLineOption::new("overcommit", vec![of("cpu-pm", Boolean), of("mem-lock", Boolean)]),
        CommandLineOption::new("object", Vec::new()),
        CommandLineOption::new("add-fd", add_fd),
        CommandLineOption::new("smp-opts", smp.into_iter().map(|name| of(name, Number)).collect()),
        CommandLineOption::new("memory", vec![of("maxmem", Size), of("slots", Number), of("size", Size)]),
        CommandLineOption::new("accel", Vec::new()),
        CommandLineOption::new("mon", mon),
        CommandLineOption::new("rtc", rtc),
        CommandLineOption::new("device", Vec::new()),
        CommandLineOption::new("chardev", chardev),
    ]
}
