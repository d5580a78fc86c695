//! How a bus splits an access for a device that takes aligned ones only.

/// The parts of an access, in ascending order: where each starts, from the BAR's start, and its bytes.
///
/// Each is as large as what is left, its own alignment, and 8 bytes permit, and a power of two.
pub(super) fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = length - at;
        if left == 0 {
            return None;
        }
        let start = offset + at as u64;
        let aligned = 1 << start.trailing_zeros().min(3);
        let size = (1 << left.ilog2()).min(aligned);
        at += size;
        Some((start, size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_seen_on_a_bus() {
        let split = |offset, length| pieces(offset, length).collect::<Vec<_>>();
        assert_eq!(split(0x80, 8), [(0x80, 8)]);
        assert_eq!(split(4, 8), [(4, 4), (8, 4)]);
        assert_eq!(split(1, 8), [(1, 1), (2, 2), (4, 4), (8, 1)]);
        assert_eq!(split(2, 4), [(2, 2), (4, 2)]);
        assert_eq!(split(0, 0), []);
        assert_eq!(split(0, 3), [(0, 2), (2, 1)]);
    }

    proptest! {
        #[test]
        fn pieces_are_aligned_and_make_up_the_whole(offset in 0_u64..1 << 20, length in 0_usize..100) {
            let mut next = offset;
            for (start, size) in pieces(offset, length) {
                prop_assert_eq!(start, next);
                prop_assert!(size.is_power_of_two() && size <= 8 && start.is_multiple_of(size as u64));
                next += size as u64;
            }
            prop_assert_eq!(next, offset + length as u64);
        }
    }
}
