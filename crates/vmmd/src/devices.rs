//! The PCI devices that `-device` and `device_add` make. They are reached through an `x-vfio-user-server`, on either
//! machine: neither has a PCI bus of its own.

use pci_devices::{Edu, Scratch};
use serde::{Deserialize, Serialize};
use vmm_control::objects::pci::pci_device_type;
use vmm_control::{Creation, ObjectType, QapiType};

/// Bus addresses that QEMU's edu reaches unless it is told otherwise.
const EDU_DMA_MASK: u64 = 0x0fff_ffff;

/// What an edu device is told.
#[derive(Clone, Debug, Deserialize, Serialize, QapiType)]
#[qapi(name = "XEduProperties")]
struct EduProperties {
    /// The bus addresses that it reaches, as a mask; 0x0fffffff when absent
    dma_mask: Option<u64>,
}

/// What a scratch device is told.
#[derive(Clone, Debug, Deserialize, Serialize, QapiType)]
#[qapi(name = "XScratchProperties")]
struct ScratchProperties {
    /// Whether the client may map BAR 0; off when absent
    mmap: Option<bool>,
}

/// All of them.
pub(crate) fn types() -> [ObjectType; 2] {
    let edu = pci_device_type("edu", |_: &Creation, mut properties: EduProperties| {
        let mask = *properties.dma_mask.get_or_insert(EDU_DMA_MASK);
        Ok((properties, Edu::new().dma_mask(mask)))
    });
    let scratch = pci_device_type("scratch", |_: &Creation, mut properties: ScratchProperties| {
        let mmap = *properties.mmap.get_or_insert(false);
        Ok((properties, Scratch::new().mmap(mmap)))
    });
    [
        edu.doc("QEMU's educational device: factorials, interrupts, DMA."),
        scratch.doc("Memory and DMA, to measure with."),
    ]
}
