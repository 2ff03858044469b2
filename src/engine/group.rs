//! Groups: who is in them. Every change is a new version of the conversation row, rows for the
//! users concerned, and one entry for everybody who should know.

use std::{collections::BTreeSet, sync::Arc};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    Answer, Caller, Engine, Now, Stop,
    command::Tip,
    not_found, off,
    open::{self, Open},
    refuse,
};
use crate::{
    conversation::{Conversation, Member, Membership},
    id::{ClientMessageId, ConversationId, MessageId, UserId},
    inbox,
    limits::ENTRY_USERS_MAX,
    message::{
        ConversationKind, Entry, EntryKind, HistoryPolicy, MembershipAction, MembershipChange, Role,
    },
    refusal::ErrorCode,
    reply::{MemberOutcome, Reply},
    sent::Sent,
    seq::{HistorySeq, InboxSeq},
    store::{
        Commit, Condition,
        catalogue::{LogKey, Table, conversation_key, member_key, membership_key},
    },
};

impl Engine {
    pub(super) fn create_group(
        &mut self,
        now: Now,
        caller: &Caller,
        client_id: ClientMessageId,
        wanted: Option<&ConversationId>,
        title: &Arc<str>,
        users: &[UserId],
        policy: HistoryPolicy,
    ) -> Result<Answer, Stop> {
        let all: BTreeSet<&UserId> = users.iter().chain([&caller.user]).collect();
        let payload_hash = creation_hash(wanted, title, users, policy);
        let out_of_order = match self.known(caller, client_id, payload_hash)? {
            Ok(out_of_order) => out_of_order,
            // What was answered then: who the group has now is not for somebody who has left.
            Err(sent) => {
                return Ok(Answer::Reply(Reply::GroupCreated {
                    conversation: sent.conversation,
                    member_count: all.len() as u32,
                    inbox_seq: sent.inbox_seq,
                    duplicate: true,
                }));
            }
        };
        if all.len() > self.limits.members_per_group {
            return Err(refuse(
                ErrorCode::TooManyMembers,
                format!("a group has at most {} members", self.limits.members_per_group),
            ));
        }
        for user in &all {
            if self.has_too_many_conversations(user)? {
                return Err(refuse(ErrorCode::Forbidden, "a user has too many conversations"));
            }
        }
        let mut commit = Commit::new();
        let number = self.take_id(&mut commit);
        let id = match wanted {
            Some(id) => id.clone(),
            None => ConversationId::group(number),
        };
        let key = conversation_key(&id);
        if self.writer.row(Table::Conversation, &key)?.is_some() {
            return Err(refuse(ErrorCode::AlreadyExists, "this conversation_id is taken"));
        }
        let row = Conversation {
            version: 1,
            kind: ConversationKind::Group,
            title: Arc::clone(title),
            created: now.wall,
            creator: caller.user.clone(),
            policy,
            member_count: all.len() as u32,
            large: false,
            disbanded: false,
        };
        let stored = row.encode();
        commit.require(Condition::Row(Table::Conversation, key.clone(), None));
        commit.put(Table::Conversation, key, stored.clone());
        let mut members = Vec::with_capacity(all.len());
        for user in all {
            let role = if *user == caller.user { Role::Owner } else { Role::Member };
            let member = Member { role, joined_seq: HistorySeq::new(1), joined: now.wall };
            let membership = Membership::join(role, policy, HistorySeq::ZERO, 0, now.wall);
            open::put_member(&mut commit, &id, user, member, &membership);
            members.push((user.clone(), member));
        }
        let mut open = Open {
            row,
            stored,
            members: Vec::new(),
            inboxes: Arc::new([]),
            history: LogKey::history(&id),
        };
        open.set_members(members);
        let inbox_seq = self.next_inbox_seq(&caller.user)?;
        let named: Vec<UserId> = open.members.iter().map(|(user, _)| user.clone()).collect();
        let change =
            change(&id, &open, MembershipAction::Created, caller, &named, HistorySeq::ZERO);
        tell(&mut commit, now, Arc::clone(&open.inboxes), change);
        let sent = Sent {
            client_id,
            payload_hash,
            time: now.wall,
            conversation: id.clone(),
            seq: HistorySeq::ZERO,
            id: MessageId::new(0),
            inbox_seq,
        };
        self.remember(now, caller, &sent.into(), out_of_order, &mut commit)?;
        self.writer.stage(&commit)?;
        self.effects.inboxes.extend(named);
        let member_count = open.row.member_count;
        self.cache.keep(&id, open);
        let tip = Tip::new(now.wall);
        self.cache.set_tip(&id, tip);
        Ok(Answer::Reply(Reply::GroupCreated {
            conversation: id,
            member_count,
            inbox_seq,
            duplicate: false,
        }))
    }

    pub(super) fn add_members(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        users: &[UserId],
    ) -> Result<Answer, Stop> {
        let open = self.managed(caller, id)?;
        let tip = self.cache.tip(&self.writer, id)?;
        let mut commit = Commit::new();
        let mut added: Vec<(UserId, Member)> = Vec::new();
        let mut outcomes = Vec::with_capacity(users.len());
        for user in users {
            let past = open::membership(&self.writer, user, id)?;
            let outcome = if open.member(user).is_some() || added.iter().any(|(u, _)| u == user) {
                MemberOutcome::Unchanged
            } else if open.members.len() + added.len() >= self.limits.members_per_group
                // Somebody who comes back has the conversation already.
                || (past.is_none() && self.has_too_many_conversations(user)?)
            {
                MemberOutcome::Limit
            } else {
                let member =
                    Member { role: Role::Member, joined_seq: tip.head.next(), joined: now.wall };
                let policy = open.row.policy;
                let membership = match past {
                    Some(mut row) => {
                        row.rejoin(Role::Member, policy, tip.head, tip.ordinal, now.wall);
                        row
                    }
                    None => Membership::join(Role::Member, policy, tip.head, tip.ordinal, now.wall),
                };
                open::put_member(&mut commit, id, user, member, &membership);
                added.push((user.clone(), member));
                MemberOutcome::Changed
            };
            outcomes.push(outcome);
        }
        let names: Vec<UserId> = added.iter().map(|(user, _)| user.clone()).collect();
        let members = open.members.iter().cloned().chain(added).collect();
        self.change_members(
            now,
            caller,
            id,
            &open,
            members,
            names,
            MembershipAction::Added,
            commit,
            tip,
            outcomes,
        )
    }

    pub(super) fn remove_members(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        users: &[UserId],
    ) -> Result<Answer, Stop> {
        let open = self.managed(caller, id)?;
        let own_role = open.member(&caller.user).map_or(Role::Member, |member| member.role);
        let tip = self.cache.tip(&self.writer, id)?;
        let mut commit = Commit::new();
        let mut removed: Vec<UserId> = Vec::new();
        let mut outcomes = Vec::with_capacity(users.len());
        for user in users {
            outcomes.push(match open.member(user) {
                Some(_) if removed.contains(user) => MemberOutcome::Unchanged,
                None => MemberOutcome::Unchanged,
                Some(member) if member.role >= own_role => MemberOutcome::Forbidden,
                Some(_) => {
                    self.take_out(id, user, tip, &mut commit)?;
                    removed.push(user.clone());
                    MemberOutcome::Changed
                }
            });
        }
        let members =
            open.members.iter().filter(|(user, _)| !removed.contains(user)).cloned().collect();
        self.change_members(
            now,
            caller,
            id,
            &open,
            members,
            removed,
            MembershipAction::Removed,
            commit,
            tip,
            outcomes,
        )
    }

    pub(super) fn leave_group(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
    ) -> Result<Answer, Stop> {
        let open = self.cache.open(&self.writer, id)?.ok_or_else(not_found)?;
        let Some(own) = open.member(&caller.user) else {
            // Repeats are harmless: somebody who has left has left.
            return match open::membership(&self.writer, &caller.user, id)? {
                Some(_) => Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO })),
                None => Err(not_found()),
            };
        };
        if open.row.kind == ConversationKind::Direct {
            return Err(refuse(ErrorCode::Forbidden, "a direct conversation cannot be left"));
        }
        let tip = self.cache.tip(&self.writer, id)?;
        let mut commit = Commit::new();
        self.take_out(id, &caller.user, tip, &mut commit)?;
        let mut members: Vec<(UserId, Member)> =
            open.members.iter().filter(|(user, _)| *user != caller.user).cloned().collect();
        if own.role == Role::Owner {
            self.hand_over(id, &mut members, &mut commit)?;
        }
        let names = vec![caller.user.clone()];
        let answer = self.change_members(
            now,
            caller,
            id,
            &open,
            members,
            names,
            MembershipAction::Left,
            commit,
            tip,
            vec![],
        )?;
        Ok(match answer {
            Answer::Reply(Reply::MemberItems { inbox_seq, .. }) => {
                Answer::Reply(Reply::Done { inbox_seq })
            }
            other => other,
        })
    }

    pub(super) fn disband_group(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _id: &ConversationId,
    ) -> Result<Answer, Stop> {
        Err(off("disband_group"))
    }

    pub(super) fn set_role(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _id: &ConversationId,
        _user: &UserId,
        _role: Role,
    ) -> Result<Answer, Stop> {
        Err(off("set_role"))
    }

    pub(super) fn set_title(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _id: &ConversationId,
        _title: &Arc<str>,
    ) -> Result<Answer, Stop> {
        Err(off("set_title"))
    }

    /// A group never stays without an owner: the highest role, then the one who joined first.
    fn hand_over(
        &self,
        id: &ConversationId,
        members: &mut [(UserId, Member)],
        commit: &mut Commit,
    ) -> Result<(), Stop> {
        let heir = members
            .iter_mut()
            .min_by_key(|(_, member)| (std::cmp::Reverse(member.role), member.joined_seq));
        let Some((user, member)) = heir else { return Ok(()) };
        member.role = Role::Owner;
        let mut membership = open::membership(&self.writer, user, id)?.ok_or_else(not_found)?;
        membership.role = Some(Role::Owner);
        open::put_member(commit, id, user, *member, &membership);
        Ok(())
    }

    fn take_out(
        &self,
        id: &ConversationId,
        user: &UserId,
        tip: Tip,
        commit: &mut Commit,
    ) -> Result<(), Stop> {
        if let Some(mut membership) = open::membership(&self.writer, user, id)? {
            membership.leave(tip.head, tip.ordinal, tip.mutation);
            commit.put(Table::Membership, membership_key(user, id), membership.encode());
        }
        commit.delete(Table::Member, member_key(id, user));
        Ok(())
    }

    /// The rest of every change of members: the new version, the entry, the cache, the reply.
    #[expect(clippy::too_many_arguments, reason = "one step shared by three requests")]
    fn change_members(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        open: &Open,
        members: Vec<(UserId, Member)>,
        names: Vec<UserId>,
        action: MembershipAction,
        mut commit: Commit,
        tip: Tip,
        outcomes: Vec<MemberOutcome>,
    ) -> Result<Answer, Stop> {
        if names.is_empty() {
            let member_count = open.row.member_count;
            let inbox_seq = InboxSeq::ZERO;
            return Ok(Answer::Reply(Reply::MemberItems { outcomes, member_count, inbox_seq }));
        }
        let mut next = open.clone();
        next.row.version += 1;
        next.row.member_count = members.len() as u32;
        next.stored = next.row.encode();
        next.set_members(members);
        commit.require(open.unchanged(id));
        commit.require(Condition::Head(open.history.clone(), tip.head.number()));
        commit.put(Table::Conversation, conversation_key(id), next.stored.clone());
        let inbox_seq = self.next_inbox_seq(&caller.user)?;
        // Those who come and those who go are told as well.
        let told: BTreeSet<UserId> =
            open.members.iter().chain(&next.members).map(|(user, _)| user.clone()).collect();
        let change = change(id, &next, action, caller, &names, tip.head);
        tell(&mut commit, now, told.iter().map(LogKey::inbox).collect(), change);
        self.writer.stage(&commit)?;
        self.effects.inboxes.extend(told);
        let member_count = next.row.member_count;
        self.cache.keep(id, next);
        Ok(Answer::Reply(Reply::MemberItems { outcomes, member_count, inbox_seq }))
    }

    /// A group whose members the caller may change.
    fn managed(&mut self, caller: &Caller, id: &ConversationId) -> Result<Arc<Open>, Stop> {
        let open = self.cache.open(&self.writer, id)?.ok_or_else(not_found)?;
        let member = open.member(&caller.user).ok_or_else(not_found)?;
        if open.row.kind == ConversationKind::Direct {
            return Err(refuse(ErrorCode::Forbidden, "a direct conversation has its two members"));
        }
        if member.role < Role::Admin {
            return Err(refuse(ErrorCode::Forbidden, "only the owner and admins change members"));
        }
        Ok(open)
    }
}

fn change(
    id: &ConversationId,
    open: &Open,
    action: MembershipAction,
    caller: &Caller,
    users: &[UserId],
    at: HistorySeq,
) -> MembershipChange {
    MembershipChange {
        conversation: id.clone(),
        action,
        by: caller.user.clone(),
        users: users.iter().take(ENTRY_USERS_MAX).cloned().collect(),
        user_count: users.len() as u32,
        member_count: open.row.member_count,
        at,
        role: None,
        title: Arc::clone(&open.row.title),
    }
}

fn tell(commit: &mut Commit, now: Now, inboxes: Arc<[LogKey]>, change: MembershipChange) {
    let entry = Entry { time: now.wall, kind: EntryKind::Membership(change) };
    commit.append_each(inboxes, inbox::encode(&entry));
}

fn creation_hash(
    wanted: Option<&ConversationId>,
    title: &str,
    users: &[UserId],
    policy: HistoryPolicy,
) -> u64 {
    let mut text = format!("group\n{policy:?}\n{title:?}\n{wanted:?}\n");
    for user in users {
        text.push_str(user.as_str());
        text.push('\n');
    }
    xxh3_64(text.as_bytes())
}
