//! Large groups at their size: ten thousand members, and a group that goes over the limit and back
//! under traffic. Over real sockets, with the shipped daemon.
//!
//! ```text
//! cargo test --test large_group -- --nocapture
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod convert;
mod cost;
mod ten_thousand;

use std::sync::{Mutex, MutexGuard, PoisonError};

use roamd::wire::proto::{AddMembers, CreateGroup, client_frame::Body};

use support::{Client, Daemon};

/// One test at a time: each has the machine for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a group of the caller and these users, by as many calls as it takes.
#[track_caller]
fn group(owner: &mut Client, number: u64, users: &[String]) -> String {
    let (first, others) = users.split_at(users.len().min(1000));
    let request =
        CreateGroup { client_request_id: number, user_ids: first.to_vec(), ..Default::default() };
    let created = expect!(GroupCreated, owner.call(Body::CreateGroup(request)));
    let id = created.conversation_id;
    for users in others.chunks(1000) {
        let request = AddMembers { conversation_id: id.clone(), user_ids: users.to_vec() };
        expect!(MemberItems, owner.call(Body::AddMembers(request)));
    }
    id
}

/// The daemon ends, and its data are whole.
#[track_caller]
fn verify(daemon: &mut Daemon) {
    daemon.terminate();
    assert!(daemon.ended().success());
    let output = daemon.run(&["store", "verify"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
