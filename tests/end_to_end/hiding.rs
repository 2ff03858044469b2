//! What is not there any more for one user, and what that does to its numbers: messages deleted for
//! me, conversations cleared, messages recalled; and messages that name the user.

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        AddMembers, ClearConversation, ConversationCleared, ConversationUnread, CreateGroup,
        DeleteForMe, Direction, GetUnread, LeaveGroup, MarkRead, MessageHidden, MessageState,
        Recall, Send, client_frame::Body, entry::Kind,
    },
};

use crate::{
    expect,
    large::verify,
    support::{Client, Daemon, conversation, peer},
};

/// The inbox_seq of the entry a request made; 0 = none.
#[track_caller]
fn done(client: &mut Client, body: Body) -> u64 {
    expect!(Done, client.call(body)).inbox_seq
}

#[track_caller]
fn mark(client: &mut Client, id: &str, read_seq: u64) -> (u64, u64) {
    let request = MarkRead { conversation_id: id.into(), read_seq, peer_visible: false };
    let reply = expect!(MarkReadReply, client.call(Body::MarkRead(request)));
    (reply.read_seq, reply.unread)
}

fn hide(id: &str, history_seqs: &[u64]) -> Body {
    let history_seqs = history_seqs.to_vec();
    Body::DeleteForMe(DeleteForMe { conversation_id: id.into(), history_seqs })
}

fn clear(id: &str, to_seq: u64) -> Body {
    Body::ClearConversation(ClearConversation { conversation_id: id.into(), to_seq })
}

fn recall(id: &str, history_seq: u64) -> Body {
    Body::Recall(Recall { conversation_id: id.into(), history_seq })
}

/// Unread of one conversation, which must be what its own numbers say, and part of a total that is
/// the sum.
#[track_caller]
fn unread(client: &mut Client, id: &str) -> ConversationUnread {
    let request = GetUnread { conversation_ids: vec![id.into()], explain: true };
    let one = expect!(Unread, client.call(Body::GetUnread(request))).conversations.remove(0);
    assert_eq!(one.unread, one.last_ordinal - one.read_ordinal - one.removed);
    let all = expect!(Unread, client.call(Body::GetUnread(GetUnread::default())));
    assert_eq!(all.unread_total, all.conversations.iter().map(|one| one.unread).sum::<u64>());
    let listed: Vec<_> = client.recents();
    assert_eq!(all.unread_total, listed.iter().map(|one| one.unread).sum::<u64>());
    let view = listed.iter().find(|one| one.conversation_id == id).unwrap();
    assert_eq!((view.unread, view.unread_mentions), (one.unread, one.unread_mentions));
    one
}

fn states(client: &mut Client, id: &str) -> Vec<(u64, MessageState)> {
    let page = client.history(id, Direction::Newest, 0, 200);
    page.messages.iter().map(|message| (message.history_seq, message.state())).collect()
}

#[track_caller]
fn group(client: &mut Client, users: &[&str]) -> String {
    let user_ids = users.iter().map(|user| (*user).to_owned()).collect();
    let request = CreateGroup { client_request_id: 1000, user_ids, ..Default::default() };
    expect!(GroupCreated, client.call(Body::CreateGroup(request))).conversation_id
}

fn mentioning(id: &str, number: u64, users: &[&str], uncounted: bool) -> Body {
    Body::Send(Send {
        to: Some(conversation(id)),
        client_message_id: number,
        mentions: users.iter().map(|user| (*user).to_owned()).collect(),
        uncounted,
        ..Default::default()
    })
}

/// A daemon, bob's phone and laptop, alice's phone, and five messages from alice to bob.
fn story() -> (Daemon, Client, Client, Client, String) {
    let daemon = Daemon::start();
    let phone = daemon.login("bob", "phone");
    let laptop = daemon.login("bob", "laptop");
    let mut alice = daemon.login("alice", "phone");
    let id = alice.send_many(&peer("bob"), 1..=5)[0].conversation_id.clone();
    (daemon, phone, laptop, alice, id)
}

#[test]
fn deleted_for_me_is_gone_on_all_my_devices_and_nobody_elses() {
    let (mut daemon, mut phone, mut laptop, mut alice, id) = story();
    assert_eq!(done(&mut phone, hide(&id, &[4, 2, 2])), 6);
    laptop.synced(6);
    let told = MessageHidden { conversation_id: id.clone(), history_seqs: vec![2, 4] };
    let last = laptop.inbox.last().unwrap().1.kind.clone();
    assert_eq!(last, Some(Kind::Hidden(told)));
    let hidden = |client: &mut Client| {
        let states = states(client, &id).into_iter();
        states.filter(|(_, state)| *state == MessageState::Hidden).map(|(seq, _)| seq).collect()
    };
    let seqs: Vec<u64> = hidden(&mut laptop);
    assert_eq!(seqs, [2, 4]);
    let page = laptop.history(&id, Direction::Newest, 0, 200);
    assert!(page.messages[1].content.is_empty() && page.messages[3].content.is_empty());
    assert_eq!(hidden(&mut alice), [0u64; 0]);
    alice.settle();
    assert_eq!(alice.seq, 5, "alice is told nothing");
    // A repeat; one more beside those; what is not there.
    assert_eq!(done(&mut phone, hide(&id, &[2, 4])), 0);
    assert_eq!(done(&mut phone, hide(&id, &[6, 100])), 0);
    assert_eq!(done(&mut phone, hide(&id, &[1, 2, 99])), 7);
    laptop.synced(7);
    let told = MessageHidden { conversation_id: id.clone(), history_seqs: vec![1] };
    assert_eq!(laptop.inbox.last().unwrap().1.kind, Some(Kind::Hidden(told)));
    assert_eq!(phone.recents()[0].hidden_count, 3);
    phone.refused(ErrorCode::NotFound, hide("nowhere", &[1]));
    daemon.crash();
    let mut tablet = daemon.login("bob", "tablet");
    let seqs: Vec<u64> = hidden(&mut tablet);
    assert_eq!(seqs, [1, 2, 4]);
    let mut alice = daemon.login("alice", "tablet");
    assert_eq!(hidden(&mut alice), [0u64; 0]);
}

#[test]
fn what_is_hidden_or_recalled_is_not_unread_and_removed_says_so() {
    let (mut daemon, mut phone, _laptop, mut alice, id) = story();
    mark(&mut phone, &id, 1);
    phone.call(hide(&id, &[1, 2]));
    let one = unread(&mut phone, &id);
    assert_eq!((one.unread, one.last_ordinal, one.read_ordinal, one.removed), (3, 5, 1, 1));
    alice.call(recall(&id, 3));
    assert_eq!((unread(&mut phone, &id).unread, unread(&mut phone, &id).removed), (2, 2));
    // Both, in either order: once.
    alice.call(recall(&id, 2));
    phone.call(hide(&id, &[3]));
    assert_eq!((unread(&mut phone, &id).unread, unread(&mut phone, &id).removed), (2, 2));
    // Behind the marker nothing is removed any more.
    assert_eq!(mark(&mut phone, &id, 3), (3, 2));
    let one = unread(&mut phone, &id);
    assert_eq!((one.unread, one.last_ordinal, one.read_ordinal, one.removed), (2, 5, 3, 0));
    // The last one: the marker can still go there.
    alice.call(recall(&id, 5));
    assert_eq!((unread(&mut phone, &id).unread, unread(&mut phone, &id).removed), (1, 1));
    let at = phone.position();
    daemon.crash();
    let mut phone = daemon.resume("bob", "phone", at);
    assert_eq!(phone.welcome.unread_total, 1);
    assert_eq!(phone.caught_up().unread_total, 1);
    assert_eq!(unread(&mut phone, &id).removed, 1);
    assert_eq!(mark(&mut phone, &id, 5), (5, 0));
}

#[test]
fn uncounted_messages_are_not_removed_twice() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let id = group(&mut alice, &["bob"]);
    for number in 1..=4 {
        alice.call(mentioning(&id, number, &[], number % 2 == 0));
    }
    assert_eq!(unread(&mut bob, &id).unread, 2);
    bob.call(hide(&id, &[2]));
    alice.call(recall(&id, 4));
    assert_eq!((unread(&mut bob, &id).unread, unread(&mut bob, &id).removed), (2, 0));
    bob.call(hide(&id, &[1, 4]));
    assert_eq!((unread(&mut bob, &id).unread, unread(&mut bob, &id).removed), (1, 1));
}

#[test]
fn a_cleared_conversation_begins_after_what_was_cleared() {
    let (mut daemon, mut phone, mut laptop, mut alice, id) = story();
    let at = laptop.position();
    assert_eq!(done(&mut phone, clear(&id, 3)), 6);
    assert_eq!(done(&mut phone, clear(&id, 3)), 0, "a repeat");
    assert_eq!(done(&mut phone, clear(&id, 1)), 0, "never back");
    laptop.synced(6);
    let told = ConversationCleared { conversation_id: id.clone(), cleared_to_seq: 3 };
    assert_eq!(laptop.inbox.last().unwrap().1.kind, Some(Kind::Cleared(told)));
    let one = unread(&mut phone, &id);
    assert_eq!((one.unread, one.read_seq), (2, 3), "what is cleared is read");
    let seqs = |client: &mut Client| -> Vec<u64> {
        states(client, &id).into_iter().map(|(seq, _)| seq).collect()
    };
    assert_eq!(seqs(&mut phone), [4, 5]);
    assert_eq!(seqs(&mut alice), [1, 2, 3, 4, 5]);
    let view = phone.recents().remove(0);
    assert_eq!((view.visible_first_seq, view.visible_last_seq), (4, 5));
    // Entries of what was cleared come as stubs.
    drop(laptop);
    let mut laptop = daemon.resume("bob", "laptop", at);
    laptop.caught_up();
    let stubs: Vec<_> =
        laptop.messages().map(|message| (message.history_seq, message.state())).collect();
    let cleared = stubs.iter().filter(|(_, state)| *state == MessageState::Hidden).count();
    assert_eq!(cleared, stubs.iter().filter(|(seq, _)| *seq <= 3).count());

    assert_eq!(done(&mut phone, clear(&id, u64::MAX)), 7, "beyond the last is the last");
    let view = phone.recents().remove(0);
    assert!(view.last_message.is_none());
    assert_eq!((view.unread, view.read_seq), (0, 5));
    assert_eq!(seqs(&mut phone), [0u64; 0]);
    assert_eq!(done(&mut phone, hide(&id, &[2])), 0, "there is nothing to hide");
    daemon.crash();
    let mut phone = daemon.login("bob", "phone");
    assert_eq!(seqs(&mut phone), [0u64; 0]);
    let mut alice = daemon.login("alice", "tablet");
    alice.send(conversation(&id), 10, "new");
    assert_eq!(seqs(&mut phone), [6]);
    assert_eq!(unread(&mut phone, &id).unread, 1);
    phone.refused(ErrorCode::NotFound, clear("nowhere", 1));
}

#[test]
fn a_clear_behind_the_marker_leaves_it() {
    let (_daemon, mut phone, _laptop, _alice, id) = story();
    mark(&mut phone, &id, 4);
    phone.call(clear(&id, 2));
    let one = unread(&mut phone, &id);
    assert_eq!((one.unread, one.read_seq), (1, 4));
}

#[test]
fn whoever_has_left_may_hide_and_clear_what_it_sees() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let id = group(&mut alice, &["bob"]);
    alice.send_many(&conversation(&id), 1..=3);
    let leave = LeaveGroup { conversation_id: id.clone() };
    expect!(Done, bob.call(Body::LeaveGroup(leave)));
    alice.send_many(&conversation(&id), 4..=5);
    assert_eq!(done(&mut bob, hide(&id, &[4, 5])), 0, "these were never for bob");
    assert!(done(&mut bob, hide(&id, &[3])) > 0);
    assert_eq!((unread(&mut bob, &id).unread, unread(&mut bob, &id).removed), (2, 1));
    alice.call(recall(&id, 5));
    assert_eq!(unread(&mut bob, &id).removed, 1);
    alice.call(recall(&id, 1));
    assert_eq!((unread(&mut bob, &id).unread, unread(&mut bob, &id).removed), (1, 2));
    assert!(done(&mut bob, clear(&id, 100)) > 0);
    let one = unread(&mut bob, &id);
    assert_eq!((one.unread, one.read_seq, one.removed), (0, 3, 0), "no further than it may see");
}

#[test]
fn mentions_are_counted_apart() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let id = group(&mut alice, &["bob", "carol"]);
    alice.call(mentioning(&id, 1, &["bob", "bob", "alice"], false));
    alice.call(mentioning(&id, 2, &["carol", "nobody"], false));
    alice.call(mentioning(&id, 3, &["bob"], true));
    alice.call(mentioning(&id, 4, &["bob"], false));
    alice.call(mentioning(&id, 5, &["carol", "bob"], false));
    let mentions = |client: &mut Client| unread(client, &id).unread_mentions;
    let counts = |client: &mut Client| (unread(client, &id).unread, mentions(client));
    assert_eq!(counts(&mut bob), (4, 3), "not the uncounted one");
    assert_eq!(counts(&mut alice), (0, 0));
    bob.call(hide(&id, &[4]));
    assert_eq!(counts(&mut bob), (3, 2));
    alice.call(recall(&id, 5));
    assert_eq!(counts(&mut bob), (2, 1));
    let at = bob.position();
    daemon.crash();
    let mut bob = daemon.resume("bob", "phone", at);
    let state = bob.caught_up();
    assert_eq!(state.changed[0].unread_mentions, 1);
    assert_eq!(mark(&mut bob, &id, 1), (1, 1));
    assert_eq!(counts(&mut bob), (1, 0));
    let mut alice = daemon.login("alice", "tablet");
    alice.call(mentioning(&id, 6, &["bob"], false));
    assert_eq!(counts(&mut bob), (2, 1));
    // Whoever answers has read them.
    bob.send(conversation(&id), 1, "yes?");
    assert_eq!(counts(&mut bob), (0, 0));
    let mut carol = daemon.login("carol", "phone");
    assert_eq!(unread(&mut carol, &id).unread_mentions, 1, "5 was recalled");
    carol.call(clear(&id, 2));
    assert_eq!(unread(&mut carol, &id).unread_mentions, 0);
    // Somebody named before it joined is not named.
    alice.call(mentioning(&id, 7, &["dave"], false));
    let add = AddMembers { conversation_id: id.clone(), user_ids: vec!["dave".into()] };
    expect!(MemberItems, alice.call(Body::AddMembers(add)));
    let mut dave = daemon.login("dave", "phone");
    alice.call(mentioning(&id, 8, &["dave"], false));
    assert_eq!((unread(&mut dave, &id).unread, unread(&mut dave, &id).unread_mentions), (1, 1));
}

/// More than are dropped at once.
#[test]
fn very_many_mentions_go_with_the_marker() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let id = group(&mut alice, &["bob"]);
    let posted: Vec<u64> =
        (1..=600).map(|number| alice.post(mentioning(&id, number, &["bob"], false))).collect();
    posted.into_iter().for_each(|req_id| drop(alice.reply(req_id)));
    assert_eq!(unread(&mut bob, &id).unread_mentions, 600);
    for (read_seq, left) in [(10, 590), (590, 10), (599, 1), (600, 0)] {
        mark(&mut bob, &id, read_seq);
        assert_eq!(unread(&mut bob, &id).unread_mentions, left);
    }
    alice.call(mentioning(&id, 1001, &["bob"], false));
    assert_eq!(unread(&mut bob, &id).unread_mentions, 1);
}

/// Own state is a user's own, however its messages come to it.
#[test]
fn in_a_large_group_too() {
    let mut daemon = Daemon::with(&[("limits.fanout_members", "2")]);
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let mut laptop = daemon.login("bob", "laptop");
    let id = group(&mut alice, &["bob", "carol"]);
    alice.call(mentioning(&id, 1, &["bob"], false));
    alice.call(mentioning(&id, 2, &["bob", "carol"], false));
    alice.call(mentioning(&id, 3, &[], false));
    let counts = |client: &mut Client| {
        let one = unread(client, &id);
        (one.unread, one.unread_mentions)
    };
    assert_eq!(counts(&mut bob), (3, 2));
    let seq = done(&mut bob, hide(&id, &[2]));
    laptop.synced(seq);
    let told = MessageHidden { conversation_id: id.clone(), history_seqs: vec![2] };
    assert_eq!(laptop.inbox.last().unwrap().1.kind, Some(Kind::Hidden(told)));
    assert_eq!((counts(&mut bob), counts(&mut laptop)), ((2, 1), (2, 1)));
    assert_eq!(mark(&mut bob, &id, 1), (1, 1));
    assert_eq!(counts(&mut laptop), (1, 0));
    let seq = done(&mut laptop, clear(&id, 2));
    bob.synced(seq);
    assert_eq!(states(&mut bob, &id), [(3, MessageState::Normal)]);
    daemon.crash();
    let mut bob = daemon.login("bob", "phone");
    assert_eq!(counts(&mut bob), (1, 0));
    let mut carol = daemon.login("carol", "phone");
    assert_eq!(counts(&mut carol), (3, 1));
    verify(&mut daemon);
}

#[test]
fn unread_equals_a_count_by_hand_whatever_is_hidden_or_recalled() {
    count_by_hand("100", 54321);
}

#[test]
fn unread_equals_a_count_by_hand_in_a_large_group_too() {
    count_by_hand("2", 12345);
}

/// Against a count by hand, over a group and a direct conversation, with crashes in between.
fn count_by_hand(fanout_members: &str, seed: u64) {
    #[derive(Clone, Copy, Default)]
    struct Row {
        counted: bool,
        names: bool,
        gone: bool,
    }
    let mut daemon = Daemon::with(&[("limits.fanout_members", fanout_members)]);
    let mut bob = daemon.login("bob", "phone");
    let mut alice = daemon.login("alice", "phone");
    let direct = alice.send(peer("bob"), 1, "0").conversation_id;
    let ids = [group(&mut alice, &["bob", "carol"]), direct];
    let first = Row { counted: true, ..Row::default() };
    let mut model: Vec<(Vec<Row>, usize)> = vec![(Vec::new(), 0), (vec![first], 0)];
    let mut random = seed;
    let mut below = |most: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % most
    };
    for step in 2000..2240u64 {
        let place = below(2);
        let (id, (rows, read)) = (ids[place].as_str(), &mut model[place]);
        let at = below(rows.len() + 2);
        match below(10) {
            0 => {
                mark(&mut bob, id, at as u64);
                *read = (*read).max(at.min(rows.len()));
            }
            1 if below(4) == 0 => {
                bob.call(clear(id, at as u64));
                *read = (*read).max(at.min(rows.len()));
            }
            2 if below(3) == 0 => {
                bob.send(conversation(id), step, "own");
                rows.push(Row { counted: true, ..Row::default() });
                *read = rows.len();
            }
            3 | 4 => {
                bob.call(hide(id, &[at as u64 + 1]));
                rows.iter_mut().skip(at).take(1).for_each(|row| row.gone = true);
            }
            5 | 6 => {
                // Of bob's own ones nothing is unread anyway.
                alice.call(recall(id, at as u64 + 1));
                rows.iter_mut().skip(at).take(1).for_each(|row| row.gone = true);
            }
            _ => {
                let (uncounted, names) = (below(4) == 0, below(3) == 0);
                let users: &[&str] = if names { &["bob"] } else { &[] };
                expect!(SendAck, alice.call(mentioning(id, step, users, uncounted)));
                let names = names && !uncounted;
                rows.push(Row { counted: !uncounted, names, ..Row::default() });
            }
        }
        if step % 80 == 0 {
            daemon.crash();
            bob = daemon.login("bob", "phone");
            alice = daemon.login("alice", "phone");
        }
        for (id, (rows, read)) in ids.iter().zip(&model) {
            let unread_rows: Vec<&Row> =
                rows[*read..].iter().filter(|row| row.counted && !row.gone).collect();
            let named = unread_rows.iter().filter(|row| row.names).count();
            let told = unread(&mut bob, id);
            let told = (told.unread as usize, told.unread_mentions as usize);
            assert_eq!(told, (unread_rows.len(), named), "step {step} {id}");
        }
    }
    verify(&mut daemon);
}
