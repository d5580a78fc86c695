//! Descriptors that a device has its context watch.

use std::os::fd::OwnedFd;

use crate::Errno;
use crate::context::poller::{Poller, Token};

/// The watched descriptors of one device, by tag. A handful at most.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    list: Vec<Watch>,
    next: u32,
}

#[derive(Debug)]
struct Watch {
    tag: u64,
    /// Never used twice, so an event of a descriptor that was unwatched finds nothing.
    number: u32,
    fd: OwnedFd,
}

impl Watches {
    /// Watches `fd` in place of the one with the same tag.
    pub(crate) fn add(&mut self, poller: &Poller, fd: OwnedFd, tag: u64) -> Result<(), Errno> {
        drop(self.remove(poller, tag));
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        poller.add(&fd, Token::Watch(number), true, false)?;
        self.list.push(Watch { tag, number, fd });
        Ok(())
    }

    pub(crate) fn remove(&mut self, poller: &Poller, tag: u64) -> Option<OwnedFd> {
        let index = self.list.iter().position(|watch| watch.tag == tag)?;
        let watch = self.list.swap_remove(index);
        poller.remove(&watch.fd);
        Some(watch.fd)
    }

    /// The tag of an event.
    pub(crate) fn tag(&self, number: u32) -> Option<u64> {
        self.list.iter().find(|watch| watch.number == number).map(|watch| watch.tag)
    }
}
