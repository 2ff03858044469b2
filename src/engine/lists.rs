//! Lists: a user's conversations, a group's members. Every answer is taken at
//! one position, because the engine does one thing at a time.

use std::cmp::Reverse;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Answer, Caller, Engine, Stop, open, refuse};
use crate::{
    conversation::Membership,
    history,
    id::{ConversationId, UserId},
    message::{ConversationKind, Preferences},
    refusal::ErrorCode,
    reply::{ConversationView, MemberView, Reply},
    store::{StoreError, catalogue::LogKey, codec::put_id},
    time::Timestamp,
};

impl Engine {
    pub(super) fn list_conversations(
        &mut self,
        caller: &Caller,
        since: Timestamp,
        snapshot: Option<&Bytes>,
        page_token: &Bytes,
        limit: u32,
    ) -> Result<Answer, Stop> {
        if snapshot.is_some_and(|token| token.len() != 8) {
            return Err(refuse(ErrorCode::BadToken, "snapshot_token is not one of this server's"));
        }
        let limit = limit as usize;
        let mut unread_total = 0;
        let mut all = Vec::new();
        for (id, own) in self.memberships(&caller.user)? {
            let tip = self.cache.tip(&self.writer, &id)?;
            unread_total += self.count(&caller.user, &id, &own, tip)?.unread;
            let activity = self.activity(&id, &own)?;
            if activity > since || since == Timestamp::default() {
                // Recents go by activity, newest first; a snapshot by id, which does not move.
                let order = if snapshot.is_some() { u64::MAX } else { activity.millis() };
                all.push((Reverse(order), id, own));
            }
        }
        all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let start = match page_token.is_empty() {
            true => 0,
            false => {
                let after = parse_page_token(page_token).ok_or_else(|| {
                    refuse(ErrorCode::BadToken, "page_token is not one of this server's")
                })?;
                all.partition_point(|item| (item.0, &item.1) <= (after.0, &after.1))
            }
        };
        let mut conversations = Vec::new();
        let mut next_page_token = Bytes::new();
        for (index, (order, id, own)) in all.iter().enumerate().skip(start).take(limit) {
            conversations.extend(self.view(caller, id, own)?);
            if index + 1 == start + limit && index + 1 < all.len() {
                next_page_token = page_token_of(*order, id);
            }
        }
        let position = self.position(caller)?;
        Ok(Answer::Previews(Reply::ConversationPage {
            conversations,
            next_page_token,
            position,
            unread_total,
        }))
    }

    pub(super) fn conversation_items(
        &mut self,
        caller: &Caller,
        wanted: &[ConversationId],
    ) -> Result<Answer, Stop> {
        let mut items = Vec::with_capacity(wanted.len());
        for id in wanted {
            items.push(match open::membership(&self.writer, &caller.user, id)? {
                Some(own) => self.view(caller, id, &own)?,
                None => None,
            });
        }
        let position = self.position(caller)?;
        Ok(Answer::Previews(Reply::ConversationItems { items, position }))
    }

    pub(super) fn list_members(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
        page_token: &Bytes,
        limit: u32,
    ) -> Result<Answer, Stop> {
        let (open, _) = self.as_member(caller, id)?;
        let start = if page_token.is_empty() {
            0
        } else {
            let after = std::str::from_utf8(page_token)
                .ok()
                .and_then(|text| UserId::new(text).ok())
                .ok_or_else(|| {
                    refuse(ErrorCode::BadToken, "page_token is not one of this server's")
                })?;
            open.members.partition_point(|(user, _)| *user <= after)
        };
        let page = open.members.iter().skip(start).take(limit as usize);
        let members: Vec<MemberView> = page
            .map(|(user, member)| MemberView {
                user: user.clone(),
                role: member.role,
                joined_seq: member.joined_seq,
                joined: member.joined,
            })
            .collect();
        let next_page_token = match members.last() {
            Some(last) if start + members.len() < open.members.len() => {
                Bytes::copy_from_slice(last.user.as_bytes())
            }
            _ => Bytes::new(),
        };
        Ok(Answer::Reply(Reply::MemberPage {
            members,
            next_page_token,
            member_count: open.row.member_count,
            version: open.row.version,
        }))
    }

    /// When something last happened that the user could see.
    pub(super) fn activity(
        &mut self,
        id: &ConversationId,
        own: &Membership,
    ) -> Result<Timestamp, StoreError> {
        let tip = self.cache.tip(&self.writer, id)?;
        let visible = own.hull(tip.head);
        if visible.is_empty() {
            return Ok(own.joined);
        }
        if visible.last == tip.head {
            return Ok(tip.time.max(own.joined));
        }
        let entry = self.writer.entry(&LogKey::history(id), visible.last.number())?;
        let message = entry.and_then(|entry| history::parse(entry).1);
        Ok(message.map_or(own.joined, |message| message.time.max(own.joined)))
    }

    /// A conversation as the caller sees it, without the preview and the preferences; none when its
    /// row is missing.
    fn view(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
        own: &Membership,
    ) -> Result<Option<ConversationView>, StoreError> {
        let Some(open) = self.cache.open(&self.writer, id)? else { return Ok(None) };
        let tip = self.cache.tip(&self.writer, id)?;
        let visible = own.hull(tip.head);
        let peer = match open.row.kind {
            ConversationKind::Group => None,
            ConversationKind::Direct => {
                let users = open.members.iter().map(|(user, _)| user);
                users
                    .clone()
                    .find(|user| **user != caller.user)
                    .or_else(|| users.clone().next())
                    .cloned()
            }
        };
        // Whoever has left learns nothing of what changes afterwards.
        let here = own.is_member();
        let count = self.count(&caller.user, id, own, tip)?;
        Ok(Some(ConversationView {
            conversation: id.clone(),
            kind: open.row.kind,
            title: if here { open.row.title.clone() } else { own.left_title.clone() },
            peer,
            member_count: if here { open.row.member_count } else { 0 },
            role: own.role,
            policy: open.row.policy,
            created: open.row.created,
            visible_first: visible.first,
            visible_last: visible.last,
            last_message: None,
            activity: self.activity(id, own)?,
            read_seq: own.read_seq,
            unread: count.unread,
            unread_mentions: count.mentions,
            marked_unread: own.marked_unread,
            mutation: if here { tip.mutation } else { own.left_mutation },
            preferences: Preferences::default(),
            hidden_count: own.hidden_count,
            large: here && open.row.large,
            disbanded: here && open.row.disbanded,
            version: if here { open.row.version } else { 0 },
        }))
    }
}

fn page_token_of(order: Reverse<u64>, id: &ConversationId) -> Bytes {
    let mut token = BytesMut::with_capacity(9 + id.as_bytes().len());
    token.put_u64(order.0);
    put_id(&mut token, id.as_bytes());
    token.freeze()
}

fn parse_page_token(token: &Bytes) -> Option<(Reverse<u64>, ConversationId)> {
    let (order, rest) = token.split_first_chunk::<8>()?;
    let id = crate::store::catalogue::first_id(rest)?;
    (rest.len() == 1 + usize::from(*rest.first()?))
        .then_some((Reverse(u64::from_be_bytes(*order)), id))
}
