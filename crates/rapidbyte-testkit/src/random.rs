//! Numbers that are the same for the same seed.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed that `RAPIDBYTE_TEST_SEED` gives, or else the fixed one of CI.
    ///
    /// # Panics
    /// When the variable is not a number.
    pub fn seed_of_environment() -> u64 {
        match std::env::var("RAPIDBYTE_TEST_SEED") {
            Ok(text) => text.parse().expect("`RAPIDBYTE_TEST_SEED` is a number"),
            Err(_) => 20_261,
        }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// Puts a list into another order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for place in (1..list.len()).rev() {
            let other = usize::try_from(self.below(place as u64 + 1)).expect("below a length");
            list.swap(place, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Seeded;

    #[test]
    fn a_seed_gives_its_sequence() {
        let mut list: Vec<u64> = (0..100).collect();
        let mut again = list.clone();
        Seeded::new(7).shuffle(&mut list);
        Seeded::new(7).shuffle(&mut again);
        assert_eq!(list, again);
        assert_ne!(list, (0..100).collect::<Vec<u64>>());
        list.sort_unstable();
        assert_eq!(list, (0..100).collect::<Vec<u64>>());
    }
}
