//! roamd: message roaming and offline sync.
//!
//! `ARCHITECTURE.md` tells the life of one message and of one reconnect; the modules below are
//! listed from the innermost layer outwards, and no layer knows the ones that follow it.

// Level 0, vocabulary: pure values.
pub mod id;
pub mod limits;
pub mod message;
pub mod planted;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod seq;
pub mod time;

// Level 1, mechanisms: know nothing of each other.
pub mod ack;
pub mod auth;
pub mod config;
pub mod store;
pub mod wire;

// Level 2, capabilities: rules and stored forms; know nothing of each other.
pub mod conversation;
pub mod history;
pub mod inbox;
pub mod notice;
pub mod presence;
pub mod push;
pub mod sent;

// Level 3, behaviour without input and output.
pub mod archive;
pub mod engine;
pub mod inspect;
pub mod repair;

// Level 4, one device on one connection, without the connection.
pub mod session;

// Level 5, the shell: sockets, clocks, threads, people.
pub mod cli;
pub mod client;
pub mod clock;
pub mod daemon;
pub mod replay;
pub mod swarm;
