//! A VMM with a PCI device of its own, which another process can use over vfio-user:
//! `cargo run -p vmm-control --features vfio-user --example own_pci_device`.
//!
//! The other process would be QEMU, with `-device vfio-user-pci`; here it is a client in the same one.

use serde::{Deserialize, Serialize};
use serde_json::json;
use vmm_control::objects::pci::pci_device_type;
use vmm_control::vfio_user_server::pci::{Bar, Msi, PciSpec};
use vmm_control::vfio_user_server::{DeviceContext, Errno, PciDevice};
use vmm_control::{CommandResult, ControlPlane, Creation, QapiType, RunState, RunStateCell};

/// Properties of a dice cup.
#[derive(Deserialize, Serialize, QapiType)]
struct DiceProperties {
    /// How many sides a die has, 1 or more; 6 when absent.
    sides: Option<u32>,
}

/// Reading its register throws a die. Writing to it puts the cup down at a place of the sequence, and raises MSI vector 0.
struct Dice {
    sides: u32,
    thrown: u32,
}

impl PciDevice for Dice {
    fn spec(&self) -> PciSpec {
        let spec = PciSpec::builder(0x1234, 0xd1ce)
            .msi(Msi { vectors: 1, address64: true, maskable: false })
            .bar(0, Bar::registers(4096))
            .build();
        spec.expect("the description is a constant, and right")
    }

    fn read(&mut self, _: &mut DeviceContext<'_>, _: u8, _: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.thrown = self.thrown.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let eyes = (self.thrown >> 16) % self.sides + 1;
        let bytes = eyes.to_le_bytes();
        data.copy_from_slice(bytes.get(..data.len()).ok_or(Errno::INVAL)?);
        Ok(())
    }

    fn write(&mut self, cx: &mut DeviceContext<'_>, _: u8, _: u64, data: &[u8]) -> Result<(), Errno> {
        self.thrown = u32::from_le_bytes(data.try_into().map_err(|_| Errno::INVAL)?);
        cx.raise_msi(0);
        Ok(())
    }

    fn reset(&mut self, _: &mut DeviceContext<'_>) {
        self.thrown = 0;
    }
}

/// Makes one of what it is told, and says what is in force.
fn dice(_: &Creation, mut properties: DiceProperties) -> CommandResult<(DiceProperties, Dice)> {
    let sides = (*properties.sides.get_or_insert(6)).max(1);
    Ok((properties, Dice { sides, thrown: 0 }))
}

/// A process that uses the device.
fn client(path: &std::path::Path) -> Result<u32, vfio_user::Error> {
    let mut client = vfio_user::Client::new(path)?;
    client.region_write(0, 0, &1_u32.to_le_bytes())?;
    let mut eyes = [0; 4];
    client.region_read(0, 0, &mut eyes)?;
    Ok(u32::from_le_bytes(eyes))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plane = ControlPlane::builder(RunStateCell::new(RunState::Running))
        .device_type(pci_device_type("x-dice", dice))
        .build()?;
    let mut session = plane.connect();
    session.watch();
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("dice.sock");

    session.call("device_add", &json!({"driver": "x-dice", "id": "d0", "sides": 20})).await?;
    let export = json!({
        "qom-type": "x-vfio-user-server", "id": "v0", "device": "d0", "socket": {"type": "unix", "path": path},
    });
    session.call("object-add", &export).await?;
    let eyes = tokio::task::spawn_blocking(move || client(&path)).await??;
    println!("the client has thrown {eyes}");
    assert!((1..=20).contains(&eyes));

    // The client has gone, and with it the export; the device is back.
    let event = session.next_event().await.ok_or("the plane is open")?;
    println!("{} {}", event.name, serde_json::to_string(&event.data)?);
    assert_eq!(event.name, "VFU_CLIENT_HANGUP");
    session.call("device_del", &json!({"id": "d0"})).await?;
    plane.close().await;
    Ok(())
}
