//! BARs at run time: their memory, their doorbells, and how regions look to a client. The context's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::bar::Kind;
use super::check::{msix_areas, page};
use super::served::{self, Memory, Part};
use super::{Bar, Doorbell, Msix, PciSpec, ROM_REGION};
use crate::protocol::{Area, CONFIG_REGION, IoFd, Mmap, RegionDescription};

/// Who answers an access of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handled {
    /// It has been answered.
    All,
    /// Nothing has been done: the device is to be asked.
    None,
}

/// The BARs of a device: memory and doorbells.
#[derive(Debug)]
pub(crate) struct Bars {
    bars: [One; 6],
    rom: Box<[u8]>,
    config_size: u64,
}

/// A BAR, or none.
#[derive(Debug, Default)]
struct One {
    size: u64,
    io: bool,
    cleared: bool,
    /// It holds the MSI-X table, and may be mapped all the same.
    msix_mappable: bool,
    memory: Option<Memory>,
    /// What clients may map; `None` for nothing.
    mappable: Option<Vec<Area>>,
    /// In order, without overlaps.
    parts: Vec<Part>,
    bells: Vec<Bell>,
}

/// A doorbell with its eventfd, which clients may hold, too.
#[derive(Debug)]
pub(crate) struct Bell {
    doorbell: Doorbell,
    fd: OwnedFd,
}

impl Bell {
    /// The device's name for it.
    pub(crate) fn tag(&self) -> u64 {
        self.doorbell.tag
    }

    /// How often it has rung since the last call; 0 for not at all. Does not block, even if a client has made the eventfd
    /// a blocking one.
    pub(crate) fn take(&self) -> u64 {
        crate::irq::take(self.fd.as_fd())
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Bars {
    /// Makes memory (nothing of it is committed yet) and doorbells.
    ///
    /// # Errors
    /// No descriptors or no address space left.
    pub(crate) fn new(spec: &PciSpec) -> io::Result<Self> {
        let mut bars: [One; 6] = Default::default();
        for (index, bar) in (0..).zip(&spec.parts.bars) {
            if let Some(bar) = bar {
                bars[usize::from(index)] = One::new(index, bar, spec.parts.msix.as_ref())?;
            }
        }
        let rom = spec.parts.rom.clone().into_boxed_slice();
        Ok(Self { bars, rom, config_size: spec.config_size().into() })
    }

    /// How a region looks: 0 to 5 the BARs, 6 the ROM, 7 configuration space; others are absent.
    pub(crate) fn region(&self, index: u32) -> RegionDescription<'_> {
        match index {
            0..=5 => self.bars[index as usize].region(),
            6 if !self.rom.is_empty() => {
                RegionDescription { size: self.rom.len() as u64, readable: true, ..Default::default() }
            }
            CONFIG_REGION => {
                let size = self.config_size;
                RegionDescription { size, readable: true, writable: true, ..Default::default() }
            }
            _ => RegionDescription::default(),
        }
    }

    /// Reads memory of a BAR, or the ROM (6), if it is memory. Allocates nothing.
    ///
    /// # Errors
    /// `EINVAL` for a range of which only a part is memory, or that is not within the BAR.
    pub(crate) fn read(&self, bar: u8, offset: u64, data: &mut [u8]) -> Result<Handled, Errno> {
        if bar == ROM_REGION {
            let start = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
            let there = self.rom.get(start..).and_then(|rest| rest.get(..data.len()));
            data.copy_from_slice(there.ok_or(Errno::INVAL)?);
            return Ok(Handled::All);
        }
        let one = self.bars.get(usize::from(bar)).ok_or(Errno::INVAL)?;
        served::read(&one.parts, offset, data)
    }

    /// Whether all of a part of a BAR is memory that can be written.
    pub(crate) fn is_memory(&self, bar: u8, offset: u64, size: u64) -> bool {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.bars.get(usize::from(bar)).is_some_and(|one| served::is_memory(&one.parts, offset, size))
    }

    /// Writes memory of a BAR, if it is memory. Writes of MSI-X's pending bits are dropped.
    ///
    /// # Errors
    /// As for [`read`](Self::read); `EINVAL` for the ROM. Then nothing was written.
    pub(crate) fn write(&mut self, bar: u8, offset: u64, data: &[u8]) -> Result<Handled, Errno> {
        let one = self.bars.get_mut(usize::from(bar)).ok_or(Errno::INVAL)?;
        served::write(&mut one.parts, offset, data)
    }

    /// The doorbells of a BAR, as a client may have them.
    pub(crate) fn io_fds(&self, index: u32) -> Vec<IoFd<'_>> {
        let bar = self.bars.get(index as usize);
        bar.into_iter().flat_map(One::io_fds).collect()
    }

    /// Makes the eventfds of all doorbells anew: those that a client has had are its own from now on. `change` is told of each
    /// pair, the old one first, while both are open. Those that cannot be made stay.
    pub(crate) fn renew_doorbells(&mut self, mut change: impl FnMut(BorrowedFd<'_>, BorrowedFd<'_>, usize)) {
        let bells = self.bars.iter_mut().flat_map(|bar| &mut bar.bells);
        for (number, bell) in bells.enumerate() {
            match new_bell() {
                Ok(new) => {
                    change(bell.fd.as_fd(), new.as_fd(), number);
                    bell.fd = new;
                }
                Err(error) => tracing::warn!(%error, "a doorbell is shared with a client that has gone"),
            }
        }
    }

    /// All doorbells.
    pub(crate) fn doorbells(&self) -> impl Iterator<Item = &Bell> {
        self.bars.iter().flat_map(|bar| &bar.bells)
    }

    /// MSI-X's tables as after power-on; memory that is cleared by reset is 0; what rang unheard is forgotten.
    pub(crate) fn reset(&mut self) {
        for bar in &mut self.bars {
            bar.parts.iter_mut().for_each(Part::reset);
            bar.bells.iter().for_each(|bell| _ = bell.take());
            if let Some(memory) = bar.memory.as_ref().filter(|_| bar.cleared)
                && let Err(error) = memory.clear()
            {
                tracing::warn!(%error, "a BAR's memory could not be cleared");
            }
        }
    }
}

fn new_bell() -> Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

impl One {
    fn new(index: u8, bar: &Bar, msix: Option<&Msix>) -> io::Result<Self> {
        let has_table = msix.is_some_and(|msix| msix.table.0 == index);
        // Then the client's tables are nobody's but its own, and the memory here is as good as any.
        let open = bar.msix_mappable && bar.kind == Kind::Shared;
        let msix = msix.filter(|_| !open);
        let areas: Vec<Area> = msix.into_iter().flat_map(|msix| msix_areas(msix, index)).collect();
        let whole = Area { offset: 0, size: bar.size };
        let (mapped, mappable) = match bar.kind {
            Kind::Registers if bar.areas.is_empty() => (Vec::new(), None),
            Kind::Registers => (sorted(&bar.areas), Some(sorted(&bar.areas))),
            Kind::Memory => (without(whole, &areas, 1), None),
            Kind::Shared => (without(whole, &areas, 1), Some(without(whole, &areas, page()))),
        };
        let mut one = Self { size: bar.size, io: bar.io, cleared: bar.cleared, ..Self::default() };
        one.msix_mappable = open && has_table;
        one.mappable = mappable.filter(|areas| !areas.is_empty());
        if !mapped.is_empty() {
            let memory = Memory::new(bar.size)?;
            for area in mapped {
                one.parts.push(Part::mapped(area, memory.map(area)?));
            }
            one.memory = Some(memory);
        }
        if let Some(msix) = msix {
            if msix.table.0 == index {
                one.parts.push(Part::table(msix.table.1, msix.vectors));
            }
            if msix.pba.0 == index {
                one.parts.push(Part::pending(msix.pba.1, msix.pba_size()));
            }
        }
        one.parts.sort_by_key(Part::start);
        debug_assert!(one.parts.is_sorted_by(|a, b| a.end() <= b.start()));
        for doorbell in &bar.doorbells {
            one.bells.push(Bell { doorbell: *doorbell, fd: new_bell()? });
        }
        Ok(one)
    }

    fn region(&self) -> RegionDescription<'_> {
        let there = self.size > 0;
        let mmap = self.memory.as_ref().zip(self.mappable.as_deref()).map(|(memory, areas)| {
            let all = matches!(areas, [Area { offset: 0, size }] if *size == self.size);
            Mmap { fd: memory.fd(), offset: 0, areas: if all { &[] } else { areas } }
        });
        RegionDescription {
            size: self.size,
            readable: there,
            writable: there,
            mmap,
            msix_mappable: self.msix_mappable,
        }
    }

    fn io_fds(&self) -> impl Iterator<Item = IoFd<'_>> {
        self.bells.iter().map(|bell| {
            let Doorbell { offset, size, datamatch, .. } = bell.doorbell;
            // KVM_IOEVENTFD_FLAG_DATAMATCH, KVM_IOEVENTFD_FLAG_PIO.
            let flags = u32::from(datamatch.is_some()) | if self.io { 2 } else { 0 };
            IoFd { offset, size, fd: bell.fd.as_fd(), flags, datamatch: datamatch.unwrap_or(0) }
        })
    }
}

fn sorted(areas: &[Area]) -> Vec<Area> {
    let mut areas = areas.to_vec();
    areas.sort_by_key(|area| area.offset);
    areas
}

/// What is left of `whole` without `holes`, which grow to multiples of `unit`.
fn without(whole: Area, holes: &[Area], unit: u64) -> Vec<Area> {
    let end = whole.size;
    let mut left = Vec::new();
    let mut at = 0;
    for hole in sorted(holes) {
        let start = hole.offset / unit * unit;
        if start > at {
            left.push(Area { offset: at, size: start - at });
        }
        at = at.max((hole.offset + hole.size).next_multiple_of(unit));
    }
    if end > at {
        left.push(Area { offset: at, size: end - at });
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Mapping;
    use proptest::prelude::*;
    use rustix::fs::{SealFlags, fcntl_get_seals, fstat, ftruncate};

    fn spec(bars: impl IntoIterator<Item = (u8, Bar)>, msix: Option<Msix>) -> PciSpec {
        let builder = bars.into_iter().fold(PciSpec::builder(1, 2), |builder, (n, bar)| builder.bar(n, bar));
        msix.into_iter().fold(builder, super::super::SpecBuilder::msix).build().unwrap()
    }

    fn read(bars: &Bars, bar: u8, offset: u64, length: usize) -> Result<(Handled, Vec<u8>), Errno> {
        let mut data = vec![0; length];
        bars.read(bar, offset, &mut data).map(|handled| (handled, data))
    }

    #[test]
    fn a_table_in_memory_that_is_mapped_whole_is_memory() {
        let msix = || Msix { vectors: 4, table: (0, 0), pba: (0, 0x800) };
        let bars = |bar: Bar| Bars::new(&spec([(0, bar)], Some(msix()))).unwrap();
        let apart = bars(Bar::shared(4 * page()));
        assert!(!apart.region(0).msix_mappable);
        assert_eq!(apart.region(0).mmap.unwrap().areas[0].offset, page());
        let open = bars(Bar::shared(4 * page()).msix_mappable());
        assert!(open.region(0).msix_mappable && open.region(0).mmap.unwrap().areas.is_empty());
        // The table's masked vectors are the client's to know.
        assert_eq!(read(&apart, 0, 12, 4).unwrap().1, [1, 0, 0, 0]);
        assert_eq!(read(&open, 0, 12, 4).unwrap(), (Handled::All, vec![0; 4]));
    }

    #[test]
    fn doorbells_are_made_anew() {
        let doorbell = Doorbell { offset: 0, size: 4, datamatch: None, tag: 1 };
        let mut bars = Bars::new(&spec([(0, Bar::registers(4096).doorbell(doorbell))], None)).unwrap();
        let kept = rustix::io::fcntl_dupfd_cloexec(bars.io_fds(0)[0].fd, 0).unwrap();
        let mut changes = 0;
        bars.renew_doorbells(|_, _, _| changes += 1);
        rustix::io::write(&kept, &1_u64.to_ne_bytes()).unwrap();
        assert_eq!((changes, bars.doorbells().next().unwrap().take()), (1, 0));
    }

    #[test]
    fn regions_are_as_described() {
        let page = page();
        let bars = Bars::new(&spec(
            [
                (0, Bar::registers(4 * page).shared_area(page, page).shared_area(3 * page, page)),
                (1, Bar::shared(2 * page)),
                (2, Bar::memory(0x1000)),
            ],
            None,
        ))
        .unwrap();
        let registers = bars.region(0);
        assert!(registers.readable && registers.writable);
        let areas: Vec<_> =
            registers.mmap.unwrap().areas.iter().map(|area| (area.offset, area.size)).collect();
        assert_eq!(areas, [(page, page), (3 * page, page)]);
        assert!(bars.region(1).mmap.is_some_and(|mmap| mmap.areas.is_empty()));
        assert!(bars.region(2).mmap.is_none());
        assert_eq!([0, 1, 2].map(|n| bars.region(n).size), [4 * page, 2 * page, 0x1000]);
        for absent in [3, 4, 5, 6, 8, 9, u32::MAX] {
            let region = bars.region(absent);
            assert!(region.size == 0 && !region.readable && !region.writable && region.mmap.is_none());
        }
        assert_eq!(bars.region(CONFIG_REGION).size, 256);
    }

    #[test]
    fn the_rom_is_read_only_and_filled_up() {
        let spec = PciSpec::builder(1, 2).rom((0..255).cycle().take(3000).collect()).build().unwrap();
        let mut bars = Bars::new(&spec).unwrap();
        let region = bars.region(6);
        assert!(region.readable && !region.writable);
        assert_eq!(region.size, 4096);
        assert_eq!(read(&bars, 6, 2998, 4), Ok((Handled::All, vec![193, 194, 0, 0])));
        assert_eq!(read(&bars, 6, 4095, 2), Err(Errno::INVAL));
        assert_eq!(read(&bars, 6, u64::MAX, 2), Err(Errno::INVAL));
        assert_eq!(bars.write(6, 0, &[1]), Err(Errno::INVAL));
    }

    #[test]
    fn shared_memory_is_seen_on_both_sides_and_cannot_change_its_size() {
        let size = 4 * page();
        let mut bars = Bars::new(&spec([(2, Bar::shared(size))], None)).unwrap();
        let fd = bars.region(2).mmap.unwrap().fd.try_clone_to_owned().unwrap();
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        assert_eq!(fcntl_get_seals(&fd).unwrap(), seals);
        assert!(ftruncate(&fd, 0).is_err() && ftruncate(&fd, 2 * size).is_err());
        let client = Mapping::new(&fd, page(), 8, true).unwrap();
        assert!(client.write(0, b"from her"));
        assert_eq!(read(&bars, 2, page(), 8), Ok((Handled::All, b"from her".to_vec())));
        assert_eq!(bars.write(2, page(), b"from us."), Ok(Handled::All));
        let mut data = [0; 8];
        assert!(client.read(0, &mut data));
        assert_eq!(&data, b"from us.");
    }

    #[test]
    fn memory_that_nobody_touches_is_not_committed() {
        let spec = spec([(0, Bar::memory(1 << 36).address64()), (2, Bar::shared(2 << 20))], None);
        let mut bars = Bars::new(&spec).unwrap();
        let blocks = |bars: &Bars| {
            bars.bars
                .each_ref()
                .map(|bar| bar.memory.as_ref().map(|memory| fstat(memory.fd()).unwrap().st_blocks))
        };
        assert_eq!(blocks(&bars)[0], Some(0));
        assert_eq!(blocks(&bars)[2], Some(0));
        assert_eq!(bars.write(2, 0x10_0000, &[1]), Ok(Handled::All));
        assert!(blocks(&bars)[2] > Some(0));
    }

    #[test]
    fn reset_keeps_memory_unless_it_is_said_to_be_cleared() {
        let kept = Bar::memory(0x1000);
        let cleared = Bar::shared(page()).cleared_by_reset();
        let mut bars = Bars::new(&spec([(0, kept), (1, cleared)], None)).unwrap();
        for bar in [0, 1] {
            assert_eq!(bars.write(bar, 8, &[7]), Ok(Handled::All));
        }
        bars.reset();
        assert_eq!(read(&bars, 0, 8, 1), Ok((Handled::All, vec![7])));
        assert_eq!(read(&bars, 1, 8, 1), Ok((Handled::All, vec![0])));
        assert_eq!(bars.write(1, 8, &[7]), Ok(Handled::All));
        assert_eq!(read(&bars, 1, 8, 1), Ok((Handled::All, vec![7])));
    }

    #[test]
    fn a_table_among_registers_is_memory() {
        let msix = Msix { vectors: 8, table: (2, 0x800), pba: (2, 0xc00) };
        let mut bars = Bars::new(&spec([(2, Bar::registers(0x1000))], Some(msix))).unwrap();
        assert_eq!(read(&bars, 2, 0x7fc, 4), Ok((Handled::None, vec![0; 4])));
        assert_eq!(read(&bars, 2, 0x87c, 4), Ok((Handled::All, vec![1, 0, 0, 0])));
        assert_eq!(bars.write(2, 0x800, &[0x11; 16]), Ok(Handled::All));
        assert_eq!(read(&bars, 2, 0x80c, 2), Ok((Handled::All, vec![0x11; 2])));
        assert_eq!(bars.write(2, 0xc00, &[0xff; 8]), Ok(Handled::All));
        assert_eq!(read(&bars, 2, 0xc00, 8), Ok((Handled::All, vec![0; 8])));
        for (offset, length) in [(0x7fc, 8), (0x87c, 8), (0, 0x1000), (0xbff, 2), (0xc07, 2)] {
            assert_eq!(read(&bars, 2, offset, length), Err(Errno::INVAL), "{offset:#x}");
            assert_eq!(bars.write(2, offset, &vec![0; length]), Err(Errno::INVAL), "{offset:#x}");
        }
        assert_eq!(bars.write(2, 0xfff, &[1]), Ok(Handled::None));
        bars.reset();
        assert_eq!(read(&bars, 2, 0x80c, 2), Ok((Handled::All, vec![1, 0])));
    }

    #[test]
    fn a_table_within_shared_memory_is_not_mappable() {
        let page = page();
        // Table in the second page, pending bits at the end of the last.
        let end = u32::try_from(8 * page - 8).unwrap();
        let msix = Msix { vectors: 4, table: (0, u32::try_from(page + 64).unwrap()), pba: (0, end) };
        let mut bars = Bars::new(&spec([(0, Bar::shared(8 * page))], Some(msix))).unwrap();
        let areas: Vec<_> =
            bars.region(0).mmap.unwrap().areas.iter().map(|area| (area.offset, area.size)).collect();
        assert_eq!(areas, [(0, page), (2 * page, 5 * page)]);
        // Accesses go on from one kind of memory to the other.
        let all = vec![0x5a; usize::try_from(8 * page).unwrap()];
        assert_eq!(bars.write(0, 0, &all), Ok(Handled::All));
        let (_, mut back) = read(&bars, 0, 0, all.len()).unwrap();
        assert_eq!(back.split_off(all.len() - 8), [0; 8]);
        assert!(back.iter().all(|byte| *byte == 0x5a));
        // A table that takes the only page leaves nothing.
        let msix = Msix { vectors: 4, table: (0, 0), pba: (0, 0x800) };
        let bars = Bars::new(&spec([(0, Bar::shared(page))], Some(msix))).unwrap();
        assert!(bars.region(0).mmap.is_none());
    }

    #[test]
    fn doorbells_ring_and_never_block() {
        let ports =
            Bar::registers(0x100).io().doorbell(Doorbell { offset: 4, size: 2, datamatch: Some(9), tag: 1 });
        let memory =
            Bar::registers(0x1000).doorbell(Doorbell { offset: 8, size: 0, datamatch: None, tag: 2 });
        let mut bars = Bars::new(&spec([(0, ports), (1, memory)], None)).unwrap();
        let shown: Vec<_> = [0, 1, 2, 6, 99]
            .into_iter()
            .flat_map(|n| bars.io_fds(n))
            .map(|io| (io.offset, io.size, io.flags, io.datamatch))
            .collect();
        assert_eq!(shown, [(4, 2, 3, 9), (8, 0, 0, 0)]);
        let theirs = bars.io_fds(1)[0].fd.try_clone_to_owned().unwrap();
        rustix::io::ioctl_fionbio(&theirs, false).unwrap();
        let taken = |bars: &Bars| bars.doorbells().map(|bell| (bell.tag(), bell.take())).collect::<Vec<_>>();
        assert_eq!(taken(&bars), [(1, 0), (2, 0)]);
        for _ in 0..3 {
            rustix::io::write(&theirs, &1_u64.to_ne_bytes()).unwrap();
        }
        assert_eq!(taken(&bars), [(1, 0), (2, 3)]);
        rustix::io::write(&theirs, &1_u64.to_ne_bytes()).unwrap();
        bars.reset();
        assert_eq!(taken(&bars), [(1, 0), (2, 0)]);
    }

    proptest! {
        /// Registers with two areas and a table: accesses are served wholly, not at all, or refused, as each byte's own
        /// nature says; what is served is memory.
        #[test]
        fn accesses_are_served_as_their_bytes_are(
            accesses in prop::collection::vec((0_u64..0x5000, 0_usize..300, any::<u8>(), any::<bool>()), 1..40)
        ) {
            let page = page();
            prop_assume!(page == 4096);
            let bar = Bar::registers(0x4000).shared_area(0x1000, 0x1000).shared_area(0x2000, 0x1000);
            let msix = Msix { vectors: 5, table: (0, 0xfb0), pba: (0, 0x3008) };
            let mut bars = Bars::new(&spec([(0, bar)], Some(msix))).unwrap();
            // Bytes that are memory, with their values.
            let mut shadow: Vec<Option<u8>> = (0..0x5000)
                .map(|at| (0xfb0..0x3000).contains(&at).then_some(0).or((0x3008..0x3010).contains(&at).then_some(0)))
                .collect();
            (0..5).for_each(|n| shadow[0xfb0 + 16 * n + 12] = Some(1));
            for (offset, length, value, writes) in accesses {
                // Near the edges.
                let edges = [0xfb0, 0x1000, 0x2000, 0x3000, 0x3008, 0x3010];
                let offset = edges.get(usize::from(value) % 9).map_or(offset, |edge| edge - offset % 20);
                let at = usize::try_from(offset).unwrap();
                let range = at..at + length;
                let served = shadow.get(range.clone()).unwrap_or_default().iter().flatten().count();
                let wanted = match served {
                    _ if range.end > 0x5000 => continue,
                    _ if served == length => Ok(Handled::All),
                    0 => Ok(Handled::None),
                    _ => Err(Errno::INVAL),
                };
                if writes {
                    prop_assert_eq!(bars.write(0, offset, &vec![value; length]), wanted);
                    for at in range.filter(|at| wanted == Ok(Handled::All) && *at < 0x3000) {
                        shadow[at] = Some(value);
                    }
                } else {
                    let mut data = vec![0; length];
                    prop_assert_eq!(bars.read(0, offset, &mut data), wanted);
                    if wanted == Ok(Handled::All) {
                        let there: Vec<u8> = shadow[range].iter().flatten().copied().collect();
                        prop_assert_eq!(data, there);
                    }
                }
            }
        }
    }
}
