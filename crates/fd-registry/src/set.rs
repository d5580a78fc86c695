//! One set: its descriptors and the number of duplicates in use. Plain data; [`FdSets`](crate::FdSets) locks it.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use crate::room::Room;
use fd_closer::Received;
use rustix::fs::OFlags;

/// The bits of the open flags that say read, write or both.
pub(crate) fn access_mode(flags: OFlags) -> OFlags {
    flags & OFlags::RWMODE
}

/// A descriptor in a set.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) fd: Received,
    pub(crate) opaque: Option<String>,
    /// Fixed when the file was opened, so it is looked up once. `None` if the kernel would not say.
    access: Option<OFlags>,
    /// The room it takes up among those of all clients.
    _room: Option<Room>,
}

impl Member {
    pub(crate) fn new(fd: Received, opaque: Option<String>, room: Option<Room>) -> Self {
        let access = rustix::fs::fcntl_getfl(&fd).ok().map(access_mode);
        Self { fd, opaque, access, _room: room }
    }
}

/// A set. It exists while it has a member or a duplicate is in use.
#[derive(Debug, Default)]
pub(crate) struct Set {
    /// Oldest first.
    pub(crate) members: Vec<Member>,
    /// Duplicates in use.
    pub(crate) dups: usize,
    /// Who made it, as [`FdSets::limited_to`](crate::FdSets::limited_to) says.
    pub(crate) marks: Arc<[u64]>,
}

impl Set {
    /// Whether it is in reach of who may only see sets with all of these marks.
    pub(crate) fn is_marked(&self, marks: &[u64]) -> bool {
        marks.iter().all(|mark| self.marks.contains(mark))
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.members.is_empty() && self.dups == 0
    }

    /// The newest member with this access mode.
    pub(crate) fn newest(&self, access: OFlags) -> Option<&Member> {
        self.members.iter().rev().find(|member| member.access == Some(access))
    }

    /// Takes out the member with this number, or all if none is named. Empty if there is no such member.
    pub(crate) fn detach(&mut self, fd: Option<i64>) -> Vec<Received> {
        let Some(fd) = fd else { return self.members.drain(..).map(|member| member.fd).collect() };
        let found = self.members.iter().position(|member| i64::from(member.fd.as_raw_fd()) == fd);
        found.map(|at| self.members.remove(at).fd).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null(write: bool) -> Member {
        let file = std::fs::OpenOptions::new().read(!write).write(write).open("/dev/null").unwrap();
        Member::new(std::os::fd::OwnedFd::from(file).into(), None, None)
    }

    #[test]
    fn newest_of_the_access_mode() {
        let members = vec![null(true), null(false), null(true), null(false)];
        let set = Set { members, ..Set::default() };
        let newest = |flags| set.newest(flags).map(|member| member.fd.as_raw_fd());
        assert_eq!(newest(OFlags::WRONLY), Some(set.members[2].fd.as_raw_fd()));
        assert_eq!(newest(OFlags::RDONLY), Some(set.members[3].fd.as_raw_fd()));
        assert_eq!(newest(OFlags::RDWR), None);
    }

    #[test]
    fn detach_one_or_all() {
        let mut set = Set { members: vec![null(true), null(false), null(true)], dups: 1, ..Set::default() };
        let second = i64::from(set.members[1].fd.as_raw_fd());
        assert_eq!(set.detach(Some(second)).len(), 1);
        assert!(set.detach(Some(second)).is_empty());
        assert_eq!(set.detach(None).len(), 2);
        assert!(!set.is_gone());
    }
}
