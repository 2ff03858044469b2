//! Lists: conversations, members, unread.

use std::cmp::Reverse;

use bytes::Bytes;
use roamd::{
    id::{ConversationId, UserId},
    message::ConversationKind,
    refusal::ErrorCode,
    reply::{ConversationView, MemberView, Reply},
    request::Request,
    seq::HistorySeq,
    time::Timestamp,
};

use super::{Chosen, Expected, Model, Outcome, PageKey, refused};

/// Stands for a page token, whose form is the server's own affair.
pub const MORE: &[u8] = b"more";

pub(super) fn token(more: bool) -> Bytes {
    if more { Bytes::from_static(MORE) } else { Bytes::new() }
}

impl Model {
    fn activity(&self, user: &UserId, id: &ConversationId) -> Timestamp {
        let talk = &self.talks[id];
        let last = self.visible(user, id).last().map(|row| talk.rows[*row as usize - 1].time);
        last.unwrap_or_default().max(talk.places[user].joined)
    }

    /// The user's conversations, most recent first.
    pub(super) fn recents(&self, user: &UserId) -> Vec<ConversationId> {
        let own = self.talks.iter().filter(|(_, talk)| talk.places.contains_key(user));
        let mut ids: Vec<ConversationId> = own.map(|(id, _)| id.clone()).collect();
        ids.sort_by_key(|id| (Reverse(self.activity(user, id)), id.clone()));
        ids
    }

    /// All but what is joined later.
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
            // Whoever has left learns nothing of what changes afterwards.
            title: own.map_or(&place.left_title, |_| &talk.title).clone(),
            peer,
            member_count: own.map_or(0, |_| talk.members.len() as u32),
            role: own.map(|own| own.role),
            policy: talk.policy,
            created: talk.created,
            visible_first,
            visible_last,
            last_message: None,
            activity: self.activity(user, id),
            read_seq: HistorySeq::new(place.read_seq()),
            unread: self.unread(user, id),
            unread_mentions: self.unread_mentions(user, id),
            marked_unread: place.marked_unread,
            mutation: self.known_mutation(user, id),
            preferences: Default::default(),
            large: own.is_some() && talk.large,
            disbanded: own.is_some() && talk.disbanded,
            hidden_count: place.hidden.len() as u64,
            version: own.map_or(0, |_| talk.version),
        })
    }

    /// With the last message and the preferences as they are now.
    fn preview(&self, user: &UserId, view: ConversationView) -> ConversationView {
        let some = view.visible_first <= view.visible_last;
        let last = some.then(|| self.show(user, &view.conversation, view.visible_last.number()));
        let preferences = self.talks[&view.conversation].places[user].preferences.clone();
        ConversationView { last_message: last, preferences, ..view }
    }

    pub(super) fn list_conversations(
        &self,
        user: &UserId,
        request: &Request,
        chosen: &Chosen,
        next: &mut Option<PageKey>,
    ) -> Expected {
        let Request::ListConversations { since, snapshot, page_token, limit } = request else {
            unreachable!("another request")
        };
        let foreign = snapshot.as_ref().is_some_and(|token| token.len() < 8);
        if foreign || (!page_token.is_empty() && chosen.page.is_none()) {
            return Expected::Now(refused(ErrorCode::BadToken));
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
        let views: Vec<_> = ids.iter().filter_map(|id| self.view(user, id)).collect();
        let (position, unread_total) = (self.head(user), self.unread_total(user));
        let user = user.clone();
        Expected::AtFlush(Box::new(move |durable| {
            let conversations = views.into_iter().map(|v| durable.preview(&user, v)).collect();
            let next_page_token = token(more);
            let page =
                Reply::ConversationPage { conversations, next_page_token, position, unread_total };
            Outcome::Reply(page)
        }))
    }

    pub(super) fn conversation_items(&self, user: &UserId, ids: &[ConversationId]) -> Expected {
        let views: Vec<_> = ids.iter().map(|id| self.view(user, id)).collect();
        let (position, user) = (self.head(user), user.clone());
        Expected::AtFlush(Box::new(move |durable| {
            let items = views.into_iter().map(|view| Some(durable.preview(&user, view?))).collect();
            Outcome::Reply(Reply::ConversationItems { items, position })
        }))
    }

    pub(super) fn unread_reply(
        &self,
        user: &UserId,
        ids: &[ConversationId],
        explain: bool,
    ) -> Outcome {
        let items = match ids.is_empty() {
            true => Some(self.unread_items(user)),
            false => ids.iter().map(|id| self.unread_item(user, id)).collect(),
        };
        let Some(conversations) = items else { return refused(ErrorCode::NotFound) };
        let (total, position) = (self.unread_total(user), self.head(user));
        Outcome::Reply(Reply::Unread { total, conversations, position, explain })
    }

    pub(super) fn list_members(
        &self,
        user: &UserId,
        request: &Request,
        chosen: &Chosen,
        next: &mut Option<PageKey>,
    ) -> Outcome {
        let Request::ListMembers { conversation, page_token, limit } = request else {
            unreachable!("another request")
        };
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
        Outcome::Reply(Reply::MemberPage {
            members: page,
            next_page_token: token(more),
            member_count: talk.members.len() as u32,
            version: talk.version,
        })
    }
}
