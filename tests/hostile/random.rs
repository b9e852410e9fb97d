//! Random bytes that a seed repeats.

/// Printed by each test that uses it; set `MAGLICA_SEED` to repeat a run.
pub(crate) struct Random(u64);

impl Random {
    /// Of the seed in the environment, or a new one. Printed either way.
    pub(crate) fn seeded(name: &str) -> Self {
        let given = std::env::var("MAGLICA_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos()) ^ now.as_secs() << 30
        });
        crate::target::print(&format!("{name}: MAGLICA_SEED={seed}"));
        Self(seed)
    }

    /// The next number (splitmix64).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// The bytes with some bits turned: at least one.
    pub(crate) fn flip(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut flipped = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(flipped.len());
            flipped[at] ^= 1 << self.below(8);
        }
        flipped
    }
}
