//! `-chardev`, `-mon`, and `-qmp`, which is a chardev and a monitor in one; `-metrics`, whose socket is written like theirs.

use vmm_control::keyval::take_value;

use super::help;
use super::keyval::{Pair, split};
use super::parse::Given;
use super::simple::pairs;
use crate::config::{ChardevSpec, Draft, FdSetsScope, MetricsSpec, MonitorMode, MonitorSpec};
use crate::error::{ConfigError, ErrorKind};
use crate::suggest;

/// The keys of a socket, for suggestions.
const SOCKET_KEYS: &[&str] = &[
    "backend",
    "id",
    "path",
    "abstract",
    "tight",
    "host",
    "port",
    "ipv4",
    "ipv6",
    "fd",
    "server",
    "wait",
    "nodelay",
    "reconnect",
    "reconnect-ms",
    "max-clients",
    "named-fds",
    "append",
    "logfile",
    "logappend",
    "allowed-uids",
    "allowed-gids",
    "insecure",
];

/// Those that `-qmp unix:` and `-qmp tcp:` take after the address.
const DEVICE_KEYS: &[&str] = &[
    "abstract",
    "tight",
    "ipv4",
    "ipv6",
    "server",
    "wait",
    "nodelay",
    "reconnect",
    "reconnect-ms",
    "max-clients",
    "named-fds",
    "logfile",
    "logappend",
    "allowed-uids",
    "allowed-gids",
    "insecure",
];

/// Those that `-metrics unix:` takes after the path, without those that say what is so anyway.
const METRICS_KEYS: &[&str] = &["abstract", "tight", "allowed-uids", "allowed-gids"];

const MON_KEYS: &[&str] = &[
    "chardev",
    "id",
    "mode",
    "pretty",
    "max-clients",
    "named-fds",
    "allow",
    "deny",
    "read-only",
    "fdsets",
    "allowed-uids",
    "allowed-gids",
    "strict",
];

/// Kinds of character device that QEMU has besides ours.
const OTHER_BACKENDS: &[&str] = &[
    "braille",
    "memory",
    "msmouse",
    "mux",
    "parallel",
    "parport",
    "pty",
    "qemu-vdagent",
    "ringbuf",
    "serial",
    "spiceport",
    "spicevmc",
    "testdev",
    "tty",
    "udp",
    "vc",
    "wctablet",
];

/// `-chardev BACKEND,id=ID[,key=value]...`.
pub(super) fn chardev(item: &Given, draft: &mut Draft) -> Result<Option<String>, ConfigError> {
    if matches!(item.value.as_str(), "help" | "?") {
        return Ok(Some(help::chardevs()));
    }
    if item.value.starts_with('{') {
        return Err(ErrorKind::NoJson.into());
    }
    let mut spec = ChardevSpec::default();
    for pair in pairs(item, Some("backend"), draft) {
        match pair.key.as_str() {
            "id" => spec.id = Some(pair.value),
            "backend" => spec.backend = Some(pair.value),
            "path" => spec.path = Some(pair.value),
            "append" => spec.append = Some(pair.switch()?),
            "host" => spec.host = Some(pair.value),
            "port" => spec.port = Some(port(&pair.value)?),
            "fd" => spec.fd = Some(fd(&pair.value)?),
            _ => socket_key(&mut spec, &pair, SOCKET_KEYS)?,
        }
    }
    if spec.id.is_some() && spec.backend.as_deref().is_some_and(|name| OTHER_BACKENDS.contains(&name)) {
        return Err(other_backend());
    }
    draft.chardev(spec, &item.origin)?;
    Ok(None)
}

/// `-mon [chardev=]ID[,mode=control][,pretty=on]`.
pub(super) fn mon(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    let mut spec = MonitorSpec::default();
    for pair in pairs(item, Some("chardev"), draft) {
        match pair.key.as_str() {
            "chardev" => spec.chardev = Some(pair.value),
            "id" => spec.id = Some(pair.value),
            "mode" => {
                let mode = MonitorMode::from_word(&pair.value);
                spec.mode =
                    Some(mode.ok_or_else(|| ErrorKind::choice("mode", &pair.value, MonitorMode::WORDS))?);
            }
            "pretty" => spec.pretty = Some(pair.switch()?),
            "max-clients" => spec.max_clients = Some(pair.clients()?),
            "named-fds" => spec.named_fds = Some(pair.scope()?),
            // These add up: allow=query-*,allow=stop.
            "allow" => spec.allow.get_or_insert_default().push(pair.value),
            "deny" => spec.deny.get_or_insert_default().push(pair.value),
            "read-only" => spec.read_only = Some(pair.switch()?),
            "fdsets" => {
                let scope = FdSetsScope::from_word(&pair.value);
                let wrong = || ErrorKind::choice("fdsets", &pair.value, FdSetsScope::WORDS);
                spec.fdsets = Some(scope.ok_or_else(wrong)?);
            }
            "allowed-uids" => spec.allowed_uids.get_or_insert_default().push(id(&pair)?),
            "allowed-gids" => spec.allowed_gids.get_or_insert_default().push(id(&pair)?),
            "strict" => spec.strict = Some(pair.switch()?),
            _ => return Err(pair.unknown(MON_KEYS)),
        }
    }
    draft.monitor(spec, &item.origin)
}

/// `-monitor DEV`: as `-qmp`, with a monitor for people on it; `none` for none.
pub(super) fn monitor(item: &Given, count: &mut usize, draft: &mut Draft) -> Result<(), ConfigError> {
    if item.value == "none" {
        return Ok(());
    }
    on_device(item, MonitorMode::Readline, false, count, draft)
}

/// `-qmp DEV`: `unix:PATH,...`, `tcp:HOST:PORT,...`, `stdio`, `null`, `file:PATH`, `pipe:PATH`,
/// or `chardev:ID`. `count` is the number of
/// devices made this way so far, after which the next one is called.
pub(super) fn qmp(
    item: &Given,
    pretty: bool,
    count: &mut usize,
    draft: &mut Draft,
) -> Result<(), ConfigError> {
    on_device(item, MonitorMode::Control, pretty, count, draft)
}

fn on_device(
    item: &Given,
    mode: MonitorMode,
    pretty: bool,
    count: &mut usize,
    draft: &mut Draft,
) -> Result<(), ConfigError> {
    let mut monitor = MonitorSpec { mode: Some(mode), pretty: Some(pretty), ..MonitorSpec::default() };
    if let Some(id) = item.value.strip_prefix("chardev:") {
        // An id of nobody's is "not found" whatever it looks like, so only a well-formed one names the monitor.
        monitor.chardev = Some(id.to_owned());
        monitor.id = draft.config.chardevs.iter().any(|other| other.id == id).then(|| id.to_owned());
        return draft.monitor(monitor, &item.origin);
    }
    let id = format!("compat_monitor{count}");
    *count += 1;
    let mut spec = device(&item.value)?;
    spec.id = Some(id.clone());
    draft.chardev(spec, &item.origin)?;
    monitor.chardev = Some(id.clone());
    monitor.id = Some(id);
    draft.monitor(monitor, &item.origin)
}

/// `-serial DEV`: a chardev called `serialN`, or `chardev:ID`; `none` for none.
pub(super) fn serial(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    if item.value == "none" {
        return Ok(());
    }
    if let Some(id) = item.value.strip_prefix("chardev:") {
        return draft.serial(id, &item.origin);
    }
    let id = format!("serial{}", draft.config.serials.len());
    draft.serial(&id, &item.origin)?;
    draft.chardev(ChardevSpec { id: Some(id), ..device(&item.value)? }, &item.origin)
}

/// `-qtest DEV`: a chardev called `qtest`, or `chardev:ID`.
pub(super) fn qtest(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    if let Some(id) = item.value.strip_prefix("chardev:") {
        return draft.qtest(id, &item.origin);
    }
    draft.qtest("qtest", &item.origin)?;
    let spec = ChardevSpec { id: Some("qtest".to_owned()), ..device(&item.value)? };
    draft.chardev(spec, &item.origin)
}

/// `-metrics unix:PATH[,key=value]...`, in the notation of `-qmp`. `given`: whether there was one before. A file's gives way.
pub(super) fn metrics(item: &Given, given: &mut bool, draft: &mut Draft) -> Result<(), ConfigError> {
    if std::mem::replace(given, true) {
        return Err(ErrorKind::GivenTwice.into());
    }
    let wrong = || ErrorKind::Expects { name: "metrics".to_owned(), expected: "unix:PATH" };
    let (path, options) = take_value(item.value.strip_prefix("unix:").ok_or_else(wrong)?);
    let mut spec = MetricsSpec { path, ..MetricsSpec::default() };
    for pair in split(options, None) {
        match pair.key.as_str() {
            "abstract" => spec.abstract_name = Some(pair.switch()?),
            "tight" => spec.tight = Some(pair.switch()?),
            // These add up.
            "allowed-uids" => spec.allowed_uids.get_or_insert_default().push(id(&pair)?),
            "allowed-gids" => spec.allowed_gids.get_or_insert_default().push(id(&pair)?),
            // It listens, and nothing waits for its clients.
            "server" if pair.switch()? => {}
            "wait" if !pair.switch()? => {}
            "server" => return Err(ErrorKind::choice("server", &pair.value, &["on"])),
            "wait" => return Err(ErrorKind::choice("wait", &pair.value, &["off"])),
            _ => return Err(pair.unknown(METRICS_KEYS)),
        }
    }
    draft.metrics(spec, &item.origin)
}

/// A device in the short notation of `-qmp` and its like.
fn device(text: &str) -> Result<ChardevSpec, ConfigError> {
    let of = |backend: &str| ChardevSpec { backend: Some(backend.to_owned()), ..ChardevSpec::default() };
    if matches!(text, "stdio" | "null") {
        return Ok(of(text));
    }
    let mut spec = of("socket");
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let options = match kind {
        "unix" if text.len() > kind.len() => {
            let (path, options) = take_value(rest);
            spec.path = Some(path);
            options
        }
        "tcp" if text.len() > kind.len() => {
            let (address, options) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            let (host, number) = host_and_port(address).ok_or_else(|| {
                ConfigError::new(ErrorKind::Device(text.to_owned())).hint("give tcp:HOST:PORT or tcp::PORT")
            })?;
            spec.host = Some(host.to_owned());
            spec.port = Some(port(number)?);
            options.strip_prefix(',').unwrap_or(options)
        }
        "file" | "pipe" if text.len() > kind.len() => {
            spec = of(kind);
            let (path, options) = take_value(rest);
            spec.path = Some(path);
            options
        }
        "telnet" | "tn3270" | "websocket" => return Err(stream_layer()),
        "mon" => return Err(ErrorKind::NotOffered("there are no multiplexed devices").into()),
        _ => return Err(not_a_device(text, kind)),
    };
    for pair in split(options, None) {
        socket_key(&mut spec, &pair, DEVICE_KEYS)?;
    }
    Ok(spec)
}

/// Why `text`, up to its first colon `kind`, is no device of ours.
fn not_a_device(text: &str, kind: &str) -> ConfigError {
    if OTHER_BACKENDS.contains(&kind) || text.starts_with("/dev/") || kind.starts_with("COM") {
        return other_backend();
    }
    let error = ConfigError::new(ErrorKind::NotADriver(text.to_owned()));
    if kind.starts_with("fd=") {
        return error.hint("give -chardev socket,id=ID,fd=FD and -mon ID,mode=control");
    }
    let known = ["unix:PATH", "tcp:HOST:PORT", "stdio", "null", "file:PATH", "pipe:PATH", "chardev:ID"];
    let word = |device: &'static str| device.split(':').next().unwrap_or(device);
    let near = suggest::nearest(kind, known.map(word));
    match known.into_iter().find(|device| Some(word(device)) == near) {
        Some(device) => error.hint(format!("did you mean '{device}'?")),
        None => error,
    }
}

/// Takes in a key that `-chardev socket` and the short notation share. `valid` is for the suggestion.
fn socket_key(spec: &mut ChardevSpec, pair: &Pair, valid: &[&str]) -> Result<(), ConfigError> {
    match pair.key.as_str() {
        "abstract" => spec.abstract_name = Some(pair.switch()?),
        "tight" => spec.tight = Some(pair.switch()?),
        "ipv4" => spec.ipv4 = Some(pair.switch()?),
        "ipv6" => spec.ipv6 = Some(pair.switch()?),
        "server" => spec.server = Some(pair.switch()?),
        "wait" => spec.wait = Some(pair.switch()?),
        "nodelay" => spec.nodelay = Some(pair.switch()?),
        // What `nodelay` in the short form comes to.
        "delay" => spec.nodelay = Some(!pair.switch()?),
        "reconnect" => spec.reconnect = Some(pause(pair)?),
        "reconnect-ms" => spec.reconnect_ms = Some(pause(pair)?),
        "max-clients" => spec.max_clients = Some(pair.clients()?),
        "named-fds" => spec.named_fds = Some(pair.scope()?),
        "telnet" | "tn3270" | "websocket" => {
            if pair.switch()? {
                return Err(stream_layer());
            }
        }
        "signal" => {
            // The terminal is left as it is, so its keys go on making signals.
            if !pair.switch()? {
                return Err(ErrorKind::NotOffered("it does not change the terminal's settings").into());
            }
        }
        "mux" => {
            if pair.switch()? {
                return Err(ErrorKind::NotOffered("there are no multiplexed devices").into());
            }
        }
        "tls-creds" | "tls-authz" => return Err(ErrorKind::NotOffered("sockets are not encrypted").into()),
        // These add up.
        "allowed-uids" => spec.allowed_uids.get_or_insert_default().push(id(pair)?),
        "allowed-gids" => spec.allowed_gids.get_or_insert_default().push(id(pair)?),
        "insecure" => spec.insecure = Some(pair.switch()?),
        "logfile" => spec.logfile = Some(pair.value.clone()),
        "logappend" => spec.logappend = Some(pair.switch()?),
        "to" => return Err(ErrorKind::NotOffered("it listens on the one port that is named").into()),
        _ => return Err(pair.unknown(valid)),
    }
    Ok(())
}

fn stream_layer() -> ConfigError {
    ConfigError::new(ErrorKind::NotOffered(
        "its sockets carry plain bytes, without telnet, tn3270 or websocket",
    ))
    .hint("give tcp:HOST:PORT")
}

fn other_backend() -> ConfigError {
    ConfigError::new(ErrorKind::NotOffered("its chardevs are sockets, stdio, files, pipes and null"))
}

fn pause(pair: &Pair) -> Result<u64, ConfigError> {
    u64::try_from(pair.number()?).map_err(|_| ErrorKind::number(&pair.key).into())
}

/// A user's or a group's id.
fn id(pair: &Pair) -> Result<u32, ConfigError> {
    u32::try_from(pair.number()?).map_err(|_| ErrorKind::number(&pair.key).into())
}

fn port(text: &str) -> Result<u16, ConfigError> {
    text.parse().map_err(|_| {
        ErrorKind::Expects { name: "port".to_owned(), expected: "a number from 0 to 65535" }.into()
    })
}

fn fd(text: &str) -> Result<i32, ConfigError> {
    text.parse().map_err(|_| ErrorKind::FdNumber(text.to_owned()).into())
}

/// `HOST:PORT`, `:PORT` or `[IPV6]:PORT`; both as text, the brackets left out. `None` if there is no port.
fn host_and_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => address.split_once(':')?,
    };
    (!port.is_empty()).then_some((host, port))
}
