//! How many descriptors can still be opened. Alone in its process, whose table it looks at.

use std::fs::File;
use std::os::fd::AsFd;

#[test]
fn gaps_are_free_and_what_is_above_them_is_not() {
    // As large as the number of descriptors is, if the kernel counts them.
    if std::fs::metadata("/proc/self/fd").map_or(0, |own| own.len()) == 0 {
        return eprintln!("SKIPPED: this kernel does not count descriptors");
    }
    let file = File::open("/dev/null").unwrap();
    assert!(fd_closer::has_room(file.as_fd()));
    let before = fd_closer::descriptors_left(file.as_fd());
    let high: Vec<_> = (0..200).map(|_| rustix::io::fcntl_dupfd_cloexec(&file, 500).unwrap()).collect();
    assert_eq!(fd_closer::descriptors_left(file.as_fd()), before - 200);
    drop(high);
    assert_eq!(fd_closer::descriptors_left(file.as_fd()), before);
}
