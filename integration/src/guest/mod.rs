//! A Linux guest in a QEMU of a cache folder, and the initramfs that it boots: what `guest-test` is made of.
//!
//! The cache folder is filled by `guest/make-cache`. What the guest does is in the crate `guest-edu`; this starts it,
//! reads its console line by line, and ends it.

mod initramfs;
mod machine;

use std::path::{Path, PathBuf};
use std::{fs, io};

use tempfile::TempDir;

pub use initramfs::Archive;
pub use machine::{After, Guest, Memory};

/// The guest's first process.
const INIT: &[u8] = include_bytes!("../../guest/init");

/// What guests boot from.
#[derive(Debug)]
pub struct Assets {
    cache: PathBuf,
    dir: TempDir,
}

impl Assets {
    /// Puts the initramfs together: the tree in the cache folder, our init, and the program `payload`.
    ///
    /// # Errors
    /// When the cache is not there or not whole (says how to make it), or the payload is missing.
    pub fn gather(cache: &Path, payload: &Path) -> io::Result<Self> {
        let missing =
            |what: &Path, how: &str| io::Error::other(format!("{} is missing: {how}", what.display()));
        let stamp = cache.join("stamp");
        if !stamp.is_file() {
            return Err(missing(&stamp, "run integration/guest/make-cache"));
        }
        let payload = fs::read(payload).map_err(|_| missing(payload, "run make guest-test"))?;
        let mut archive = Archive::default();
        archive.tree(&cache.join("guest"))?;
        archive.file("init", 0o755, INIT);
        archive.file("bin/guest-edu", 0o755, &payload);
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("initramfs"), archive.finish())?;
        Ok(Self { cache: cache.to_owned(), dir })
    }

    fn qemu(&self) -> PathBuf {
        self.cache.join("qemu")
    }

    fn kernel(&self) -> PathBuf {
        self.cache.join("kernel")
    }

    fn initramfs(&self) -> PathBuf {
        self.dir.path().join("initramfs")
    }
}
