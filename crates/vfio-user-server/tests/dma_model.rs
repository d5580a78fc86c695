//! The DMA table against a list of maps that is searched byte by byte.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::os::fd::OwnedFd;

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vfio_user_server::Errno;
use vfio_user_server::dma::{DmaError, DmaPolicy, DmaTable};
use vfio_user_server::protocol::{DmaMap, DmaUnmap};

const MAX_MAPS: usize = 6;
const MAX_BYTES: u64 = 80;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Memory {
    Sealed,
    Shared,
    None,
}

#[derive(Debug, Clone)]
enum Step {
    Map {
        iova: u64,
        size: u64,
        offset: u64,
        readable: bool,
        writable: bool,
        memory: Memory,
    },
    Unmap {
        iova: u64,
        size: u64,
    },
    /// Exactly one that is there.
    UnmapOne(usize),
    UnmapAll,
    Read {
        iova: u64,
        len: usize,
    },
    Write {
        iova: u64,
        len: usize,
        byte: u8,
    },
}

/// Addresses at both ends, where sums wrap.
fn iova() -> impl Strategy<Value = u64> {
    (any::<bool>(), 0..64_u64).prop_map(|(high, at)| if high { u64::MAX - at } else { at })
}

fn step() -> impl Strategy<Value = Step> {
    let memory = prop_oneof![Just(Memory::Sealed), Just(Memory::Shared), Just(Memory::None)];
    let map = (iova(), 0..24_u64, 0..9000_u64, prop::bool::weighted(0.9), prop::bool::weighted(0.8), memory);
    prop_oneof![
        5 => map.prop_map(|(iova, size, offset, readable, writable, memory)| {
            Step::Map { iova, size, offset, readable, writable, memory }
        }),
        1 => (iova(), 0..24_u64).prop_map(|(iova, size)| Step::Unmap { iova, size }),
        2 => any::<usize>().prop_map(Step::UnmapOne),
        1 => Just(Step::UnmapAll),
        6 => (iova(), 0..40_usize).prop_map(|(iova, len)| Step::Read { iova, len }),
        6 => (iova(), 0..40_usize, any::<u8>()).prop_map(|(iova, len, byte)| Step::Write { iova, len, byte }),
    ]
}

struct ModelMap {
    iova: u64,
    readable: bool,
    writable: bool,
    local: bool,
    bytes: Vec<u8>,
}

impl ModelMap {
    fn holds(&self, at: u128) -> Option<usize> {
        let offset = usize::try_from(at.checked_sub(self.iova.into())?).ok()?;
        (offset < self.bytes.len()).then_some(offset)
    }
}

#[derive(Default)]
struct Model(Vec<ModelMap>);

impl Model {
    fn map(&mut self, map: &DmaMap, local: bool) -> Result<(), Errno> {
        let bytes = || u128::from(map.iova)..u128::from(map.iova) + u128::from(map.size);
        if map.size == 0 || bytes().end > 1 << 64 {
            return Err(Errno::INVAL);
        }
        if self.0.iter().any(|other| bytes().any(|at| other.holds(at).is_some())) {
            return Err(Errno::EXIST);
        }
        let sum: u64 = self.0.iter().map(|map| map.bytes.len() as u64).sum();
        if self.0.len() == MAX_MAPS || sum + map.size > MAX_BYTES {
            return Err(Errno::NOSPC);
        }
        let DmaMap { iova, readable, writable, .. } = *map;
        self.0.push(ModelMap {
            iova,
            readable,
            writable,
            local,
            bytes: vec![0; usize::try_from(map.size).unwrap()],
        });
        Ok(())
    }

    fn unmap(&mut self, iova: u64, size: u64) -> Result<(), Errno> {
        let found = self.0.iter().position(|map| map.iova == iova && map.bytes.len() as u64 == size);
        self.0.remove(found.ok_or(Errno::NOENT)?);
        Ok(())
    }

    /// Every byte's map and place in it.
    fn places(&self, iova: u64, len: usize, write: bool) -> Result<Vec<(usize, usize)>, DmaError> {
        let mut places = Vec::new();
        for at in u128::from(iova)..u128::from(iova) + len as u128 {
            let mut holders = self.0.iter().enumerate();
            let (map, offset) =
                holders.find_map(|(map, other)| Some((map, other.holds(at)?))).ok_or(DmaError::Unmapped)?;
            let found = &self.0[map];
            if !if write { found.writable } else { found.readable } {
                return Err(DmaError::Permission);
            }
            places.push((map, offset));
        }
        Ok(places)
    }

    fn local_places(&self, iova: u64, len: usize, write: bool) -> Result<Vec<(usize, usize)>, DmaError> {
        let places = self.places(iova, len, write)?;
        if places.iter().all(|(map, _)| self.0[*map].local) { Ok(places) } else { Err(DmaError::NotLocal) }
    }
}

fn file(memory: Memory, size: u64) -> Option<OwnedFd> {
    if memory == Memory::None {
        return None;
    }
    let fd = memfd_create("model", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, size).unwrap();
    if memory == Memory::Sealed {
        fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
    }
    Some(fd)
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut table = DmaTable::new(DmaPolicy::Auto, MAX_MAPS, MAX_BYTES);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Map { iova, size, offset, readable, writable, memory } => {
                let map = DmaMap { iova, size, offset, readable, writable, file_io: false };
                let fd = file(memory, offset + size).map(Into::into);
                prop_assert_eq!(table.map(map, fd), model.map(&map, memory != Memory::None));
            }
            Step::Unmap { iova, size } => {
                prop_assert_eq!(table.unmap(DmaUnmap::Range { iova, size }), model.unmap(iova, size));
            }
            Step::UnmapOne(which) if !model.0.is_empty() => {
                let map = &model.0[which % model.0.len()];
                let (iova, size) = (map.iova, map.bytes.len() as u64);
                prop_assert_eq!(table.unmap(DmaUnmap::Range { iova, size }), Ok(()));
                model.unmap(iova, size).unwrap();
            }
            Step::UnmapOne(_) => {}
            Step::UnmapAll => {
                prop_assert_eq!(table.unmap(DmaUnmap::All), Ok(()));
                model.0.clear();
            }
            Step::Read { iova, len } => {
                let mut data = vec![0xEE; len];
                let result = table.read(iova, &mut data);
                let places = model.local_places(iova, len, false);
                prop_assert_eq!(result, places.as_ref().map(|_| ()).map_err(|error| *error));
                let expected = places.map_or_else(
                    |_| vec![0xEE; len],
                    |places| places.iter().map(|(map, offset)| model.0[*map].bytes[*offset]).collect(),
                );
                prop_assert_eq!(data, expected);
            }
            Step::Write { iova, len, byte } => {
                let data: Vec<_> = (0..len).map(|at| byte.wrapping_add(u8::try_from(at).unwrap())).collect();
                let result = table.write(iova, &data);
                let places = model.local_places(iova, len, true);
                prop_assert_eq!(result, places.as_ref().map(|_| ()).map_err(|error| *error));
                for ((map, offset), byte) in places.unwrap_or_default().into_iter().zip(data) {
                    model.0[map].bytes[offset] = byte;
                }
            }
        }
        check_segments(&table, &model)?;
    }
    Ok(())
}

/// The parts of some ranges cover them in order, each within one map.
fn check_segments(table: &DmaTable, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(table.len(), model.0.len());
    prop_assert_eq!(table.mapped_bytes(), model.0.iter().map(|map| map.bytes.len() as u64).sum::<u64>());
    for (iova, len) in [(0, 30_usize), (13, 40), (u64::MAX - 30, 31), (u64::MAX - 5, 9)] {
        let parts = table.segments(iova, len as u64, false);
        let places = model.places(iova, len, false);
        prop_assert_eq!(
            table.covers(iova, len as u64, false),
            places.as_ref().map(|_| ()).map_err(|error| *error)
        );
        let (Ok(parts), Ok(places)) = (parts, places) else { continue };
        let mut flat = Vec::new();
        for part in parts {
            prop_assert!(part.len > 0 && part.iova == iova.wrapping_add(flat.len() as u64));
            flat.extend((0..part.len).map(|_| part.local));
        }
        let expected: Vec<_> = places.iter().map(|(map, _)| model.0[*map].local).collect();
        prop_assert_eq!(flat, expected);
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_table_does_what_the_list_does(steps in prop::collection::vec(step(), 0..60)) {
        run(steps)?;
    }
}
