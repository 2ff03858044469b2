//! The store: everything the daemon keeps on disk. Only this folder names the engine.
//!
//! An acknowledged commit stands in the journal ([`journal`]) before anything else happens to it;
//! the engine's trees are filled behind it and may lag. [`fsync`] makes both of them honest about
//! what the disk has.

pub mod fsync;
pub mod journal;
