//! A terminal that is read key by key.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};

use crate::duplex::duplicate;

/// The terminals that are in raw mode, with what they were before. Process-wide, because [`restore_terminals`] is for
/// whoever ends the process.
static CHANGED: Mutex<Changed> = Mutex::new(Changed { next: 0, terminals: BTreeMap::new() });

struct Changed {
    next: u64,
    terminals: BTreeMap<u64, (OwnedFd, Termios)>,
}

fn changed() -> MutexGuard<'static, Changed> {
    // Nothing under this lock can panic half-way.
    CHANGED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A terminal in raw mode, until this is dropped: keys come as they are pressed and are not echoed. Ctrl-C still raises its
/// signal, and output is still translated (QEMU's `stdio` with `signal=on`).
pub struct RawTerminal(u64);

impl RawTerminal {
    /// `None` when it is no terminal, or one that this process may not change as it is in the background.
    pub(crate) fn new(fd: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let Ok(before) = tcgetattr(fd) else { return Ok(None) };
        if in_background(fd) {
            return Ok(None);
        }
        let fd = duplicate(fd)?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes.set(OutputModes::OPOST, before.output_modes.contains(OutputModes::OPOST));
        raw.local_modes.set(LocalModes::ISIG, before.local_modes.contains(LocalModes::ISIG));
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&fd, OptionalActions::Now, &raw)?;
        let mut changed = changed();
        let number = changed.next;
        changed.next += 1;
        changed.terminals.insert(number, (fd, before));
        Ok(Some(Self(number)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let terminal = changed().terminals.remove(&self.0);
        if let Some((fd, before)) = terminal {
            restore(fd.as_fd(), &before);
        }
    }
}

impl fmt::Debug for RawTerminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawTerminal")
    }
}

/// Makes the terminals that connections have put into raw mode what they were before. For a process that ends without
/// dropping its connections: by [`std::process::exit`], or with a panic that aborts. (Dropping a connection's
/// [`RawTerminal`] does the same for its own.)
pub fn restore_terminals() {
    for (fd, before) in std::mem::take(&mut changed().terminals).into_values() {
        restore(fd.as_fd(), &before);
    }
}

fn restore(fd: BorrowedFd<'_>, before: &Termios) {
    if in_background(fd) {
        return;
    }
    if let Err(error) = tcsetattr(fd, OptionalActions::Now, before) {
        tracing::debug!(%error, "cannot restore a terminal");
    }
}

/// Whether changing the terminal would stop the process (`SIGTTOU`), as another has it now.
fn in_background(fd: BorrowedFd<'_>) -> bool {
    // An error says that the terminal is not this process's, which stops nobody.
    tcgetpgrp(fd).is_ok_and(|group| group != getpgrp())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::InputModes;

    use super::*;

    fn terminal() -> (std::fs::File, std::fs::File) {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let terminal = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
        (keyboard.into(), terminal.into())
    }

    fn is_raw(terminal: &std::fs::File) -> bool {
        let now = tcgetattr(terminal).unwrap();
        let (cooked_input, cooked) =
            (InputModes::ICRNL | InputModes::IXON, LocalModes::ECHO | LocalModes::ICANON);
        // As of QEMU 7.2 on a terminal: signals and the translation of output stay.
        assert!(now.local_modes.contains(LocalModes::ISIG) && now.output_modes.contains(OutputModes::OPOST));
        match (now.input_modes.intersects(cooked_input), now.local_modes.intersects(cooked)) {
            (false, false) => true,
            (true, true) => false,
            half => panic!("{half:?}"),
        }
    }

    #[test]
    fn raw_while_it_is_held() {
        let (mut keyboard, mut terminal) = terminal();
        assert!(!is_raw(&terminal));
        let raw = RawTerminal::new(terminal.as_fd()).unwrap().unwrap();
        assert!(is_raw(&terminal));
        keyboard.write_all(b"k").unwrap();
        let mut key = [0];
        terminal.read_exact(&mut key).unwrap();
        assert_eq!(key, *b"k", "without Enter");
        drop(raw);
        assert!(!is_raw(&terminal));

        let raw = RawTerminal::new(terminal.as_fd()).unwrap().unwrap();
        restore_terminals();
        assert!(!is_raw(&terminal));
        drop(raw);
        assert!(!is_raw(&terminal));
    }

    #[test]
    fn only_terminals() {
        let (pipe, _end) = io::pipe().unwrap();
        assert!(RawTerminal::new(pipe.as_fd()).unwrap().is_none());
    }
}
