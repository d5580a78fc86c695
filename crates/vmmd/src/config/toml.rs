//! The TOML form of a configuration.
//!
//! ```toml
//! name = "demo"
//!
//! [machine]
//! type = "board"
//!
//! [[chardev]]
//! id = "a"
//! backend = "socket"
//! path = "run/qmp-a.sock"
//! server = true
//! wait = false
//!
//! [[monitor]]
//! chardev = "a"
//! ```
//!
//! Keys are called as on the command line and have the same defaults, except that a `[[monitor]]` is a QMP monitor
//! unless it says otherwise. Relative paths are relative to the current directory of `vmmd`, not to the file.
//! Environment variables are not expanded. A key that does not exist is an error, wherever it stands.
//!
//! Every error says `file:line:column` and, for a wrong key or word, the nearest right one.

use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::{
    ACCELERATORS, AddFdSpec, ChardevSpec, Draft, LogFormat, MachineKind, MemorySize, MetricsSpec,
    MonitorMode, MonitorSpec, RtcBase, RtcClock, SandboxConfig, SmpSpec, TextConfig, parse_size, parse_uuid,
};
use crate::error::{ConfigError, ErrorKind};
use crate::suggest;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    name: Option<String>,
    process_name: Option<String>,
    #[serde(default)]
    start_paused: bool,
    #[serde(default)]
    no_shutdown: bool,
    #[serde(default)]
    preconfig: bool,
    #[serde(default)]
    no_reboot: bool,
    #[serde(default)]
    daemonize: bool,
    #[serde(default)]
    test_commands: bool,
    pidfile: Option<PathBuf>,
    #[serde(default)]
    machine: Machine,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    budget: Budget,
    #[serde(default)]
    sandbox: SandboxConfig,
    metrics: Option<Spanned<MetricsSpec>>,
    #[serde(default)]
    chardev: Vec<Spanned<ChardevSpec>>,
    #[serde(default)]
    monitor: Vec<Spanned<MonitorSpec>>,
    #[serde(default)]
    serial: Vec<Spanned<Serial>>,
    #[serde(default)]
    fd: Vec<Spanned<AddFdSpec>>,
    /// As on the command line: `"iothread,id=io0"`.
    #[serde(default)]
    object: Vec<Spanned<String>>,
    #[serde(default)]
    device: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    r#type: Option<Spanned<String>>,
    #[serde(default, rename = "auto-shutdown")]
    auto_shutdown: bool,
    #[serde(default)]
    accel: Vec<Spanned<String>>,
    smp: Option<Spanned<SmpSpec>>,
    memory: Option<Spanned<String>>,
    uuid: Option<Spanned<String>>,
    #[serde(default)]
    rtc: Rtc,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rtc {
    base: Option<Spanned<String>>,
    clock: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Serial {
    chardev: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    format: Option<LogFormat>,
    filter: Option<String>,
    #[serde(default)]
    timestamp: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    memory: Option<Spanned<String>>,
    fds: Option<u64>,
}

/// What a size counts that names no unit.
const MIB: u64 = 1 << 20;

/// Reads `text`, which stands in the file called `name`, into a draft that the command line may add to.
///
/// # Errors
/// With `name:line:column`: it is not TOML, has a key or word that does not exist, or a chardev, monitor or fd is
/// wrong in itself. What only shows in the whole (a monitor's chardev does not exist) is for [`Draft::finish`].
pub fn load(name: &str, text: &str) -> Result<Draft, ConfigError> {
    let at = |span: Range<usize>| {
        let (line, column) = position(text, span.start);
        format!("{name}:{line}:{column}")
    };
    let file: File = toml::from_str(text).map_err(|error| {
        let (text, hint) = reword(error.message());
        let place = error.span().map_or_else(|| name.to_owned(), at);
        ConfigError { origin: Some(place), kind: Box::new(ErrorKind::Toml(text)), hint }
    })?;

    let mut draft = Draft::default();
    let config = &mut draft.config;
    config.name = file.name;
    config.process_name = file.process_name;
    config.start_paused = file.start_paused;
    config.no_shutdown = file.no_shutdown;
    config.preconfig = file.preconfig;
    config.no_reboot = file.no_reboot;
    config.daemonize = file.daemonize;
    config.test_commands = file.test_commands;
    config.pidfile = file.pidfile;
    let texts = |list: Vec<Spanned<String>>| -> Vec<TextConfig> {
        list.into_iter().map(|item| TextConfig { origin: at(item.span()), text: item.into_inner() }).collect()
    };
    config.objects = texts(file.object);
    config.devices = texts(file.device);
    config.msg_timestamp = file.log.timestamp;
    config.sandbox = file.sandbox;
    config.log.filter = file.log.filter;
    config.log.format = file.log.format.unwrap_or_default();
    if let Some(word) = file.machine.r#type {
        config.machine.kind = MachineKind::from_word(word.get_ref()).ok_or_else(|| {
            ConfigError::new(ErrorKind::MachineType)
                .near(word.get_ref(), "", MachineKind::WORDS.iter().copied())
                .at(at(word.span()))
        })?;
    }
    config.machine.auto_shutdown = file.machine.auto_shutdown;
    for word in file.machine.accel {
        if !ACCELERATORS.contains(&word.get_ref().as_str()) {
            return Err(ConfigError::new(ErrorKind::InvalidAccelerator(word.get_ref().clone()))
                .near(word.get_ref(), "", ACCELERATORS.iter().copied())
                .at(at(word.span())));
        }
        config.machine.accel.push(word.into_inner());
    }
    if let Some(size) = file.machine.memory {
        let bytes = parse_size("memory", size.get_ref(), MIB).map_err(|error| error.at(at(size.span())))?;
        config.machine.memory = MemorySize::new(bytes);
    }
    config.budget.fds = file.budget.fds;
    if let Some(size) = file.budget.memory {
        let bytes = parse_size("memory", size.get_ref(), MIB).map_err(|error| error.at(at(size.span())))?;
        config.budget.memory = Some(bytes);
    }
    if let Some(uuid) = file.machine.uuid {
        config.machine.uuid = parse_uuid(uuid.get_ref()).map_err(|error| error.at(at(uuid.span())))?;
    }
    if let Some(base) = file.machine.rtc.base {
        config.machine.rtc.base =
            RtcBase::parse(base.get_ref()).map_err(|error| error.at(at(base.span())))?;
    }
    if let Some(clock) = file.machine.rtc.clock {
        config.machine.rtc.clock =
            RtcClock::parse(clock.get_ref()).map_err(|error| error.at(at(clock.span())))?;
    }
    if let Some(spec) = file.machine.smp {
        draft.smp(*spec.get_ref(), &at(spec.span()));
    }
    for spec in file.chardev {
        let origin = at(spec.span());
        draft.chardev(spec.into_inner(), &origin)?;
    }
    if let Some(spec) = file.metrics {
        let origin = at(spec.span());
        draft.metrics(spec.into_inner(), &origin)?;
    }
    for spec in file.monitor {
        let origin = at(spec.span());
        let mut spec = spec.into_inner();
        spec.mode.get_or_insert(MonitorMode::Control);
        draft.monitor(spec, &origin)?;
    }
    for serial in file.serial {
        draft.serial(&serial.get_ref().chardev, &at(serial.span()))?;
    }
    for spec in file.fd {
        let origin = at(spec.span());
        draft.add_fd(spec.into_inner(), &origin)?;
    }
    Ok(draft)
}

/// Line and column of the byte at `offset`, both from 1, the column in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Makes serde's "unknown field `a`, expected one of `b`, `c`" our own words and picks the nearest of the list.
/// Other messages stay as they are.
fn reword(message: &str) -> (String, Option<String>) {
    let what = if message.starts_with("unknown field") {
        "key"
    } else if message.starts_with("unknown variant") {
        "word"
    } else {
        return (message.replace('\n', " "), None);
    };
    // Every second piece stands between backticks: the stranger, then those that are known.
    let mut quoted = message.split('`').skip(1).step_by(2);
    let stranger = quoted.next().unwrap_or_default();
    let hint = suggest::nearest(stranger, quoted).map(|it| format!("did you mean '{it}'?"));
    (format!("unknown {what} '{stranger}'"), hint)
}

#[cfg(test)]
mod tests {
    use super::super::{BudgetConfig, Config, RtcConfig, Smp, SocketAddress};
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> Result<Config, String> {
        let draft = load("x.toml", text).map_err(|error| error.to_string())?;
        Ok(draft.finish().map_err(|error| error.to_string())?.0)
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(whole(""), Ok(Config::default()));
    }

    #[test]
    fn every_key_has_its_place() {
        let config = whole(
            r#"
            name = "alpha"
            process-name = "qq"
            start-paused = true
            no-shutdown = true
            no-reboot = true
            daemonize = true
            pidfile = "run/pid"
            [machine]
            type = "none"
            accel = ["kvm", "tcg"]
            memory = "1.5G"
            uuid = "12345678-9abc-def0-1234-56789abcdef0"
            rtc = { base = "2006-06-17", clock = "vm" }
            [log]
            format = "json"
            filter = "debug"
            timestamp = true
            [budget]
            memory = "64M"
            fds = 100
            [[chardev]]
            id = "c"
            backend = "socket"
            host = "127.0.0.1"
            port = 4444
            ipv6 = false
            server = true
            wait = false
            nodelay = true
            insecure = true
            allowed-uids = [1, 2]
            allowed-gids = [3]
            max-clients = 2
            named-fds = "monitor"
            [[monitor]]
            chardev = "c"
            pretty = true
            allowed-gids = [4]
            strict = false
            [[chardev]]
            id = "s"
            backend = "null"
            [[serial]]
            chardev = "s"
            [sandbox]
            enable = true
            [metrics]
            path = "run/metrics"
            abstract = true
            tight = false
            allowed-uids = [5]
            allowed-gids = [6, 7]
            [[fd]]
            fd = 7
            set = 3
            opaque = "out"
            "#,
        )
        .unwrap();
        assert_eq!(config.name.as_deref(), Some("alpha"));
        assert_eq!(config.process_name.as_deref(), Some("qq"));
        assert!(config.start_paused && config.no_shutdown && config.no_reboot && config.daemonize);
        assert!(config.msg_timestamp);
        assert_eq!(config.sandbox, SandboxConfig { enable: true, log: false });
        assert_eq!(config.machine.kind, MachineKind::None);
        assert_eq!(config.machine.accel, ["kvm", "tcg"]);
        assert_eq!(config.machine.memory.bytes(), 1536 << 20);
        assert_eq!(config.machine.uuid[..4], [0x12, 0x34, 0x56, 0x78]);
        let rtc = RtcConfig { base: RtcBase::At(1_150_502_400), clock: RtcClock::Vm };
        assert_eq!(config.machine.rtc, rtc);
        assert_eq!((config.log.format, config.log.filter.as_deref()), (LogFormat::Json, Some("debug")));
        assert_eq!(config.budget, BudgetConfig { memory: Some(64 << 20), fds: Some(100) });
        let super::super::ChardevBackend::Socket(socket) = &config.chardevs[0].backend else { panic!() };
        let tcp = SocketAddress::Tcp { host: "127.0.0.1".into(), port: 4444, ipv4: None, ipv6: Some(false) };
        assert_eq!(socket.address, tcp);
        assert!(socket.server && !socket.wait && socket.nodelay && socket.insecure);
        assert_eq!(socket.allowed_uids.as_deref(), Some(&[1, 2][..]));
        assert_eq!(socket.allowed_gids.as_deref(), Some(&[3][..]));
        let Some(super::super::ChardevBackend::Socket(socket)) =
            config.metrics.as_ref().map(|it| &it.backend)
        else {
            panic!()
        };
        let unix = SocketAddress::Unix { path: "run/metrics".into(), abstract_name: true, tight: false };
        assert_eq!(socket.address, unix);
        assert!(socket.server && !socket.wait);
        assert_eq!(socket.allowed_uids.as_deref(), Some(&[5][..]));
        assert_eq!(socket.allowed_gids.as_deref(), Some(&[6, 7][..]));
        let limits = &config.monitors[0].limits;
        assert_eq!((limits.allowed_gids.as_deref(), limits.lax), (Some(&[4][..]), true));
        assert_eq!(config.max_clients(&config.monitors[0]), Some(2));
        assert_eq!(config.monitors[0].id, "c");
        assert_eq!(config.serials[0].chardev, "s");
        assert_eq!((config.add_fds[0].fd, config.add_fds[0].set), (7, 3));
    }

    #[test]
    fn cpus_are_those_of_the_machine() {
        let smp = |text: &str| whole(text).map(|config| config.machine.smp);
        let four = Smp { cpus: 4, sockets: 2, cores: 2, threads: 1 };
        assert_eq!(smp("[machine]\nsmp = { cpus = 4, sockets = 2 }"), Ok(four));
        assert_eq!(
            smp("[machine]\ntype = \"none\"\nsmp = { cpus = 4 }"),
            Err("x.toml:3:7: Invalid SMP CPUs 4. The max CPUs supported by machine 'none' is 1".to_owned())
        );
    }

    #[test]
    fn errors_say_where_and_what_was_meant() {
        let refused = |text| whole(text).unwrap_err();
        assert_eq!(refused("\n  nmae = \"x\""), "x.toml:2:3: unknown key 'nmae'; did you mean 'name'?");
        assert_eq!(
            refused("[log]\nformat = \"jsno\""),
            "x.toml:2:10: unknown word 'jsno'; did you mean 'json'?"
        );
        assert_eq!(
            refused("[machine]\naccel = [\"kvm\", \"tcgg\"]"),
            "x.toml:2:17: invalid accelerator tcgg; did you mean 'tcg'?"
        );
        assert!(
            refused("[machine]\ntype = \"bord\"").starts_with(
                "x.toml:2:8: unsupported machine type; did you mean 'board'?\nUse -machine help"
            )
        );
        assert_eq!(
            refused("[[chardev]]\nid='n'\nbackend='null'\n\n[[monitor]]\nchardev='m'"),
            "x.toml:5:1: chardev \"m\" not found; did you mean 'n'?"
        );
        assert_eq!(refused("[[fd]]\nfd = 1\nset = 0"), "x.toml:1:1: fd cannot be a standard I/O stream");
        assert_eq!(
            refused("[machine]\nuuid = \"x\""),
            "x.toml:2:8: failed to parse UUID string: wrong format"
        );
        assert!(
            refused("[machine]\nmemory = \"1Q\"").starts_with("x.toml:2:10: Parameter 'memory' expects a")
        );
        assert_eq!(
            refused("[machine]\nsmp = {cpu = 1}"),
            "x.toml:2:8: unknown key 'cpu'; did you mean 'cpus'?"
        );
        assert!(refused("[machine]\nrtc = {clock = \"hots\"}").ends_with("did you mean 'host'?"));
        assert_eq!(
            refused("[metrics]\npath = \"m\"\nport = 1"),
            "x.toml:3:1: unknown key 'port'; did you mean 'path'?"
        );
        assert_eq!(refused("[metrics]\npath = \"\""), "x.toml:1:1: chardev: socket: 'path' is empty");
        assert!(refused("[metrics]").starts_with("x.toml:1:1: missing field"));
        assert!(refused("name = 1").starts_with("x.toml:1:8: invalid type: integer"));
        assert!(refused("name = ").starts_with("x.toml:1:"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|[\n=\\[\\]\"'.a1]){0,40}") {
            if let Err(error) = load("x", &text) {
                prop_assert!(error.origin.is_some());
            }
        }
    }
}
