//! Wavefronts of an access to shared memory.

const BANKS: usize = 32;
const WORD: u64 = 4;

/// What an access of a warp takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wavefronts {
    /// All of them.
    pub all: u64,
    /// The fewest there could be: parts of the access with a lane in them.
    pub fewest: u64,
}

/// The wavefronts of `bytes` at the address of each lane that takes part.
pub(crate) fn access(addresses: &[Option<u64>; 32], bytes: usize) -> Wavefronts {
    let lanes = match bytes {
        0..=4 => 32,
        5..=8 => 16,
        _ => 8,
    };
    parts(addresses.chunks(lanes), bytes)
}

/// The wavefronts of matrices whose rows of 16 bytes begin at these addresses.
pub(crate) fn matrices(rows: &[Option<u64>]) -> Wavefronts {
    parts(rows.chunks(8), 16)
}

fn parts<'a>(parts: impl Iterator<Item = &'a [Option<u64>]>, bytes: usize) -> Wavefronts {
    let mut sum = Wavefronts::default();
    for part in parts {
        let all = one(part, bytes);
        sum.all += all;
        sum.fewest += u64::from(all > 0);
    }
    sum
}

/// As many as the bank with the most different words has.
fn one(part: &[Option<u64>], bytes: usize) -> u64 {
    let mut words: Vec<u64> = part
        .iter()
        .flatten()
        .flat_map(|a| span(*a, bytes))
        .collect();
    words.sort_unstable();
    words.dedup();
    let mut banks = [0; BANKS];
    for word in words {
        banks[word as usize % BANKS] += 1;
    }
    banks.into_iter().max().unwrap_or(0)
}

/// The words that some bytes touch.
fn span(address: u64, bytes: usize) -> impl Iterator<Item = u64> {
    address / WORD..(address + bytes as u64).div_ceil(WORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wavefronts(bytes: usize, address: impl Fn(u64) -> u64) -> (u64, u64) {
        let addresses = std::array::from_fn(|lane| Some(address(lane as u64)));
        let found = access(&addresses, bytes);
        (found.all, found.fewest)
    }

    #[test]
    fn words_in_a_row_take_one_wavefront_for_each_128_bytes() {
        assert_eq!(wavefronts(2, |l| 2 * l), (1, 1));
        assert_eq!(wavefronts(4, |l| 4 * l), (1, 1));
        assert_eq!(wavefronts(8, |l| 8 * l), (2, 2));
        assert_eq!(wavefronts(16, |l| 16 * l), (4, 4));
    }

    #[test]
    fn the_same_word_is_no_conflict() {
        assert_eq!(wavefronts(4, |_| 12), (1, 1));
        assert_eq!(wavefronts(16, |_| 48), (4, 4));
        assert_eq!(wavefronts(2, |l| 256 * (l / 2) + 2 * (l % 2)).0, 16);
    }

    #[test]
    fn different_words_of_a_bank_take_turns() {
        assert_eq!(wavefronts(4, |l| 8 * l), (2, 1));
        assert_eq!(wavefronts(4, |l| 128 * l), (32, 1));
        assert_eq!(wavefronts(4, |l| 132 * l), (1, 1));
        // Rows of 128 bytes, the same column: eight lanes of a quarter meet in four banks.
        assert_eq!(wavefronts(16, |l| 128 * l), (32, 4));
        assert_eq!(wavefronts(16, |l| 128 * l + 16 * (l % 8)), (4, 4));
    }

    #[test]
    fn lanes_that_take_no_part_take_no_wavefront() {
        let mut addresses = [None; 32];
        assert_eq!(access(&addresses, 16), Wavefronts::default());
        addresses[9] = Some(32);
        assert_eq!(access(&addresses, 16), Wavefronts { all: 1, fewest: 1 });
    }

    #[test]
    fn rows_of_a_matrix() {
        let rows: Vec<_> = (0..16).map(|row| Some(128 * row)).collect();
        assert_eq!(matrices(&rows), Wavefronts { all: 16, fewest: 2 });
        let padded: Vec<_> = (0..16).map(|row| Some(144 * row)).collect();
        assert_eq!(matrices(&padded), Wavefronts { all: 2, fewest: 2 });
    }
}
