//! Messages that are changed for everybody: recalled, edited, deleted; and the feed that tells it.

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

/// Nothing of a recalled message but its envelope is left, on any path.
#[test]
fn a_recall_takes_the_content_back_on_every_path() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let send = Send {
        to: Some(peer("bob")),
        client_message_id: 1,
        content_type: "text/plain".into(),
        content: "secret".into(),
        mentions: vec!["bob".into()],
        ..Send::default()
    };
    let sent = expect!(SendAck, alice.call(Body::Send(send)));
    let id = sent.conversation_id.as_str();
    bob.synced(1);
    assert_eq!(bob.texts(), ["secret"]);

    let told = done(&mut alice, recall(id, 1));
    assert_eq!(told, 2);
    for client in [&mut alice, &mut bob] {
        client.synced(2);
        let Some(Kind::Recalled(recalled)) = &entry(client, 2).kind else { panic!() };
        assert_eq!((recalled.conversation_id.as_str(), recalled.history_seq), (id, 1));
        assert_eq!((recalled.by.as_str(), recalled.mutation_seq), ("alice", 1));
        let page = newest(client, id);
        let message = &page.messages[0];
        assert_eq!(message.state(), State::Recalled);
        assert_eq!((message.message_id, message.sender.as_str()), (sent.message_id, "alice"));
        assert_eq!(message.time_ms, sent.time_ms);
        assert!(message.content.is_empty() && message.content_type.is_empty());
        assert!(message.mentions.is_empty());
        assert_eq!(page.mutation_seq, 1);
        let known = &client.recents()[0];
        assert_eq!(known.mutation_seq, 1);
        assert_eq!(shown(known.last_message.as_ref().unwrap()), stub(1, State::Recalled));
        assert_eq!(fetch(client, &[(id, 1)])[0].message.as_ref().unwrap(), message);
        let page = feed(client, id, 0, 0);
        assert_eq!(page.mutations[0].message.as_ref().unwrap(), message);
        assert!(page.complete);
        assert_eq!(client.unread_total(), 0);
    }
    // Repeats are harmless, and nobody is told twice.
    assert_eq!(done(&mut alice, recall(id, 1)), 0);
    bob.settle();
    assert_eq!(bob.seq, 2);
    // A retry of the send is still the same message.
    assert_eq!(alice.send(conversation(id), 2, "next").history_seq, 2);
}

/// Late binding: what a device that was away gets is how things are when it comes back.
#[test]
fn a_device_that_was_away_gets_the_stub_and_the_edited_content() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let bob = daemon.login("bob", "phone");
    let at = bob.bye();
    let sent = alice.send(peer("bob"), 1, "secret");
    let id = sent.conversation_id.as_str();
    alice.send(peer("bob"), 2, "draft");
    done(&mut alice, recall(id, 1));
    done(&mut alice, edit(id, 2, "final"));
    for crash in [false, true] {
        if crash {
            daemon.crash();
        }
        let mut bob = daemon.resume("bob", "phone", at);
        assert_eq!(bob.caught_up().unread_total, 1);
        let messages: Vec<_> = bob.messages().map(shown).collect();
        assert_eq!(messages, [stub(1, State::Recalled), normal(2, 1, "final")]);
        assert!(matches!(&entry(&bob, 3).kind, Some(Kind::Recalled(it)) if it.history_seq == 1));
        let Some(Kind::Edited(edited)) = &entry(&bob, 4).kind else { panic!() };
        assert_eq!(edited.mutation_seq, 2);
        let message = edited.message.as_ref().unwrap();
        assert_eq!(shown(message), normal(2, 1, "final"));
        assert_ne!(message.edited_at_ms, 0);
        let all = format!("{:?}", bob.inbox);
        assert!(!all.contains("secret") && !all.contains("draft"), "{all}");
    }
}

#[test]
fn who_may_recall_and_who_cannot_even_tell_that_there_is_something() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let mut carol = daemon.login("carol", "phone");
    let mut dave = daemon.login("dave", "phone");
    let mut eve = daemon.login("eve", "phone");
    let id = group_of(&mut alice, &["bob", "carol", "dave"]);
    for number in 1..=3 {
        bob.send(conversation(&id), number, "from bob");
    }
    alice.send(conversation(&id), 1, "from alice");
    remove(&mut alice, &id, "dave");
    add(&mut alice, &id, "eve");

    carol.refused(ErrorCode::Forbidden, recall(&id, 1));
    bob.refused(ErrorCode::Forbidden, recall(&id, 4));
    // Removed, not there yet when it was written, and no such message: all the same.
    let missing = bob.refused(ErrorCode::NotFound, recall(&id, 5));
    for nobody in [&mut dave, &mut eve] {
        for body in [recall(&id, 1), edit(&id, 1, "mine"), delete(&id, 1)] {
            assert_eq!(nobody.refused(ErrorCode::NotFound, body), missing);
        }
    }
    let mut stranger = daemon.login("mallory", "phone");
    assert_eq!(stranger.refused(ErrorCode::NotFound, recall(&id, 1)), missing);
    assert_eq!(stranger.refused(ErrorCode::NotFound, recall("nowhere", 1)), missing);

    let by_sender = done(&mut bob, recall(&id, 1));
    let by_owner = done(&mut alice, recall(&id, 2));
    assert!(by_sender > 0 && by_owner > 0);
    for client in [&mut alice, &mut bob, &mut carol] {
        client.settle();
        let recalled = client.inbox.iter().filter_map(|(_, entry)| match &entry.kind {
            Some(Kind::Recalled(it)) => Some((it.history_seq, it.by.clone(), it.mutation_seq)),
            _ => None,
        });
        let recalled: Vec<_> = recalled.collect();
        assert_eq!(recalled, [(1, "bob".into(), 1), (2, "alice".into(), 2)]);
    }
    // Whoever cannot see the message is not told of it either.
    for client in [&mut dave, &mut eve] {
        client.settle();
        let told = |(_, entry): &(u64, Entry)| matches!(entry.kind, Some(Kind::Recalled(_)));
        assert!(!client.inbox.iter().any(told), "{:?}", client.inbox);
    }
}

#[test]
fn admins_recall_and_delete_and_a_disbanded_group_stays_as_it_is() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let mut carol = daemon.login("carol", "phone");
    let id = group_of(&mut alice, &["bob", "carol"]);
    alice.send_many(&conversation(&id), 1..=4);
    let role =
        SetRole { conversation_id: id.clone(), user_id: "bob".into(), role: Role::Admin.into() };
    done(&mut alice, Body::SetRole(role));
    assert_ne!(done(&mut bob, recall(&id, 1)), 0);
    assert_ne!(done(&mut bob, delete(&id, 2)), 0);
    bob.refused(ErrorCode::Forbidden, edit(&id, 3, "not mine"));
    let shown = all_shown(&newest(&mut carol, &id));
    let expected =
        [stub(1, State::Recalled), stub(2, State::Deleted), normal(3, 0, "3"), normal(4, 0, "4")];
    assert_eq!(shown, expected);
    done(&mut alice, Body::DisbandGroup(DisbandGroup { conversation_id: id.clone() }));
    for seq in [1, 3] {
        for body in [recall(&id, seq), edit(&id, seq, "late"), delete(&id, seq)] {
            alice.refused(ErrorCode::Gone, body);
        }
    }
    carol.refused(ErrorCode::Gone, recall(&id, 3));
    let mut stranger = daemon.login("mallory", "phone");
    stranger.refused(ErrorCode::NotFound, recall(&id, 3));
    assert_eq!(all_shown(&newest(&mut carol, &id)), expected);
    assert_eq!(feed(&mut carol, &id, 0, 0).mutations.len(), 2);
}

/// What a user has hidden stays hidden from it, whatever is done to it for everybody.
#[test]
fn a_hidden_message_shows_nothing_of_its_changes() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let bob = daemon.login("bob", "phone");
    let at = bob.bye();
    let id = alice.send(peer("bob"), 1, "1").conversation_id;
    alice.send_many(&conversation(&id), 2..=4);
    let mut bob = daemon.login("bob", "tablet");
    let hide = DeleteForMe { conversation_id: id.clone(), history_seqs: vec![1, 2] };
    done(&mut bob, Body::DeleteForMe(hide));
    let clear = ClearConversation { conversation_id: id.clone(), to_seq: 3 };
    done(&mut alice, Body::ClearConversation(clear));
    alice.refused(ErrorCode::NotFound, edit(&id, 3, "cleared away"));
    let mut phone = daemon.login("bob", "phone");
    phone.send(conversation(&id), 1, "5");
    for seq in [1, 2, 5] {
        phone.post(edit(&id, seq, "edited"));
    }
    assert_ne!(done(&mut phone, edit(&id, 5, "edited again")), 0);
    let hide = DeleteForMe { conversation_id: id.clone(), history_seqs: vec![5] };
    done(&mut phone, Body::DeleteForMe(hide));
    let mut alice = daemon.login("alice", "laptop");
    assert_ne!(done(&mut alice, edit(&id, 4, "4a")), 0);
    for crash in [false, true] {
        if crash {
            daemon.crash();
        }
        let mut bob = daemon.resume("bob", "phone", at);
        bob.caught_up();
        let seen: Vec<_> = bob.messages().map(shown).collect();
        let hidden = |seq| stub(seq, State::Hidden);
        let expected = [hidden(1), hidden(2), normal(3, 0, "3"), normal(4, 1, "4a"), hidden(5)];
        assert_eq!(seen, expected);
        let edited = bob.inbox.iter().filter_map(|(_, entry)| match &entry.kind {
            Some(Kind::Edited(it)) => it.message.as_ref().map(shown),
            _ => None,
        });
        let edited: Vec<_> = edited.collect();
        assert_eq!(edited, [hidden(5), hidden(5), normal(4, 1, "4a")]);
        assert_eq!(all_shown(&newest(&mut bob, &id)), expected);
        // What alice has cleared is not in her pages, and a stub in her stream.
        let mut alice = daemon.login("alice", "phone");
        let seen = [normal(4, 1, "4a"), normal(5, 2, "edited again")];
        assert_eq!(all_shown(&newest(&mut alice, &id)), seen);
        let items = fetch(&mut alice, &[(&id, 3), (&id, 4)]);
        let items: Vec<_> = items.iter().map(|item| item.message.as_ref().map(shown)).collect();
        assert_eq!(items, [None, Some(seen[0].clone())]);
        let page = feed(&mut alice, &id, 0, 0);
        let sequences: Vec<_> = fed(&page).iter().map(|(_, (seq, ..))| *seq).collect();
        assert_eq!((sequences, page.complete), (vec![5, 4], true));
    }
}

#[test]
fn windows_close_for_senders_and_not_for_the_owner() {
    let daemon = Daemon::with(&[("limits.recall_window", "0s"), ("limits.edit_window", "0s")]);
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let id = group_of(&mut alice, &["bob"]);
    bob.send(conversation(&id), 1, "one");
    bob.refused(ErrorCode::WindowClosed, recall(&id, 1));
    bob.refused(ErrorCode::WindowClosed, edit(&id, 1, "two"));
    bob.refused(ErrorCode::WindowClosed, cancel(1));
    assert_ne!(done(&mut alice, recall(&id, 1)), 0);
    // What is gone is gone, whenever it is asked for.
    assert_eq!(done(&mut bob, recall(&id, 1)), 0);
    assert_eq!(done(&mut bob, cancel(1)), 0);
    assert_eq!(all_shown(&newest(&mut bob, &id)), [stub(1, State::Recalled)]);
}

#[test]
fn edits_have_revisions() {
    let daemon = Daemon::with(&[("limits.content_bytes", "100B")]);
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let id = group_of(&mut alice, &["bob"]);
    let sent = bob.send(conversation(&id), 1, "zero");
    alice.refused(ErrorCode::Forbidden, edit(&id, 1, "by the owner"));
    assert_ne!(done(&mut bob, edit_from(&id, 1, "one", Some(0))), 0);
    let conflict = bob.refused(ErrorCode::Conflict, edit_from(&id, 1, "two", Some(0)));
    assert!(conflict.detail.contains("revision is 1"), "{}", conflict.detail);
    // The same edit again is no other edit, whatever it was based on.
    assert_eq!(done(&mut bob, edit_from(&id, 1, "one", Some(0))), 0);
    assert_ne!(done(&mut bob, edit(&id, 1, "two")), 0);
    let large = "x".repeat(101);
    bob.refused(ErrorCode::ContentTooLarge, edit(&id, 1, &large));
    alice.settle();
    let page = newest(&mut alice, &id);
    assert_eq!(all_shown(&page), [normal(1, 2, "two")]);
    let message = &page.messages[0];
    assert_eq!((message.time_ms, message.message_id), (sent.time_ms, sent.message_id));
    assert!(message.edited_at_ms >= message.time_ms);
    // Each entry shows the message as it is when the entry is read.
    let revisions = alice.inbox.iter().filter_map(|(_, entry)| match &entry.kind {
        Some(Kind::Edited(it)) => Some((it.mutation_seq, it.message.as_ref()?.revision)),
        _ => None,
    });
    let revisions: Vec<_> = revisions.collect();
    assert_eq!(revisions.iter().map(|(mutation, _)| *mutation).collect::<Vec<_>>(), [1, 2]);
    assert!(revisions.iter().all(|(mutation, revision)| u64::from(*revision) >= *mutation));
    // An edit back to the first content is an edit.
    assert_ne!(done(&mut bob, edit(&id, 1, "zero")), 0);
    assert_eq!(all_shown(&newest(&mut alice, &id)), [normal(1, 3, "zero")]);

    done(&mut alice, delete(&id, 1));
    bob.refused(ErrorCode::Gone, edit(&id, 1, "three"));
}

#[test]
fn the_owner_deletes_for_all() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let id = group_of(&mut alice, &["bob", "carol"]);
    bob.send(conversation(&id), 1, "rude");
    bob.refused(ErrorCode::Forbidden, delete(&id, 1));
    let told = done(&mut alice, delete(&id, 1));
    bob.synced(told);
    let Some(Kind::Deleted(deleted)) = &entry(&bob, told).kind else { panic!() };
    assert_eq!((deleted.history_seq, deleted.by.as_str(), deleted.mutation_seq), (1, "alice", 1));
    assert_eq!(all_shown(&newest(&mut bob, &id)), [stub(1, State::Deleted)]);
    for again in [delete(&id, 1), recall(&id, 1)] {
        assert_eq!(done(&mut alice, again), 0);
    }
    assert_eq!(done(&mut bob, recall(&id, 1)), 0);
    assert_eq!(feed(&mut bob, &id, 0, 0).last_mutation_seq, 1);
    assert_eq!(all_shown(&newest(&mut bob, &id)), [stub(1, State::Deleted)]);

    let direct = bob.send(peer("alice"), 2, "between us").conversation_id;
    bob.refused(ErrorCode::Forbidden, delete(&direct, 1));
    alice.refused(ErrorCode::Forbidden, delete(&direct, 1));
}

/// Each changed message comes at its latest change; pages follow each other without a gap.
#[test]
fn the_feed_tells_what_changed_page_by_page() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let id = alice.send(peer("bob"), 1, "1").conversation_id;
    alice.send_many(&conversation(&id), 2..=6);
    assert_eq!(
        (feed(&mut alice, &id, 0, 0).complete, newest(&mut alice, &id).mutation_seq),
        (true, 0)
    );
    done(&mut alice, edit(&id, 2, "2a"));
    done(&mut alice, recall(&id, 5));
    done(&mut alice, edit(&id, 2, "2b"));
    done(&mut alice, edit(&id, 6, "6a"));
    done(&mut alice, recall(&id, 1));
    let whole = [
        (2, stub(5, State::Recalled)),
        (3, normal(2, 2, "2b")),
        (4, normal(6, 1, "6a")),
        (5, stub(1, State::Recalled)),
    ];
    for crash in [false, true] {
        if crash {
            daemon.crash();
        }
        for user in ["alice", "bob"] {
            let mut client = daemon.login(user, "tablet");
            let page = feed(&mut client, &id, 0, 0);
            assert_eq!(fed(&page), whole);
            assert_eq!((page.last_mutation_seq, page.complete), (5, true));
            let mut one_by_one = Vec::new();
            let mut after = 0;
            loop {
                let page = feed(&mut client, &id, after, 1);
                assert!(page.mutations.len() <= 1 && page.last_mutation_seq > after);
                one_by_one.extend(fed(&page));
                after = page.last_mutation_seq;
                if page.complete {
                    break;
                }
            }
            assert_eq!(after, 5);
            assert_eq!(one_by_one, whole);
            let rest = feed(&mut client, &id, 3, 0);
            assert_eq!(fed(&rest), whole[2..]);
            let nothing = feed(&mut client, &id, 5, 0);
            assert_eq!((fed(&nothing), nothing.complete), (vec![], true));
            assert_eq!(newest(&mut client, &id).mutation_seq, 5);
        }
    }
    let mut eve = daemon.login("eve", "phone");
    let request = |conversation_id: &str| {
        let conversation_id = conversation_id.into();
        Body::FetchMutations(FetchMutations { conversation_id, ..Default::default() })
    };
    let theirs = eve.refused(ErrorCode::NotFound, request(&id));
    assert_eq!(theirs, eve.refused(ErrorCode::NotFound, request("nowhere")));
}

/// A member sees changes of rows that it sees, and of no others.
#[test]
fn a_late_member_learns_nothing_of_changes_from_before() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let id = group_of(&mut alice, &["bob"]);
    alice.send_many(&conversation(&id), 1..=2);
    add(&mut alice, &id, "carol");
    alice.send_many(&conversation(&id), 3..=4);
    done(&mut alice, recall(&id, 1));
    done(&mut alice, edit(&id, 2, "2a"));
    done(&mut alice, edit(&id, 3, "3a"));
    let mut carol = daemon.login("carol", "phone");
    let page = feed(&mut carol, &id, 0, 0);
    assert_eq!((fed(&page), page.complete), (vec![(3, normal(3, 1, "3a"))], true));
    let items = fetch(&mut carol, &[(&id, 1), (&id, 3), (&id, 2), (&id, 5), ("nowhere", 1)]);
    let items: Vec<_> = items.iter().map(|item| item.message.as_ref().map(shown)).collect();
    assert_eq!(items, [None, Some(normal(3, 1, "3a")), None, None, None]);
}

/// Whoever has left keeps what it could see then: later edits are not for it, recalls are.
#[test]
fn who_has_left_sees_recalls_and_no_later_edits() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let bob = daemon.login("bob", "phone");
    let at = bob.bye();
    let id = group_of(&mut alice, &["bob"]);
    alice.send_many(&conversation(&id), 1..=4);
    done(&mut alice, edit(&id, 1, "1a"));
    done(&mut alice, edit(&id, 1, "1b"));
    remove(&mut alice, &id, "bob");
    alice.send(conversation(&id), 5, "5");
    done(&mut alice, edit(&id, 1, "1c"));
    done(&mut alice, edit(&id, 2, "2a"));
    done(&mut alice, recall(&id, 3));
    done(&mut alice, edit(&id, 4, "4a"));
    done(&mut alice, recall(&id, 4));
    done(&mut alice, recall(&id, 5));
    let then =
        [normal(1, 2, "1b"), normal(2, 0, "2"), stub(3, State::Recalled), stub(4, State::Recalled)];
    for crash in [false, true] {
        if crash {
            daemon.crash();
        }
        let mut bob = daemon.resume("bob", "phone", at);
        bob.caught_up();
        assert_eq!(bob.messages().map(shown).collect::<Vec<_>>(), then);
        let page = newest(&mut bob, &id);
        assert_eq!(all_shown(&page), then);
        assert_eq!(page.mutation_seq, 2);
        let known = &bob.recents()[0];
        assert_eq!(known.mutation_seq, 2);
        assert_eq!(shown(known.last_message.as_ref().unwrap()), then[3]);
        let page = feed(&mut bob, &id, 0, 0);
        assert_eq!(fed(&page), [(2, normal(1, 2, "1b"))]);
        assert_eq!((page.last_mutation_seq, page.complete), (2, true));
        let items = fetch(&mut bob, &[(&id, 1), (&id, 4), (&id, 5)]);
        let items: Vec<_> = items.iter().map(|item| item.message.as_ref().map(shown)).collect();
        assert_eq!(items, [Some(then[0].clone()), Some(then[3].clone()), None]);
        let told = |(_, entry): &(u64, Entry)| {
            matches!(entry.kind, Some(Kind::Recalled(_) | Kind::Deleted(_)))
        };
        assert!(!bob.inbox.iter().any(told), "{:?}", bob.inbox);
    }
    // A member again, it sees its rows as they are now.
    let mut alice = daemon.login("alice", "laptop");
    add(&mut alice, &id, "bob");
    let mut bob = daemon.login("bob", "phone");
    let old = bob.history(&id, Direction::Older, 5, 10);
    assert_eq!(all_shown(&old)[..2], [normal(1, 3, "1c"), normal(2, 1, "2a")]);
    assert_eq!(feed(&mut bob, &id, 0, 0).mutations.len(), 4);
}

/// A policy that shows earlier messages tells their changes as well.
#[test]
fn members_with_the_full_history_are_told_of_changes_in_it() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let request = CreateGroup {
        client_request_id: 1,
        history_policy: HistoryPolicy::Full.into(),
        ..Default::default()
    };
    let id = group(&mut alice, request);
    alice.send(conversation(&id), 2, "early");
    add(&mut alice, &id, "carol");
    let mut carol = daemon.login("carol", "phone");
    let at = carol.seq;
    assert_ne!(done(&mut alice, edit(&id, 1, "late")), 0);
    carol.synced(at + 1);
    let Some(Kind::Edited(edited)) = &entry(&carol, at + 1).kind else { panic!() };
    assert_eq!(shown(edited.message.as_ref().unwrap()), normal(1, 1, "late"));
    let leave = LeaveGroup { conversation_id: id.clone() };
    expect!(Done, carol.call(Body::LeaveGroup(leave)));
}

#[test]
fn a_cancelled_send_is_not_there_whether_it_was_sent_or_not() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let sent = alice.send(peer("bob"), 5, "too fast");
    let id = sent.conversation_id.as_str();
    assert_eq!(done(&mut alice, cancel(5)), 2);
    assert_eq!(all_shown(&newest(&mut alice, id)), [stub(1, State::Recalled)]);
    // Never sent: above everything sent before, and below.
    for unsent in [9, 3] {
        assert_eq!(done(&mut alice, cancel(unsent)), 0);
    }
    for crash in [false, true] {
        if crash {
            daemon.crash();
            alice = daemon.login("alice", "laptop");
            assert_eq!(alice.welcome.last_client_message_id, 9);
        }
        for number in [3, 5, 9] {
            assert_eq!(done(&mut alice, cancel(number)), 0);
        }
        for unsent in [3, 9] {
            alice.refused(ErrorCode::Gone, text(peer("bob"), unsent, "late after all"));
        }
        // What was sent was sent: a retry is answered as before.
        assert!(alice.send(peer("bob"), 5, "too fast").duplicate);
    }
    assert_eq!(alice.send(peer("bob"), 10, "new").history_seq, 2);
    // Ids are a device's own.
    let mut other = daemon.login("alice", "phone");
    assert_eq!(other.send(peer("bob"), 9, "another").history_seq, 3);
    // What made no message cannot be taken back.
    let id = group_of(&mut alice, &["bob"]);
    assert!(!id.is_empty());
    alice.refused(ErrorCode::IdempotencyConflict, cancel(1000));
}

/// Unread counts what is there: a recalled message is not, an edited one is counted once.
#[test]
fn unread_is_less_by_what_is_gone() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let id = alice.send(peer("bob"), 1, "1").conversation_id;
    alice.send_many(&conversation(&id), 2..=4);
    let quiet = Send {
        to: Some(conversation(&id)),
        client_message_id: 5,
        uncounted: true,
        ..Send::default()
    };
    expect!(SendAck, alice.call(Body::Send(quiet)));
    for seq in [2, 5] {
        done(&mut alice, recall(&id, seq));
    }
    done(&mut alice, edit(&id, 3, "3a"));
    for crash in [false, true] {
        if crash {
            daemon.crash();
        }
        assert_eq!(daemon.login("bob", "phone").unread_total(), 3);
    }
}

/// What an operator sees of a stopped daemon's data.
#[test]
fn the_store_is_sound_and_its_history_tells_what_became_of_messages() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let id = group_of(&mut alice, &["bob"]);
    alice.send_many(&conversation(&id), 1..=4);
    done(&mut alice, edit(&id, 1, "first"));
    done(&mut alice, edit(&id, 1, "first of all"));
    done(&mut alice, recall(&id, 2));
    done(&mut alice, delete(&id, 3));
    daemon.terminate();
    assert!(daemon.ended().success());
    let verified = daemon.run(&["store", "verify"]);
    let text = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success() && text.contains("4 changes"), "{text}");
    let history = daemon.run(&["store", "history", &id]);
    let text = String::from_utf8_lossy(&history.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].contains("text/plain first of all revision 2 at "), "{text}");
    assert!(lines[2].contains("alice recalled by alice at "), "{text}");
    assert!(lines[3].contains("alice deleted by alice at "), "{text}");
    assert!(lines[4].ends_with("text/plain 4"), "{text}");
}
