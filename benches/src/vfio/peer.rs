//! The `vfio_user` crate's server, with a device that is memory and nothing else.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::Path;

use vfio_bindings::bindings::vfio::{
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, Server, ServerBackend, ServerRegion};

use super::{REGION_SIZE, REGIONS};

/// Listens at `path` and serves one client after the other until the process is ended.
///
/// # Errors
///
/// When it cannot listen, and whatever ends the crate's server.
pub fn serve(path: &Path) -> io::Result<Infallible> {
    let regions = (0..REGIONS).map(region).collect();
    let server = Server::new(path, true, Vec::new(), regions).map_err(io::Error::other)?;
    let mut memory = Memory(vec![0; REGION_SIZE].into_boxed_slice());
    loop {
        server.run(&mut memory).map_err(io::Error::other)?;
    }
}

fn region(index: u32) -> ServerRegion {
    let region_info = vfio_region_info {
        argsz: 32,
        flags: VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
        index,
        size: REGION_SIZE as u64,
        ..Default::default()
    };
    ServerRegion { region_info, sparse_areas: Vec::new(), mmap_fd: None }
}

/// Every region is the same memory.
struct Memory(Box<[u8]>);

impl Memory {
    fn part(&mut self, offset: u64, length: usize) -> io::Result<&mut [u8]> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(length)?));
        range.and_then(|range| self.0.get_mut(range)).ok_or(io::ErrorKind::InvalidInput.into())
    }
}

impl ServerBackend for Memory {
    fn region_read(&mut self, _region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        data.copy_from_slice(self.part(offset, data.len())?);
        Ok(())
    }

    fn region_write(&mut self, _region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        self.part(offset, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn dma_map(&mut self, _: DmaMapFlags, _: u64, _: u64, _: u64, _: Option<File>) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, _: Vec<File>) -> io::Result<()> {
        Ok(())
    }
}
