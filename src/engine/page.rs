//! Pages of logs: the engine decides what may be read; the session reads it ([`super::read`]).

use super::{Answer, Caller, Engine, HistoryGrant, Stop, not_found, open, refuse};
use crate::{
    conversation::Membership,
    history,
    id::ConversationId,
    inbox,
    refusal::ErrorCode,
    request::Direction,
    seq::{HistorySeq, InboxSeq, Span},
    store::catalogue::LogKey,
};

impl Engine {
    pub(super) fn fetch_history(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
        direction: Direction,
        limit: u32,
        max_bytes: usize,
    ) -> Result<Answer, Stop> {
        let own = open::membership(&self.writer, &caller.user, id)?.ok_or_else(not_found)?;
        let head = self.cache.tip(&self.writer, id)?.head;
        let granted = grant(&own, head, id, direction, limit, max_bytes);
        granted.map(Answer::History).map_err(|first| {
            let detail = format!("the oldest message to be seen is {first}");
            refuse(ErrorCode::BelowFloor, detail)
        })
    }

    pub(super) fn sync_pull(
        &mut self,
        caller: &Caller,
        after: InboxSeq,
        limit: u32,
    ) -> Result<Answer, Stop> {
        let bounds = self.writer.bounds(&LogKey::inbox(&caller.user))?;
        let (first, head) = inbox::kept(bounds, self.limits.inbox_entries);
        if after.next() < first {
            return Err(refuse(
                ErrorCode::ResyncNeeded,
                format!("the oldest entry kept is {first}"),
            ));
        }
        if after > head {
            // Never "nothing new": whoever has more than the server tells of lost data.
            return Err(refuse(ErrorCode::ResyncNeeded, format!("the newest entry is {head}")));
        }
        Ok(Answer::Pull(after, head, limit))
    }
}

/// What belongs on a page for whoever has this to do with the conversation, or the first row to be seen, if
/// what was asked for lies below it. `head` is the newest message.
pub(super) fn grant(
    own: &Membership,
    head: HistorySeq,
    id: &ConversationId,
    direction: Direction,
    limit: u32,
    max_bytes: usize,
) -> Result<HistoryGrant, HistorySeq> {
    let visible = own.hull(head);
    let below = match direction {
        Direction::Newest => false,
        Direction::Older(anchor) => anchor < visible.first && !visible.is_empty(),
        Direction::Newer(anchor) => {
            anchor > HistorySeq::ZERO && anchor.next() < visible.first && !visible.is_empty()
        }
    };
    if below {
        return Err(visible.first);
    }
    // One page never spans a gap between two intervals: the nearest interval with rows counts.
    let spans = own.visible(head);
    let nearest = match direction {
        Direction::Newest => spans.clone().next_back(),
        Direction::Older(anchor) => spans.clone().rfind(|span| span.first < anchor),
        Direction::Newer(anchor) => spans.clone().find(|span| span.last > anchor),
    };
    let span = match nearest {
        Some(nearest) => history::page(nearest, direction, limit),
        None => Span { first: head.next(), last: head },
    };
    Ok(HistoryGrant { conversation: id.clone(), span, max_bytes, direction, visible })
}
