//! What administrators tell: one log of notices, and entries that point at them.

use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Caller, Engine, Now, Stop, off};
use crate::{id::ClientMessageId, request::NoticeTo};

impl Engine {
    pub(super) fn send_notice(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _to: &NoticeTo,
        _client_id: ClientMessageId,
        _content_type: &Arc<str>,
        _content: &Bytes,
    ) -> Result<Answer, Stop> {
        Err(off("send_notice"))
    }
}
