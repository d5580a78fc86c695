//! The options that set a value or two: `-name`, `-msg`, `-action`, `-add-fd`, `-budget`, and those that ask for nothing.

use super::keyval::{Pair, split};
use super::parse::Given;
use crate::config::{AddFdSpec, Draft, QtestLog, SandboxConfig, parse_size};
use crate::error::{ConfigError, ErrorKind};

/// Takes `item` apart, noting the warnings for short forms.
pub(super) fn pairs(item: &Given, implied: Option<&str>, draft: &mut Draft) -> Vec<Pair> {
    let pairs = split(&item.value, implied);
    for text in pairs.iter().filter_map(Pair::short_form_warning) {
        draft.warnings.push(format!("{}: warning: {text}", item.origin));
    }
    pairs
}

/// `-name [guest=]NAME[,process=PROC][,debug-threads=on|off]`.
pub(super) fn name(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    for pair in pairs(item, Some("guest"), draft) {
        match pair.key.as_str() {
            "guest" => draft.config.name = Some(pair.value),
            "process" => draft.config.process_name = Some(pair.value),
            // Threads always have names.
            "debug-threads" => drop(pair.switch()?),
            _ => return Err(pair.unknown(&["guest", "process", "debug-threads"])),
        }
    }
    Ok(())
}

/// `-msg timestamp=on|off`.
pub(super) fn msg(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    for pair in pairs(item, None, draft) {
        match pair.key.as_str() {
            "timestamp" => draft.config.msg_timestamp = pair.switch()?,
            "guest-name" => {
                if pair.switch()? {
                    return Err(ErrorKind::NotOffered("messages do not name the guest").into());
                }
            }
            _ => return Err(pair.unknown(&["timestamp", "guest-name"])),
        }
    }
    Ok(())
}

/// `-action`: what `-no-reboot` and `-no-shutdown` say, and two events that cannot happen.
pub(super) fn action(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    for pair in pairs(item, None, draft) {
        let valid: &[&str] = match pair.key.as_str() {
            "reboot" => &["reset", "shutdown"],
            "shutdown" => &["poweroff", "pause"],
            "panic" => &["pause", "shutdown", "exit-failure", "none"],
            "watchdog" => &["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"],
            _ => return Err(pair.unknown(&["reboot", "shutdown", "panic", "watchdog"])),
        };
        let value = pair.value.as_str();
        if !valid.contains(&value) {
            return Err(ErrorKind::choice(&pair.key, value, valid));
        }
        match pair.key.as_str() {
            "reboot" => draft.config.no_reboot = value == "shutdown",
            "shutdown" => draft.config.no_shutdown = value == "pause",
            _ => {}
        }
    }
    Ok(())
}

/// `-add-fd fd=FD,set=SET[,opaque=TEXT]`.
pub(super) fn add_fd(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    let mut spec = AddFdSpec::default();
    for pair in pairs(item, None, draft) {
        match pair.key.as_str() {
            "fd" => spec.fd = Some(pair.number()?),
            "set" => spec.set = Some(pair.number()?),
            "opaque" => spec.opaque = Some(pair.value),
            _ => return Err(pair.unknown(&["fd", "set", "opaque"])),
        }
    }
    draft.add_fd(spec, &item.origin)
}

/// `-budget [memory=SIZE][,fds=N]`.
pub(super) fn budget(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    const MIB: u64 = 1 << 20;
    for pair in pairs(item, None, draft) {
        match pair.key.as_str() {
            "memory" => draft.config.budget.memory = Some(parse_size("memory", &pair.value, MIB)?),
            "fds" => {
                let fds = u64::try_from(pair.number()?);
                let wrong = |_| ErrorKind::Expects { name: "fds".into(), expected: "a non-negative number" };
                draft.config.budget.fds = Some(fds.map_err(wrong)?);
            }
            _ => return Err(pair.unknown(&["memory", "fds"])),
        }
    }
    Ok(())
}

/// `-display none`, also as JSON, where QEMU takes it. Any other display that QEMU has is refused as such.
pub(super) fn display(value: &str) -> Result<Option<String>, ConfigError> {
    const QEMU: &[&str] =
        &["default", "gtk", "sdl", "curses", "egl-headless", "spice-app", "dbus", "cocoa", "vnc"];
    if matches!(value, "help" | "?") {
        return Ok(Some(super::help::displays()));
    }
    if value.starts_with("vnc=") {
        return Err(no_display());
    }
    let members: Vec<(String, String)> = if value.starts_with('{') {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(value).map_err(|error| ErrorKind::Json(error.to_string()))?;
        object
            .into_iter()
            .map(|(key, it)| (key, it.as_str().map_or_else(|| it.to_string(), str::to_owned)))
            .collect()
    } else {
        split(value, Some("type")).into_iter().map(|pair| (pair.key, pair.value)).collect()
    };
    let find = |name: &str| members.iter().rfind(|(key, _)| key == name).map(|(_, it)| it.as_str());
    match find("type") {
        None => Err(ErrorKind::Missing("type").into()),
        Some("none") => match members.iter().find(|(key, _)| key != "type") {
            None => Ok(None),
            Some((key, _)) => Err(ErrorKind::Unexpected(key.clone()).into()),
        },
        Some(other) if QEMU.contains(&other) => Err(no_display()),
        Some(other) => Err(ErrorKind::choice("type", other, &["none"])),
    }
}

fn no_display() -> ConfigError {
    ConfigError::new(ErrorKind::NotOffered("it has no display")).hint("give -display none")
}

/// `-overcommit`, with everything off.
pub(super) fn overcommit(item: &Given) -> Result<(), ConfigError> {
    for pair in split(&item.value, None) {
        match pair.key.as_str() {
            "mem-lock" | "cpu-pm" => {
                if pair.switch()? {
                    return Err(
                        ErrorKind::NotOffered("the guest's memory and CPUs are not configurable").into()
                    );
                }
            }
            _ => return Err(pair.unknown(&["mem-lock", "cpu-pm"])),
        }
    }
    Ok(())
}

/// `-sandbox on|off[,log=on|off]`, and what else QEMU can be told: each of these groups of system calls is refused in any case, as
/// nothing here needs one.
pub(super) fn sandbox(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    let pairs = pairs(item, Some("enable"), draft);
    let mut sandbox = SandboxConfig::default();
    let enable = pairs.iter().rfind(|pair| pair.key == "enable").ok_or(ErrorKind::Missing("enable"))?;
    sandbox.enable = enable.switch()?;
    for pair in &pairs {
        let denied = match pair.key.as_str() {
            "enable" => continue,
            "log" => {
                sandbox.log = pair.switch()?;
                continue;
            }
            "obsolete" | "spawn" | "resourcecontrol" => pair.value == "deny",
            // What is started could have more rights than its starter, with `children`. Nothing is started.
            "elevateprivileges" => matches!(pair.value.as_str(), "deny" | "children"),
            _ => {
                return Err(pair.unknown(&[
                    "enable",
                    "log",
                    "obsolete",
                    "elevateprivileges",
                    "spawn",
                    "resourcecontrol",
                ]));
            }
        };
        if !denied {
            return Err(ErrorKind::choice(&pair.key, &pair.value, &["deny"]));
        }
    }
    draft.config.sandbox = sandbox;
    Ok(())
}

/// `-qtest-log FILE`, or `none`.
pub(super) fn qtest_log(value: &str) -> QtestLog {
    match value {
        "none" => QtestLog::None,
        // Opened by this name it would be cut off where it is a file, and written over by the other log.
        "/dev/fd/2" | "/dev/stderr" | "/proc/self/fd/2" => QtestLog::Stderr,
        path => QtestLog::File(path.into()),
    }
}

/// An option that asks for nothing to be there, as long as it says one of `values`.
pub(super) fn idle(item: &Given, values: &[&str], reason: &'static str) -> Result<(), ConfigError> {
    let value = item.value.as_str();
    match values.first() {
        Some(first) if !values.contains(&value) => {
            let option = item.origin.split(' ').next().unwrap_or_default();
            Err(ConfigError::new(ErrorKind::NotOffered(reason)).hint(format!("give {option} {first}")))
        }
        _ => Ok(()),
    }
}
