//! What a group is: roles, the title, the end.

use std::sync::Arc;

use crate::{
    engine::{Answer, Caller, Engine, Now, Stop, refuse},
    id::{ConversationId, UserId},
    message::{MembershipAction, Role},
    refusal::ErrorCode,
    reply::Reply,
    seq::InboxSeq,
};

impl Engine {
    pub(in crate::engine) fn set_role(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        user: &UserId,
        role: Role,
    ) -> Result<Answer, Stop> {
        let (open, _) = self.as_member(caller, id)?;
        let Some(member) = open.member(user) else {
            return Err(refuse(ErrorCode::NotFound, "no such member"));
        };
        if member.role == role {
            return Ok(done(InboxSeq::ZERO));
        }
        if *user == caller.user {
            let detail = "the owner gives the group to somebody else first";
            return Err(refuse(ErrorCode::Forbidden, detail));
        }
        let mut change = self.begin_change(id, open, MembershipAction::Role)?;
        self.put_role(id, user, role, &mut change)?;
        if role == Role::Owner {
            // There is one owner: the one who hands over stays as an admin.
            self.put_role(id, &caller.user, Role::Admin, &mut change)?;
        }
        change.users.push(user.clone());
        change.role = Some(role);
        Ok(done(self.commit_change(now, caller, id, change)?))
    }

    pub(in crate::engine) fn set_title(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        title: &Arc<str>,
    ) -> Result<Answer, Stop> {
        let (open, _) = self.as_member(caller, id)?;
        if open.row.title == *title {
            return Ok(done(InboxSeq::ZERO));
        }
        let mut change = self.begin_change(id, open, MembershipAction::Title)?;
        change.after.row.title = Arc::clone(title);
        Ok(done(self.commit_change(now, caller, id, change)?))
    }

    /// The members stay and may read; nothing that would change the group is taken any more.
    pub(in crate::engine) fn disband_group(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
    ) -> Result<Answer, Stop> {
        let (open, _) = self.as_member(caller, id)?;
        if open.row.disbanded {
            return Ok(done(InboxSeq::ZERO));
        }
        let mut change = self.begin_change(id, open, MembershipAction::Disbanded)?;
        change.after.row.disbanded = true;
        Ok(done(self.commit_change(now, caller, id, change)?))
    }
}

fn done(inbox_seq: InboxSeq) -> Answer {
    Answer::Reply(Reply::Done { inbox_seq })
}
