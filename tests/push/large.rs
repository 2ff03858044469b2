//! Large conversations: who is named is told at once, the others once in a while.

use roamd::wire::proto::{CreateGroup, client_frame::Body};

use crate::{expect, support::Client};

/// A group of the caller and these users; returns its id.
#[track_caller]
pub(crate) fn group(client: &mut Client, number: u64, users: &[&str]) -> String {
    let request = CreateGroup {
        client_request_id: number,
        title: "t".into(),
        user_ids: users.iter().map(|user| (*user).to_owned()).collect(),
        ..CreateGroup::default()
    };
    expect!(GroupCreated, client.call(Body::CreateGroup(request))).conversation_id
}
