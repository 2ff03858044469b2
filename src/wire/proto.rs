//! The types generated from `proto/roamd/v1/roamd.proto`, whose comments are their reference.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

use std::fmt;

include!(concat!(env!("OUT_DIR"), "/roamd.v1.rs"));

// Written by hand because their tokens are secrets.

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("protocol_min", &self.protocol_min)
            .field("protocol_max", &self.protocol_max)
            .field("device_id", &self.device_id)
            .field("platform", &self.platform)
            .field("resume", &self.resume)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RegisterPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterPush").field("provider", &self.provider).finish_non_exhaustive()
    }
}
