//! Large groups: messages that go to no inbox, and reach every device once and in order.

use roamd::wire::proto::{
    ClientLimits, ConversationPush, CreateGroup, Direction, Edit, FetchMutations, GetUnread, Hello,
    HistoryPolicy, MarkRead, MembershipAction as Action, MessageState as State, ModeChange, Recall,
    Role, SetTitle, client_frame::Body, entry::Kind,
};

use crate::{
    expect,
    groups::{add, create, created, leave_body, outcomes, remove, told},
    support::{
        Client, Daemon,
        client::{Came, content},
        conversation,
        follow::Copy,
        peer, text,
    },
};

const USERS: [&str; 8] = ["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7"];

/// Groups of more than five are large.
fn daemon() -> Daemon {
    Daemon::with(&[("limits.fanout_members", "5")])
}

/// The daemon's own look at everything it has written.
#[track_caller]
pub fn verify(daemon: &mut Daemon) {
    daemon.terminate();
    assert!(daemon.ended().success());
    let output = daemon.run(&["store", "verify"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// A group of the first `count` users, made by u0; and that many online.
#[track_caller]
fn group(daemon: &Daemon, count: usize) -> (Vec<Client>, String) {
    let mut online: Vec<_> =
        USERS[..count].iter().map(|user| daemon.login(user, "phone")).collect();
    let id = created(&mut online[0], create(1, &USERS[1..count])).conversation_id;
    online.iter_mut().for_each(Client::settle);
    (online, id)
}

/// Every change of mode that has come by the inbox.
fn modes(client: &Client) -> Vec<(bool, u64)> {
    let modes = client.inbox.iter().filter_map(|(_, entry)| match &entry.kind {
        Some(Kind::Mode(ModeChange { large, history_seq, .. })) => Some((*large, *history_seq)),
        _ => None,
    });
    modes.collect()
}

/// Waits for so many pieces of news, and says what they are.
#[track_caller]
fn news(client: &mut Client, count: usize) -> Vec<ConversationPush> {
    client.wait("news", |client| {
        let news = client.came.iter().filter(|came| matches!(came, Came::News(_))).count();
        (news >= count).then_some(())
    });
    client.settle();
    client.news()
}

/// Number, content and the one before, of new messages.
fn messages(news: &[ConversationPush]) -> Vec<(u64, String, u64)> {
    let of = |news: &ConversationPush| {
        let message = news.message.as_ref().filter(|_| news.mutation_seq == 0)?;
        Some((message.history_seq, content(message), news.prev_history_seq))
    };
    news.iter().filter_map(of).collect()
}

#[test]
fn a_group_becomes_large_and_small_again() {
    let mut daemon = daemon();
    let (mut online, id) = group(&daemon, 5);
    let to = conversation(&id);
    let known = &online[1].recents()[0];
    assert!(!known.large);
    let ack = online[0].send(to.clone(), 2, "small");
    assert_eq!((ack.history_seq, ack.inbox_seq), (1, 2));

    assert_eq!(add(&mut online[0], &id, &["u5"]).member_count, 6);
    let mut tablet = daemon.login("u0", "tablet");
    online.push(daemon.login("u5", "phone"));
    let heads: Vec<u64> = online
        .iter_mut()
        .map(|client| {
            client.settle();
            client.news();
            client.seq
        })
        .collect();
    assert_eq!(heads, [4, 4, 4, 4, 4, 2]);
    for client in &online[..5] {
        // First who is in it, then what follows from that.
        assert_eq!(modes(client), [(true, 2)]);
        assert!(matches!(client.inbox.last().unwrap().1.kind, Some(Kind::Mode(_))));
    }
    let known = &online[1].recents()[0];
    assert!(known.large);

    for number in 3..=5 {
        let ack = online[0].send(to.clone(), number, &number.to_string());
        assert_eq!((ack.history_seq, ack.inbox_seq), (number - 1, 0), "no entry of one's own");
    }
    let expected =
        [(2, "3".to_owned(), 1), (3, "4".to_owned(), 2), (4, "5".to_owned(), 3)].to_vec();
    for client in online.iter_mut().chain([&mut tablet]) {
        assert_eq!(messages(&news(client, 3)), expected);
    }
    for (client, head) in online.iter_mut().zip(heads) {
        assert_eq!(client.seq, head, "no entries");
    }
    assert_eq!(online[1].unread_total(), 4);
    assert_eq!(online[5].unread_total(), 3);
    assert_eq!(online[0].unread_total(), 0);

    remove(&mut online[0], &id, &["u5"]);
    let ack = online[0].send(to, 6, "small again");
    assert_eq!((ack.history_seq, ack.inbox_seq), (5, 7));
    for client in &mut online[..5] {
        client.synced(7);
        client.settle();
        assert_eq!(modes(client), [(true, 2), (false, 5)]);
        assert_eq!(client.texts().last().unwrap(), "small again");
        assert!(client.news().is_empty());
    }
    assert_eq!(told(&mut online[5]).action(), Action::Removed);
    assert!(modes(&online[5]).is_empty(), "it came when the group was large, and went");
    assert_eq!(online[5].unread_total(), 3);
    verify(&mut daemon);
}

#[test]
fn a_group_may_be_made_large() {
    let mut daemon = daemon();
    let (mut online, id) = group(&daemon, 6);
    for client in &online {
        assert_eq!((client.seq, modes(client)), (2, vec![(true, 1)]));
    }
    // The retry of a message is the same message, across a crash.
    let ack = online[2].send(conversation(&id), 1, "x");
    let at = online[2].position();
    daemon.crash();
    let mut again = daemon.resume("u2", "phone", at);
    let repeated = again.send(conversation(&id), 1, "x");
    assert!(repeated.duplicate);
    assert_eq!((repeated.history_seq, repeated.inbox_seq), (ack.history_seq, 0));
    let page = again.history(&id, Direction::Newest, 0, 10);
    assert_eq!(page.messages.len(), 1);
    verify(&mut daemon);
}

#[test]
fn whoever_was_away_is_told_where_to_look() {
    let mut daemon = daemon();
    let (mut online, id) = group(&daemon, 6);
    let mut copy = Copy::new(&id, 0);
    let mut away = online.pop().unwrap();
    online[0].send_many(&conversation(&id), 2..=4);
    away.wait("three pushes", |away| {
        copy.follow(away);
        (copy.history_seq == 3).then_some(())
    });
    assert_eq!((copy.by_push, copy.fetched, copy.dropped), (3, 0, 0));
    let at = away.bye();
    online[0].send_many(&conversation(&id), 5..=9);

    // It says how far it is: a hint only where there is more.
    let back = |daemon: &Daemon, cursor| {
        let hello = daemon.greeting("u5", "phone");
        let mut client =
            daemon.open(Hello { resume: Some(at), conversation_cursors: cursor, ..hello });
        let hints = client.caught_up().hints;
        (client, hints)
    };
    let (mut client, hints) = back(&daemon, vec![copy.cursor()]);
    assert_eq!(hints.len(), 1);
    assert_eq!((hints[0].history_seq, hints[0].version), (8, 1));
    copy.follow(&mut client);
    assert_eq!((copy.history_seq, copy.fetched), (8, 5));
    client.bye();
    let (client, hints) = back(&daemon, vec![copy.cursor()]);
    assert!(hints.is_empty(), "{hints:?}");
    client.bye();
    // Who says nothing is told everything; and so it is after a crash.
    daemon.crash();
    let (mut client, hints) = back(&daemon, Vec::new());
    assert_eq!(hints[0].history_seq, 8);
    let mut sender = daemon.login("u0", "phone");
    sender.send(conversation(&id), 10, "after");
    assert_eq!(messages(&news(&mut client, 1)), [(9, "after".to_owned(), 8)]);
    verify(&mut daemon);
}

#[test]
fn changes_of_members_are_told_to_those_concerned() {
    let mut daemon = daemon();
    let (mut online, id) = group(&daemon, 6);
    let version = online[3].recents()[0].version;
    add(&mut online[0], &id, &["u6"]);
    let mut newcomer = daemon.login("u6", "phone");
    let expect_version = |client: &mut Client, version: u64| {
        let news = news(client, 1);
        let versions: Vec<_> = news.iter().map(|news| news.version).collect();
        assert_eq!(versions, [version]);
        assert_eq!((news[0].conversation_id.as_str(), &news[0].message), (&*id, &None));
    };
    for client in &mut online[1..] {
        client.settle();
        assert_eq!(client.seq, 2, "no entry");
        expect_version(client, version + 1);
    }
    assert_eq!(online[3].recents()[0].version, version + 1);
    assert_eq!((told(&mut online[0]).action(), online[0].seq), (Action::Added, 3));
    // Whoever joins is told which way messages go.
    let pulled = newcomer.recents();
    assert!(pulled[0].large);

    let title = SetTitle { conversation_id: id.clone(), title: "new".into() };
    assert_eq!(expect!(Done, online[0].call(Body::SetTitle(title))).inbox_seq, 4);
    online[1..].iter_mut().for_each(|client| expect_version(client, version + 2));
    expect!(Done, online[1].call(leave_body(&id)));
    assert_eq!(told(&mut online[1]).action(), Action::Left);
    assert_eq!(online[1].seq, 3);
    expect_version(&mut online[2], version + 3);
    online[1].news();
    online[0].send(conversation(&id), 2, "without u1");
    assert_eq!(messages(&news(&mut online[2], 1)).len(), 1);
    online[1].settle();
    assert!(online[1].news().is_empty(), "nothing more for who has left");
    assert_eq!(online[1].recents()[0].visible_last_seq, 0);
    assert_eq!(online[1].recents()[0].role(), Role::Unspecified);
    // Once more: it begins where it comes back.
    add(&mut online[0], &id, &["u1"]);
    online[1].settle();
    assert_eq!(modes(&online[1]), [(true, 1), (true, 2)]);
    online[0].send(conversation(&id), 3, "with u1");
    let again = messages(&news(&mut online[1], 1));
    assert_eq!(again, [(2, "with u1".to_owned(), 1)]);
    assert_eq!(online[1].unread_total(), 1);
    verify(&mut daemon);
}

#[test]
fn changes_of_messages_reach_live_members() {
    let mut daemon = daemon();
    let (mut online, id) = group(&daemon, 6);
    let away = online.pop().unwrap().bye();
    online[0].send_many(&conversation(&id), 2..=4);
    news(&mut online[1], 3);
    let edit = Edit {
        conversation_id: id.clone(),
        history_seq: 2,
        content_type: "text/plain".into(),
        content: "edited".to_owned().into(),
        base_revision: None,
    };
    assert_eq!(expect!(Done, online[0].call(Body::Edit(edit))).inbox_seq, 0);
    let recall = Body::Recall(Recall { conversation_id: id.clone(), history_seq: 1 });
    assert_eq!(expect!(Done, online[0].call(recall)).inbox_seq, 0);
    let told = news(&mut online[1], 2);
    let changes: Vec<_> = told
        .iter()
        .map(|news| {
            let message = news.message.as_ref().unwrap();
            let numbers = (news.mutation_seq, news.prev_mutation_seq, message.history_seq);
            (numbers, message.state(), content(message))
        })
        .collect();
    assert_eq!(
        changes,
        [
            ((1, 0, 2), State::Normal, "edited".to_owned()),
            ((2, 1, 1), State::Recalled, String::new())
        ]
    );
    assert_eq!(online[1].unread_total(), 2);
    let hello = daemon.greeting("u5", "phone");
    let mut away = daemon.open(Hello { resume: Some(away), ..hello });
    let hint = away.caught_up().hints.remove(0);
    assert_eq!((hint.history_seq, hint.mutation_seq), (3, 2));
    let fetch = FetchMutations { conversation_id: id, ..Default::default() };
    let page = expect!(MutationPage, away.call(Body::FetchMutations(fetch)));
    assert_eq!(page.mutations.len(), 2);
    verify(&mut daemon);
}

#[test]
fn totals_are_told_as_they_move() {
    let mut daemon = daemon();
    let (mut online, id) = group(&daemon, 6);
    let wait_for = |client: &mut Client, total: u64, position: u64| {
        client.wait("the total", |client| {
            let last = client.totals.last()?;
            ((last.unread_total, last.position) == (total, position)).then_some(())
        });
    };
    online[0].send_many(&conversation(&id), 2..=6);
    wait_for(&mut online[1], 5, 2);
    let mut tablet = daemon.login("u1", "tablet");
    // Others count as well, and their entries say so themselves.
    online[0].send(peer("u1"), 7, "direct");
    online[1].synced(3);
    online[0].send(conversation(&id), 8, "large");
    wait_for(&mut online[1], 7, 3);
    wait_for(&mut tablet, 7, 3);
    let read = MarkRead { conversation_id: id.clone(), read_seq: 4, peer_visible: false };
    let reply = expect!(MarkReadReply, online[1].call(Body::MarkRead(read)));
    assert_eq!((reply.unread, reply.unread_total), (2, 3));
    wait_for(&mut tablet, 3, 4);
    let recall = Body::Recall(Recall { conversation_id: id.clone(), history_seq: 6 });
    expect!(Done, online[0].call(recall));
    wait_for(&mut tablet, 2, 4);
    daemon.crash();
    let mut client = daemon.login("u1", "phone");
    let unread = expect!(Unread, client.call(Body::GetUnread(GetUnread::default())));
    assert_eq!(unread.unread_total, 2);
    assert_eq!(unread.conversations.iter().map(|one| one.unread).sum::<u64>(), 2);
    verify(&mut daemon);
}

/// A device that stops acking falls behind; what it was not told meanwhile it is told where to find.
#[test]
fn a_device_that_falls_behind_is_given_a_hint() {
    let daemon = daemon();
    let (mut online, id) = group(&daemon, 6);
    let hello = daemon.greeting("u1", "slow");
    let limits = ClientLimits { max_unacked_entries: 2, ..Default::default() };
    let mut slow = daemon.open(Hello { limits: Some(limits), ..hello });
    let too_long = slow.too_long();
    slow.adopt(&too_long);
    slow.caught_up();
    let mut copy = Copy::new(&id, 0);
    copy.follow(&mut slow);
    copy.large = true;
    online[0].send_many(&peer("u1"), 2..=6);
    slow.synced(4);
    online[0].send_many(&conversation(&id), 7..=9);
    slow.settle();
    assert!(slow.news().is_empty(), "it is not live");
    slow.ack(4);
    slow.synced(6);
    slow.ack(6);
    slow.synced(7);
    let state = slow.caught_up();
    assert_eq!(state.hints[0].history_seq, 3);
    copy.follow(&mut slow);
    assert_eq!((copy.history_seq, copy.fetched), (3, 3));
    online[0].send(conversation(&id), 10, "live");
    slow.wait("the push", |slow| {
        copy.follow(slow);
        (copy.history_seq == 4).then_some(())
    });
    assert_eq!((copy.by_push, copy.dropped), (1, 0));
}

/// A device that reads more slowly than others write is not pushed everything; and what is only for
/// it does not wait for that.
#[test]
fn a_device_that_reads_slowly_catches_up_anew() {
    let daemon = daemon();
    let (mut online, id) = group(&daemon, 6);
    let mut slow = online.pop().unwrap();
    let mut copy = Copy::new(&id, 0);
    copy.follow(&mut slow);
    let content = "x".repeat(16 * 1024);
    let to = conversation(&id);
    online.truncate(1);
    // More than buffers on the way can hold, and then more than a session may be behind.
    let numbers: Vec<u64> = (2..2000).collect();
    for numbers in numbers.chunks(50) {
        let post = |number: &u64| online[0].post(text(to.clone(), *number, &content));
        let posted: Vec<u64> = numbers.iter().map(post).collect();
        for req_id in posted {
            expect!(SendAck, online[0].reply(req_id));
            online[0].came.clear();
        }
    }
    online[0].send(peer("u5"), 3000, "for you alone");
    slow.wait("everything", |slow| {
        copy.follow(slow);
        (copy.history_seq == 1998).then_some(())
    });
    slow.synced(3);
    assert!(copy.by_push > 0 && copy.fetched > 0, "{} {}", copy.by_push, copy.fetched);
    assert_eq!(slow.texts(), ["for you alone"]);
    assert!(slow.has_caught_up());
    assert_eq!(slow.unread_total(), 1999);
}

#[test]
fn a_policy_holds_in_large_groups() {
    let mut daemon = daemon();
    let mut online = ["u0", "u7"].map(|user| daemon.login(user, "phone"));
    for (number, policy, last_n, first) in [
        (10, HistoryPolicy::SinceJoin, 0, 4),
        (20, HistoryPolicy::LastN, 2, 2),
        (30, HistoryPolicy::Full, 0, 1),
    ] {
        let request = CreateGroup {
            history_policy: policy.into(),
            history_last_n: last_n,
            ..create(number, &USERS[1..6])
        };
        let id = created(&mut online[0], request).conversation_id;
        online[0].send_many(&conversation(&id), number + 1..=number + 3);
        online[1]
            .refused(roamd::refusal::ErrorCode::NotFound, text(conversation(&id), number, "?"));
        assert_eq!(outcomes(&add(&mut online[0], &id, &["u7"])).len(), 1);
        online[0].send(conversation(&id), number + 4, "after");
        assert_eq!(messages(&news(&mut online[1], 1)), [(4, "after".to_owned(), 3)]);
        let page = online[1].history(&id, Direction::Newest, 0, 10);
        assert_eq!((page.visible_first_seq, page.visible_last_seq), (first, 4), "{policy:?}");
        assert_eq!(page.messages.len() as u64, 5 - first);
    }
    assert_eq!(online[1].unread_total(), 3);
    verify(&mut daemon);
}
