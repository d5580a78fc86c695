//! `-machine` and `-accel`.
//!
//! The accelerators are names: no guest code runs on any of them. But a name that does not exist is an error,
//! unless another one in the list of `-machine accel=a:b` does; QEMU then says so and goes on.

use super::help;
use super::keyval::{Form, split};
use super::parse::Given;
use crate::config::{ACCELERATORS, Draft, MachineKind};
use crate::error::{ConfigError, ErrorKind};

/// What `-machine` options have said about accelerators so far, to be compared with `-accel`.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// `-machine accel=`: the list and where it was given. The last one counts.
    of_machine: Option<(String, String)>,
    /// `-accel`, in their order.
    of_accel: Vec<String>,
}

/// Properties that ask for what is so anyway, and those that QEMU's machines have and ours have not.
const SWITCHES: &[&str] = &["dump-guest-core", "graphics", "mem-merge", "suppress-vmdesc"];
const QEMU_ONLY: &[&str] = &[
    "append",
    "boot",
    "confidential-guest-support",
    "dt-compatible",
    "dtb",
    "dumpdtb",
    "firmware",
    "initrd",
    "kernel",
    "memory",
    "memory-backend",
    "memory-encryption",
    "phandle-start",
    "smp",
];

impl Machine {
    /// `-machine [type=]KIND[,accel=A:B][,property=value]...`.
    pub(super) fn machine(&mut self, item: &Given, draft: &mut Draft) -> Result<Option<String>, ConfigError> {
        if matches!(item.value.as_str(), "help" | "?") {
            return Ok(Some(help::machines()));
        }
        if item.value.starts_with('{') {
            return Err(ErrorKind::NoJson.into());
        }
        let pairs = split(&item.value, Some("type"));
        if let Some(pair) = pairs.iter().find(|pair| pair.form == Form::Short) {
            return Err(match pair.as_written() {
                name if name.is_empty() => ErrorKind::InvalidParameter(name),
                name => ErrorKind::ExpectedEquals(name),
            }
            .into());
        }
        // The type comes first: it is the type that has, or lacks, the properties.
        if let Some(pair) = pairs.iter().rfind(|pair| pair.key == "type") {
            draft.config.machine.kind = MachineKind::from_word(&pair.value).ok_or_else(|| {
                ConfigError::new(ErrorKind::MachineType).near(
                    &pair.value,
                    "",
                    MachineKind::WORDS.iter().copied(),
                )
            })?;
        }
        for pair in pairs {
            match pair.key.as_str() {
                "type" => {}
                "accel" => self.of_machine = Some((pair.value, item.origin.clone())),
                "auto-shutdown" => draft.config.machine.auto_shutdown = pair.switch()?,
                "usb" => {
                    if pair.switch()? {
                        return Err(ErrorKind::NotOffered("it has no USB").into());
                    }
                }
                "kernel-irqchip" => {
                    if pair.value != "split" {
                        pair.switch().map_err(|_| {
                            ErrorKind::choice("kernel-irqchip", &pair.value, &["on", "off", "split"])
                        })?;
                    }
                }
                name if SWITCHES.contains(&name) => drop(pair.switch()?),
                name if QEMU_ONLY.contains(&name) => {
                    return Err(ErrorKind::NotOffered("its machines have no such property").into());
                }
                _ => {
                    return Err(no_property(
                        &format!("{}-machine", draft.config.machine.kind.word()),
                        pair.key,
                    ));
                }
            }
        }
        Ok(None)
    }

    /// `-accel NAME[,property=value]...`.
    pub(super) fn accel(&mut self, item: &Given) -> Result<Option<String>, ConfigError> {
        if matches!(item.value.as_str(), "help" | "?" | "") {
            return Ok(Some(help::accelerators()));
        }
        if item.value.starts_with('{') {
            return Err(ErrorKind::NoJson.into());
        }
        let pairs = split(&item.value, Some("accel"));
        let name = pairs.iter().rfind(|pair| pair.key == "accel").map(|pair| pair.value.clone());
        let name = name.ok_or(ErrorKind::NoAccelerator)?;
        if !ACCELERATORS.contains(&name.as_str()) {
            return Err(unknown(&name));
        }
        if let Some(pair) = pairs.iter().find(|pair| !known_property(&pair.key)) {
            return Err(no_property(&format!("{name}-accel"), pair.key.clone()));
        }
        self.of_accel.push(name);
        Ok(None)
    }

    /// `-enable-kvm`, which is `-machine accel=kvm` (and not `-accel kvm`, so not to be given beside `-accel`).
    pub(super) fn enable_kvm(&mut self, item: &Given) {
        self.of_machine = Some(("kvm".to_owned(), item.origin.clone()));
    }

    /// Settles which accelerators there are: the command line's, if it names any, else the file's.
    pub(super) fn finish(&mut self, draft: &mut Draft) -> Result<(), ConfigError> {
        let accel = match self.of_machine.take() {
            Some(_) if !self.of_accel.is_empty() => return Err(ErrorKind::AcceleratorTwice.into()),
            Some((list, origin)) => colon_list(&list, &origin, draft).map_err(|error| error.at(origin))?,
            None => std::mem::take(&mut self.of_accel),
        };
        if !accel.is_empty() {
            draft.config.machine.accel = accel;
        }
        Ok(())
    }
}

/// The names of `a:b` that exist, if any does; the others are warned of.
fn colon_list(list: &str, origin: &str, draft: &mut Draft) -> Result<Vec<String>, ConfigError> {
    let names = || list.split(':').filter(|name| !name.is_empty());
    let known: Vec<_> = names().filter(|name| ACCELERATORS.contains(name)).map(str::to_owned).collect();
    let mut strangers = names().filter(|name| !ACCELERATORS.contains(name));
    if known.is_empty() {
        return Err(strangers.next().map_or(ErrorKind::NoAccelerator.into(), unknown));
    }
    draft.warnings.extend(strangers.map(|name| format!("{origin}: warning: invalid accelerator {name}")));
    Ok(known)
}

fn unknown(name: &str) -> ConfigError {
    ConfigError::new(ErrorKind::InvalidAccelerator(name.to_owned())).near(
        name,
        "",
        ACCELERATORS.iter().copied(),
    )
}

fn no_property(object: &str, name: String) -> ConfigError {
    let known: Vec<&str> = if object.ends_with("-machine") {
        ["type", "accel", "auto-shutdown", "usb", "kernel-irqchip"]
            .into_iter()
            .chain(SWITCHES.iter().copied())
            .collect()
    } else {
        ACCEL_PROPERTIES.to_vec()
    };
    let hint = name.clone();
    ConfigError::new(ErrorKind::PropertyNotFound { object: object.to_owned(), name }).near(&hint, "", known)
}

/// What QEMU's accelerators can be told. Nothing comes of it here.
const ACCEL_PROPERTIES: &[&str] = &[
    "thread",
    "tb-size",
    "split-wx",
    "one-insn-per-tb",
    "kernel-irqchip",
    "kvm-shadow-mem",
    "dirty-ring-size",
    "notify-vmexit",
    "notify-window",
    "igd-passthru",
];

fn known_property(key: &str) -> bool {
    key == "accel" || ACCEL_PROPERTIES.contains(&key)
}
