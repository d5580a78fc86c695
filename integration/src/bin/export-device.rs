//! Exports reference devices with the library alone: no monitors, no objects, but deadlines and limits as a test wants them.
//!
//! `export-device [negotiation-ms=N] [stall-ms=N] [reply-ms=N] [maps=N] [mapped-bytes=N] DEVICE=SOCKET...`, where a device is
//! `edu` or `scratch`. All are served by one iothread, and served again after a hang-up, until the process is killed.

use std::error::Error;
use std::time::Duration;

use iothread::IoThread;
use pci_devices::{Edu, Scratch};
use vfio_user_server::PciDevice;
use vfio_user_server::context::{Context, Limits, Listen};

fn main() -> Result<(), Box<dyn Error>> {
    let iothread = IoThread::builder("IO export").start()?;
    let mut limits = Limits::default();
    let mut exported = Vec::new();
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').ok_or_else(|| format!("{argument}: no NAME=VALUE"))?;
        if limit(&mut limits, name, value)? {
            continue;
        }
        let device: Box<dyn PciDevice> = match name {
            "edu" => Box::new(Edu::new()),
            "scratch" => Box::new(Scratch::new()),
            _ => return Err(format!("{name}: neither a limit nor a device").into()),
        };
        let builder = Context::builder(device).limits(limits.clone()).reconnect(true);
        let context = builder.listen(Listen::Path(value.into())).map_err(|(error, _)| error)?;
        exported.push(context.spawn(&iothread.handle())?);
    }
    loop {
        std::thread::park();
    }
}

/// Sets a limit; `false` if there is none of this name.
fn limit(limits: &mut Limits, name: &str, value: &str) -> Result<bool, Box<dyn Error>> {
    let time = || value.parse().map(Duration::from_millis);
    match name {
        "negotiation-ms" => limits.negotiation = time()?,
        "stall-ms" => limits.stall = time()?,
        "reply-ms" => limits.reply = time()?,
        "maps" => limits.maps = value.parse()?,
        "mapped-bytes" => limits.mapped_bytes = value.parse()?,
        _ => return Ok(false),
    }
    Ok(true)
}
