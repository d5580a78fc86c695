//! Clients that change their memory while the device uses it. Whoever is ended by that fails the test.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    FallocateFlags, MemfdFlags, OFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_getfl, fcntl_setfl,
    fstat, ftruncate, memfd_create,
};
use vfio_user_server::dma::{DmaError, DmaPath, DmaPolicy, DmaTable};
use vfio_user_server::protocol::DmaMap;

const SIZE: u64 = 16 * 4096;
const ACCESSES: u32 = 20_000;

fn memfd(seals: SealFlags) -> OwnedFd {
    let fd = memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, SIZE).unwrap();
    fcntl_add_seals(&fd, seals).unwrap();
    fd
}

fn table(fd: &OwnedFd, writable: bool) -> (DmaTable, DmaPath) {
    let mut table = DmaTable::new(DmaPolicy::Auto, 10, SIZE);
    let map = DmaMap { iova: 0, size: SIZE, offset: 0, readable: true, writable, file_io: false };
    table.map(map, Some(fd.try_clone().unwrap().into())).unwrap();
    let path = table.maps().next().unwrap().path;
    (table, path)
}

/// Has `client` run over and over while `device` does.
fn against(client: impl Fn(u32) + Sync, device: impl FnOnce()) {
    /// Ends the client, even if the device has failed.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = End(&over);
        scope.spawn(|| {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                client(round);
                round += 1;
            }
        });
        device();
    });
}

#[test]
fn truncation_is_an_error_at_most() {
    for writable in [true, false] {
        let fd = memfd(SealFlags::empty());
        let (table, path) = table(&fd, writable);
        assert_eq!(path, if writable { DmaPath::Copy } else { DmaPath::File });
        let mut gone = 0;
        let client = |_| {
            ftruncate(&fd, 0).unwrap();
            ftruncate(&fd, SIZE).unwrap();
        };
        against(client, || {
            let mut data = [0; 4096];
            for turn in 0..ACCESSES {
                let at = u64::from(turn) * 64 % (SIZE - 4096);
                let result = if writable && turn % 2 == 0 {
                    table.write(at, &data)
                } else {
                    table.read(at, &mut data)
                };
                match result {
                    Ok(()) => {}
                    Err(DmaError::Gone) => gone += 1,
                    Err(other) => panic!("{other}"),
                }
            }
        });
        eprintln!("writable {writable}: {gone} of {ACCESSES} found nothing");
        // Exactly when it is truncated for sure, and when it is not.
        ftruncate(&fd, 4096).unwrap();
        assert_eq!(table.read(4095, &mut [0; 2]), Err(DmaError::Gone));
        assert_eq!(table.read(4095, &mut [0]), Ok(()));
        if writable {
            assert_eq!(table.write(4095, &[0; 2]), Err(DmaError::Gone));
            assert_eq!(fstat(&fd).unwrap().st_size, 4096, "a write does not make the file grow again");
            assert_eq!(table.write(4095, &[0]), Ok(()));
        }
    }
}

#[test]
fn sealed_memory_with_holes_reads_as_zeros() {
    let fd = memfd(SealFlags::SHRINK);
    let (table, _) = table(&fd, true);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let client = |_| {
        fallocate(&fd, punch, 0, SIZE).unwrap();
        assert!(ftruncate(&fd, 0).is_err());
    };
    against(client, || {
        let mut data = [0; 64];
        for turn in 0..ACCESSES {
            let at = u64::from(turn) * 64 % SIZE;
            table.write(at, &[7; 64]).unwrap();
            table.read(at, &mut data).unwrap();
            assert!(data.iter().all(|byte| matches!(byte, 0 | 7)));
        }
    });
}

/// The description is shared: `O_APPEND` would send `pwrite` elsewhere.
#[test]
fn flags_that_flip_change_nothing() {
    for seals in [SealFlags::SHRINK, SealFlags::empty()] {
        let fd = memfd(seals);
        let (table, _) = table(&fd, true);
        let before = fcntl_getfl(&fd).unwrap();
        let sets = [OFlags::APPEND, OFlags::NONBLOCK, OFlags::APPEND | OFlags::NONBLOCK, OFlags::NOATIME];
        let client = |round: u32| {
            fcntl_setfl(&fd, before | sets[round as usize % sets.len()]).unwrap();
            // Not every kernel lets files in memory have this one.
            let _ = fcntl_setfl(&fd, before | OFlags::DIRECT);
        };
        against(client, || {
            for turn in 0..ACCESSES {
                let at = u64::from(turn) * 61 % (SIZE - 4);
                table.write(at, &turn.to_ne_bytes()).unwrap();
                let mut data = [0; 4];
                table.read(at, &mut data).unwrap();
                assert_eq!(data, turn.to_ne_bytes());
            }
        });
        assert_eq!(u64::try_from(fstat(&fd).unwrap().st_size).unwrap(), SIZE);
    }
}
