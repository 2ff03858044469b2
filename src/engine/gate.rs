//! Who may do what: the one gate that every request passes before the rule that does it.
//!
//! [`right`] names what each request needs, for all of them, so that a new one cannot be forgotten;
//! [`Engine::permit`] decides it. Who speaks comes from the session's token, never from a frame. What a
//! caller may not see is not there: missing and forbidden are answered alike. Behind the gate are the
//! rules about the thing itself: which messages are visible ([`super::sight`]), what a message, another
//! member or the time allows.

use std::sync::Arc;

use super::{Caller, Engine, Stop, not_found, open::Open, presence, refuse};
use crate::{
    id::ConversationId,
    message::{ConversationKind, Role},
    refusal::ErrorCode,
    request::Request,
    store::catalogue::{Table, member_key, membership_key},
};

/// What a caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right<'a> {
    /// A session: it is about what the caller has, or each thing named in it is looked at by itself.
    Session,
    /// A token with the scope `admin`.
    AdminScope,
    /// To be or have been a member of each of these.
    Known(&'a [ConversationId]),
    /// To be a member.
    Member(&'a ConversationId),
    /// To be a member of what is not closed.
    Write(&'a ConversationId),
    /// To be at least this in a group that is not closed.
    Manage(&'a ConversationId, Role),
    /// To be the owner of a group, closed or not.
    End(&'a ConversationId),
    /// Never the engine's business.
    Nobody,
}

/// What a request needs.
pub(super) fn right(request: &Request) -> Right<'_> {
    use std::slice::from_ref;
    match request {
        // A retry is answered as it was the first time, also to somebody who has left since. For what
        // is new, `send` asks for the right to write.
        Request::Send { .. } => Right::Session,
        Request::CancelSend { .. }
        | Request::CreateGroup { .. }
        | Request::ListConversations { .. }
        | Request::GetConversations { .. }
        | Request::FetchMessages { .. }
        | Request::SyncPull { .. }
        | Request::SetPresence { .. }
        | Request::SubscribePresence { .. }
        | Request::ListDevices
        | Request::KickDevice { .. }
        | Request::RevokeDevice { .. }
        | Request::RegisterPush { .. } => Right::Session,
        Request::SendNotice { .. } => Right::AdminScope,
        Request::FetchMutations { conversation, .. }
        | Request::FetchHistory { conversation, .. }
        | Request::MarkRead { conversation, .. }
        | Request::MarkUnread { conversation }
        | Request::DeleteForMe { conversation, .. }
        | Request::ClearConversation { conversation, .. }
        | Request::SetPreferences { conversation, .. }
        // Repeats are harmless: somebody who has left has left.
        | Request::LeaveGroup { conversation } => Right::Known(from_ref(conversation)),
        Request::GetUnread { conversations, .. } => Right::Known(conversations),
        // Whether it is one's own message, or one that one may take back, is a matter of the message.
        Request::Recall { conversation, .. }
        | Request::Edit { conversation, .. }
        | Request::DeleteForAll { conversation, .. }
        | Request::GetReaders { conversation, .. }
        | Request::ListMembers { conversation, .. }
        | Request::SendEphemeral { conversation, .. } => Right::Member(conversation),
        Request::AddMembers { conversation, .. }
        | Request::RemoveMembers { conversation, .. }
        | Request::SetTitle { conversation, .. } => Right::Manage(conversation, Role::Admin),
        Request::SetRole { conversation, .. } => Right::Manage(conversation, Role::Owner),
        Request::DisbandGroup { conversation } => Right::End(conversation),
        Request::Hello(_)
        | Request::Resume(_)
        | Request::Ack(_)
        | Request::Ping { .. }
        | Request::Bye
        | Request::Unknown => Right::Nobody,
    }
}

impl Engine {
    /// Decides whether the caller has a right.
    pub(super) fn permit(&mut self, caller: &Caller, right: Right<'_>) -> Result<(), Stop> {
        if self.presence.is_over(caller.session) {
            return Err(presence::over());
        }
        match right {
            Right::Session => {}
            Right::AdminScope if caller.admin => {}
            Right::AdminScope => {
                return Err(refuse(ErrorCode::ForbiddenScope, "this needs the scope \"admin\""));
            }
            Right::Known(conversations) => {
                for id in conversations {
                    let key = membership_key(&caller.user, id);
                    self.writer.row(Table::Membership, &key)?.ok_or_else(not_found)?;
                }
            }
            // Without the other members, who may be very many.
            Right::Member(id) => {
                let key = member_key(id, &caller.user);
                self.writer.row(Table::Member, &key)?.ok_or_else(not_found)?;
            }
            Right::Write(id) => self.as_member(caller, id)?.0.must_live()?,
            Right::Manage(id, least) => {
                let (open, role) = self.as_member(caller, id)?;
                if open.row.kind == ConversationKind::Direct {
                    let detail = "a direct conversation stays as it is";
                    return Err(refuse(ErrorCode::Forbidden, detail));
                }
                open.must_live()?;
                if role < least {
                    let detail = match least {
                        Role::Owner => "only the owner may do this",
                        _ => "only the owner and admins may do this",
                    };
                    return Err(refuse(ErrorCode::Forbidden, detail));
                }
            }
            Right::End(id) => {
                let (open, role) = self.as_member(caller, id)?;
                if open.row.kind == ConversationKind::Direct || role != Role::Owner {
                    let detail = "only the owner of a group disbands it";
                    return Err(refuse(ErrorCode::Forbidden, detail));
                }
            }
            Right::Nobody => return Err(not_the_engines()),
        }
        Ok(())
    }

    /// A conversation that the caller is a member of, and its role there.
    pub(super) fn as_member(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
    ) -> Result<(Arc<Open>, Role), Stop> {
        let open = self.cache.open(&self.writer, id)?.ok_or_else(not_found)?;
        let role = open.member(&caller.user).ok_or_else(not_found)?.role;
        Ok((open, role))
    }
}

pub(super) fn not_the_engines() -> Stop {
    refuse(ErrorCode::WrongState, "this request is the session's own")
}
