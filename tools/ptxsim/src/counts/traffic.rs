//! Bytes and sectors of global memory.

/// What is moved at once.
const SECTOR: u64 = 32;

/// What was read and written of a range of global memory, as the L2 cache sees it if nothing is in L1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes read: of one instruction of a warp each byte once, of a copy to several CTAs once.
    pub read: u64,
    /// Sectors of 32 bytes in which they lie.
    pub sectors_read: u64,
    /// Bytes written, atomics among them.
    pub written: u64,
    /// Sectors in which they lie.
    pub sectors_written: u64,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Read,
    Write,
}

impl Traffic {
    /// Notes what one instruction moves: beginnings and lengths of pieces, which are put in order.
    pub(crate) fn note(&mut self, way: Way, pieces: &mut [(u64, u64)]) {
        let (bytes, sectors) = extent(pieces);
        let (all_bytes, all_sectors) = match way {
            Way::Read => (&mut self.read, &mut self.sectors_read),
            Way::Write => (&mut self.written, &mut self.sectors_written),
        };
        *all_bytes += bytes;
        *all_sectors += sectors;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.read += other.read;
        self.sectors_read += other.sectors_read;
        self.written += other.written;
        self.sectors_written += other.sectors_written;
    }
}

/// Bytes and sectors that pieces cover.
fn extent(pieces: &mut [(u64, u64)]) -> (u64, u64) {
    pieces.sort_unstable();
    let (mut bytes, mut sectors) = (0, 0);
    let (mut end, mut next_sector) = (0, 0);
    for (start, length) in pieces.iter().copied().filter(|piece| piece.1 > 0) {
        let last = start + length;
        bytes += last.saturating_sub(start.max(end));
        end = end.max(last);
        let after = last.div_ceil(SECTOR);
        sectors += after.saturating_sub((start / SECTOR).max(next_sector));
        next_sector = next_sector.max(after);
    }
    (bytes, sectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_once_and_sectors_whole() {
        assert_eq!(extent(&mut [(0, 4), (4, 4), (0, 4)]), (8, 1));
        assert_eq!(extent(&mut [(128, 4), (64, 4), (0, 4)]), (12, 3));
        assert_eq!(extent(&mut [(28, 8)]), (8, 2));
        assert_eq!(extent(&mut [(0, 128), (16, 4)]), (128, 4));
        assert_eq!(extent(&mut [(0, 0)]), (0, 0));
    }
}
