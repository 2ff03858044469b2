//! A new group.

use std::{collections::BTreeSet, sync::Arc};

use xxhash_rust::xxh3::xxh3_64;

use super::{membership_entry, tell};
use crate::{
    conversation::{Conversation, Member, Membership},
    engine::{
        Answer, Caller, Engine, Now, Stop,
        command::Tip,
        large::tell_mode,
        open::{self, Open},
        refuse,
    },
    id::{ClientMessageId, ConversationId, MessageId, UserId},
    message::{ConversationKind, HistoryPolicy, MembershipAction, Role},
    refusal::ErrorCode,
    reply::Reply,
    sent::Sent,
    seq::HistorySeq,
    store::{
        Commit, Condition,
        catalogue::{LogKey, Table, conversation_key},
    },
};

impl Engine {
    pub(in crate::engine) fn create_group(
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
            large: self.is_large_with(ConversationKind::Group, all.len()),
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
        let action = MembershipAction::Created;
        let entry = membership_entry(&id, &open, action, caller, &named, HistorySeq::ZERO, None);
        let inboxes: Arc<[LogKey]> = named.iter().map(LogKey::inbox).collect();
        tell(&mut commit, now, Arc::clone(&inboxes), entry);
        if open.row.large {
            tell_mode(&mut commit, now, &id, &open.row, HistorySeq::new(1), inboxes);
        }
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
        named.iter().for_each(|user| self.cache.has_one_more(user));
        self.effects.inboxes.extend(named);
        let member_count = open.row.member_count;
        self.cache.set_tip(&id, Tip::new(now.wall));
        let open = self.cache.keep(&id, open);
        self.large_members_changed(&id, None, &open)?;
        Ok(Answer::Reply(Reply::GroupCreated {
            conversation: id,
            member_count,
            inbox_seq,
            duplicate: false,
        }))
    }
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
