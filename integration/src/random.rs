//! A small generator of random numbers: all that matters is that a seed gives the same stream again.

/// SplitMix64. The seed is whatever it begins with.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0, below `end`.
    ///
    /// # Panics
    /// When `end` is 0.
    #[track_caller]
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// A place in what is `len` long.
    ///
    /// # Panics
    /// When `len` is 0.
    #[track_caller]
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// True, once in `n` times.
    ///
    /// # Panics
    /// When `n` is 0.
    #[track_caller]
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }
}
