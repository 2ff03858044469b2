//! Who is there: devices with a session, those who follow them, and what is never stored.

use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Caller, Engine, Now, Stop, off};
use crate::{
    id::{ConversationId, UserId},
    store::StoreError,
};

impl Engine {
    /// A session is over.
    pub(super) fn detach(&mut self, _now: Now, _caller: &Caller) -> Result<(), StoreError> {
        Ok(())
    }

    pub(super) fn set_presence(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _background: bool,
    ) -> Result<Answer, Stop> {
        Err(off("set_presence"))
    }

    pub(super) fn subscribe_presence(
        &mut self,
        _caller: &Caller,
        _users: &[UserId],
        _unsubscribe: bool,
    ) -> Result<Answer, Stop> {
        Err(off("subscribe_presence"))
    }

    pub(super) fn send_ephemeral(
        &mut self,
        _caller: &Caller,
        _id: &ConversationId,
        _content_type: &Arc<str>,
        _content: &Bytes,
    ) -> Result<Answer, Stop> {
        Err(off("send_ephemeral"))
    }
}
