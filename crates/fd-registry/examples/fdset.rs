//! A set is filled from a client's descriptor, opened by a device, and emptied.
//!
//! `cargo run -p fd-registry --example fdset`

use std::error::Error;
use std::os::fd::AsRawFd;

use fd_registry::FdSets;
use rustix::fs::OFlags;

fn main() -> Result<(), Box<dyn Error>> {
    let sets = FdSets::new();

    // What a client sent with add-fd.
    let file = std::fs::File::open("/dev/null")?;
    let added = sets.add(None, Some("rdonly:/dev/null".into()), std::os::fd::OwnedFd::from(file))?;
    println!("add-fd: set {}, fd {}", added.set, added.fd);

    // What a device does when its configuration names a file.
    let path = format!("/dev/fdset/{}", added.set);
    let dup = sets.open(&path, OFlags::RDONLY)?;
    println!("{path} opened as fd {}", dup.as_raw_fd());
    match sets.open(&path, OFlags::WRONLY) {
        Ok(_) => println!("this cannot be: the set has nothing to write to"),
        Err(error) => println!("opened for writing: {error}"),
    }

    sets.remove(added.set, None)?;
    println!("after remove-fd: {:?}", sets.query());
    drop(dup);
    println!("after the device has closed it: {:?}", sets.query());
    Ok(())
}
