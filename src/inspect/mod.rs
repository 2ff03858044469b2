//! Looking at a data directory as a whole: does everything in it agree ([`verify`]), what does it
//! hold ([`stat`]), and what stands in one log ([`log_page`], [`history_page`]).
//!
//! It reads and never writes, on a store that nobody else uses: with commits in between, two rows
//! that belong together could be read from different moments and seem to disagree.

mod dump;
mod report;
mod stat;
mod verify;

pub use self::{
    dump::{HistoryPage, HistoryRow, LogPage, history_page, log_page},
    report::{Counts, FINDINGS_MAX, Finding, FindingKind, Place, Report},
    stat::{LogStat, Stat, TableStat, stat},
    verify::verify,
};
