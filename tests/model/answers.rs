//! The reference, continued: what may be seen, what is unread, and the requests that only read.

use std::cmp::Reverse;

use bytes::Bytes;
use roamd::{
    engine::Caller,
    id::{ConversationId, UserId},
    message::{ConversationKind, EntryKind, Message, Preferences},
    refusal::{ErrorCode, Refusal},
    reply::{
        Batch, ConversationUnread, ConversationView, EntryView, MemberView, PlacedMessage, Reply,
    },
    request::{Direction, Request},
    seq::{HistorySeq, MutationSeq},
    time::Timestamp,
};

use super::model::{Chosen, Model, Outcome, PageKey, refused};

/// Stands for a page token, whose form is the server's own affair.
pub const MORE: &[u8] = b"more";

impl Model {
    /// The rows a user may see, one by one.
    pub fn visible(&self, user: &UserId, id: &ConversationId) -> Vec<u64> {
        let Some(talk) = self.talks.get(id) else { return Vec::new() };
        let Some(place) = talk.places.get(user) else { return Vec::new() };
        (1..=talk.head()).filter(|row| place.sees(*row)).collect()
    }

    /// Oldest and newest row a user may see. With none: where the next would be, for a member;
    /// nothing at all, for somebody who has left.
    fn visible_ends(&self, user: &UserId, id: &ConversationId) -> (HistorySeq, HistorySeq) {
        let visible = self.visible(user, id);
        let talk = &self.talks[id];
        let (first, last) = match (visible.first(), visible.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ if talk.members.contains_key(user) => (talk.head() + 1, talk.head()),
            _ => (1, 0),
        };
        (HistorySeq::new(first), HistorySeq::new(last))
    }

    /// Counted, not derived.
    pub fn unread(&self, user: &UserId, id: &ConversationId) -> u64 {
        let Some(talk) = self.talks.get(id) else { return 0 };
        let Some(place) = talk.places.get(user) else { return 0 };
        let mut unread = 0;
        for row in self.visible(user, id) {
            let counts = !talk.rows[row as usize - 1].draft.flags.uncounted;
            if counts && !place.read.contains(&row) {
                unread += 1;
            }
        }
        unread
    }

    pub fn unread_total(&self, user: &UserId) -> u64 {
        self.talks.keys().map(|id| self.unread(user, id)).sum()
    }

    fn activity(&self, user: &UserId, id: &ConversationId) -> Timestamp {
        let talk = &self.talks[id];
        let last = self.visible(user, id).last().map(|row| talk.rows[*row as usize - 1].time);
        last.unwrap_or_default().max(talk.places[user].joined)
    }

    /// The user's conversations, most recent first.
    fn recents(&self, user: &UserId) -> Vec<ConversationId> {
        let own = self.talks.iter().filter(|(_, talk)| talk.places.contains_key(user));
        let mut ids: Vec<ConversationId> = own.map(|(id, _)| id.clone()).collect();
        ids.sort_by_key(|id| (Reverse(self.activity(user, id)), id.clone()));
        ids
    }

    fn place_message(&self, id: &ConversationId, row: u64) -> PlacedMessage {
        let message: Option<Message> =
            self.talks.get(id).and_then(|talk| talk.rows.get(row as usize - 1)).cloned();
        PlacedMessage::new(id.clone(), HistorySeq::new(row), message)
    }

    fn view(&self, user: &UserId, id: &ConversationId) -> Option<ConversationView> {
        let talk = self.talks.get(id)?;
        let place = talk.places.get(user)?;
        let own = talk.members.get(user);
        let (visible_first, visible_last) = self.visible_ends(user, id);
        let peer = match talk.kind {
            ConversationKind::Group => None,
            ConversationKind::Direct => {
                Some(talk.members.keys().find(|other| *other != user).unwrap_or(user).clone())
            }
        };
        Some(ConversationView {
            conversation: id.clone(),
            kind: talk.kind,
            title: talk.title.clone(),
            peer,
            member_count: own.map_or(0, |_| talk.members.len() as u32),
            role: own.map(|own| own.role),
            policy: talk.policy,
            created: talk.created,
            visible_first,
            visible_last,
            last_message: self.visible(user, id).last().map(|row| self.place_message(id, *row)),
            activity: self.activity(user, id),
            read_seq: HistorySeq::new(place.read_seq()),
            unread: self.unread(user, id),
            unread_mentions: 0,
            marked_unread: false,
            mutation: MutationSeq::ZERO,
            preferences: Preferences::default(),
            large: false,
            disbanded: false,
            hidden_count: 0,
            version: own.map_or(0, |_| talk.version),
        })
    }

    fn unread_item(&self, user: &UserId, id: &ConversationId) -> Option<ConversationUnread> {
        let place = self.talks.get(id)?.places.get(user)?;
        Some(ConversationUnread {
            conversation: id.clone(),
            unread: self.unread(user, id),
            read_seq: HistorySeq::new(place.read_seq()),
            visible_last: self.visible_ends(user, id).1,
            last_ordinal: 0,
            read_ordinal: 0,
            mentions: 0,
            marked_unread: false,
            removed: 0,
        })
    }

    fn unread_items(&self, user: &UserId) -> Vec<ConversationUnread> {
        let items = self.recents(user).into_iter().filter_map(|id| self.unread_item(user, &id));
        items.filter(|item| item.unread > 0).collect()
    }

    /// The user's entries `first..=last` as a reader sees them.
    pub fn entries(&self, user: &UserId, first: u64, last: u64) -> Vec<EntryView> {
        let Some(inbox) = self.inboxes.get(user) else { return Vec::new() };
        let entries = inbox.entries.iter().take(last as usize).skip(first as usize - 1);
        let view = |(time, kind): &(Timestamp, EntryKind)| match kind {
            EntryKind::Message { conversation, seq } => EntryView::Message {
                time: *time,
                message: self.place_message(conversation, seq.number()),
            },
            EntryKind::Read { conversation, read_seq, marked_unread } => EntryView::Read {
                time: *time,
                conversation: conversation.clone(),
                read_seq: *read_seq,
                marked_unread: *marked_unread,
            },
            EntryKind::Membership(change) => {
                EntryView::Membership { time: *time, change: change.clone() }
            }
            other => unreachable!("the model writes no such entries: {other:?}"),
        };
        entries.map(view).collect()
    }

    pub(super) fn caught_up(&self, caller: &Caller) -> Outcome {
        Outcome::CaughtUp {
            seq: self.head(&caller.user),
            unread_total: self.unread_total(&caller.user),
            changed: self.unread_items(&caller.user),
            complete: true,
        }
    }

    /// The requests that only read.
    pub(super) fn read(
        &self,
        caller: &Caller,
        request: &Request,
        chosen: &Chosen,
        next: &mut Option<PageKey>,
    ) -> Outcome {
        let user = &caller.user;
        let position = self.head(user);
        Outcome::Reply(match request {
            Request::FetchHistory { conversation, direction, limit, max_bytes } => {
                return self.history(user, conversation, *direction, *limit, *max_bytes);
            }
            Request::ListConversations { since, snapshot, page_token, limit } => {
                let foreign = snapshot.as_ref().is_some_and(|token| token.len() < 8);
                if foreign || (!page_token.is_empty() && chosen.page.is_none()) {
                    return refused(ErrorCode::BadToken);
                }
                let key = |id: &ConversationId| match snapshot {
                    Some(_) => (0, id.to_string()),
                    None => (u64::MAX - self.activity(user, id).millis(), id.to_string()),
                };
                let mut ids = self.recents(user);
                ids.retain(|id| since.millis() == 0 || self.activity(user, id) > *since);
                ids.sort_by_key(key);
                ids.retain(|id| chosen.page.as_ref().is_none_or(|after| key(id) > *after));
                let more = ids.len() > *limit as usize;
                ids.truncate(*limit as usize);
                *next = if more { ids.last().map(key) } else { None };
                Reply::ConversationPage {
                    conversations: ids.iter().filter_map(|id| self.view(user, id)).collect(),
                    next_page_token: token(more),
                    position,
                    unread_total: self.unread_total(user),
                }
            }
            Request::GetConversations { conversations } => Reply::ConversationItems {
                items: conversations.iter().map(|id| self.view(user, id)).collect(),
                position,
            },
            Request::GetUnread { conversations, explain } => {
                let items = match conversations.is_empty() {
                    true => Some(self.unread_items(user)),
                    false => conversations.iter().map(|id| self.unread_item(user, id)).collect(),
                };
                let Some(conversations) = items else { return refused(ErrorCode::NotFound) };
                let total = self.unread_total(user);
                Reply::Unread { total, conversations, position, explain: *explain }
            }
            Request::ListMembers { conversation, page_token, limit } => {
                let talk = self.talks.get(conversation);
                let Some(talk) = talk.filter(|talk| talk.members.contains_key(user)) else {
                    return refused(ErrorCode::NotFound);
                };
                if !page_token.is_empty() && chosen.page.is_none() {
                    return refused(ErrorCode::BadToken);
                }
                let after = chosen.page.as_ref().map_or("", |(_, id)| id.as_str());
                let rest = talk.members.iter().filter(|(id, _)| id.as_str() > after);
                let page: Vec<MemberView> = rest
                    .clone()
                    .take(*limit as usize)
                    .map(|(id, member)| MemberView {
                        user: id.clone(),
                        role: member.role,
                        joined_seq: HistorySeq::new(member.joined_seq),
                        joined: member.joined,
                    })
                    .collect();
                let more = rest.count() > page.len();
                *next = page.last().filter(|_| more).map(|last| (0, last.user.to_string()));
                Reply::MemberPage {
                    members: page,
                    next_page_token: token(more),
                    member_count: talk.members.len() as u32,
                    version: talk.version,
                }
            }
            Request::SyncPull { after, limit } => {
                // Below what is kept and beyond what there is: neither may look like "nothing new".
                if after.number() + 1 < self.first(user).number() || *after > position {
                    return refused(ErrorCode::ResyncNeeded);
                }
                let last = position.number().min(after.number() + u64::from(*limit));
                let entries = self.entries(user, after.number() + 1, last);
                Reply::Pulled(Batch { prev: *after, head: position, entries })
            }
            other => unreachable!("not a request that reads: {other:?}"),
        })
    }

    fn history(
        &self,
        user: &UserId,
        id: &ConversationId,
        direction: Direction,
        limit: u32,
        max_bytes: usize,
    ) -> Outcome {
        if self.talks.get(id).is_none_or(|talk| !talk.places.contains_key(user)) {
            return refused(ErrorCode::NotFound);
        }
        let visible = self.visible(user, id);
        let (visible_first, visible_last) = self.visible_ends(user, id);
        let floor = visible_first.number();
        let below = match direction {
            _ if visible.is_empty() => false,
            Direction::Newest => false,
            Direction::Older(anchor) => anchor.number() < floor,
            // 0 = from the beginning.
            Direction::Newer(anchor) => anchor.number() > 0 && anchor.number() + 1 < floor,
        };
        if below {
            let refusal = Refusal::new(ErrorCode::BelowFloor, visible_first.to_string());
            return Outcome::Reply(Reply::Refused(refusal));
        }
        // The rows in this direction, nearest first.
        let ahead: Vec<u64> = match direction {
            Direction::Newest => visible.iter().rev().copied().collect(),
            Direction::Older(anchor) => {
                visible.iter().rev().copied().filter(|row| *row < anchor.number()).collect()
            }
            Direction::Newer(anchor) => {
                visible.iter().copied().filter(|row| *row > anchor.number()).collect()
            }
        };
        let mut messages: Vec<PlacedMessage> = Vec::new();
        let mut bytes = 0;
        for row in &ahead {
            let message = self.place_message(id, *row);
            bytes += message.message.as_ref().map_or(0, Message::weight);
            // A page is one piece without gaps, so that a client need not guess what is missing.
            let gap = messages
                .last()
                .is_some_and(|last| last.seq.number().abs_diff(message.seq.number()) > 1);
            let full = messages.len() >= limit as usize || bytes > max_bytes;
            if gap || (full && !messages.is_empty()) {
                break;
            }
            messages.push(message);
        }
        let complete = messages.len() == ahead.len();
        messages.sort_by_key(|message| message.seq);
        Outcome::Reply(Reply::HistoryPage {
            messages,
            visible_first,
            visible_last,
            mutation: MutationSeq::ZERO,
            complete,
        })
    }
}

fn token(more: bool) -> Bytes {
    if more { Bytes::from_static(MORE) } else { Bytes::new() }
}
