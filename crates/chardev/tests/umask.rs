//! The mode of the socket's file does not depend on the umask being kind. Alone in its process, whose umask it changes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chardev::{Address, Backend, Chardev, SocketOptions};
use rustix::fs::Mode;
use rustix::process::umask;

#[tokio::test]
async fn private_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let open = async |path: &Path| {
        let options = SocketOptions::server(Address::unix(path));
        Chardev::open("c", Backend::Socket(options), 1).await.unwrap()
    };
    for (mask, mode) in [(0o000, 0o600), (0o077, 0o600), (0o277, 0o400)] {
        umask(Mode::from_raw_mode(mask));
        let path = dir.path().join(format!("{mask:o}"));
        let chardev = open(&path).await;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode);
        assert_eq!(umask(Mode::empty()).as_raw_mode(), mask, "the umask is the process's own affair");
        drop(chardev);
    }
}
