//! The texts that are printed instead of starting.

use std::fmt::Write;

use super::options::{Group, OPTIONS};
use crate::config::{ACCELERATORS, ChardevSpec, MachineKind};

/// What `-version` prints. Scripts look for the word "version" and the number after it.
#[must_use]
pub fn version() -> String {
    format!(
        "vmmd version {} (speaks QMP of QEMU 7.2)\nLicensed under MIT or Apache-2.0, at your choice\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// What `-help` prints.
#[must_use]
pub fn help() -> String {
    let mut text = version();
    text.push_str(
        "\nusage: vmmd [option]...\n\nOptions take one dash or two, and are QEMU's where QEMU has them.\n",
    );
    let groups = [
        (Group::Identity, "The guest"),
        (Group::Hardware, "The machine"),
        (Group::Monitors, "Monitors"),
        (Group::Run, "Start and end"),
        (Group::Process, "The process"),
        (Group::Help, "Help"),
    ];
    for (group, title) in groups {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{title}:");
        for option in OPTIONS.iter().filter(|option| option.group == group) {
            let own = matches!(option.name, "config" | "log-format" | "test-commands");
            let dash = if own { "--" } else { "-" };
            let usage = match option.value {
                Some(value) => format!("{dash}{} {value}", option.name),
                None => format!("{dash}{}", option.name),
            };
            if usage.len() < 28 {
                let _ = writeln!(text, "  {usage:<28}{}", option.help);
            } else {
                let _ = writeln!(text, "  {usage}\n  {:<28}{}", "", option.help);
            }
        }
        if group == Group::Monitors {
            text.push_str(DEVICES);
        }
    }
    text.push_str("\nAccepted, as they ask for nothing that is there:\n ");
    for option in OPTIONS.iter().filter(|option| option.group == Group::Accepted) {
        let usage = option.value.map_or_else(String::new, |value| format!(" {value}"));
        let item = format!(" -{}{usage}", option.name);
        if text.len() - text.rfind('\n').unwrap_or_default() + item.len() > 100 {
            text.push_str("\n ");
        }
        text.push_str(&item);
    }
    text.push_str(ENVIRONMENT);
    text
}

const DEVICES: &str = "
  DEV is one of
    unix:PATH[,server=on][,wait=off][,abstract=on[,tight=off]]
    tcp:[HOST]:PORT[,server=on][,wait=off][,ipv4=on|off][,ipv6=on|off][,nodelay=on]
    stdio, null, file:PATH, pipe:PATH, chardev:ID
  and -chardev socket takes path=PATH, host=HOST,port=PORT or fd=FD (an inherited socket).
  Without server=on a socket connects, once or with reconnect=SECONDS or reconnect-ms=MS again and again.
  With it, wait=off starts without waiting for the first client. A comma in a value is written twice.
  -chardev file takes path=PATH[,append=on]; -chardev pipe takes path=PATH, which means the fifos PATH.in
  and PATH.out, or PATH alone.
  Every -chardev takes logfile=FILE[,logappend=on], which gets what is sent.
  DEV, -chardev socket and -mon also take
    max-clients=N               how many clients are served at once (64; QEMU's way is 1)
    named-fds=session|monitor   who owns the fds of 'getfd' (session; QEMU's way is monitor)
    allowed-uids=UID, allowed-gids=GID
                                who may connect (whom a unix socket's mode lets in: its owner, root);
                                repeatable. On a DEV or -chardev they open the socket's mode as needed
  DEV and -chardev socket take insecure=on, which lets tcp listen where other hosts can connect,
  and -mon what its clients may do:
    allow=P, deny=P             commands (query-*), or commands for types (object-add:iothread);
                                repeatable
    read-only=on                only what changes nothing
    fdsets=own                  other monitors' fd sets are out of reach
    strict=off                  TCP clients may begin with what is no QMP, or with an HTTP request
  A PCI device is exported to another process over vfio-user by
    -device edu|scratch,id=D -object x-vfio-user-server,id=V,type=unix,path=PATH,device=D
  and the -object takes iothread=ID (one of its own), reconnect=on (goes with its client),
  allowed-uids.0=UID, allowed-gids.0=GID, dma=auto|map (auto).
  -machine auto-shutdown=on: shuts down when the last such object has gone.
";

const ENVIRONMENT: &str = "

Environment:
  RUST_LOG                    what is logged, for example info,vmmd=debug (info)
";

/// What `-chardev help` prints.
#[must_use]
pub fn chardevs() -> String {
    list("Available chardev backend types:", ChardevSpec::BACKENDS)
}

/// What `-machine help` prints.
#[must_use]
pub fn machines() -> String {
    let mut text = String::from("Supported machines are:\n");
    for word in MachineKind::WORDS {
        let about = match MachineKind::from_word(word) {
            Some(MachineKind::Board) => "the reference board (default)",
            _ => "empty machine",
        };
        let _ = writeln!(text, "{word:<20} {about}");
    }
    text
}

/// What `-accel help` prints.
#[must_use]
pub fn accelerators() -> String {
    list("Accelerators accepted by name (no guest code runs):", ACCELERATORS)
}

/// What `-display help` prints.
#[must_use]
pub fn displays() -> String {
    list("Available display backend types:", &["none"])
}

fn list(title: &str, words: &[&str]) -> String {
    format!("{title}\n{}\n", words.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_offered_option_and_fits_a_terminal() {
        let text = help();
        for name in super::super::options::offered() {
            assert!(text.contains(&format!("-{name}")), "{name} is missing");
        }
        for line in text.lines() {
            assert!(line.len() <= 105, "too long: {line}");
        }
    }

    #[test]
    fn version_is_two_lines_with_the_word() {
        assert_eq!(version().lines().count(), 2);
        assert!(version().starts_with("vmmd version 0."));
    }
}
