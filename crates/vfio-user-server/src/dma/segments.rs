//! A range of the device's addresses, map by map.

use std::collections::btree_map::Range;

use super::table::Map;

/// A part of a range that is in one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where the device sees it.
    pub iova: u64,
    /// In bytes, not 0.
    pub len: u64,
    /// [`DmaTable::read`](super::DmaTable::read) and `write` reach it; else only messages do.
    pub local: bool,
}

/// The parts of a range in order, all of it.
#[derive(Debug)]
pub struct Segments<'a>(pub(super) Pieces<'a>);

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        let piece = self.0.next()?;
        Some(Segment { iova: piece.iova, len: piece.len, local: piece.map.is_local() })
    }
}

/// The maps that a range goes through, until its end or the first byte that is not mapped.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    /// From the map that holds the next byte, or some later one if none does.
    pub(super) maps: Range<'a, u64, Map>,
    pub(super) iova: u64,
    /// Bytes from `iova`.
    pub(super) left: u64,
}

/// A part of a range, and its map.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) map: &'a Map,
    pub(super) iova: u64,
    /// From the map's start.
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.left == 0 {
            return None;
        }
        let (start, map) = self.maps.next()?;
        let iova = self.iova;
        let offset = iova.checked_sub(*start)?;
        let len = self.left.min(map.size.checked_sub(offset).filter(|rest| *rest > 0)?);
        self.left -= len;
        // Wraps only behind the last byte of all, where nothing is left.
        self.iova = iova.wrapping_add(len);
        Some(Piece { map, iova, offset, len })
    }
}
