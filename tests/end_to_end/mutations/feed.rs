//! The feed of changes: who is told of which.

use super::*;

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
    let items: Vec<_> = items.iter().map(|item| item.message.as_deref().map(shown)).collect();
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
        let items: Vec<_> = items.iter().map(|item| item.message.as_deref().map(shown)).collect();
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
