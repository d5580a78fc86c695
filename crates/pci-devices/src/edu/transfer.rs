//! DMA, as registers ask for it.

/// Bytes of the device's buffer.
pub(super) const BUFFER_SIZE: usize = 4096;
/// Where the buffer is for DMA.
const BUFFER: u64 = 0x4_0000;

/// What is to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    /// From the client's memory into the buffer.
    Read {
        /// The bus address.
        iova: u64,
        /// The place in the buffer, with room for all.
        at: usize,
        /// In bytes.
        count: usize,
    },
    /// From the buffer into the client's memory.
    Write {
        /// The bus address.
        iova: u64,
        /// The place in the buffer, which holds all of it.
        at: usize,
        /// In bytes.
        count: usize,
    },
    /// 0 bytes.
    Nothing,
    /// Not within the buffer.
    OutOfBounds,
}

impl Transfer {
    /// `inside` is the address at the device's end, `outside` at the client's, of which `mask` counts.
    pub(super) fn new(inside: u64, outside: u64, count: u64, mask: u64, from_device: bool) -> Self {
        let place = || {
            let at = usize::try_from(inside.checked_sub(BUFFER)?).ok()?;
            let count = usize::try_from(count).ok()?;
            at.checked_add(count).filter(|end| *end <= BUFFER_SIZE)?;
            Some((at, count))
        };
        let iova = outside & mask;
        match place() {
            None => Self::OutOfBounds,
            Some((_, 0)) => Self::Nothing,
            Some((at, count)) if from_device => Self::Write { iova, at, count },
            Some((at, count)) => Self::Read { iova, at, count },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_buffer_is_copied_to_and_from() {
        let read = |inside, count| Transfer::new(inside, 0x1_2345_6789, count, 0x0fff_ffff, false);
        assert_eq!(read(0x4_0000, 4096), Transfer::Read { iova: 0x0345_6789, at: 0, count: 4096 });
        assert_eq!(read(0x4_0fff, 1), Transfer::Read { iova: 0x0345_6789, at: 4095, count: 1 });
        assert_eq!(read(0x4_1000, 0), Transfer::Nothing);
        for (inside, count) in [
            (0x3_ffff, 1),
            (0x4_0001, 4096),
            (0x4_1000, 1),
            (0x4_1001, 0),
            (0, 16),
            (u64::MAX, 1),
            (0x4_0000, u64::MAX),
            (0x4_0008, u64::MAX - 7),
        ] {
            assert_eq!(read(inside, count), Transfer::OutOfBounds, "{inside:#x}, {count:#x}");
        }
        let write = Transfer::new(0x4_0010, u64::MAX, 3, u64::MAX, true);
        assert_eq!(write, Transfer::Write { iova: u64::MAX, at: 16, count: 3 });
    }
}
