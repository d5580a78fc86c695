//! Exports an edu device, and has it compute a factorial over its socket. With a path as its argument it serves there until
//! the client goes.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use pci_devices::Edu;
use vfio_user_server::context::{Context, Event, Listen};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let path = given.clone().unwrap_or_else(|| folder.path().join("edu.sock"));
    let (tell, events) = channel();
    let context = Context::builder(Box::new(Edu::new()))
        .on_event(move |event| _ = tell.send(event))
        .listen(Listen::Path(path.clone()))
        .map_err(|(error, _)| error)?;
    let iothread = iothread::IoThread::builder("IO edu").start()?;
    let _exported = context.spawn(&iothread.handle())?;
    println!("edu is served at {}", path.display());
    if given.is_none() {
        compute(&path)?;
    }
    for event in events {
        println!("{event:?}");
        if matches!(event, Event::Hangup { .. }) {
            break;
        }
    }
    Ok(())
}

/// What a guest's driver would do.
fn compute(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut client = vfio_user::Client::new(path)?;
    client.region_write(0, 0x08, &12_u32.to_le_bytes())?;
    let mut word = [0; 4];
    loop {
        client.region_read(0, 0x20, &mut word)?;
        if word[0] & 1 == 0 {
            break;
        }
    }
    client.region_read(0, 0x08, &mut word)?;
    println!("12! = {}", u32::from_le_bytes(word));
    Ok(())
}
