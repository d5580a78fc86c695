//! `info pci`: the devices on PCI buses.

use std::fmt::Write as _;

use qmp_command::CommandResult;
use serde::Deserialize;

use crate::hmp::{HumanCommand, HumanContext};

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("info pci")
            .help("show the devices on PCI buses")
            .handler(async |context, _| pci(&context).await),
    ]
}

/// A bus, as `query-pci` returns it.
#[derive(Deserialize)]
struct Bus {
    devices: Vec<Device>,
}

/// A device on it.
#[derive(Deserialize)]
struct Device {
    bus: i64,
    slot: i64,
    function: i64,
    class_info: Class,
    id: Ids,
    irq: Option<i64>,
    #[serde(default)]
    irq_pin: i64,
    qdev_id: String,
    #[serde(default)]
    regions: Vec<Region>,
}

#[derive(Deserialize)]
struct Class {
    class: i64,
    desc: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ids {
    device: i64,
    vendor: i64,
    subsystem: Option<i64>,
    subsystem_vendor: Option<i64>,
}

#[derive(Deserialize)]
struct Region {
    bar: i64,
    #[serde(rename = "type")]
    ty: String,
    address: i64,
    size: i64,
    #[serde(default)]
    prefetch: bool,
    #[serde(default)]
    mem_type_64: bool,
}

async fn pci(context: &HumanContext) -> CommandResult<String> {
    if !context.has("query-pci") {
        // A machine without PCI shows nothing.
        return Ok(String::new());
    }
    let buses: Vec<Bus> = context.query("query-pci", &()).await?;
    Ok(buses.iter().flat_map(|bus| &bus.devices).map(device).collect())
}

fn device(device: &Device) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  Bus {:2}, device {:3}, function {}:", device.bus, device.slot, device.function);
    let class = match &device.class_info.desc {
        Some(desc) => desc.clone(),
        None => format!("Class {:04}", device.class_info.class),
    };
    let _ = writeln!(text, "    {class}: PCI device {:04x}:{:04x}", device.id.vendor, device.id.device);
    if let (Some(vendor), Some(subsystem)) = (device.id.subsystem_vendor, device.id.subsystem) {
        let _ = writeln!(text, "      PCI subsystem {vendor:04x}:{subsystem:04x}");
    }
    if let Some(irq) = device.irq {
        let pin =
            u8::try_from(device.irq_pin).map_or('?', |pin| char::from(b'A' + pin.saturating_sub(1) % 26));
        let _ = writeln!(text, "      IRQ {irq}, pin {pin}");
    }
    for region in &device.regions {
        let _ = writeln!(text, "      BAR{}: {}", region.bar, range(region));
    }
    let _ = writeln!(text, "      id \"{}\"", device.qdev_id);
    text
}

fn range(region: &Region) -> String {
    let (first, last) = (region.address, region.address.wrapping_add(region.size).wrapping_sub(1));
    if region.ty == "io" {
        return format!("I/O at {first:#06x} [{last:#06x}].");
    }
    let bits = if region.mem_type_64 { 64 } else { 32 };
    let prefetchable = if region.prefetch { " prefetchable" } else { "" };
    format!("{bits} bit{prefetchable} memory at {first:#010x} [{last:#010x}].")
}
