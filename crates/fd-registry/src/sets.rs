//! The fd sets of one VMM.
//!
//! The sets live in a [`DashMap`]; an id is claimed through its `entry`, so two adders never get the same one. Who
//! adds without naming an id also holds `lowest` (a bound below which all ids are in use), which makes finding the
//! lowest free id cheap and exact however many sets there are. Lock order: `lowest`, then a shard. Whoever removes a set
//! lets go of the shard before it lowers the bound. Nothing is closed under either.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::{DashMap, Entry};
use fd_closer::Received;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::dup::DupFd;
use crate::error::Error;
use crate::room::Rooms;
use crate::set::{Member, Set, access_mode};

/// Where the paths of fd sets begin.
const PREFIX: &str = "/dev/fdset/";

/// The flags of `open` that can be changed afterwards; a duplicate gets them as asked for.
const CHANGEABLE: OFlags =
    OFlags::APPEND.union(OFlags::NONBLOCK).union(OFlags::DIRECT).union(OFlags::NOATIME);

/// The fd sets of one VMM. A clone is a handle to the same sets.
#[derive(Debug, Clone, Default)]
pub struct FdSets {
    inner: Arc<Inner>,
    /// Sets without all of these marks do not exist for this handle.
    marks: Arc<[u64]>,
    /// What is added through this handle counts against the bounds.
    counts: bool,
}

#[derive(Debug, Default)]
struct Inner {
    sets: DashMap<i64, Set>,
    rooms: Rooms,
    /// Every id from 0 to below this one is in use (or its remover has not returned yet).
    lowest: Mutex<i64>,
}

/// Where a descriptor went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// The set's number, 0 or more.
    pub set: i64,
    /// The descriptor's number in this process.
    pub fd: RawFd,
}

/// A set, as `query-fdsets` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdSetInfo {
    /// The set's number.
    pub id: i64,
    /// Its descriptors, oldest first. Empty if only duplicates keep the set.
    pub fds: Vec<FdInfo>,
}

/// A descriptor in a set, as `query-fdsets` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdInfo {
    /// The descriptor's number in this process.
    pub fd: RawFd,
    /// The free text that came with it. An empty text is kept.
    pub opaque: Option<String>,
}

impl FdSets {
    /// An empty list of sets, apart from all others.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, which takes at most so many descriptors [from clients](Self::for_clients), with free texts of so many bytes in
    /// all.
    #[must_use]
    pub fn bounded(descriptors: usize, opaque_bytes: usize) -> Self {
        let rooms = Rooms::new(descriptors, opaque_bytes);
        Self { inner: Arc::new(Inner { rooms, ..Inner::default() }), ..Self::default() }
    }

    /// A handle to the same sets, which adds no more than they are [bounded](Self::bounded) to.
    #[must_use]
    pub fn for_clients(&self) -> Self {
        Self { counts: true, ..self.clone() }
    }

    /// A handle to the same sets that sees only those which were made through a handle with these marks, and perhaps
    /// others: what others made it cannot list, extend, open or remove. Marks add up.
    ///
    /// ```
    /// # use fd_registry::FdSets;
    /// # use std::os::fd::OwnedFd;
    /// let all = FdSets::new();
    /// let some = all.limited_to([1]);
    /// let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    /// all.add(Some(7), None, null())?;
    /// assert!(some.query().is_empty() && some.add(Some(7), None, null()).is_err());
    /// some.add(Some(8), None, null())?;
    /// assert_eq!(all.query().len(), 2);
    /// # Ok::<(), fd_registry::Error>(())
    /// ```
    #[must_use]
    pub fn limited_to(&self, marks: impl IntoIterator<Item = u64>) -> Self {
        let marks = self.marks.iter().copied().chain(marks).collect();
        Self { inner: self.inner.clone(), marks, counts: self.counts }
    }

    /// Whether there may be sets that this handle does not see.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Puts a descriptor into the set with this number, making the set if need be; with no number, into a new set
    /// with the lowest number that is free (0, 1, 2, ...; gaps are filled).
    ///
    /// # Errors
    /// [`Error::NegativeId`]; [`Error::NotYours`] if the set is out of this handle's reach; [`Error::TooMany`] or
    /// [`Error::OpaqueTooLong`] for [clients](Self::for_clients). The descriptor is closed.
    pub fn add(
        &self,
        set: Option<i64>,
        opaque: Option<String>,
        fd: impl Into<Received>,
    ) -> Result<Added, Error> {
        let fd = fd.into();
        let number = fd.as_raw_fd();
        if set.is_some_and(|set| set < 0) {
            return Err(Error::NegativeId);
        }
        let room = match self.counts {
            true => Some(self.inner.rooms.take(opaque.as_ref().map_or(0, String::len))?),
            false => None,
        };
        let member = Member::new(fd, opaque, room);
        let set = match set {
            Some(set) => {
                self.insert(set, member)?;
                set
            }
            None => self.inner.claim_lowest(member, &self.marks),
        };
        Ok(Added { set, fd: number })
    }

    /// What is refused is closed by the caller's caller, after the lock is gone.
    fn insert(&self, id: i64, member: Member) -> Result<(), Error> {
        let new = || Set { marks: self.marks.clone(), ..Set::default() };
        let mut set = self.inner.sets.entry(id).or_insert_with(new);
        if set.is_marked(&self.marks) {
            set.members.push(member);
            return Ok(());
        }
        drop(set);
        drop(member);
        Err(Error::NotYours { set: id })
    }

    /// Takes a descriptor, or all, out of a set and closes them where nobody waits ([`fd_closer`]). At
    /// once, whatever the VM is doing, as QEMU 11.1 does; 7.2 waits for it to run.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such set, or a descriptor is named that is not in it.
    pub fn remove(&self, set: i64, fd: Option<i64>) -> Result<(), Error> {
        self.detach(set, fd).map(drop)
    }

    /// As [`remove`](Self::remove), but the descriptors are the caller's to close. May be none: of a set that only
    /// duplicates keep.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn detach(&self, set: i64, fd: Option<i64>) -> Result<Vec<Received>, Error> {
        let not_found = Error::NotFound { set, fd };
        let detached = match self.inner.sets.get_mut(&set) {
            Some(mut found) if found.is_marked(&self.marks) => found.detach(fd),
            _ => return Err(not_found),
        };
        if detached.is_empty() && fd.is_some() {
            return Err(not_found);
        }
        self.inner.forget_if_gone(set);
        Ok(detached)
    }

    /// All sets by descending number. Sets that change meanwhile are listed as they were before or after.
    #[must_use]
    pub fn query(&self) -> Vec<FdSetInfo> {
        let list = |set: &Set| {
            let info = |member: &Member| FdInfo { fd: member.fd.as_raw_fd(), opaque: member.opaque.clone() };
            set.members.iter().map(info).collect()
        };
        let sets = self.inner.sets.iter().filter(|set| set.is_marked(&self.marks));
        let mut infos: Vec<_> =
            sets.map(|set| FdSetInfo { id: *set.key(), fds: list(set.value()) }).collect();
        infos.sort_unstable_by_key(|info| std::cmp::Reverse(info.id));
        infos
    }

    /// What opening `/dev/fdset/N` means: a duplicate (close-on-exec) of the newest descriptor in set N whose access
    /// mode is the one in `flags`. Of the other flags, `O_APPEND`, `O_NONBLOCK`, `O_DIRECT` and `O_NOATIME` are set or
    /// cleared as `flags` say where the file allows it, and `O_TRUNC` truncates; both reach every duplicate of the
    /// same open file, the client's own included, as in QEMU. Flags that `open` alone can honour are ignored.
    ///
    /// # Errors
    /// [`Error::Path`] if the path is no such path, else [`Error::Dup`].
    pub fn open(&self, path: &str, flags: OFlags) -> Result<DupFd, Error> {
        let set = parse(path).ok_or_else(|| Error::Path { path: path.to_owned() })?;
        self.open_set(set, flags).map_err(|errno| Error::Dup {
            path: path.to_owned(),
            flags: flags.bits(),
            source: errno.into(),
        })
    }

    fn open_set(&self, set: i64, flags: OFlags) -> Result<DupFd, Errno> {
        let dup = {
            let found = self.inner.sets.get_mut(&set);
            let mut found = found.filter(|found| found.is_marked(&self.marks)).ok_or(Errno::NOENT)?;
            let member = found.newest(access_mode(flags)).ok_or(Errno::ACCESS)?;
            let fd = rustix::io::fcntl_dupfd_cloexec(&member.fd, 0)?;
            found.dups += 1;
            fd
        };
        let dup = DupFd::new(dup.into(), set, self.clone());
        let now = rustix::fs::fcntl_getfl(&dup)?;
        let wanted = now.difference(CHANGEABLE) | (flags & CHANGEABLE);
        if wanted != now {
            // What the file cannot do (O_DIRECT on a pipe) it need not.
            let _ = rustix::fs::fcntl_setfl(&dup, wanted);
        }
        if flags.contains(OFlags::TRUNC) {
            // As open does: only a regular file is truncated.
            let _ = rustix::fs::ftruncate(&dup, 0);
        }
        Ok(dup)
    }

    /// Whether [`open`](Self::open) is meant: the path begins with `/dev/fdset/`.
    #[must_use]
    pub fn is_fdset_path(path: &str) -> bool {
        path.starts_with(PREFIX)
    }

    /// A duplicate has been closed.
    pub(crate) fn dup_closed(&self, set: i64) {
        if let Some(mut found) = self.inner.sets.get_mut(&set) {
            found.dups -= 1;
        }
        self.inner.forget_if_gone(set);
    }
}

impl Inner {
    fn claim_lowest(&self, member: Member, marks: &Arc<[u64]>) -> i64 {
        let mut lowest = self.lowest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut id = *lowest;
        loop {
            if let Entry::Vacant(free) = self.sets.entry(id) {
                free.insert(Set { members: vec![member], dups: 0, marks: marks.clone() });
                *lowest = id + 1;
                return id;
            }
            id += 1;
        }
    }

    /// Ends a set that has neither members nor duplicates. Its number is free from here on.
    fn forget_if_gone(&self, id: i64) {
        if self.sets.remove_if(&id, |_, set| set.is_gone()).is_some() {
            let mut lowest = self.lowest.lock().unwrap_or_else(PoisonError::into_inner);
            *lowest = (*lowest).min(id);
        }
    }
}

/// The number in an fd set's path: as QEMU reads it, with blanks, a plus sign or zeros before it if need be.
fn parse(path: &str) -> Option<i64> {
    let number = path.strip_prefix(PREFIX)?.trim_ascii_start().parse().ok()?;
    (number >= 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, set) in [
            ("/dev/fdset/0", Some(0)),
            ("/dev/fdset/00", Some(0)),
            ("/dev/fdset/+7", Some(7)),
            ("/dev/fdset/ 7", Some(7)),
            ("/dev/fdset/", None),
            ("/dev/fdset/-1", None),
            ("/dev/fdset/0x1", None),
            ("/dev/fdset/0 ", None),
            ("/dev/fdset/1/", None),
            ("/dev/fdset/99999999999999999999", None),
            ("/dev/null", None),
        ] {
            assert_eq!(parse(path), set, "{path}");
        }
    }
}
