//! A command of DMA, and how much of it is left.

use vfio_user_server::Errno;

/// The most bytes of one read.
const LONGEST: u32 = 1 << 20;
/// Bytes that are read in one turn. About 30 us.
const TURN_BYTES: usize = 256 << 10;
/// What a read costs beside its bytes, in bytes.
const READ_COST: usize = 512;

/// A command that waits for its end.
#[derive(Debug)]
pub(super) struct Job<T> {
    /// To answer it with.
    pub(super) token: T,
    pub(super) left: Left,
}

/// What is left of a command. Neither number is 0 until the last read is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    iova: u64,
    times: u32,
    length: usize,
}

impl Left {
    /// `None` if there is nothing to do.
    pub(super) fn parse(command: &[u8; 16]) -> Result<Option<Self>, Errno> {
        let [a, b, c, d, e, f, g, h, n0, n1, n2, n3, l0, l1, l2, l3] = *command;
        let iova = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let times = u32::from_le_bytes([n0, n1, n2, n3]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > LONGEST {
            return Err(Errno::INVAL);
        }
        let length = usize::try_from(length).map_err(|_| Errno::INVAL)?;
        Ok((times > 0 && length > 0).then_some(Self { iova, times, length }))
    }

    pub(super) fn iova(&self) -> u64 {
        self.iova
    }

    /// Of one read.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Reads of one turn, at least one.
    pub(super) fn turn(&self) -> usize {
        (TURN_BYTES / (self.length + READ_COST)).max(1)
    }

    /// Counts a read; whether it was the last.
    pub(super) fn one_done(&mut self) -> bool {
        self.times = self.times.saturating_sub(1);
        self.times == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(iova: u64, times: u32, length: u32) -> [u8; 16] {
        let mut all = [0; 16];
        all[..8].copy_from_slice(&iova.to_le_bytes());
        all[8..12].copy_from_slice(&times.to_le_bytes());
        all[12..].copy_from_slice(&length.to_le_bytes());
        all
    }

    #[test]
    fn commands_are_bounded() {
        assert_eq!(Left::parse(&command(7, 0, 4096)), Ok(None));
        assert_eq!(Left::parse(&command(7, 3, 0)), Ok(None));
        assert_eq!(Left::parse(&command(7, 0, LONGEST + 1)), Err(Errno::INVAL));
        assert_eq!(Left::parse(&command(7, 1, u32::MAX)), Err(Errno::INVAL));
        let left = Left::parse(&command(u64::MAX, u32::MAX, LONGEST)).unwrap().unwrap();
        assert_eq!((left.iova(), left.length()), (u64::MAX, 1 << 20));
    }

    #[test]
    fn every_read_is_counted_and_turns_are_short() {
        let mut left = Left::parse(&command(0, 3, 1)).unwrap().unwrap();
        assert_eq!([left.one_done(), left.one_done(), left.one_done()], [false, false, true]);
        for (length, turn) in [(1, 511), (4096, 56), (64 << 10, 3), (1 << 20, 1)] {
            assert_eq!(Left::parse(&command(0, 1, length)).unwrap().unwrap().turn(), turn);
        }
    }
}
