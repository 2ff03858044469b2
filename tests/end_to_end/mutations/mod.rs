//! Messages that are changed for everybody: recalled, edited, deleted; and the feed that tells it.

mod feed;
mod rights;
mod shown;

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        AddMembers, CancelSend, ClearConversation, CreateGroup, DeleteForAll, DeleteForMe,
        Direction, DisbandGroup, Edit, Entry, FetchMessages, FetchMutations, HistoryPage,
        HistoryPolicy, LeaveGroup, Message, MessageItem, MessageRef, MessageState as State,
        MutationPage, Recall, RemoveMembers, Role, Send, SetRole, client_frame::Body, entry::Kind,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, client::content, conversation, peer, text},
};

fn recall(id: &str, history_seq: u64) -> Body {
    Body::Recall(Recall { conversation_id: id.into(), history_seq })
}

fn delete(id: &str, history_seq: u64) -> Body {
    Body::DeleteForAll(DeleteForAll { conversation_id: id.into(), history_seq })
}

fn edit(id: &str, history_seq: u64, content: &str) -> Body {
    edit_from(id, history_seq, content, None)
}

fn edit_from(id: &str, history_seq: u64, content: &str, base_revision: Option<u32>) -> Body {
    Body::Edit(Edit {
        conversation_id: id.into(),
        history_seq,
        content_type: "text/plain".into(),
        content: content.to_owned().into(),
        base_revision,
    })
}

fn cancel(client_message_id: u64) -> Body {
    Body::CancelSend(CancelSend { client_message_id })
}

/// The inbox_seq that a change was told at; 0 = nothing changed.
#[track_caller]
fn done(client: &mut Client, body: Body) -> u64 {
    expect!(Done, client.call(body)).inbox_seq
}

#[track_caller]
fn group(client: &mut Client, request: CreateGroup) -> String {
    expect!(GroupCreated, client.call(Body::CreateGroup(request))).conversation_id
}

/// A group of the owner and these; its creation is entry 1 of everybody's inbox.
#[track_caller]
fn group_of(client: &mut Client, users: &[&str]) -> String {
    let user_ids = users.iter().map(|user| (*user).to_owned()).collect();
    group(client, CreateGroup { client_request_id: 1000, user_ids, ..Default::default() })
}

#[track_caller]
fn add(client: &mut Client, id: &str, user: &str) {
    let request = AddMembers { conversation_id: id.into(), user_ids: vec![user.into()] };
    expect!(MemberItems, client.call(Body::AddMembers(request)));
}

#[track_caller]
fn remove(client: &mut Client, id: &str, user: &str) {
    let request = RemoveMembers { conversation_id: id.into(), user_ids: vec![user.into()] };
    expect!(MemberItems, client.call(Body::RemoveMembers(request)));
}

#[track_caller]
fn newest(client: &mut Client, id: &str) -> HistoryPage {
    client.history(id, Direction::Newest, 0, 200)
}

#[track_caller]
fn feed(client: &mut Client, id: &str, after_mutation_seq: u64, limit: u32) -> MutationPage {
    let request = FetchMutations { conversation_id: id.into(), after_mutation_seq, limit };
    expect!(MutationPage, client.call(Body::FetchMutations(request)))
}

#[track_caller]
fn fetch(client: &mut Client, refs: &[(&str, u64)]) -> Vec<MessageItem> {
    let refs = refs.iter().map(|(id, history_seq)| MessageRef {
        conversation_id: (*id).into(),
        history_seq: *history_seq,
    });
    let request = FetchMessages { refs: refs.collect() };
    expect!(MessageItems, client.call(Body::FetchMessages(request))).items
}

/// Sequence, state, revision and content.
fn shown(message: &Message) -> (u64, State, u32, String) {
    (message.history_seq, message.state(), message.revision, content(message))
}

fn all_shown(page: &HistoryPage) -> Vec<(u64, State, u32, String)> {
    page.messages.iter().map(shown).collect()
}

fn fed(page: &MutationPage) -> Vec<(u64, (u64, State, u32, String))> {
    let one = |mutation: &Message| shown(mutation);
    page.mutations.iter().map(|m| (m.mutation_seq, one(m.message.as_ref().unwrap()))).collect()
}

fn normal(seq: u64, revision: u32, text: &str) -> (u64, State, u32, String) {
    (seq, State::Normal, revision, text.into())
}

fn stub(seq: u64, state: State) -> (u64, State, u32, String) {
    (seq, state, 0, String::new())
}

#[track_caller]
fn entry(client: &Client, inbox_seq: u64) -> &Entry {
    let found = client.inbox.iter().find(|(seq, _)| *seq == inbox_seq);
    &found.unwrap_or_else(|| panic!("no entry {inbox_seq}: {:?}", client.inbox)).1
}
