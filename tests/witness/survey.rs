//! Reading everything the daemon has, as its users may.

use std::{collections::BTreeMap, net::SocketAddr};

use roamd::wire::proto::{self, client_frame, server_frame};

use super::{
    connection::{Connection, Trouble},
    ledger::Ledger,
    seen::{Row, Seen},
};

/// Entries and rows read again below what is known already.
pub const OVERLAP: u64 = 20;

/// What one user is shown, while nothing changes.
pub struct Shown {
    pub connection: Connection,
    pub first: u64,
    pub head: u64,
    pub views: BTreeMap<String, proto::Conversation>,
    /// The inbox from where it was asked for.
    pub entries: Vec<(u64, Seen)>,
}

fn wrong<T>(text: String) -> Result<T, Trouble> {
    Err(Trouble::Wrong(text))
}

/// Reads what one user is shown; the inbox from its beginning if `whole`.
pub fn user(
    ledger: &mut Ledger,
    index: usize,
    address: SocketAddr,
    whole: bool,
) -> Result<Shown, Trouble> {
    let user = &ledger.users[index];
    let (name, known_head, pulled) = (user.name.clone(), user.head, user.pulled);
    let mut connection = Connection::open(address)?;
    let welcome = connection.greet(&user.token, "checker", None)?;
    let proto::Welcome { epoch, head_seq: head, first_seq: first, .. } = welcome;
    if *ledger.epoch.get_or_insert(epoch) != epoch {
        return wrong(format!("the epoch was {:?} and is {epoch}", ledger.epoch));
    }
    if head < known_head {
        let text = format!("inbox of {name} lost its end: head is {head}, was {known_head}");
        return wrong(text);
    }
    let views = conversations(&mut connection, &name, &welcome)?;
    let from = if whole { 0 } else { pulled.saturating_sub(OVERLAP) };
    let entries = inbox(&mut connection, &name, from.max(first - 1), head)?;
    Ok(Shown { connection, first, head, views, entries })
}

/// All conversations of a user; the totals of three answers agree with their sum.
fn conversations(
    connection: &mut Connection,
    name: &str,
    welcome: &proto::Welcome,
) -> Result<BTreeMap<String, proto::Conversation>, Trouble> {
    let mut views = BTreeMap::new();
    let mut request = proto::ListConversations::default();
    loop {
        // Small pages, so that there is more than one.
        request.limit = 5;
        let body = client_frame::Body::ListConversations(request.clone());
        let page = match connection.call(body)? {
            server_frame::Body::ConversationPage(page) => page,
            other => return wrong(format!("no conversations of {name}: {other:?}")),
        };
        if page.position != welcome.head_seq || page.unread_total != welcome.unread_total {
            let (at, total) = (page.position, page.unread_total);
            return wrong(format!("a page says {total} unread at {at}, but {welcome:?}"));
        }
        for view in page.conversations {
            if let Some(twice) = views.insert(view.conversation_id.clone(), view) {
                return wrong(format!("{name} has a conversation twice: {twice:?}"));
            }
        }
        if page.complete {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let unread = match connection.call(client_frame::Body::GetUnread(Default::default()))? {
        server_frame::Body::Unread(unread) => unread,
        other => return wrong(format!("no unread of {name}: {other:?}")),
    };
    let sum: u64 = views.values().map(|view| view.unread).sum();
    if sum != unread.unread_total || sum != welcome.unread_total {
        let (asked, greeted) = (unread.unread_total, welcome.unread_total);
        return wrong(format!("unread of {name}: sum {sum}, total {asked}, Welcome {greeted}"));
    }
    let counted = views.values().filter(|view| view.unread > 0).count();
    let told = unread.conversations.len();
    let same = |told: &proto::ConversationUnread| {
        views.get(&told.conversation_id).is_some_and(|view| view.unread == told.unread)
    };
    if told != counted || !unread.conversations.iter().all(same) {
        return wrong(format!("unread of {name} differs between GetUnread and the list"));
    }
    Ok(views)
}

/// The entries after `after` to the head.
fn inbox(
    connection: &mut Connection,
    name: &str,
    mut after: u64,
    head: u64,
) -> Result<Vec<(u64, Seen)>, Trouble> {
    let mut entries = Vec::new();
    while after < head {
        let pull = proto::SyncPull { after_seq: after, limit: 1000 };
        let batch = match connection.call(client_frame::Body::SyncPull(pull))? {
            server_frame::Body::Pulled(batch) => batch,
            other => return wrong(format!("no inbox of {name} after {after}: {other:?}")),
        };
        let whole = batch.prev_seq == after
            && batch.head_seq == head
            && batch.last_seq == after + batch.entries.len() as u64
            && batch.last_seq > after;
        if !whole {
            let proto::SyncBatch { prev_seq, last_seq, head_seq, .. } = batch;
            let range = format!("{prev_seq}..{last_seq} of {head_seq}");
            return wrong(format!("inbox of {name} after {after} of {head}: {range}"));
        }
        for entry in &batch.entries {
            after += 1;
            match Seen::of(entry) {
                Ok(seen) => entries.push((after, seen)),
                Err(text) => return wrong(format!("entry {after} of {name} {text}")),
            }
        }
    }
    Ok(entries)
}

/// Rows of a conversation after `after`, to its end.
pub fn history(
    connection: &mut Connection,
    id: &str,
    mut after: u64,
    last: u64,
) -> Result<Vec<(u64, Row)>, Trouble> {
    let mut rows = Vec::new();
    while after < last {
        let fetch = proto::FetchHistory {
            conversation_id: id.to_owned(),
            direction: proto::Direction::Newer.into(),
            anchor_seq: after,
            limit: 200,
            max_bytes: 0,
        };
        let page = match connection.call(client_frame::Body::FetchHistory(fetch))? {
            server_frame::Body::HistoryPage(page) => page,
            other => return wrong(format!("no history of {id} after {after}: {other:?}")),
        };
        if page.messages.is_empty() || page.visible_last_seq != last {
            let shown = page.visible_last_seq;
            return wrong(format!(
                "history of {id} ends after {after} of {last} (it says {shown})"
            ));
        }
        for message in &page.messages {
            after += 1;
            if message.history_seq != after || message.conversation_id != id {
                return wrong(format!("history of {id} skips {after}: {message:?}"));
            }
            match Row::of(message) {
                Ok(row) => rows.push((after, row)),
                Err(text) => return wrong(format!("row {after} of {id} {text}")),
            }
        }
    }
    Ok(rows)
}

/// Members of a group.
pub fn members(connection: &mut Connection, id: &str) -> Result<Vec<String>, Trouble> {
    let request = proto::ListMembers { conversation_id: id.to_owned(), ..Default::default() };
    match connection.call(client_frame::Body::ListMembers(request))? {
        server_frame::Body::MemberPage(page) => {
            Ok(page.members.into_iter().map(|member| member.user_id).collect())
        }
        other => wrong(format!("no members of {id}: {other:?}")),
    }
}
