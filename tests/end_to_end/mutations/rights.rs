//! Who may recall, edit and delete for all, and until when.

use super::*;

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
