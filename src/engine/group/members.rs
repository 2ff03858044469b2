//! Who comes into a group and who goes.

use std::cmp::Reverse;

use hashbrown::HashSet;

use super::Change;
use crate::{
    conversation::{Member, Membership},
    engine::{Answer, Caller, Engine, Now, Stop, not_found, open, refuse},
    id::{ConversationId, UserId},
    message::{ConversationKind, MembershipAction, Role},
    refusal::ErrorCode,
    reply::{MemberOutcome, Reply},
    seq::InboxSeq,
    store::catalogue::{Table, member_key, membership_key},
};

impl Engine {
    pub(in crate::engine) fn add_members(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        users: &[UserId],
    ) -> Result<Answer, Stop> {
        let (open, _) = self.as_member(caller, id)?;
        let mut change = self.begin_change(id, open, MembershipAction::Added)?;
        let tip = change.tip;
        let policy = change.before.row.policy;
        let mut members = change.before.members.clone();
        let mut added = HashSet::with_capacity(users.len());
        let mut fresh = Vec::new();
        let mut outcomes = Vec::with_capacity(users.len());
        for user in users {
            if change.before.member(user).is_some() || added.contains(user) {
                outcomes.push(MemberOutcome::Unchanged);
                continue;
            }
            let past = open::membership(&self.writer, user, id)?;
            if members.len() >= self.limits.members_per_group
                // Somebody who comes back has the conversation already.
                || (past.is_none() && self.has_too_many_conversations(user)?)
            {
                outcomes.push(MemberOutcome::Limit);
                continue;
            }
            let member =
                Member { role: Role::Member, joined_seq: tip.head.next(), joined: now.wall };
            let own = match past {
                Some(mut row) => {
                    row.rejoin(Role::Member, policy, tip.head, tip.ordinal, now.wall);
                    row
                }
                None => {
                    fresh.push(user.clone());
                    Membership::join(Role::Member, policy, tip.head, tip.ordinal, now.wall)
                }
            };
            open::put_member(&mut change.commit, id, user, member, &own);
            members.push((user.clone(), member));
            added.insert(user.clone());
            change.users.push(user.clone());
            outcomes.push(MemberOutcome::Changed);
        }
        let answer = self.change_members(now, caller, id, change, members, outcomes)?;
        fresh.iter().for_each(|user| self.cache.has_one_more(user));
        Ok(answer)
    }

    pub(in crate::engine) fn remove_members(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        users: &[UserId],
    ) -> Result<Answer, Stop> {
        let (open, own_role) = self.as_member(caller, id)?;
        let mut change = self.begin_change(id, open, MembershipAction::Removed)?;
        let mut removed = HashSet::with_capacity(users.len());
        let mut outcomes = Vec::with_capacity(users.len());
        for user in users {
            outcomes.push(match change.before.member(user) {
                Some(member) if !removed.contains(user) => {
                    if member.role >= own_role {
                        MemberOutcome::Forbidden
                    } else {
                        self.take_out(id, user, &mut change)?;
                        removed.insert(user.clone());
                        change.users.push(user.clone());
                        MemberOutcome::Changed
                    }
                }
                _ => MemberOutcome::Unchanged,
            });
        }
        let mut members = change.before.members.clone();
        members.retain(|(user, _)| !removed.contains(user));
        self.change_members(now, caller, id, change, members, outcomes)
    }

    /// Goes on when the group is closed: nobody is kept.
    pub(in crate::engine) fn leave_group(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
    ) -> Result<Answer, Stop> {
        let open = self.cache.open(&self.writer, id)?.ok_or_else(not_found)?;
        let Some(own) = open.member(&caller.user).copied() else {
            // Repeats are harmless: somebody who has left has left.
            return match open::membership(&self.writer, &caller.user, id)? {
                Some(_) => Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO })),
                None => Err(not_found()),
            };
        };
        if open.row.kind == ConversationKind::Direct {
            return Err(refuse(ErrorCode::Forbidden, "a direct conversation cannot be left"));
        }
        let mut change = self.begin_change(id, open, MembershipAction::Left)?;
        self.take_out(id, &caller.user, &mut change)?;
        let mut members = change.before.members.clone();
        members.retain(|(user, _)| *user != caller.user);
        change.users.push(caller.user.clone());
        change.after.set_members(members);
        if own.role == Role::Owner {
            self.hand_over(id, &mut change)?;
        }
        let inbox_seq = self.commit_change(now, caller, id, change)?;
        Ok(Answer::Reply(Reply::Done { inbox_seq }))
    }

    fn change_members(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        mut change: Change,
        members: Vec<(UserId, Member)>,
        outcomes: Vec<MemberOutcome>,
    ) -> Result<Answer, Stop> {
        let member_count = members.len() as u32;
        let inbox_seq = if change.users.is_empty() {
            InboxSeq::ZERO
        } else {
            change.after.set_members(members);
            self.commit_change(now, caller, id, change)?
        };
        Ok(Answer::Reply(Reply::MemberItems { outcomes, member_count, inbox_seq }))
    }

    /// A group never stays without an owner: the highest role, then the one who joined first.
    fn hand_over(&self, id: &ConversationId, change: &mut Change) -> Result<(), Stop> {
        let members = change.after.members.iter();
        let heir = members.min_by_key(|(_, member)| (Reverse(member.role), member.joined_seq));
        match heir.map(|(user, _)| user.clone()) {
            Some(user) => self.put_role(id, &user, Role::Owner, change),
            None => Ok(()),
        }
    }

    fn take_out(
        &self,
        id: &ConversationId,
        user: &UserId,
        change: &mut Change,
    ) -> Result<(), Stop> {
        if let Some(mut own) = open::membership(&self.writer, user, id)? {
            let (tip, title) = (change.tip, &change.after.row.title);
            own.leave(tip.head, tip.ordinal, tip.mutation, title);
            change.commit.put(Table::Membership, membership_key(user, id), own.encode());
        }
        change.commit.delete(Table::Member, member_key(id, user));
        Ok(())
    }
}
