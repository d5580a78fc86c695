//! What clients may give as memory, and how it is then reached.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use fd_closer::Received;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create, open,
};
use vfio_user_server::Errno;
use vfio_user_server::dma::{DmaError, DmaPath, DmaPolicy, DmaTable, Segment};
use vfio_user_server::protocol::{DmaMap, DmaUnmap};

const PAGE: u64 = 4096;

fn table(policy: DmaPolicy) -> DmaTable {
    DmaTable::new(policy, 100, 1 << 44)
}

fn rw(iova: u64, size: u64) -> DmaMap {
    DmaMap { iova, size, offset: 0, readable: true, writable: true, file_io: false }
}

fn ro(iova: u64, size: u64) -> DmaMap {
    DmaMap { writable: false, ..rw(iova, size) }
}

fn memfd(size: u64, seals: SealFlags) -> OwnedFd {
    let fd = memfd_create("dma", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, size).unwrap();
    fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// The same file, opened anew.
fn reopen(fd: &OwnedFd, flags: OFlags) -> OwnedFd {
    use std::os::fd::AsRawFd;
    open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn give(fd: &OwnedFd) -> Option<Received> {
    Some(fd.try_clone().unwrap().into())
}

fn path(table: &DmaTable) -> DmaPath {
    table.maps().next().unwrap().path
}

/// Maps it, says how it is reached, and sees that reads and writes meet the file.
fn reached(policy: DmaPolicy, map: DmaMap, fd: &OwnedFd) -> DmaPath {
    let mut table = table(policy);
    table.map(map, give(fd)).unwrap();
    if map.writable {
        table.write(map.iova + 3, b"from the device").unwrap();
        let mut data = [0; 15];
        rustix::io::pread(fd, &mut data, map.offset + 3).unwrap();
        assert_eq!(&data, b"from the device");
    } else {
        assert_eq!(table.write(map.iova, b"x"), Err(DmaError::Permission));
    }
    if map.readable {
        let end = map.size - 5;
        if fcntl_get_seals(fd).is_ok_and(|seals| !seals.contains(SealFlags::WRITE)) {
            rustix::io::pwrite(fd, b"host!", map.offset + end).unwrap();
            let mut data = [0; 5];
            table.read(map.iova + end, &mut data).unwrap();
            assert_eq!(&data, b"host!");
        }
    } else {
        assert_eq!(table.read(map.iova, &mut [0]), Err(DmaError::Permission));
    }
    path(&table)
}

#[test]
fn auto_takes_the_way_on_which_nothing_can_happen() {
    let sealed = memfd(2 * PAGE, SealFlags::SHRINK);
    let open = memfd(2 * PAGE, SealFlags::empty());
    let strict = std::fs::read("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.starts_with(b"2"));
    let direct = if strict { DmaPath::Copy } else { DmaPath::Direct };
    assert_eq!(reached(DmaPolicy::Auto, rw(0x1000, 2 * PAGE), &sealed), direct);
    assert_eq!(reached(DmaPolicy::Auto, rw(0x1000, 2 * PAGE), &open), DmaPath::Copy);
    assert_eq!(reached(DmaPolicy::Auto, ro(0x1000, 2 * PAGE), &open), DmaPath::File);
    let file_io = |map| DmaMap { file_io: true, ..map };
    assert_eq!(reached(DmaPolicy::Auto, file_io(rw(0, PAGE)), &sealed), DmaPath::Copy);
    assert_eq!(reached(DmaPolicy::Auto, file_io(ro(0, PAGE)), &sealed), DmaPath::File);
    let write_only = DmaMap { readable: false, ..rw(0, PAGE) };
    assert_eq!(reached(DmaPolicy::Auto, write_only, &open), DmaPath::Copy);
    // Offsets need not be aligned.
    assert_eq!(reached(DmaPolicy::Auto, DmaMap { offset: 1234, ..rw(0, PAGE) }, &sealed), direct);
    assert_eq!(reached(DmaPolicy::Auto, DmaMap { offset: 1234, ..rw(0, PAGE) }, &open), DmaPath::Copy);
}

#[test]
fn memory_without_a_descriptor_needs_messages() {
    let mut table = table(DmaPolicy::Auto);
    table.map(rw(0, PAGE), None).unwrap();
    assert_eq!(path(&table), DmaPath::Message);
    assert_eq!(table.read(0, &mut [0]), Err(DmaError::NotLocal));
    assert_eq!(table.write(0, &[0]), Err(DmaError::NotLocal));
    assert_eq!(table.covers(0, PAGE, true), Ok(()));
    // What is wrong counts more than what is not local.
    assert_eq!(table.read(PAGE - 1, &mut [0; 2]), Err(DmaError::Unmapped));
}

#[test]
fn the_policy_map_maps_any_regular_file() {
    let open = memfd(2 * PAGE, SealFlags::empty());
    assert_eq!(reached(DmaPolicy::Map, rw(0, 2 * PAGE), &open), DmaPath::Direct);
    let program = OwnedFd::from(File::open(std::env::current_exe().unwrap()).unwrap());
    let mut table = table(DmaPolicy::Map);
    table.map(ro(0, PAGE), give(&program)).unwrap();
    let mut magic = [0; 4];
    table.read(0, &mut magic).unwrap();
    assert_eq!((&magic, path(&table)), (b"\x7fELF", DmaPath::Direct));
    assert_eq!(table.map(rw(PAGE, PAGE), give(&program)), Err(Errno::ACCESS));
    let (reader, _writer) = std::io::pipe().unwrap();
    assert_eq!(table.map(ro(PAGE, PAGE), give(&reader.into())), Err(Errno::INVAL));
    // Cannot be mapped, as it cannot be read.
    let write_only = DmaMap { readable: false, ..rw(PAGE, PAGE) };
    table.map(write_only, give(&reopen(&open, OFlags::WRONLY))).unwrap();
    table.write(PAGE, b"through the file").unwrap();
    assert_eq!(table.maps().nth(1).unwrap().path, DmaPath::File);
    let mut data = [0; 16];
    rustix::io::pread(&open, &mut data, 0).unwrap();
    assert_eq!(&data, b"through the file");
}

#[test]
fn what_is_no_memory_is_refused() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
    let read_only = reopen(&memfd(PAGE, SealFlags::empty()), OFlags::RDONLY);
    let write_only = reopen(&memfd(PAGE, SealFlags::empty()), OFlags::WRONLY);
    let path_only = reopen(&memfd(PAGE, SealFlags::empty()), OFlags::PATH);
    let no_writes = memfd(PAGE, SealFlags::WRITE);
    let no_new_writes = memfd(PAGE, SealFlags::FUTURE_WRITE);
    let short = memfd(PAGE - 1, SealFlags::SHRINK);
    let strangers: [(&str, OwnedFd, Errno); 15] = [
        ("pipe", reader.into(), Errno::INVAL),
        ("pipe's writer", writer.into(), Errno::INVAL),
        ("socket", socket.into(), Errno::INVAL),
        ("eventfd", eventfd(0, EventfdFlags::CLOEXEC).unwrap(), Errno::INVAL),
        (
            "zero device",
            open("/dev/zero", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap(),
            Errno::INVAL,
        ),
        ("directory", File::open("/").unwrap().into(), Errno::INVAL),
        ("directory in memory", File::open("/dev/shm").unwrap().into(), Errno::INVAL),
        ("file elsewhere", File::open("/proc/self/status").unwrap().into(), Errno::OPNOTSUPP),
        ("read only", read_only, Errno::ACCESS),
        ("write only", write_only, Errno::ACCESS),
        ("path only", path_only, Errno::BADF),
        ("sealed against writes", no_writes, Errno::PERM),
        ("sealed against new writes", no_new_writes, Errno::PERM),
        ("too short", short, Errno::INVAL),
        ("empty", memfd(0, SealFlags::empty()), Errno::INVAL),
    ];
    let mut table = table(DmaPolicy::Auto);
    for (name, fd, error) in strangers {
        assert_eq!(table.map(rw(0, PAGE), Some(fd.into())), Err(error), "{name}");
    }
    assert!(table.is_empty() && table.mapped_bytes() == 0);
    let longer = DmaMap { offset: 1, ..rw(0, PAGE) };
    assert_eq!(table.map(longer, give(&memfd(PAGE, SealFlags::SHRINK))), Err(Errno::INVAL));
    let far = DmaMap { offset: u64::MAX - PAGE, ..rw(0, PAGE) };
    assert_eq!(table.map(far, give(&memfd(PAGE, SealFlags::SHRINK))), Err(Errno::INVAL));
}

#[test]
fn what_is_sealed_against_writes_can_be_read() {
    let fd = memfd(PAGE, SealFlags::WRITE);
    assert_eq!(reached(DmaPolicy::Auto, ro(0, PAGE), &fd), DmaPath::File);
    let both = memfd(PAGE, SealFlags::WRITE | SealFlags::SHRINK);
    assert_ne!(reached(DmaPolicy::Auto, ro(0, PAGE), &both), DmaPath::Message);
}

#[test]
fn limits_and_overlaps_are_refused() {
    let mut table = DmaTable::new(DmaPolicy::Auto, 3, 10 * PAGE);
    table.map(rw(4 * PAGE, 2 * PAGE), None).unwrap();
    for (start, size) in [(4, 2), (5, 1), (3, 2), (3, 4), (5, 9), (4, 1)] {
        assert_eq!(table.map(rw(start * PAGE, size * PAGE), None), Err(Errno::EXIST), "{start} {size}");
    }
    assert_eq!(table.map(rw(6 * PAGE, 9 * PAGE), None), Err(Errno::NOSPC));
    table.map(rw(3 * PAGE, PAGE), None).unwrap();
    // Up to the last byte of all.
    table.map(rw(u64::MAX - 99, 100), None).unwrap();
    assert_eq!(table.map(rw(0, 1), None), Err(Errno::NOSPC));
    assert_eq!((table.len(), table.mapped_bytes()), (3, 3 * PAGE + 100));
    assert_eq!(table.covers(u64::MAX - 99, 100, true), Ok(()));
    assert_eq!(table.covers(u64::MAX - 99, 101, true), Err(DmaError::Unmapped));
    assert_eq!(table.covers(u64::MAX - 99, u64::MAX, true), Err(DmaError::Unmapped));
    for (iova, size) in [(0, 0), (u64::MAX, 2), (1, u64::MAX)] {
        let refused = table.map(rw(iova, size), None);
        assert!(matches!(refused, Err(Errno::INVAL | Errno::EXIST)), "{iova} {size}: {refused:?}");
    }
    assert_eq!(table.unmap(DmaUnmap::Range { iova: 4 * PAGE, size: PAGE }), Err(Errno::NOENT));
    assert_eq!(table.unmap(DmaUnmap::Range { iova: 3 * PAGE, size: 3 * PAGE }), Err(Errno::NOENT));
    table.unmap(DmaUnmap::Range { iova: 4 * PAGE, size: 2 * PAGE }).unwrap();
    table.map(rw(0, 1), None).unwrap();
    table.unmap(DmaUnmap::All).unwrap();
    assert!(table.is_empty() && table.mapped_bytes() == 0);
}

#[test]
fn a_range_may_mix_what_is_local_and_what_is_not() {
    let mut table = table(DmaPolicy::Auto);
    let fd = memfd(2 * PAGE, SealFlags::SHRINK);
    table.map(rw(0, PAGE), give(&fd)).unwrap();
    table.map(rw(PAGE, PAGE), None).unwrap();
    table.map(DmaMap { offset: PAGE, ..ro(2 * PAGE, PAGE) }, give(&fd)).unwrap();
    let parts: Vec<_> = table.segments(PAGE - 10, PAGE + 30, false).unwrap().collect();
    let part = |iova, len, local| Segment { iova, len, local };
    assert_eq!(
        parts,
        [part(PAGE - 10, 10, true), part(PAGE, PAGE, false), part(2 * PAGE, 20, true)].map(|part| part)
    );
    assert_eq!(table.segments(PAGE - 10, PAGE + 30, true).unwrap_err(), DmaError::Permission);
    assert_eq!(table.segments(PAGE, 3 * PAGE, false).unwrap_err(), DmaError::Unmapped);
    assert_eq!(table.segments(5 * PAGE, 0, false).unwrap().count(), 0);
    // Nothing moves unless everything can.
    assert_eq!(table.write(PAGE - 4, b"12345678"), Err(DmaError::NotLocal));
    let mut data = [9; 4];
    table.read(PAGE - 4, &mut data).unwrap();
    assert_eq!(data, [0; 4]);
}

#[test]
fn huge_sparse_files_are_no_more_than_what_is_touched() {
    for seals in [SealFlags::SHRINK, SealFlags::empty()] {
        let size = 1 << 42;
        let fd = memfd(size, seals);
        let mut table = table(DmaPolicy::Auto);
        table.map(rw(1 << 50, size), give(&fd)).unwrap();
        assert_ne!(path(&table), DmaPath::Message);
        table.write((1 << 50) + size - 4, b"last").unwrap();
        let mut data = [9; 8];
        table.read((1 << 50) + size - 8, &mut data).unwrap();
        assert_eq!(&data, b"\0\0\0\0last");
    }
}

#[test]
fn files_that_are_touched_directly_can_be_had() {
    let mut table = table(DmaPolicy::Map);
    let fd = memfd(2 * PAGE, SealFlags::empty());
    table.map(DmaMap { offset: PAGE, ..rw(0x5000, PAGE) }, give(&fd)).unwrap();
    table.map(rw(0x1000, PAGE), None).unwrap();
    let file = table.direct_file(0x5000).unwrap();
    assert_eq!(file.offset, PAGE);
    rustix::io::pwrite(file.fd.as_fd(), b"hello", file.offset).unwrap();
    let mut data = [0; 5];
    table.read(0x5000, &mut data).unwrap();
    assert_eq!(&data, b"hello");
    assert!(table.direct_file(0x5001).is_none() && table.direct_file(0x1000).is_none());
}

/// With no huge page free, or all of them promised to others, the memory is not there; that is an error, and no more.
#[test]
fn huge_pages_are_copied_or_gone() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::ALLOW_SEALING;
    let Ok(fd) = memfd_create("huge", flags) else {
        eprintln!("SKIPPED: this kernel has no huge pages");
        return;
    };
    let page = u64::try_from(rustix::fs::fstatfs(&fd).unwrap().f_bsize).unwrap();
    ftruncate(&fd, 2 * page).unwrap();
    fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
    let mut table = table(DmaPolicy::Auto);
    // Neither its start nor its end is that of a page.
    table.map(DmaMap { offset: PAGE, ..rw(0, page) }, give(&fd)).unwrap();
    assert_eq!(path(&table), DmaPath::Copy);
    match table.write(page - PAGE - 3, b"across") {
        Ok(()) => {
            let mut data = [9; 8];
            table.read(page - PAGE - 4, &mut data).unwrap();
            assert_eq!(&data, b"\0across\0");
        }
        Err(error) => {
            eprintln!("no huge page is free: {error}");
            assert_eq!(error, DmaError::Gone);
        }
    }
}
