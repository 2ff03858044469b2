//! Lists: a user's conversations, its unread counts, a group's members. Every answer is taken at
//! one position, because the engine does one thing at a time.

use std::cmp::Reverse;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Answer, Caller, Engine, Stop, not_found, open, refuse};
use crate::{
    conversation::Membership,
    history,
    id::{ConversationId, UserId},
    message::{ConversationKind, Preferences},
    refusal::ErrorCode,
    reply::{ConversationUnread, ConversationView, MemberView, Reply},
    store::{
        StoreError,
        catalogue::{LogKey, Table, second_id, user_prefix},
        codec::put_id,
    },
    time::Timestamp,
};

impl Engine {
    /// Sum over all of a user's conversations, and those that are not zero, most recent first.
    pub(super) fn unread_of_all(
        &mut self,
        user: &UserId,
    ) -> Result<(u64, Vec<ConversationUnread>), StoreError> {
        let mut counts = Vec::new();
        for (id, own) in self.memberships(user)? {
            let count = self.count(&id, &own)?;
            if count.unread > 0 {
                // Of what the user may see: the newest message may be one written after it left.
                counts.push((Reverse(self.activity(&id, &own)?), count));
            }
        }
        counts.sort_by(|a, b| (a.0, &a.1.conversation).cmp(&(b.0, &b.1.conversation)));
        let total = counts.iter().map(|(_, count)| count.unread).sum();
        Ok((total, counts.into_iter().map(|(_, count)| count).collect()))
    }

    pub(super) fn unread(
        &mut self,
        caller: &Caller,
        wanted: &[ConversationId],
        explain: bool,
    ) -> Result<Answer, Stop> {
        let (total, mut conversations) = self.unread_of_all(&caller.user)?;
        if !wanted.is_empty() {
            conversations.clear();
            for id in wanted {
                let own =
                    open::membership(&self.writer, &caller.user, id)?.ok_or_else(not_found)?;
                conversations.push(self.count(id, &own)?);
            }
        }
        let position = self.position(caller)?;
        Ok(Answer::Reply(Reply::Unread { total, conversations, position, explain }))
    }

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
            unread_total += self.count(&id, &own)?.unread;
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
        let open = self.cache.open(&self.writer, id)?.ok_or_else(not_found)?;
        open.member(&caller.user).ok_or_else(not_found)?;
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

    fn memberships(&self, user: &UserId) -> Result<Vec<(ConversationId, Membership)>, StoreError> {
        let rows = self.writer.rows(Table::Membership, &user_prefix(user), &[], usize::MAX)?;
        rows.into_iter()
            .map(|(key, row)| {
                let id = second_id(&key)
                    .ok_or_else(|| StoreError::Damaged("a membership key is malformed".into()))?;
                Ok((id, Membership::decode(row)?))
            })
            .collect()
    }

    /// Unread of one conversation: a subtraction of two ordinals.
    fn count(
        &mut self,
        id: &ConversationId,
        own: &Membership,
    ) -> Result<ConversationUnread, StoreError> {
        let tip = self.cache.tip(&self.writer, id)?;
        Ok(ConversationUnread {
            conversation: id.clone(),
            unread: own.unread(tip.ordinal),
            read_seq: own.read_seq,
            visible_last: own.hull(tip.head).last,
            last_ordinal: own.visible_ordinal(tip.ordinal),
            read_ordinal: own.read_ordinal,
            mentions: 0,
            marked_unread: own.marked_unread,
            removed: 0,
        })
    }

    /// When something last happened that the user could see.
    fn activity(&mut self, id: &ConversationId, own: &Membership) -> Result<Timestamp, StoreError> {
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

    /// A conversation as the caller sees it, without the preview; none when its row is missing.
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
        Ok(Some(ConversationView {
            conversation: id.clone(),
            kind: open.row.kind,
            title: open.row.title.clone(),
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
            unread: own.unread(tip.ordinal),
            unread_mentions: 0,
            marked_unread: own.marked_unread,
            mutation: if here { tip.mutation } else { own.left_mutation },
            preferences: Preferences::default(),
            hidden_count: own.hidden_count,
            large: open.row.large,
            disbanded: open.row.disbanded,
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
