//! Exports a device with one register that counts its reads, and drives it as a client would:
//! `cargo run -p vfio-user-server --example counter`.

use iothread::IoThread;
use vfio_user_server::context::{Context, Listen};
use vfio_user_server::pci::{Bar, PciSpec};
use vfio_user_server::{DeviceContext, Errno, PciDevice};

/// A register of 4 bytes at the start of BAR 0: each read counts, a write sets it.
struct Counter(u32);

impl PciDevice for Counter {
    fn spec(&self) -> PciSpec {
        let spec = PciSpec::builder(0x1234, 0xc0de).class(0xff_00_00).bar(0, Bar::registers(4096)).build();
        spec.unwrap_or_else(|error| unreachable!("nothing in it depends on anything: {error}"))
    }

    fn read(&mut self, _: &mut DeviceContext<'_>, _: u8, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        if let (0, Ok(register)) = (offset, <&mut [u8; 4]>::try_from(data)) {
            self.0 = self.0.wrapping_add(1);
            *register = self.0.to_le_bytes();
        }
        Ok(())
    }

    fn write(&mut self, _: &mut DeviceContext<'_>, _: u8, offset: u64, data: &[u8]) -> Result<(), Errno> {
        if let (0, Ok(register)) = (offset, <[u8; 4]>::try_from(data)) {
            self.0 = u32::from_le_bytes(register);
        }
        Ok(())
    }

    fn reset(&mut self, _: &mut DeviceContext<'_>) {
        self.0 = 0;
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("counter.sock");

    let iothread = IoThread::builder("IO counter").start()?;
    let context = Context::builder(Box::new(Counter(0)));
    let context = context.listen(Listen::Path(path.clone())).map_err(|(error, _)| error)?;
    let exported = context.spawn(&iothread.handle())?;

    let mut client = vfio_user::Client::new(&path)?;
    let mut register = [0; 4];
    client.region_write(0, 0, &41_u32.to_le_bytes())?;
    client.region_read(0, 0, &mut register)?;
    println!("the register reads {}", u32::from_le_bytes(register));
    assert_eq!(u32::from_le_bytes(register), 42);
    drop(client);

    assert!(exported.finish().is_some(), "the device comes back, with its state");
    Ok(())
}
