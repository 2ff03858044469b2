//! What one user no longer wants to see: messages deleted for me, conversations cleared.

use super::{Answer, Caller, Engine, Now, Stop, off};
use crate::{id::ConversationId, seq::HistorySeq};

impl Engine {
    pub(super) fn delete_for_me(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _id: &ConversationId,
        _seqs: &[HistorySeq],
    ) -> Result<Answer, Stop> {
        Err(off("delete_for_me"))
    }

    pub(super) fn clear_conversation(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _id: &ConversationId,
        _to: HistorySeq,
    ) -> Result<Answer, Stop> {
        Err(off("clear_conversation"))
    }
}
