//! roamd: message roaming and offline sync.
//!
//! `ARCHITECTURE.md` tells the life of one message and of one reconnect; the modules below are
//! listed from the innermost layer outwards, and no layer knows the ones that follow it.

// Level 0, vocabulary: pure values.
pub mod id;
pub mod limits;
pub mod message;
pub mod request;
pub mod seq;
pub mod time;

// Level 1, mechanisms: know nothing of each other.
pub mod ack;
pub mod auth;
pub mod config;
