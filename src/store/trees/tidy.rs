//! Giving space back at an orderly stop, when nothing else is to be done.
//!
//! sled writes behind each other what changes and takes a segment of its file (512 KiB) for use again
//! when everything in it is written elsewhere. From one that is half empty it moves what is left, but
//! a page each time it replaces another one; so much of a file that grew fast stays half empty. There
//! is no call for it, so a row is put and removed until its page is replaced, again and again. Whoever calls
//! bounds it: once the file has shrunk sled may find something to move for ever. A crash may leave the row;
//! it means nothing.

use super::{Trees, seal};
use crate::store::{error::StoreError, guard::guarded};

/// The row, in `meta`.
const ROW: &[u8] = b"tidy";
/// Changes of a page after which sled replaces it.
const CHANGES: usize = 11;
/// Pages moved between two looks at whether there is something else to do.
const PAGES: usize = 64;
/// What one change of the row writes at most.
const CHANGE_BYTES: usize = 64;
/// Times in a row that nothing was moved, after which there is nothing to move. (What is moved is seen
/// by what there is to flush, and that may have been written already.)
const NOTHING_TIMES: usize = 40;

impl Trees {
    /// Moves pages out of segments that are half empty until there are none, or `go_on` says no; says
    /// whether there are none. What is durable stays so.
    pub(in crate::store) fn tidy(
        &self,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        let mut nothing = 0;
        while nothing < NOTHING_TIMES {
            if !go_on() {
                return Ok(false);
            }
            let written = guarded("tidying the trees", || {
                for change in 0..CHANGES * PAGES {
                    match change % 2 {
                        0 => self.meta.insert(ROW, seal(ROW, &[]))?,
                        _ => self.meta.remove(ROW)?,
                    };
                }
                Ok(self.db.flush()?)
            })?;
            nothing = if written > CHANGES * PAGES * CHANGE_BYTES { 0 } else { nothing + 1 };
        }
        Ok(true)
    }

    /// What a crash in the midst of it may leave.
    #[cfg(test)]
    pub(in crate::store) fn leave_tidy_row(&self) {
        self.meta.insert(ROW, seal(ROW, &[])).unwrap();
    }
}
