//! What those who are online want to know after a flush, beyond their answers.

use hashbrown::HashSet;

use crate::{
    id::{SessionId, UserId},
    reply::{GoAwayReason, Reply},
};

/// Gathered while commands are applied, handed out after the flush they rest on.
#[derive(Debug, Default)]
pub struct Effects {
    /// Users whose inbox grew.
    pub inboxes: HashSet<UserId>,
    /// Everything else, in order.
    pub signs: Vec<Sign>,
}

/// One thing for some sessions.
#[derive(Clone, Debug)]
pub enum Sign {
    /// This session of the user is over.
    End(UserId, SessionId, GoAwayReason),
    /// A push for one session of the user, or for all; may be dropped when too many wait.
    Push(UserId, Option<SessionId>, Reply),
}
