//! Rows that commits rely on, as the trees have them: the same few are asked for with every commit.
//!
//! Only the writer changes rows, and it says so here; what the filler moves to the trees stays the same
//! row. So what is known here is what a look at the trees would find.

use bytes::Bytes;
use hashbrown::HashMap;

use super::catalogue::Table;

/// Rows that are known, beyond which they are looked for anew.
const ROWS_MAX: usize = 16 * 1024;

/// See the head of this module.
#[derive(Debug, Default)]
pub(super) struct Relied {
    /// By key; none = there is no row.
    rows: [HashMap<Bytes, Option<Bytes>>; Table::ALL.len()],
    count: usize,
}

impl Relied {
    /// The row, if it is known; the inner none is one that is not there.
    pub(super) fn row(&self, table: Table, key: &[u8]) -> Option<&Option<Bytes>> {
        self.rows[table as usize].get(key)
    }

    /// The trees have this row, and no newer one is in memory.
    pub(super) fn found(&mut self, table: Table, key: &Bytes, row: Option<Bytes>) {
        if self.count >= ROWS_MAX {
            *self = Self::default();
        }
        // Neither may hold a block that many share.
        let key = Bytes::copy_from_slice(key);
        let new = self.rows[table as usize].insert(key, row).is_none();
        self.count += usize::from(new);
    }

    /// The row is written or removed.
    pub(super) fn changes(&mut self, table: Table, key: &[u8]) {
        if self.rows[table as usize].remove(key).is_some() {
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_bounded() {
        let mut relied = Relied::default();
        let key = |number: usize| Bytes::from(number.to_be_bytes().to_vec());
        for number in 0..3 * ROWS_MAX {
            relied.found(Table::Member, &key(number), None);
            assert!(relied.count <= ROWS_MAX && relied.row(Table::Member, &key(number)).is_some());
        }
        let known = relied.count;
        relied.changes(Table::Member, &key(3 * ROWS_MAX - 1));
        assert_eq!(relied.row(Table::Member, &key(3 * ROWS_MAX - 1)), None);
        assert_eq!(relied.count, known - 1);
        assert_eq!(relied.rows.iter().map(HashMap::len).sum::<usize>(), relied.count);
    }
}
