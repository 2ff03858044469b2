//! Changes of messages that everybody sees: recall, edit, delete for all; and the feed of them.

use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Caller, Engine, Now, Stop, off};
use crate::{
    id::{ClientMessageId, ConversationId},
    seq::{HistorySeq, MutationSeq},
};

impl Engine {
    pub(super) fn recall(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _id: &ConversationId,
        _seq: HistorySeq,
    ) -> Result<Answer, Stop> {
        Err(off("recall"))
    }

    pub(super) fn edit(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _id: &ConversationId,
        _seq: HistorySeq,
        _content_type: &Arc<str>,
        _content: &Bytes,
        _base_revision: Option<u32>,
    ) -> Result<Answer, Stop> {
        Err(off("edit"))
    }

    pub(super) fn delete_for_all(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _id: &ConversationId,
        _seq: HistorySeq,
    ) -> Result<Answer, Stop> {
        Err(off("delete_for_all"))
    }

    pub(super) fn cancel_send(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _client_id: ClientMessageId,
    ) -> Result<Answer, Stop> {
        Err(off("cancel_send"))
    }

    pub(super) fn fetch_mutations(
        &mut self,
        _caller: &Caller,
        _id: &ConversationId,
        _after: MutationSeq,
        _limit: u32,
    ) -> Result<Answer, Stop> {
        Err(off("fetch_mutations"))
    }

    pub(super) fn fetch_messages(
        &mut self,
        _caller: &Caller,
        _refs: &[(ConversationId, HistorySeq)],
    ) -> Result<Answer, Stop> {
        Err(off("fetch_messages"))
    }
}
