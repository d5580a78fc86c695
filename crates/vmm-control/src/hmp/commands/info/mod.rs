//! `info`: what there is, one thing at a time.

mod hardware;
mod pci;
mod plane;
mod qtree;
mod tree;

use crate::hmp::HumanCommand;

pub(super) fn commands() -> Vec<HumanCommand> {
    [plane::commands(), hardware::commands(), tree::commands(), qtree::commands(), pci::commands()]
        .into_iter()
        .flatten()
        .collect()
}
