//! Who has read a message of a group. The engine says who may ask; the members are gone through in
//! the session's own thread, because a group may have very many.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Answer, Caller, Engine, ReadersGrant, Stop, not_found, open, refuse};
use crate::{
    conversation::Membership,
    history,
    id::{ConversationId, UserId},
    message::ConversationKind,
    refusal::ErrorCode,
    reply::Reply,
    seq::HistorySeq,
    store::{
        Reader, StoreError,
        catalogue::{LogKey, Table, conversation_key, membership_key, second_id},
    },
};

/// Members looked at between two looks at the table of members.
const SLICE: usize = 1000;

impl Engine {
    pub(super) fn readers(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
        seq: HistorySeq,
        page_token: &Bytes,
        limit: u32,
    ) -> Result<Answer, Stop> {
        let (open, _) = self.as_member(caller, id)?;
        if open.row.kind == ConversationKind::Direct {
            return Err(refuse(ErrorCode::Forbidden, "a direct conversation has PeerRead entries"));
        }
        let own = open::membership(&self.writer, &caller.user, id)?.ok_or_else(not_found)?;
        if !own.sees(seq) || seq > self.cache.tip(&self.writer, id)?.head {
            return Err(not_found());
        }
        let after = match page_token.is_empty() {
            true => None,
            false => {
                let user = std::str::from_utf8(page_token).ok();
                let user = user.and_then(|text| UserId::new(text).ok());
                Some(user.ok_or_else(|| {
                    refuse(ErrorCode::BadToken, "page_token is not one of this server's")
                })?)
            }
        };
        let conversation = id.clone();
        Ok(Answer::Readers(ReadersGrant { conversation, seq, after, limit: limit as usize }))
    }
}

/// Goes through the members: those that have read the message, other than its sender.
pub(super) fn page(reader: &Reader, grant: &ReadersGrant) -> Result<Reply, StoreError> {
    let ReadersGrant { conversation, seq, after, limit } = grant;
    let message = history::row(reader, &LogKey::history(conversation), *seq)?;
    let sender = message.map(|message| message.sender);
    let prefix = conversation_key(conversation);
    // Keys go by the length of an id first, pages by the id: the first ones are not met first.
    let mut users = BTreeSet::new();
    let (mut reader_count, mut more) = (0_u32, false);
    let mut last = Bytes::new();
    loop {
        let slice = reader.rows_and_holes(Table::Member, &prefix, &last, SLICE)?;
        let is_end = slice.len() < SLICE;
        for (key, _) in slice {
            let user = second_id::<UserId>(&key);
            last = key;
            let Some(user) = user.filter(|user| Some(user) != sender.as_ref()) else { continue };
            if !has_read(reader, &user, conversation, *seq)? {
                continue;
            }
            reader_count += 1;
            if after.as_ref().is_none_or(|after| user > *after) {
                users.insert(user);
                if users.len() > *limit {
                    users.pop_last();
                    more = true;
                }
            }
        }
        if is_end {
            break;
        }
    }
    let next_page_token = match users.last() {
        Some(user) if more => Bytes::copy_from_slice(user.as_bytes()),
        _ => Bytes::new(),
    };
    let users = users.into_iter().collect();
    Ok(Reply::ReaderPage { users, reader_count, next_page_token })
}

fn has_read(
    reader: &Reader,
    user: &UserId,
    id: &ConversationId,
    seq: HistorySeq,
) -> Result<bool, StoreError> {
    let own = match reader.row(Table::Membership, &membership_key(user, id)) {
        Ok(row) => row.and_then(|row| Membership::decode(row).ok()),
        // A damaged row is nobody's answer, and keeps nobody else's from being given.
        Err(StoreError::Damaged(_)) => None,
        Err(error) => return Err(error),
    };
    // What a user has cleared it was shown all the same.
    Ok(own.is_some_and(|own| own.is_member() && own.read_seq >= seq && own.was_shown(seq)))
}
