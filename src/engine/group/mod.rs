//! Groups: who is in them and what they are. Every change is a new version of the conversation row,
//! rows for the users concerned, and one entry for everybody who should know; all in one commit.
//!
//! [`members`] has who comes and goes, [`settings`] roles, the title and the end.

mod create;
mod members;
mod settings;

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Caller, Engine, Now, Stop,
    command::Tip,
    large::tell_mode,
    not_found,
    open::{self, Open},
};
use crate::{
    conversation::Member,
    id::{ConversationId, UserId},
    inbox,
    limits::ENTRY_USERS_MAX,
    message::{Entry, EntryKind, MembershipAction, MembershipChange, Role},
    seq::{HistorySeq, InboxSeq},
    store::{
        Commit, Condition,
        catalogue::{LogKey, Table, conversation_key},
    },
};

/// A change of a group on its way into a commit.
struct Change {
    before: Arc<Open>,
    /// As it will be, but for its version and count of members.
    after: Open,
    tip: Tip,
    action: MembershipAction,
    /// Those concerned.
    users: Vec<UserId>,
    /// The new role, if that is what changes.
    role: Option<Role>,
    /// Has the rows of the users concerned.
    commit: Commit,
}

impl Engine {
    fn begin_change(
        &mut self,
        id: &ConversationId,
        before: Arc<Open>,
        action: MembershipAction,
    ) -> Result<Change, Stop> {
        let tip = self.cache.tip(&self.writer, id)?;
        Ok(Change {
            after: Open::clone(&before),
            before,
            tip,
            action,
            users: Vec::new(),
            role: None,
            commit: Commit::new(),
        })
    }

    /// The rest of every change: the new version, the entries, the cache. Returns the caller's own
    /// entry.
    fn commit_change(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        change: Change,
    ) -> Result<InboxSeq, Stop> {
        let Change { before, mut after, tip, action, users, role, mut commit } = change;
        after.row.version += 1;
        after.row.member_count = after.members.len() as u32;
        after.set_large(self.is_large_with(after.row.kind, after.members.len()));
        after.stored = after.row.encode();
        commit.require(before.unchanged(id));
        commit.require(Condition::Head(before.history.clone(), tip.head.number()));
        commit.put(Table::Conversation, conversation_key(id), after.stored.clone());
        let inbox_seq = self.next_inbox_seq(&caller.user)?;
        let told: BTreeSet<UserId> = if before.row.large && after.row.large {
            // The others find out by the version, when it matters to them.
            users.iter().chain([&caller.user]).cloned().collect()
        } else {
            // Those who come and those who go are told as well.
            before.members.iter().chain(&after.members).map(|(user, _)| user.clone()).collect()
        };
        let entry = membership_entry(id, &after, action, caller, &users, tip.head, role);
        tell(&mut commit, now, told.iter().map(LogKey::inbox).collect(), entry);
        let from = tip.head.next();
        if before.row.large != after.row.large {
            let members = after.members.iter().map(|(user, _)| LogKey::inbox(user)).collect();
            tell_mode(&mut commit, now, id, &after.row, from, members);
        } else if after.row.large && action == MembershipAction::Added {
            let newcomers = users.iter().map(LogKey::inbox).collect();
            tell_mode(&mut commit, now, id, &after.row, from, newcomers);
        }
        self.writer.stage(&commit)?;
        self.effects.inboxes.extend(told);
        let after = self.cache.keep(id, after);
        self.large_members_changed(id, Some(&before), &after)?;
        Ok(inbox_seq)
    }

    /// Gives a member of a group another role.
    fn put_role(
        &self,
        id: &ConversationId,
        user: &UserId,
        role: Role,
        change: &mut Change,
    ) -> Result<(), Stop> {
        let mut own = open::membership(&self.writer, user, id)?.ok_or_else(not_found)?;
        own.role = Some(role);
        let Some((_, member)) = change.after.members.iter_mut().find(|(other, _)| other == user)
        else {
            return Ok(());
        };
        *member = Member { role, ..*member };
        open::put_member(&mut change.commit, id, user, *member, &own);
        Ok(())
    }
}

fn membership_entry(
    id: &ConversationId,
    open: &Open,
    action: MembershipAction,
    caller: &Caller,
    users: &[UserId],
    at: HistorySeq,
    role: Option<Role>,
) -> EntryKind {
    EntryKind::Membership(MembershipChange {
        conversation: id.clone(),
        action,
        by: caller.user.clone(),
        users: users.iter().take(ENTRY_USERS_MAX).cloned().collect(),
        user_count: users.len() as u32,
        member_count: open.row.member_count,
        at,
        role,
        title: Arc::clone(&open.row.title),
    })
}

fn tell(commit: &mut Commit, now: Now, inboxes: Arc<[LogKey]>, kind: EntryKind) {
    commit.append_each(inboxes, inbox::encode(&Entry { time: now.wall, kind }));
}
