//! A VMM with nothing but a QMP monitor, on the unix socket that its argument names: `minimal /run/vm/qmp.sock`.

use std::error::Error;

use tokio::runtime::Builder;
use vmm_control::chardev::{Address, Backend, SocketOptions};
use vmm_control::{ControlPlane, MonitorConfig, RunState, RunStateCell};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("where to listen?")?;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let plane = ControlPlane::builder(RunStateCell::new(RunState::Running)).build()?;
        let socket = SocketOptions::server(Address::unix(path));
        let chardev = plane.open_chardev("mon0", Backend::Socket(socket), 128).await?;
        plane.add_monitor(MonitorConfig::new("qmp"), &chardev, 64)?;
        plane.shutdown_requested().await;
        plane.close().await;
        Ok(())
    })
}
