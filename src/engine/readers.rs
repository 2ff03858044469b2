//! Who has read a message.

use bytes::Bytes;

use super::{Answer, Caller, Engine, Stop, off};
use crate::{id::ConversationId, seq::HistorySeq};

impl Engine {
    pub(super) fn readers(
        &mut self,
        _caller: &Caller,
        _id: &ConversationId,
        _seq: HistorySeq,
        _page_token: &Bytes,
        _limit: u32,
    ) -> Result<Answer, Stop> {
        Err(off("get_readers"))
    }
}
