//! Fd sets as a client and a VMM see them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};

use fd_registry::{Added, Error, FdSets};
use rustix::fs::{OFlags, fstat};

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn ids(sets: &FdSets) -> Vec<i64> {
    sets.query().iter().map(|set| set.id).collect()
}

#[test]
fn numbers_fill_gaps() {
    let sets = FdSets::new();
    for set in [0, 2, 5] {
        sets.add(Some(set), None, null()).unwrap();
    }
    let chosen: Vec<_> = (0..4).map(|_| sets.add(None, None, null()).unwrap().set).collect();
    assert_eq!(chosen, [1, 3, 4, 6]);
    assert_eq!(ids(&sets), [6, 5, 4, 3, 2, 1, 0]);
    sets.remove(3, None).unwrap();
    sets.remove(0, None).unwrap();
    assert_eq!(sets.add(None, None, null()).unwrap().set, 0);
    assert_eq!(sets.add(None, None, null()).unwrap().set, 3);
    assert_eq!(sets.add(None, None, null()).unwrap().set, 7);
}

#[test]
fn listed_oldest_first_with_what_came_along() {
    let sets = FdSets::new();
    let fd = null();
    let number = fd.as_raw_fd();
    let first = sets.add(Some(7), Some(String::new()), fd).unwrap();
    assert_eq!(first, Added { set: 7, fd: number });
    let second = sets.add(Some(7), None, null()).unwrap();
    let info = &sets.clone().query()[0];
    assert_eq!((info.fds[0].fd, info.fds[0].opaque.as_deref()), (first.fd, Some("")));
    assert_eq!((info.fds[1].fd, info.fds[1].opaque.as_deref()), (second.fd, None));
    assert!(FdSets::new().query().is_empty()); // another world
}

#[test]
fn removal_and_its_complaints() {
    let sets = FdSets::new();
    assert!(matches!(sets.add(Some(-1), None, null()), Err(Error::NegativeId)));
    let text = |result: Result<(), Error>| result.unwrap_err().to_string();
    assert_eq!(text(sets.remove(0, None)), "File descriptor named 'fdset-id:0' not found");
    assert_eq!(text(sets.remove(0, Some(1))), "File descriptor named 'fdset-id:0, fd:1' not found");
    let added = sets.add(None, None, null()).unwrap();
    let other = sets.add(Some(0), None, null()).unwrap();
    assert_eq!(text(sets.remove(0, Some(-1))), "File descriptor named 'fdset-id:0, fd:-1' not found");
    assert_eq!(
        text(sets.remove(0, Some(1 << 32 | i64::from(added.fd)))),
        format!("File descriptor named 'fdset-id:0, fd:{}' not found", 1 << 32 | i64::from(added.fd))
    );
    sets.remove(0, Some(added.fd.into())).unwrap();
    assert_eq!(sets.query()[0].fds.len(), 1);
    let detached = sets.detach(0, Some(other.fd.into())).unwrap();
    assert_eq!(detached[0].as_raw_fd(), other.fd);
    assert!(sets.query().is_empty());
}

#[test]
fn open_takes_the_newest_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    let sets = FdSets::new();
    let open = |name: &str, write: bool| {
        let path = dir.path().join(name);
        std::fs::write(&path, "content").unwrap();
        OpenOptions::new().read(!write).write(write).open(path).unwrap()
    };
    for (name, write) in [("r1", false), ("w1", true), ("r2", false), ("w2", true)] {
        sets.add(Some(0), None, OwnedFd::from(open(name, write))).unwrap();
    }
    let same = |dup: &fd_registry::DupFd, name: &str| {
        use std::os::unix::fs::MetadataExt;
        fstat(dup).unwrap().st_ino == dir.path().join(name).metadata().unwrap().ino()
    };
    let read = sets.open("/dev/fdset/0", OFlags::RDONLY | OFlags::NONBLOCK).unwrap();
    assert!(same(&read, "r2"));
    assert!(rustix::fs::fcntl_getfl(&read).unwrap().contains(OFlags::NONBLOCK));
    assert!(rustix::io::fcntl_getfd(&read).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    let write = sets.open("/dev/fdset/0", OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC).unwrap();
    assert!(same(&write, "w2"));
    assert_eq!(dir.path().join("w2").metadata().unwrap().len(), 0);
    assert_eq!(dir.path().join("w1").metadata().unwrap().len(), 7);
    assert_eq!(
        sets.open("/dev/fdset/0", OFlags::RDWR).unwrap_err().to_string(),
        "Could not dup FD for /dev/fdset/0 flags 2: Permission denied"
    );
    assert_eq!(
        sets.open("/dev/fdset/9", OFlags::RDWR).unwrap_err().to_string(),
        "Could not dup FD for /dev/fdset/9 flags 2: No such file or directory"
    );
    assert_eq!(
        sets.open("/dev/fdset/x", OFlags::RDWR).unwrap_err().to_string(),
        "Could not parse fdset /dev/fdset/x"
    );
}

#[test]
fn a_duplicate_keeps_its_set() {
    let sets = FdSets::new();
    let added = sets.add(None, None, null()).unwrap();
    let first = sets.open("/dev/fdset/0", OFlags::RDONLY).unwrap();
    let second = sets.open("/dev/fdset/0", OFlags::RDONLY).unwrap();
    assert_eq!(first.set(), 0);
    assert_ne!(first.as_raw_fd(), added.fd);
    sets.remove(0, None).unwrap();
    sets.remove(0, None).unwrap(); // still there, and empty
    assert!(matches!(sets.remove(0, Some(added.fd.into())), Err(Error::NotFound { .. })));
    assert!(sets.open("/dev/fdset/0", OFlags::RDONLY).is_err());
    assert_eq!(sets.add(None, None, null()).unwrap().set, 1); // the number is taken
    drop(first);
    assert_eq!(ids(&sets), [1, 0]);
    let copy = second.try_clone().unwrap();
    drop(second);
    assert_eq!(ids(&sets), [1]); // a clone is the caller's own affair
    drop(copy);
    assert_eq!(sets.add(None, None, null()).unwrap().set, 0);
}

#[test]
fn what_is_a_path() {
    assert!(FdSets::is_fdset_path("/dev/fdset/0"));
    assert!(FdSets::is_fdset_path("/dev/fdset/x"));
    assert!(!FdSets::is_fdset_path("/dev/fdset"));
    assert!(!FdSets::is_fdset_path("/dev/null"));
}

#[test]
fn sets_take_no_more_than_they_may_and_what_is_removed_makes_room() {
    let own = FdSets::bounded(3, 10);
    let sets = own.for_clients();
    sets.add(Some(1), Some("12345".into()), null()).unwrap();
    let long = sets.add(Some(1), Some("123456".into()), null()).unwrap_err();
    assert_eq!(long.to_string(), "The 'opaque' texts of all file descriptors in sets are too long");
    sets.add(Some(1), Some("12345".into()), null()).unwrap();
    sets.add(Some(2), None, null()).unwrap();
    let many = sets.limited_to([7]).add(None, None, null()).unwrap_err();
    assert_eq!(many.to_string(), "There are too many file descriptors in sets");
    assert_eq!(sets.query().len(), 2, "what was refused left no set");
    sets.remove(1, None).unwrap();
    sets.add(None, Some("1234567890".into()), null()).unwrap();
    sets.add(None, None, null()).unwrap();
    assert!(sets.add(None, None, null()).is_err());
    own.add(Some(2), Some("what the VMM adds itself is not counted".into()), null()).unwrap();
}
