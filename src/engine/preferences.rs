//! What a user wants of a conversation: pin, mute, hide, draft.

use super::{Answer, Caller, Engine, Now, Stop, off};
use crate::{id::ConversationId, request::PreferencesChange};

impl Engine {
    pub(super) fn set_preferences(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _id: &ConversationId,
        _change: &PreferencesChange,
    ) -> Result<Answer, Stop> {
        Err(off("set_preferences"))
    }
}
