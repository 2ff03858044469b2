//! A store that the engine wrote is sound, and every kind of disagreement is found and named.

use bytes::Bytes;
use roamd::{
    conversation::{Conversation, Hidden, MENTION, Member, Membership, Preference},
    history::{self, Mutated, Mutation},
    id::{ConversationId, DeviceId, MessageId, UserId},
    inbox::{self, Device},
    inspect::{FindingKind, Report, history_page, log_page, stat, verify},
    message::{Entry, EntryKind, MutationRef, Role},
    notice::Round,
    sent::{NoticeSent, Remembered, Sent},
    seq::{HistorySeq, InboxSeq, MutationSeq, NoticeSeq},
    store::{
        Commit, Reader, Store, Writer,
        catalogue::{
            LogKey, LogKind, MESSAGE_IDS, Table, conversation_key, device_key, member_key,
            membership_key, mutated_key, notice_key, row_of_user_key,
        },
    },
    time::Timestamp,
};

use crate::{
    place::Place,
    scenario::{everything, group, user},
};

fn report(store: &Store) -> Report {
    verify(store, &mut |_| ())
}

fn direct() -> ConversationId {
    ConversationId::direct(&user("alice"), &user("bob"))
}

#[test]
fn what_the_engine_writes_is_sound() {
    let place = Place::new();
    let (store, writer) = place.open();
    assert!(report(&store).is_sound(), "an empty store");
    let writer = everything(&store, writer);
    let in_memory = report(&store);
    assert_eq!(in_memory.findings, []);
    store.close(writer).unwrap();
    let (store, _writer) = place.open();
    let mut told = 0;
    let on_disk = verify(&store, &mut |_| told += 1);
    assert_eq!(on_disk.findings, []);
    assert!(told > 5);
    let mut counts = on_disk.counts;
    assert!(counts.values > 40);
    counts.values = in_memory.counts.values;
    assert_eq!(counts, in_memory.counts);
    assert_eq!((counts.conversations, counts.messages, counts.inboxes), (5, 23, 5));
    assert_eq!(counts.mutations, 7);
}

#[test]
fn figures_and_dumps_tell_what_is_there() {
    let place = Place::new();
    let (store, writer) = place.open();
    let writer = everything(&store, writer);
    let stat = stat(&store).unwrap();
    let family = |kind| *stat.logs.iter().find(|log| log.kind == kind).unwrap();
    assert_eq!(family(LogKind::History).entries, 23);
    assert_eq!(family(LogKind::History).longest, 12);
    assert!(family(LogKind::History).bytes > 20_000);
    assert_eq!(family(LogKind::Inbox).logs, 5);
    let rows = |table| stat.tables.iter().find(|t| t.table == table).unwrap().rows;
    assert_eq!((rows(Table::Conversation), rows(Table::SentException)), (5, 2));
    assert_eq!((family(LogKind::Mutation).entries, rows(Table::Mutated)), (7, 6));
    let own = [Table::Hidden, Table::Mention, Table::Preference].map(rows);
    assert_eq!(own, [2, 3, 1]);
    assert!(stat.records() > 80 && stat.bytes() > 20_000);
    assert!(stat.store.journal_bytes > 0 && stat.store.memory_bytes > 0);

    let reader = store.reader();
    let page = log_page(&reader, &user("bob"), InboxSeq::new(1), 2).unwrap();
    assert_eq!(page.first, InboxSeq::new(1));
    assert_eq!(page.entries.iter().map(|(seq, _)| seq.number()).collect::<Vec<_>>(), [2, 3]);
    assert!(page.entries.iter().all(|(_, entry)| entry.is_some()));
    let page = history_page(&reader, &direct(), HistorySeq::new(4), 100).unwrap();
    assert_eq!(page.rows.iter().map(|row| row.seq.number()).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(history_page(&reader, &direct(), HistorySeq::ZERO, 0).unwrap().rows, []);
    let nobody = log_page(&reader, &user("nobody"), InboxSeq::ZERO, 10).unwrap();
    assert_eq!((nobody.last, nobody.entries.len()), (InboxSeq::ZERO, 0));
    drop(writer);
}

/// A store with everything in it, and a change that must not be.
#[track_caller]
fn check(wrong: impl FnOnce(&Reader, &mut Commit), expected: &[FindingKind]) {
    let place = Place::new();
    let (store, writer) = place.open();
    let mut writer: Writer = everything(&store, writer);
    let mut commit = Commit::new();
    wrong(&store.reader(), &mut commit);
    writer.stage(&commit).unwrap();
    writer.flush().unwrap();
    for on_disk in [false, true] {
        if on_disk {
            store.settle().unwrap();
        }
        let report = report(&store);
        let mut kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
        kinds.dedup();
        let text: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
        assert_eq!(kinds, expected, "{text:#?}");
    }
}

fn own(reader: &Reader, name: &str, id: &ConversationId) -> Membership {
    let row = reader.row(Table::Membership, &membership_key(&user(name), id)).unwrap().unwrap();
    Membership::decode(row).unwrap()
}

fn put_own(commit: &mut Commit, name: &str, id: &ConversationId, own: &Membership) {
    commit.put(Table::Membership, membership_key(&user(name), id), own.encode());
}

fn pointer(id: &ConversationId, seq: u64) -> Bytes {
    let kind = EntryKind::Message { conversation: id.clone(), seq: HistorySeq::new(seq) };
    inbox::encode(&Entry { time: Timestamp::from_millis(9), kind })
}

#[test]
fn members_that_do_not_agree_are_found() {
    check(
        |reader, commit| {
            let key = conversation_key(&group("team"));
            let row = reader.row(Table::Conversation, &key).unwrap().unwrap();
            let mut row = Conversation::decode(row).unwrap();
            row.member_count += 1;
            commit.put(Table::Conversation, key, row.encode());
        },
        &[FindingKind::Membership],
    );
    check(
        |_, commit| commit.delete(Table::Member, member_key(&group("open"), &user("bob"))),
        &[FindingKind::Membership],
    );
    check(
        |_, commit| {
            let key = member_key(&group("open"), &user("bob"));
            let (joined_seq, joined) = (HistorySeq::new(1), Timestamp::from_millis(1));
            commit.put(
                Table::Member,
                key,
                Member { role: Role::Admin, joined_seq, joined }.encode(),
            );
        },
        &[FindingKind::Membership],
    );
    check(
        |_, commit| commit.delete(Table::Conversation, conversation_key(&group("some"))),
        &[FindingKind::Dangling],
    );
    check(
        |reader, commit| {
            let mut own = own(reader, "bob", &direct());
            own.intervals.clear();
            put_own(commit, "bob", &direct(), &own);
        },
        &[FindingKind::Membership, FindingKind::Leak],
    );
}

#[test]
fn read_markers_that_do_not_agree_are_found() {
    for change in [
        |own: &mut Membership| own.read_ordinal += 1,
        |own: &mut Membership| own.read_seq = HistorySeq::new(1),
        |own: &mut Membership| own.read_seq = HistorySeq::new(100),
        |own: &mut Membership| own.announced_seq = own.read_seq.next(),
    ] {
        check(
            |reader, commit| {
                let mut own = own(reader, "bob", &group("team"));
                change(&mut own);
                put_own(commit, "bob", &group("team"), &own);
            },
            &[FindingKind::ReadMarker],
        );
    }
}

#[test]
fn histories_and_inboxes_that_do_not_agree_are_found() {
    let inbox_of = |name: &str| LogKey::inbox(&user(name));
    check(
        |_, commit| commit.append(inbox_of("bob"), pointer(&group("nowhere"), 3)),
        &[FindingKind::Leak, FindingKind::Dangling],
    );
    check(
        |_, commit| commit.append(inbox_of("bob"), pointer(&direct(), 7)),
        &[FindingKind::Dangling],
    );
    check(
        |_, commit| commit.append(inbox_of("bob"), pointer(&direct(), 6)),
        &[FindingKind::Delivery],
    );
    check(
        |_, commit| commit.append(inbox_of("carol"), pointer(&group("team"), 7)),
        &[FindingKind::Leak, FindingKind::Delivery],
    );
    check(|_, commit| commit.append(inbox_of("bob"), "?".into()), &[FindingKind::Malformed]);
    // A message without pointers; its ordinal and its id are not those that follow.
    check(
        |reader, commit| {
            let log = LogKey::history(&direct());
            let last = reader.entry(&log, 6).unwrap().unwrap();
            let message = history::parse(last).1.unwrap();
            commit.append(log, history::encode(&message));
        },
        &[FindingKind::Ordinal, FindingKind::MessageId, FindingKind::Delivery],
    );
    check(
        |_, commit| commit.put(Table::Counter, MESSAGE_IDS.into(), Bytes::from_static(&[3])),
        &[FindingKind::MessageId],
    );
    check(|_, commit| commit.delete(Table::Counter, MESSAGE_IDS.into()), &[FindingKind::MessageId]);
}

/// Which way messages go stands in the row and in every member's inbox.
#[test]
fn modes_that_do_not_agree_are_found() {
    let large = |reader: &Reader, commit: &mut Commit, id: &ConversationId| {
        let key = conversation_key(id);
        let row = reader.row(Table::Conversation, &key).unwrap().unwrap();
        let row = Conversation { large: true, ..Conversation::decode(row).unwrap() };
        commit.put(Table::Conversation, key, row.encode());
    };
    let mode = |commit: &mut Commit, name: &str, from: u64| {
        let from = HistorySeq::new(from);
        let kind = EntryKind::Mode { conversation: direct(), large: true, from };
        let entry = Entry { time: Timestamp::from_millis(9), kind };
        commit.append(LogKey::inbox(&user(name)), inbox::encode(&entry));
    };
    let wrong = [FindingKind::Membership, FindingKind::Delivery];
    check(|reader, commit| large(reader, commit, &direct()), &wrong);
    check(|reader, commit| large(reader, commit, &group("team")), &[FindingKind::Delivery]);
    // From the seventh message on; there is none.
    check(|_, commit| mode(commit, "bob", 7), &[]);
    check(|_, commit| mode(commit, "bob", 8), &[FindingKind::Dangling, FindingKind::Delivery]);
}

#[test]
fn devices_that_do_not_agree_are_found() {
    let phone = || DeviceId::new("phone").unwrap();
    check(
        |reader, commit| {
            let key = device_key(&user("bob"), &phone());
            let row = reader.row(Table::Device, &key).unwrap().unwrap();
            let cursor = InboxSeq::new(1000);
            commit.put(
                Table::Device,
                key,
                Device { cursor, ..Device::decode(row).unwrap() }.encode(),
            );
        },
        &[FindingKind::Cursor],
    );
    let sent = |reader: &Reader, name: &str| -> (LogKey, Sent) {
        let log = LogKey::sent(&user(name), &phone());
        let last = reader.bounds(&log).unwrap().last;
        let entry = reader.entry(&log, last).unwrap().unwrap();
        match Remembered::decode(entry.record.unwrap()).unwrap() {
            Remembered::Accepted(sent) => (log, sent),
            other => panic!("{other:?}"),
        }
    };
    check(
        |reader, commit| {
            let (log, mut last) = sent(reader, "bob");
            last.client_id = roamd::id::ClientMessageId::new(100);
            commit.append(log, last.encode());
        },
        &[FindingKind::Sent],
    );
    check(
        |reader, commit| {
            let (log, last) = sent(reader, "bob");
            commit.append(log, last.encode());
        },
        &[FindingKind::Sent],
    );
    check(
        |reader, commit| {
            let (log, mut last) = sent(reader, "erin");
            last.client_id = roamd::id::ClientMessageId::new(100);
            last.id = MessageId::new(1 << 40);
            last.seq = HistorySeq::new(50);
            commit.append(log, last.encode());
        },
        &[FindingKind::Dangling],
    );
}

#[test]
fn notices_and_revocations_that_do_not_agree_are_found() {
    use FindingKind::{Dangling, Malformed};
    let missing = NoticeSeq::new(5);
    check(
        |_, commit| {
            let entry = Entry {
                time: Timestamp::from_millis(9),
                kind: EntryKind::Notice { notice: missing },
            };
            commit.append(LogKey::inbox(&user("bob")), inbox::encode(&entry));
        },
        &[Dangling],
    );
    check(
        |_, commit| {
            let round = Round { told: 1, after: Bytes::new() };
            commit.put(Table::NoticeRound, notice_key(missing), round.encode());
        },
        &[Dangling],
    );
    check(
        |_, commit| {
            let sent = NoticeSent {
                client_id: roamd::id::ClientMessageId::new(100),
                payload_hash: 1,
                time: Timestamp::from_millis(9),
                notice: missing,
                inbox_seq: InboxSeq::ZERO,
            };
            let log = LogKey::sent(&user("bob"), &DeviceId::new("phone").unwrap());
            commit.append(log, Remembered::Notice(sent).encode());
        },
        &[Dangling],
    );
    check(|_, commit| commit.append(LogKey::notices(), "?".into()), &[Malformed]);
    for (table, key) in [
        (Table::NoticeRound, notice_key(missing)),
        (Table::Revocation, device_key(&user("bob"), &DeviceId::new("phone").unwrap())),
        (Table::Revocation, Bytes::from_static(b"?")),
    ] {
        check(|_, commit| commit.put(table, key, "?".into()), &[Malformed]);
    }
}

#[test]
fn changes_that_do_not_agree_are_found() {
    use FindingKind::{Dangling, Leak, Malformed, Mutation as Change};
    let log = || LogKey::mutations(&direct());
    let last = |reader: &Reader| {
        let at = reader.bounds(&log()).unwrap().last;
        let entry = reader.entry(&log(), at).unwrap().unwrap();
        (MutationSeq::new(at), Mutation::decode(entry.record.unwrap()).unwrap())
    };
    let row = |reader: &Reader, seq: u64| {
        let key = mutated_key(&direct(), HistorySeq::new(seq));
        Mutated::decode(reader.row(Table::Mutated, &key).unwrap().unwrap()).unwrap()
    };
    let put = |commit: &mut Commit, seq: u64, row: Mutated| {
        commit.put(Table::Mutated, mutated_key(&direct(), HistorySeq::new(seq)), row.encode());
    };
    // A change of nothing, one more of what is gone, one that follows another than it says.
    check(
        |reader, commit| {
            let seq = HistorySeq::new(7);
            commit.append(log(), Mutation { seq, ..last(reader).1 }.encode());
        },
        &[Dangling],
    );
    check(
        |reader, commit| {
            let (previous, recall) = last(reader);
            commit.append(log(), Mutation { previous, ..recall }.encode());
            put(commit, 2, Mutated { mutation: previous.next(), ..row(reader, 2) });
        },
        &[Change],
    );
    check(
        |reader, commit| {
            let (previous, recall) = last(reader);
            let seq = HistorySeq::new(3);
            commit.append(log(), Mutation { seq, previous, ..recall }.encode());
            let mutation = previous.next();
            put(commit, 3, Mutated { mutation, gone: true, counted: false });
        },
        &[Change],
    );
    check(|_, commit| commit.append(log(), "?".into()), &[Malformed]);
    // What stands at the message.
    let key = |seq| mutated_key(&direct(), HistorySeq::new(seq));
    check(|_, commit| commit.delete(Table::Mutated, key(2)), &[Change]);
    check(|_, commit| commit.put(Table::Mutated, key(2), "?".into()), &[Malformed]);
    check(|reader, commit| put(commit, 2, Mutated { gone: false, ..row(reader, 2) }), &[Change]);
    check(|reader, commit| put(commit, 2, Mutated { counted: false, ..row(reader, 2) }), &[Change]);
    check(|reader, commit| put(commit, 1, row(reader, 5)), &[Change]);
    let far = MutationSeq::new(100);
    check(
        |reader, commit| put(commit, 2, Mutated { mutation: far, ..row(reader, 2) }),
        &[Change, Dangling],
    );
    check(|reader, commit| put(commit, 9, row(reader, 2)), &[Dangling]);
    // What inboxes tell.
    let told = |name: &str, id: ConversationId, seq: u64, mutation: u64| {
        let (seq, mutation) = (HistorySeq::new(seq), MutationSeq::new(mutation));
        let by = user("alice");
        let kind = EntryKind::Recalled(MutationRef { conversation: id, seq, mutation, by });
        let entry = Entry { time: Timestamp::from_millis(5), kind };
        (LogKey::inbox(&user(name)), inbox::encode(&entry))
    };
    for (name, seq, mutation, expected) in [
        ("bob", 2, 4, &[][..]),
        ("bob", 2, 3, &[Change]),
        ("bob", 2, 5, &[Dangling]),
        ("dave", 2, 4, &[Leak]),
    ] {
        check(
            |_, commit| {
                let (inbox, entry) = told(name, direct(), seq, mutation);
                commit.append(inbox, entry);
            },
            expected,
        );
    }
}

#[test]
fn own_state_that_does_not_agree_is_found() {
    use FindingKind::{Dangling, Malformed, Membership as Of, ReadMarker};
    let at = |name: &str, seq| row_of_user_key(&user(name), &group("team"), HistorySeq::new(seq));
    let hide = |commit: &mut Commit, name: &str, seq, counted| {
        commit.put(Table::Hidden, at(name, seq), Hidden { counted }.encode());
    };
    let mention = |commit: &mut Commit, name: &str, seq| {
        commit.put(Table::Mention, at(name, seq), Bytes::from_static(MENTION));
    };
    let with_own = |reader: &Reader, commit: &mut Commit, change: fn(&mut Membership)| {
        let mut own = own(reader, "bob", &group("team"));
        change(&mut own);
        put_own(commit, "bob", &group("team"), &own);
    };
    let newest = |reader: &Reader| {
        let bounds = reader.bounds(&LogKey::history(&group("team"))).unwrap();
        bounds.last
    };
    // Hidden: one that is not counted as hidden, one of nobody, one of no message, one that is
    // above the bound, one that was never shown, a wrong count.
    check(|_, commit| hide(commit, "bob", 2, true), &[Of]);
    check(|_, commit| hide(commit, "nobody", 2, true), &[Dangling]);
    check(|_, commit| hide(commit, "bob", 1000, true), &[Dangling, Of]);
    check(|_, commit| hide(commit, "bob", 1, false), &[ReadMarker]);
    check(|reader, commit| hide(commit, "bob", newest(reader), false), &[ReadMarker]);
    check(|reader, commit| commit.delete(Table::Hidden, at("bob", newest(reader))), &[Of]);
    check(|_, commit| commit.put(Table::Hidden, at("bob", 1), "?".into()), &[Malformed]);
    check(
        |reader, commit| with_own(reader, commit, |own| own.hidden_max = own.hidden_max.previous()),
        &[Of],
    );
    // Mentions: one of a message that does not name the user, one above the bound.
    check(|_, commit| mention(commit, "bob", 2), &[ReadMarker]);
    check(|_, commit| mention(commit, "nobody", 2), &[Dangling]);
    check(
        |reader, commit| with_own(reader, commit, |own| own.mention_max = HistorySeq::new(1)),
        &[Of],
    );
    check(|_, commit| commit.put(Table::Mention, "?".into(), Bytes::new()), &[Malformed]);
    // Preferences.
    let key = |name: &str| membership_key(&user(name), &group("team"));
    check(|_, commit| commit.put(Table::Preference, key("bob"), "?".into()), &[Malformed]);
    check(
        |_, commit| commit.put(Table::Preference, key("nobody"), Preference::default().encode()),
        &[Dangling],
    );
}

/// The push hook's rows.
#[test]
fn wrong_pushes_are_found() {
    use FindingKind::{Dangling, Delivery, Malformed};
    use roamd::push::{self, Kind, Outbox, Shown, Target, Wanted};
    let phone = DeviceId::new("phone").unwrap();
    let target = |commit: &mut Commit, name: &str| {
        let target = Target {
            provider: "apns".into(),
            token: "t".into(),
            registered: Timestamp::default(),
            attended: false,
        };
        commit.put(Table::PushTarget, device_key(&user(name), &phone), target.encode());
    };
    let outbox = |commit: &mut Commit, id: ConversationId, wanted: u64, shown: u64| {
        let place = push::Place { user: user("bob"), device: phone.clone(), conversation: id };
        let wanted = Wanted {
            id: 1,
            kind: Kind::Message,
            seq: HistorySeq::new(wanted),
            entry: InboxSeq::ZERO,
            mention: false,
            since: Timestamp::default(),
            due: Timestamp::default(),
            attempts: 0,
        };
        let shown = Shown {
            seq: HistorySeq::new(shown),
            at: Timestamp::default(),
            untrue: None,
            before: HistorySeq::ZERO,
            sure: true,
        };
        let outbox = Outbox { wanted: Some(wanted), shown: Some(shown) };
        commit.put(Table::PushJob, place.key(), outbox.encode());
    };
    let round = |commit: &mut Commit, id: &ConversationId, seq| {
        let round = push::Round::new(Timestamp::default(), HistorySeq::new(seq));
        commit.put(Table::PushRound, conversation_key(id), round.encode());
    };
    let nowhere = || ConversationId::new("nowhere").unwrap();
    check(
        |_, commit| {
            target(commit, "bob");
            outbox(commit, direct(), 2, 1);
            round(commit, &group("team"), 2);
        },
        &[],
    );
    check(|_, commit| target(commit, "nobody"), &[Dangling]);
    check(|_, commit| outbox(commit, direct(), 2, 1), &[Dangling]);
    for (id, wanted, shown, expected) in [
        (direct(), 2, 2, &[Delivery][..]),
        (direct(), 1000, 1, &[Dangling]),
        (nowhere(), 0, 0, &[Dangling, Delivery]),
    ] {
        check(
            |_, commit| {
                target(commit, "bob");
                outbox(commit, id, wanted, shown);
            },
            expected,
        );
    }
    check(|_, commit| round(commit, &nowhere(), 1), &[Dangling]);
    check(|_, commit| round(commit, &group("team"), 1000), &[Dangling]);
    for table in [Table::PushTarget, Table::PushJob, Table::PushRound] {
        check(|_, commit| commit.put(table, "?".into(), "?".into()), &[Malformed]);
    }
}

#[test]
fn a_findings_place_can_be_read() {
    let place = Place::new();
    let (store, writer) = place.open();
    let mut writer = everything(&store, writer);
    let mut commit = Commit::new();
    commit.append(LogKey::inbox(&UserId::new("bob").unwrap()), pointer(&direct(), 7));
    writer.stage(&commit).unwrap();
    writer.flush().unwrap();
    let text = report(&store).findings[0].to_string();
    let expected = format!("dangling: inbox bob 40: {} 7: the newest message is 6", direct());
    assert_eq!(text, expected);
}
