//! Random choices that are a pure function of a seed, the same on every machine and in every version.

use sha2::{Digest as _, Sha256};

/// The generator SplitMix64 (Steele, Lea and Flood, 2014): small, and its numbers never change with a library.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    /// The generator of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator of a seed and a text: its numbers tell nothing about those of another text.
    #[must_use]
    pub fn of_text(seed: u64, text: &str) -> Self {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(seed.to_be_bytes())
            .chain_update(text)
            .finalize()
            .into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A place in a list of `len` things.
    ///
    /// # Panics
    /// Where the list is empty.
    pub fn below(&mut self, len: usize) -> usize {
        let len = u64::try_from(len).expect("a list's length fits in 64 bits");
        assert!(len > 0, "an empty list has no places");
        usize::try_from(self.next() % len).expect("less than a list's length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_change() {
        let mut seed = Seed::new(0);
        assert_eq!(
            [seed.next(), seed.next()],
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]
        );
    }
}
