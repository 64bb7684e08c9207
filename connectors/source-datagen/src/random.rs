//! Random access to random numbers: the value of row `i` never depends on another row, so that reading can go on anywhere.
//!
//! A draw is named by a label. Its key is `mix(seed XOR fnv1a64(label))`, and row `i` gets the `i`-th output of SplitMix64
//! seeded with that key. The README states this as a specification, and an independent program recomputes it.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// One named sequence of random numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    key: u64,
}

impl Draw {
    /// The draw `label` under a seed.
    pub(crate) fn new(seed: u64, label: &str) -> Self {
        Self { key: mix(seed ^ fnv1a64(label)) }
    }

    /// 64 random bits for a row.
    #[inline]
    pub(crate) fn bits(self, row: u64) -> u64 {
        mix(self.key.wrapping_add(GOLDEN.wrapping_mul(row.wrapping_add(1))))
    }

    /// A number below `bound`, which is not 0: by multiplication up to 2^32, else by remainder.
    #[inline]
    pub(crate) fn below(self, row: u64, bound: u64) -> u64 {
        let bits = self.bits(row);
        if bound <= 1 << 32 { ((bits >> 32) * bound) >> 32 } else { bits % bound }
    }

    /// A number of 0 up to and not 1, with 53 bits.
    #[inline]
    pub(crate) fn unit(self, row: u64) -> f64 {
        (self.bits(row) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The index of a choice, where `edges` are the running sums of weights that end at 100.
    #[inline]
    pub(crate) fn weighted(self, row: u64, edges: &[u64]) -> usize {
        let percent = self.below(row, 100);
        edges.iter().position(|edge| percent < *edge).unwrap_or(edges.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_published_splitmix64() {
        // The first outputs of SplitMix64 for state 1234567 (Vigna's reference implementation).
        let draw = Draw { key: 1_234_567 };
        let outputs: Vec<u64> = (0..3).map(|row| draw.bits(row)).collect();
        assert_eq!(outputs, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn labels_hash_as_published_for_fnv1a() {
        assert_eq!(fnv1a64(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn bounded_numbers_fill_their_range() {
        let draw = Draw::new(1, "test");
        for bound in [1, 7, 1 << 32, u64::MAX] {
            assert!((0..10_000).all(|row| draw.below(row, bound) < bound));
        }
        let mut seen = [0_u32; 10];
        (0..10_000).for_each(|row| seen[draw.below(row, 10) as usize] += 1);
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
    }

    #[test]
    fn seeds_and_labels_give_different_numbers() {
        let bits = |seed, label| Draw::new(seed, label).bits(0);
        assert_ne!(bits(1, "a"), bits(2, "a"));
        assert_ne!(bits(1, "a"), bits(1, "b"));
    }
}
