//! What is shown of a message that was changed, on every path.

use super::*;

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
        assert_eq!(fetch(client, &[(id, 1)])[0].message.as_deref().unwrap(), message);
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
        let items: Vec<_> = items.iter().map(|item| item.message.as_deref().map(shown)).collect();
        assert_eq!(items, [None, Some(seen[0].clone())]);
        let page = feed(&mut alice, &id, 0, 0);
        let sequences: Vec<_> = fed(&page).iter().map(|(_, (seq, ..))| *seq).collect();
        assert_eq!((sequences, page.complete), (vec![5, 4], true));
    }
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
