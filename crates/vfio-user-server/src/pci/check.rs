//! What a description must hold to.

use super::bar::Kind;
use super::capability::Capability;
use super::registers::*;
use super::spec::Parts;
use super::{Bar, Doorbell, Msix};
use crate::protocol::Area;

/// The largest ROM that its register can describe, in bytes.
pub(super) const ROM_MOST: usize = 16 << 20;
/// Doorbells of one BAR: what a client is shown of them.
const DOORBELLS: usize = 16;

/// Why a description does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The class has more than 24 bits.
    #[error("class {0:#x} has more than 24 bits")]
    Class(u32),
    /// There are BARs 0 to 5.
    #[error("there is no BAR {0}")]
    BarIndex(u8),
    /// A part that a device has once.
    #[error("the device has this part twice: {0}")]
    Twice(&'static str),
    /// A 64-bit BAR takes two indexes.
    #[error("the 64-bit BAR {0} needs the next index, which is taken or does not exist")]
    NoUpperHalf(u8),
    /// Its size is not a power of two, or outside what its type permits.
    #[error("BAR {bar} cannot have {size:#x} bytes")]
    BarSize {
        /// Its index.
        bar: u8,
        /// In bytes.
        size: u64,
    },
    /// Ports have no 64-bit addresses, are not prefetchable, and cannot be mapped.
    #[error("BAR {0} of ports cannot be 64-bit, prefetchable or shared")]
    Ports(u8),
    /// A shared area is outside its BAR, does not consist of whole pages, or is in a BAR that is memory.
    #[error("shared area at {offset:#x} of BAR {bar} is not whole pages of a BAR of registers")]
    SharedArea {
        /// The BAR.
        bar: u8,
        /// Where it starts.
        offset: u64,
    },
    /// A doorbell is outside its BAR, or in memory, or has an impossible size or value.
    #[error("doorbell at {offset:#x} of BAR {bar} is impossible there")]
    Doorbell {
        /// The BAR.
        bar: u8,
        /// Where it is.
        offset: u64,
    },
    /// More than 16 doorbells.
    #[error("BAR {0} has too many doorbells")]
    TooManyDoorbells(u8),
    /// Shared areas, an MSI-X table, its pending bits or doorbells lie in one place.
    #[error("parts of BAR {bar} overlap at {offset:#x}")]
    Overlap {
        /// The BAR.
        bar: u8,
        /// Where the second of them starts.
        offset: u64,
    },
    /// Not a number of vectors that the type has.
    #[error("{vectors} vectors of {what} are impossible")]
    Vectors {
        /// MSI or MSI-X.
        what: &'static str,
        /// How many.
        vectors: u16,
    },
    /// MSI-X's table or pending bits are not within a BAR of memory addresses, or not aligned to 8 bytes.
    #[error("the MSI-X {0} is not within a BAR, or is not aligned to 8 bytes")]
    MsixPlace(&'static str),
    /// More than 16 MiB.
    #[error("the ROM has more than 16 MiB")]
    Rom,
    /// Capabilities do not fit below offset 0x100.
    #[error("the capabilities do not fit into configuration space")]
    TooManyCapabilities,
}

/// Finds the first thing that does not hold.
pub(super) fn check(parts: &Parts) -> Result<(), SpecError> {
    if let Some(error) = &parts.misplaced {
        return Err(error.clone());
    }
    if parts.class > 0xff_ffff {
        return Err(SpecError::Class(parts.class));
    }
    if parts.rom.len() > ROM_MOST {
        return Err(SpecError::Rom);
    }
    vectors(parts)?;
    for (index, bar) in (0..).zip(&parts.bars) {
        let Some(bar) = bar else { continue };
        size(index, bar)?;
        if bar.address64 && parts.bars.get(usize::from(index) + 1).is_none_or(Option::is_some) {
            return Err(SpecError::NoUpperHalf(index));
        }
        areas(index, bar)?;
        doorbells(index, bar)?;
    }
    if let Some(msix) = &parts.msix {
        msix_places(parts, msix)?;
    }
    for (index, bar) in (0..).zip(&parts.bars) {
        bar.as_ref().map_or(Ok(()), |bar| overlaps(index, bar, parts.msix.as_ref()))?;
    }
    capabilities(&parts.capabilities)
}

fn vectors(parts: &Parts) -> Result<(), SpecError> {
    match (parts.msi, parts.msix) {
        (Some(msi), _) if !msi.vectors.is_power_of_two() || msi.vectors > 32 => {
            Err(SpecError::Vectors { what: "MSI", vectors: msi.vectors })
        }
        (_, Some(msix)) if !(1..=2048).contains(&msix.vectors) => {
            Err(SpecError::Vectors { what: "MSI-X", vectors: msix.vectors })
        }
        _ => Ok(()),
    }
}

fn size(index: u8, bar: &Bar) -> Result<(), SpecError> {
    if bar.io && (bar.address64 || bar.prefetchable || bar.kind == Kind::Shared || !bar.areas.is_empty()) {
        return Err(SpecError::Ports(index));
    }
    let least = match bar.kind {
        _ if bar.io => 4,
        Kind::Shared => page(),
        _ => 16,
    };
    let most = match bar {
        _ if bar.io => 1 << 16,
        _ if bar.address64 => 1 << 62,
        _ => 1 << 31,
    };
    let fits = bar.size.is_power_of_two() && (least..=most).contains(&bar.size);
    if fits { Ok(()) } else { Err(SpecError::BarSize { bar: index, size: bar.size }) }
}

fn areas(index: u8, bar: &Bar) -> Result<(), SpecError> {
    let whole = |area: &Area| {
        bar.kind == Kind::Registers
            && area.size > 0
            && area.offset.is_multiple_of(page())
            && area.size.is_multiple_of(page())
            && within(bar, area)
    };
    match bar.areas.iter().find(|area| !whole(area)) {
        Some(area) => Err(SpecError::SharedArea { bar: index, offset: area.offset }),
        None => Ok(()),
    }
}

fn doorbells(index: u8, bar: &Bar) -> Result<(), SpecError> {
    if bar.doorbells.len() > DOORBELLS {
        return Err(SpecError::TooManyDoorbells(index));
    }
    let possible = |bell: &Doorbell| {
        let value = match (bell.size, bell.datamatch) {
            (0 | 1 | 2 | 4 | 8, None) | (8, Some(_)) => true,
            (size @ (1 | 2 | 4), Some(value)) => value < 1 << (8 * size),
            _ => false,
        };
        value && bar.kind == Kind::Registers && within(bar, &extent(bell))
    };
    // Two that one write would signal. A size of 0 stands for all sizes, no value for all values.
    let alike = |a: &Doorbell, b: &Doorbell| {
        let value = |x: Option<u64>, y: Option<u64>| x.is_none() || y.is_none() || x == y;
        a.offset == b.offset
            && (a.size == 0 || b.size == 0 || a.size == b.size)
            && value(a.datamatch, b.datamatch)
    };
    for (n, bell) in bar.doorbells.iter().enumerate() {
        if !possible(bell) {
            return Err(SpecError::Doorbell { bar: index, offset: bell.offset });
        }
        if bar.doorbells[..n].iter().any(|other| alike(bell, other)) {
            return Err(SpecError::Overlap { bar: index, offset: bell.offset });
        }
    }
    Ok(())
}

fn msix_places(parts: &Parts, msix: &Msix) -> Result<(), SpecError> {
    let places = [("table", msix.table, msix.table_size()), ("pending bits", msix.pba, msix.pba_size())];
    for (what, (bar, offset), size) in places {
        let bar = parts.bars.get(usize::from(bar)).and_then(Option::as_ref);
        let area = Area { offset: offset.into(), size };
        if !bar.is_some_and(|bar| !bar.io && within(bar, &area)) || !offset.is_multiple_of(8) {
            return Err(SpecError::MsixPlace(what));
        }
    }
    Ok(())
}

/// Areas among themselves, with the parts of MSI-X, and with doorbells.
fn overlaps(index: u8, bar: &Bar, msix: Option<&Msix>) -> Result<(), SpecError> {
    let mut taken = bar.areas.clone();
    taken.extend(msix.into_iter().flat_map(|msix| msix_areas(msix, index)));
    taken.sort_by_key(|area| area.offset);
    for pair in taken.windows(2) {
        if pair[0].offset + pair[0].size > pair[1].offset {
            return Err(SpecError::Overlap { bar: index, offset: pair[1].offset });
        }
    }
    for bell in &bar.doorbells {
        let bell = extent(bell);
        if taken
            .iter()
            .any(|area| area.offset < bell.offset + bell.size && bell.offset < area.offset + area.size)
        {
            return Err(SpecError::Overlap { bar: index, offset: bell.offset });
        }
    }
    Ok(())
}

fn capabilities(capabilities: &[Capability]) -> Result<(), SpecError> {
    for (n, one) in capabilities.iter().enumerate() {
        let name = match one.id() {
            ID_POWER => "power management",
            ID_MSI => "MSI",
            ID_MSIX => "MSI-X",
            ID_EXPRESS => "PCI Express",
            _ => continue,
        };
        if capabilities[..n].iter().any(|other| other.id() == one.id()) {
            return Err(SpecError::Twice(name));
        }
    }
    let sizes = capabilities.iter().map(|one| one.bytes.len().next_multiple_of(4));
    let end = HEADER_END + sizes.sum::<usize>();
    if end > CONVENTIONAL_END { Err(SpecError::TooManyCapabilities) } else { Ok(()) }
}

/// The table and the pending bits, if they are in this BAR.
pub(super) fn msix_areas(msix: &Msix, bar: u8) -> impl Iterator<Item = Area> {
    let table = (msix.table, msix.table_size());
    let pba = (msix.pba, msix.pba_size());
    [table, pba]
        .into_iter()
        .filter(move |((index, _), _)| *index == bar)
        .map(|((_, offset), size)| Area { offset: offset.into(), size })
}

fn extent(bell: &Doorbell) -> Area {
    Area { offset: bell.offset, size: bell.size.max(1) }
}

fn within(bar: &Bar, area: &Area) -> bool {
    area.offset.checked_add(area.size).is_some_and(|end| end <= bar.size)
}

/// The host's page size in bytes.
pub(super) fn page() -> u64 {
    rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::super::{Express, Msi, PciSpec, SpecBuilder};
    use super::*;

    fn device() -> SpecBuilder {
        PciSpec::builder(1, 2)
    }

    fn error(builder: SpecBuilder) -> SpecError {
        builder.build().unwrap_err()
    }

    #[test]
    fn sizes_are_what_registers_can_say() {
        let bad = [
            Bar::registers(0),
            Bar::registers(8),
            Bar::registers(0x1001),
            Bar::registers(1 << 32),
            Bar::registers(1 << 63).address64(),
            Bar::registers(2).io(),
            Bar::registers(1 << 17).io(),
            Bar::shared(page() / 2),
        ];
        for bar in bad {
            let size = bar.size;
            assert_eq!(error(device().bar(3, bar)), SpecError::BarSize { bar: 3, size });
        }
        let good = [
            Bar::registers(16),
            Bar::registers(1 << 31),
            Bar::registers(1 << 62).address64(),
            Bar::registers(4).io(),
            Bar::registers(1 << 16).io(),
            Bar::shared(page()),
        ];
        for bar in good {
            device().bar(3, bar).build().unwrap();
        }
    }

    #[test]
    fn indexes_are_taken_once() {
        let bar = || Bar::registers(0x1000);
        assert_eq!(error(device().bar(6, bar())), SpecError::BarIndex(6));
        assert_eq!(error(device().bar(1, bar()).bar(1, bar())), SpecError::Twice("BAR"));
        assert_eq!(error(device().bar(5, bar().address64())), SpecError::NoUpperHalf(5));
        assert_eq!(error(device().bar(0, bar().address64()).bar(1, bar())), SpecError::NoUpperHalf(0));
        device()
            .bar(0, bar().address64())
            .bar(2, bar().address64())
            .bar(4, bar().address64())
            .build()
            .unwrap();
    }

    #[test]
    fn ports_are_not_memory() {
        let ports = || Bar::registers(0x100).io();
        for bar in [ports().address64(), ports().prefetchable(), Bar::shared(page()).io()] {
            assert_eq!(error(device().bar(0, bar)), SpecError::Ports(0));
        }
        let msix = Msix { vectors: 1, table: (0, 0), pba: (0, 16) };
        assert_eq!(error(device().bar(0, ports()).msix(msix)), SpecError::MsixPlace("table"));
    }

    #[test]
    fn vectors_are_what_capabilities_can_say() {
        for vectors in [0, 3, 33, 64, u16::MAX] {
            let msi = Msi { vectors, address64: true, maskable: true };
            assert_eq!(error(device().msi(msi)), SpecError::Vectors { what: "MSI", vectors });
        }
        for vectors in [0, 2049, u16::MAX] {
            let msix = Msix { vectors, table: (0, 0), pba: (0, 0x8000) };
            let builder = device().bar(0, Bar::registers(0x1_0000)).msix(msix);
            assert_eq!(error(builder), SpecError::Vectors { what: "MSI-X", vectors });
        }
    }

    #[test]
    fn msix_has_a_place_of_its_own() {
        let with = |table, pba| {
            let bar =
                Bar::registers(0x1000).doorbell(Doorbell { offset: 0x10, size: 4, datamatch: None, tag: 0 });
            device().bar(0, bar).msix(Msix { vectors: 8, table, pba }).build().map(|_| ())
        };
        with((0, 0x100), (0, 0x180)).unwrap();
        with((0, 0xf80), (0, 0)).unwrap();
        for table in [(0, 0xf88), (1, 0), (7, 0), (255, 0), (0, 0x104), (0, !7)] {
            assert_eq!(with(table, (0, 0)), Err(SpecError::MsixPlace("table")), "{table:?}");
        }
        assert_eq!(with((0, 0x100), (0, 0x1000)), Err(SpecError::MsixPlace("pending bits")));
        assert_eq!(with((0, 0x100), (0, 0x178)), Err(SpecError::Overlap { bar: 0, offset: 0x178 }));
        assert_eq!(with((0, 0x100), (0, 0x10)), Err(SpecError::Overlap { bar: 0, offset: 0x10 }));
    }

    #[test]
    fn areas_are_whole_pages_of_registers() {
        let page = page();
        let with = |bar: Bar| device().bar(0, bar).build().map(|_| ());
        let bar = || Bar::registers(4 * page);
        for (offset, size) in [(0, 0), (1, page), (0, page - 1), (4 * page, page), (page, 4 * page), (!0, 1)]
        {
            assert_eq!(with(bar().shared_area(offset, size)), Err(SpecError::SharedArea { bar: 0, offset }));
        }
        assert!(with(Bar::memory(4 * page).shared_area(0, page)).is_err());
        let both = bar().shared_area(page, 2 * page).shared_area(2 * page, page);
        assert_eq!(with(both), Err(SpecError::Overlap { bar: 0, offset: 2 * page }));
        with(bar().shared_area(2 * page, page).shared_area(page, page)).unwrap();
    }

    #[test]
    fn doorbells_are_where_writes_can_match() {
        let bell = |offset, size, datamatch| Doorbell { offset, size, datamatch, tag: 0 };
        let with = |bells: &[Doorbell]| {
            let bar = bells.iter().fold(Bar::registers(0x1000), |bar, bell| bar.doorbell(*bell));
            device().bar(0, bar).build().map(|_| ())
        };
        with(&[bell(0, 4, Some(1)), bell(0, 4, Some(2)), bell(0, 2, None), bell(0xff8, 8, Some(!0))])
            .unwrap();
        for bad in [
            bell(0, 3, None),
            bell(0, 0, Some(1)),
            bell(0xffd, 4, None),
            bell(!0, 1, None),
            bell(0, 1, Some(256)),
        ] {
            assert_eq!(with(&[bad]), Err(SpecError::Doorbell { bar: 0, offset: bad.offset }));
        }
        for second in [bell(0, 4, None), bell(0, 0, None), bell(0, 4, Some(1))] {
            assert!(with(&[bell(0, 4, Some(1)), second]).is_err(), "{second:?}");
        }
        let many: Vec<_> = (0..17).map(|n| bell(8 * n, 8, None)).collect();
        assert_eq!(with(&many), Err(SpecError::TooManyDoorbells(0)));
        assert!(device().bar(0, Bar::memory(0x1000).doorbell(bell(0, 4, None))).build().is_err());
    }

    #[test]
    fn capabilities_fit_and_come_once() {
        let express = device().express(Express::Endpoint);
        assert_eq!(error(express.clone().express(Express::Integrated)), SpecError::Twice("PCI Express"));
        assert_eq!(
            error(device().power_management().power_management()),
            SpecError::Twice("power management")
        );
        device().vendor_capability(&[0; 189]).build().unwrap();
        assert_eq!(error(device().vendor_capability(&[0; 190])), SpecError::TooManyCapabilities);
        assert_eq!(error(device().vendor_capability(&[0; 1000])), SpecError::TooManyCapabilities);
        device().vendor_capability(&[1]).vendor_capability(&[2]).build().unwrap();
        assert_eq!(error(device().class(0x100_0000)), SpecError::Class(0x100_0000));
        assert_eq!(error(device().rom(vec![0; ROM_MOST + 1])), SpecError::Rom);
        device().rom(vec![0; ROM_MOST]).build().unwrap();
    }
}
