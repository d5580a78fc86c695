//! This project's server, with the `scratch` device.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;

use iothread::{IoThread, Properties};
use pci_devices::Scratch;
use vfio_user_server::context::{Context, Listen};

/// Exports a device at each socket, all on one iothread, until the process is ended.
///
/// # Errors
///
/// When the iothread does not start, or a socket cannot be listened on.
pub fn serve(sockets: &[PathBuf], poll_max_ns: i64) -> io::Result<Infallible> {
    let mut properties = Properties::default();
    properties.set("poll-max-ns", poll_max_ns).map_err(io::Error::other)?;
    let iothread = IoThread::builder("IO bench").properties(properties).start().map_err(io::Error::other)?;
    let mut exported = Vec::with_capacity(sockets.len());
    for path in sockets {
        let context = Context::builder(Box::new(Scratch::new()))
            .reconnect(true)
            .listen(Listen::Path(path.clone()))
            .map_err(|(error, _)| io::Error::other(error))?;
        exported.push(context.spawn(&iothread.handle()).map_err(io::Error::other)?);
    }
    loop {
        std::thread::park();
    }
}
