//! `info`: what there is, one thing at a time.

mod hardware;
mod pci;
mod plane;
mod qtree;
mod tree;
#[cfg(feature = "vfio-user")]
mod vfio_user;

use crate::hmp::HumanCommand;

pub(super) fn commands() -> Vec<HumanCommand> {
    let groups = [
        plane::commands(),
        hardware::commands(),
        tree::commands(),
        qtree::commands(),
        pci::commands(),
        #[cfg(feature = "vfio-user")]
        vfio_user::commands(),
    ];
    groups.into_iter().flatten().collect()
}
