//! Holds one answer of the engine against the model's.

use std::collections::BTreeMap;

use bytes::Bytes;
use roamd::{
    engine::{Answer, Caller, Command, Compared, Effects, LargeNotice, Sign, read},
    id::UserId,
    refusal::ErrorCode,
    reply::{ConversationUnread, Reply},
    request::Request,
    seq::InboxSeq,
    store::Reader,
};

use super::{
    driver::Found,
    model::{Chosen, Expected, MORE, News, Outcome, PageKey},
    plan::Pages,
};

/// An answer of the engine that waits for the flush.
pub struct Pending {
    /// What was to be told of large conversations before.
    pub before: Vec<LargeNotice>,
    /// The connection and the number under which it asked.
    pub origin: Option<(u64, u64)>,
    pub what: String,
    pub caller: Caller,
    pub command: Command,
    pub answer: Answer,
    pub expected: Expected,
    /// Where the next page of a list would begin.
    pub next: Option<PageKey>,
}

pub fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    actual: &T,
    model: &T,
) -> Result<(), Found> {
    if actual == model {
        return Ok(());
    }
    Err(format!("{what}\n  server: {actual:?}\n  model:  {model:?}"))
}

pub(super) fn is_refusal(answer: &Answer) -> bool {
    matches!(answer, Answer::Reply(Reply::Refused(_)))
}

pub(super) fn only_reads(command: &Command) -> bool {
    match command {
        Command::CaughtUp | Command::Cursor(_) => true,
        Command::Detach => false,
        Command::Attach { .. } | Command::Resume(_) => false,
        Command::Request(request) => !matches!(
            request,
            Request::Send { .. }
                | Request::MarkRead { .. }
                | Request::CreateGroup { .. }
                | Request::AddMembers { .. }
                | Request::RemoveMembers { .. }
                | Request::LeaveGroup { .. }
                | Request::DisbandGroup { .. }
                | Request::SetRole { .. }
                | Request::SetTitle { .. }
                | Request::Recall { .. }
                | Request::Edit { .. }
                | Request::DeleteForAll { .. }
                | Request::DeleteForMe { .. }
                | Request::CancelSend { .. }
                | Request::MarkUnread { .. }
                | Request::ClearConversation { .. }
                | Request::SetPreferences { .. }
                | Request::RevokeDevice { .. }
                | Request::RegisterPush { .. }
                | Request::SendNotice { .. }
                | Request::SetPresence { .. }
                | Request::KickDevice { .. }
        ),
    }
}

/// What the server alone could decide, taken from its answer.
pub(super) fn chosen(answer: &Answer) -> Chosen {
    let mut chosen = Chosen::default();
    match answer {
        Answer::Reply(Reply::SendAck { id, duplicate: false, .. }) => chosen.message = Some(*id),
        Answer::Reply(Reply::GroupCreated { conversation, duplicate: false, .. }) => {
            chosen.group = Some(conversation.clone());
        }
        Answer::Reply(Reply::Refused(refusal)) => {
            chosen.stale = refusal.code == ErrorCode::Stale;
            chosen.off = refusal.code == ErrorCode::FeatureOff;
        }
        _ => {}
    }
    chosen
}

/// The list a request pages through, and the token it gives.
pub(super) fn pages(command: &Command) -> Option<(Pages, Bytes)> {
    match command {
        Command::Request(Request::ListConversations { snapshot, page_token, .. }) => {
            let pages = if snapshot.is_some() { Pages::Snapshot } else { Pages::Recents };
            Some((pages, page_token.clone()))
        }
        Command::Request(Request::ListMembers { conversation, page_token, .. }) => {
            Some((Pages::Members(conversation.clone()), page_token.clone()))
        }
        Command::Request(Request::GetReaders { conversation, seq, page_token, .. }) => {
            Some((Pages::Readers(conversation.clone(), seq.number()), page_token.clone()))
        }
        _ => None,
    }
}

/// The name of a variant.
pub(super) fn name(debug: String) -> String {
    debug.split([' ', '(', '{']).next().unwrap_or("").to_owned()
}

/// Names a kind of answer, to see that all kinds come.
pub(super) fn kind(command: &Command, outcome: &Outcome) -> String {
    let asked = match command {
        Command::Request(request) => name(format!("{request:?}")),
        other => name(format!("{other:?}")),
    };
    let told = match outcome {
        Outcome::Reply(Reply::Refused(refusal)) => refusal.code.name().to_owned(),
        Outcome::Reply(
            Reply::SendAck { duplicate: true, .. } | Reply::GroupCreated { duplicate: true, .. },
        ) => "again".into(),
        Outcome::Reply(Reply::HistoryPage { messages, complete, .. }) => {
            format!("{} {complete}", if messages.is_empty() { "empty" } else { "page" })
        }
        Outcome::Reply(Reply::MutationPage { mutations, complete, .. }) => {
            format!("{} {complete}", if mutations.is_empty() { "empty" } else { "page" })
        }
        Outcome::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }) => "nothing".into(),
        Outcome::Reply(Reply::MemberItems { outcomes, .. }) => {
            let mut all: Vec<_> = outcomes.iter().map(|o| format!("{o:?}")).collect();
            all.sort();
            all.dedup();
            all.join(" ")
        }
        Outcome::Attached(compared) | Outcome::Resumed(compared) => {
            format!("{:?}", compared.verdict)
        }
        _ => "done".into(),
    };
    format!("{asked}: {told}")
}

/// What leaves the process for an answer.
pub(super) fn outcome(
    reader: &Reader,
    user: &UserId,
    kept: u64,
    answer: Answer,
) -> Result<Outcome, Found> {
    Ok(match answer {
        Answer::Nothing => Outcome::Nothing,
        Answer::Attached(compared) => Outcome::Attached(*compared),
        Answer::Resumed(compared) => Outcome::Resumed(*compared),
        Answer::CaughtUp { seq, unread_total, changed, complete, large } => {
            Outcome::CaughtUp { seq, unread_total, changed, complete, large }
        }
        answer => {
            let reply = read::complete(reader, user, kept, answer).map_err(|e| e.to_string())?;
            Outcome::Reply(reply.ok_or("an answer without a reply")?)
        }
    })
}

/// Takes out what is the server's own affair: texts, tokens, derivations (which must add up). Gives
/// back the page token.
pub(super) fn level(actual: &mut Outcome, expected: &mut Outcome) -> Result<Option<Bytes>, Found> {
    let mut given = None;
    match actual {
        Outcome::Attached(compared) | Outcome::Resumed(compared) => {
            let Compared { snapshot, .. } = compared;
            if snapshot.is_empty() {
                return Err("no snapshot token".into());
            }
            snapshot.clear();
        }
        Outcome::CaughtUp { changed, large, .. } => {
            large.sort_by_key(|end| end.conversation.clone());
            derived(changed)?;
        }
        Outcome::Reply(Reply::Unread { conversations, .. }) => derived(conversations)?,
        Outcome::Reply(
            Reply::ConversationPage { next_page_token, .. }
            | Reply::MemberPage { next_page_token, .. }
            | Reply::ReaderPage { next_page_token, .. },
        ) if !next_page_token.is_empty() => {
            given = Some(std::mem::replace(next_page_token, Bytes::from_static(MORE)));
        }
        Outcome::Reply(Reply::PresenceSnapshot(devices)) => {
            devices.sort_by_key(|device| (device.user.clone(), device.device.clone()));
        }
        Outcome::Reply(Reply::Refused(refusal)) => {
            if let Outcome::Reply(Reply::Refused(wanted)) = expected {
                if !refusal.detail.contains(&wanted.detail) {
                    return Err(format!("{:?} does not say {:?}", refusal.detail, wanted.detail));
                }
                wanted.detail.clear();
            }
            refusal.detail.clear();
        }
        _ => {}
    }
    Ok(given)
}

pub(super) fn derived(items: &mut [ConversationUnread]) -> Result<(), Found> {
    for item in items {
        let counted = item.last_ordinal.checked_sub(item.read_ordinal);
        if counted.and_then(|counted| counted.checked_sub(item.removed)) != Some(item.unread) {
            return Err(format!("the derivation does not add up: {item:?}"));
        }
        item.last_ordinal = 0;
        item.read_ordinal = 0;
        item.removed = 0;
    }
    Ok(())
}

/// What the engine has for those who are online, in the model's words.
pub(super) fn news(effects: &Effects) -> Result<News, Found> {
    let mut news = News::default();
    for sign in &effects.signs {
        match sign {
            Sign::End(user, session, reason) => {
                news.ends.insert((user.clone(), *session), format!("{reason:?}"));
            }
            Sign::Spread(users, but, push) => {
                news.spread.push((users.iter().cloned().collect(), *but, push.clone()));
            }
            other => return Err(format!("a sign that nobody waits for: {other:?}")),
        }
    }
    for (session, changes) in &effects.presence {
        let changes: BTreeMap<_, _> = changes.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        if !changes.is_empty() {
            news.presence.insert(session.clone(), changes);
        }
    }
    for (user, session, followed) in &effects.unfollowed {
        news.unfollowed.push(((user.clone(), *session), followed.clone()));
    }
    Ok(news)
}
