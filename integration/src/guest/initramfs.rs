//! The archive that a kernel unpacks as its first root: cpio in the format "newc" (the kernel's
//! driver-api/early-userspace/buffer-format says what it takes).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// An archive that is being written. Everything in it belongs to root.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds what is inside the folder `root`: files, folders and symbolic links, in the order of their names.
    ///
    /// # Errors
    /// When something of it cannot be read.
    pub fn tree(&mut self, root: &Path) -> io::Result<()> {
        self.folder(root, root)
    }

    fn folder(&mut self, root: &Path, dir: &Path) -> io::Result<()> {
        let mut paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            let name = path.strip_prefix(root).map_err(io::Error::other)?.as_os_str().as_bytes();
            let metadata = fs::symlink_metadata(&path)?;
            let mode = metadata.permissions().mode() & 0o777;
            if metadata.is_symlink() {
                self.entry(name, SYMLINK | 0o777, fs::read_link(&path)?.as_os_str().as_bytes());
            } else if metadata.is_dir() {
                self.entry(name, DIRECTORY | mode, &[]);
                self.folder(root, &path)?;
            } else {
                self.entry(name, FILE | mode, &fs::read(&path)?);
            }
        }
        Ok(())
    }

    /// Adds a file. The folder that it is in must have been added before.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name.as_bytes(), FILE | mode, content);
    }

    /// The archive, with its end mark.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(b"TRAILER!!!", 0, &[]);
        self.bytes
    }

    /// A header of 13 fields in hexadecimal, the name with a zero byte, the content; name and content end on a multiple of 4.
    fn entry(&mut self, name: &[u8], mode: u32, content: &[u8]) {
        self.entries += 1;
        let (content_size, name_size) = (content.len(), name.len() + 1);
        let [ino, links] = [self.entries, 1];
        let header = format!(
            "070701{ino:08x}{mode:08x}{zero:08x}{zero:08x}{links:08x}{zero:08x}{content_size:08x}\
             {zero:08x}{zero:08x}{zero:08x}{zero:08x}{name_size:08x}{zero:08x}",
            zero = 0
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_laid_out_as_the_format_says() {
        let mut archive = Archive::default();
        archive.file("ab", 0o755, b"12345");
        let bytes = archive.finish();
        let header = std::str::from_utf8(&bytes[..110]).unwrap();
        assert_eq!(&header[..6], "070701");
        assert_eq!(&header[14..22], "000081ed", "a file, rwxr-xr-x");
        assert_eq!(&header[54..62], "00000005", "its size");
        assert_eq!(&header[94..102], "00000003", "its name's size");
        assert_eq!(&bytes[110..124], b"ab\x00\x00\x00\x0012345\x00\x00\x00");
        assert_eq!(&bytes[124..130], b"070701");
        assert!(bytes.ends_with(b"TRAILER!!!\x00\x00\x00\x00"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn a_tree_keeps_its_links_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/busybox"), "x").unwrap();
        std::os::unix::fs::symlink("busybox", dir.path().join("bin/sh")).unwrap();
        let mut archive = Archive::default();
        archive.tree(dir.path()).unwrap();
        let text = String::from_utf8(archive.finish()).unwrap();
        let places: Vec<_> =
            ["bin\0", "bin/busybox\0", "bin/sh\0", "busybox"].map(|name| text.rfind(name)).into();
        assert!(places.iter().all(Option::is_some), "{places:?}");
        assert!(places[0] < places[1] && places[1] < places[2], "a folder comes before what is in it");
        assert!(places[3] > places[2], "a link's content is its target");
    }
}
