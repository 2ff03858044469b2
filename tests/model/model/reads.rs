//! The requests that only read messages and entries. What they show is joined when it leaves.

use roamd::{
    engine::Caller,
    id::{ConversationId, UserId},
    message::{ConversationKind, Message},
    refusal::{ErrorCode, Refusal},
    reply::{Batch, PlacedMessage, Reply},
    request::{Direction, Request},
    seq::{HistorySeq, InboxSeq, MutationSeq},
};

use super::{Chosen, Expected, Model, Outcome, PageKey, lists::token, refused};

impl Model {
    pub(super) fn read(
        &self,
        caller: &Caller,
        request: &Request,
        chosen: &Chosen,
        next: &mut Option<PageKey>,
    ) -> Expected {
        let user = &caller.user;
        match request {
            Request::FetchHistory { conversation, direction, limit, max_bytes } => {
                self.history(user, conversation, *direction, *limit, *max_bytes)
            }
            Request::FetchMutations { conversation, after, limit } => {
                self.fetch_mutations(user, conversation, after.number(), *limit)
            }
            Request::FetchMessages { refs } => self.fetch_messages(user, refs),
            Request::GetReaders { conversation, seq, page_token, limit } => {
                let after = chosen.page.as_ref().map_or("", |(_, id)| id.as_str()).to_owned();
                let foreign = !page_token.is_empty() && chosen.page.is_none();
                self.get_readers(user, conversation, *seq, (after, foreign), *limit)
            }
            Request::ListConversations { .. } => {
                self.list_conversations(user, request, chosen, next)
            }
            Request::GetConversations { conversations } => {
                self.conversation_items(user, conversations)
            }
            Request::GetUnread { conversations, explain } => {
                Expected::Now(self.unread_reply(user, conversations, *explain))
            }
            Request::ListMembers { .. } => {
                Expected::Now(self.list_members(user, request, chosen, next))
            }
            Request::ListDevices => Expected::Now(self.list_devices(user)),
            Request::SyncPull { after, limit } => self.pull(user, *after, *limit),
            other => unreachable!("not a request that reads: {other:?}"),
        }
    }

    fn pull(&self, user: &UserId, after: InboxSeq, limit: u32) -> Expected {
        let head = self.head(user);
        // Below what is kept and beyond what there is: neither may look like "nothing new".
        if after.number() + 1 < self.first(user).number() || after > head {
            return Expected::Now(refused(ErrorCode::ResyncNeeded));
        }
        let last = head.number().min(after.number() + u64::from(limit));
        let user = user.clone();
        Expected::AtFlush(Box::new(move |durable| {
            if after.next() < durable.first(&user) && after.number() < last {
                // Trimmed between the decision and the reading.
                return refused(ErrorCode::ResyncNeeded);
            }
            let entries = durable.entries(&user, after.number() + 1, last);
            Outcome::Reply(Reply::Pulled(Batch { prev: after, head, entries }))
        }))
    }

    fn history(
        &self,
        user: &UserId,
        id: &ConversationId,
        direction: Direction,
        limit: u32,
        max_bytes: usize,
    ) -> Expected {
        if self.talks.get(id).is_none_or(|talk| !talk.places.contains_key(user)) {
            return Expected::Now(refused(ErrorCode::NotFound));
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
            return Expected::Now(Outcome::Reply(Reply::Refused(refusal)));
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
        let (user, id) = (user.clone(), id.clone());
        Expected::AtFlush(Box::new(move |durable| {
            let mutation = durable.known_mutation(&user, &id);
            let (messages, complete) = durable.page(&user, &id, &ahead, limit, max_bytes);
            let page =
                Reply::HistoryPage { messages, visible_first, visible_last, mutation, complete };
            Outcome::Reply(page)
        }))
    }

    /// As many of these rows as fit, ascending, and whether that is all.
    fn page(
        &self,
        user: &UserId,
        id: &ConversationId,
        ahead: &[u64],
        limit: u32,
        max_bytes: usize,
    ) -> (Vec<PlacedMessage>, bool) {
        let mut messages: Vec<PlacedMessage> = Vec::new();
        let mut bytes = 0;
        for row in ahead {
            let message = self.show(user, id, *row);
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
        (messages, complete)
    }

    fn fetch_mutations(
        &self,
        user: &UserId,
        id: &ConversationId,
        after: u64,
        limit: u32,
    ) -> Expected {
        if self.talks.get(id).is_none_or(|talk| !talk.places.contains_key(user)) {
            return Expected::Now(refused(ErrorCode::NotFound));
        }
        let upto = self.known_mutation(user, id).number();
        let (user, id) = (user.clone(), id.clone());
        Expected::AtFlush(Box::new(move |durable| {
            let talk = &durable.talks[&id];
            let row = |number: &u64| talk.mutations[*number as usize - 1].row;
            // A message that changes again later is shown there, as it is now.
            let newest = |number: &u64| (number + 1..=upto).all(|later| row(&later) != row(number));
            let sees = |number: &u64| talk.places[&user].sees(row(number));
            let mut numbers: Vec<u64> = (after + 1..=upto).filter(newest).filter(sees).collect();
            let complete = numbers.len() <= limit as usize;
            numbers.truncate(limit as usize);
            let last = if complete { upto.max(after) } else { numbers[numbers.len() - 1] };
            let shown =
                |number: &u64| (MutationSeq::new(*number), durable.show(&user, &id, row(number)));
            let mutations = numbers.iter().map(shown).collect();
            let last = MutationSeq::new(last);
            Outcome::Reply(Reply::MutationPage { mutations, last, complete })
        }))
    }

    fn fetch_messages(&self, user: &UserId, refs: &[(ConversationId, HistorySeq)]) -> Expected {
        let sees = |(id, seq): &(ConversationId, HistorySeq)| {
            self.visible(user, id).contains(&seq.number())
        };
        let wanted: Vec<_> = refs.iter().map(|item| (item.clone(), sees(item))).collect();
        let user = user.clone();
        Expected::AtFlush(Box::new(move |durable| {
            let item = |((id, seq), sees): &((ConversationId, HistorySeq), bool)| {
                let sees = *sees && durable.visible(&user, id).contains(&seq.number());
                sees.then(|| durable.show(&user, id, seq.number()))
            };
            Outcome::Reply(Reply::MessageItems(wanted.iter().map(item).map(Into::into).collect()))
        }))
    }

    fn get_readers(
        &self,
        user: &UserId,
        id: &ConversationId,
        seq: HistorySeq,
        (after, foreign): (String, bool),
        limit: u32,
    ) -> Expected {
        let talk = self.talks.get(id).filter(|talk| talk.members.contains_key(user));
        let Some(talk) = talk else {
            return Expected::Now(refused(ErrorCode::NotFound));
        };
        if talk.kind == ConversationKind::Direct {
            return Expected::Now(refused(ErrorCode::Forbidden));
        }
        if self.visible(user, id).binary_search(&seq.number()).is_err() {
            return Expected::Now(refused(ErrorCode::NotFound));
        }
        if foreign {
            return Expected::Now(refused(ErrorCode::BadToken));
        }
        let id = id.clone();
        Expected::AtFlush(Box::new(move |durable| {
            let all = durable.readers(&durable.talks[&id], seq.number());
            let rest: Vec<_> = all.iter().filter(|user| user.as_str() > after.as_str()).collect();
            let users: Vec<_> = rest.iter().take(limit as usize).map(|u| (*u).clone()).collect();
            let next_page_token = token(rest.len() > users.len());
            let reader_count = all.len() as u32;
            Outcome::Reply(Reply::ReaderPage { users, reader_count, next_page_token })
        }))
    }
}
