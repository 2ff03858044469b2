//! What is shown of a message: the row with its changes laid over it, as far as they are for the
//! user. Held against a plain model, and against damage: a hole, never the content from before.

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use roamd::{
    conversation::Membership,
    engine::{Answer, MutationGrant, read},
    history::{self, Change, Mutated, Mutation},
    id::{ClientMessageId, ConversationId, DeviceId, MessageId, UserId},
    message::{HistoryPolicy, Message, MessageState, Role},
    reply::{MessageItem, PlacedMessage, Reply},
    seq::{HistorySeq, MutationSeq},
    store::{
        Commit, Reader,
        catalogue::{LogKey, Table, membership_key, mutated_key, row_of_user_key},
    },
    time::Timestamp,
};

use crate::{
    place::Place,
    scenario::{everything, text, user},
};

fn at(seq: u64) -> HistorySeq {
    HistorySeq::new(seq)
}

fn direct() -> ConversationId {
    ConversationId::direct(&user("alice"), &user("bob"))
}

fn completed(reader: &Reader, user: &UserId, answer: Answer) -> Reply {
    read::complete(reader, user, 1000, answer).unwrap().unwrap()
}

fn fetched(
    reader: &Reader,
    user: &UserId,
    id: &ConversationId,
    seqs: std::ops::RangeInclusive<u64>,
) -> Vec<Option<PlacedMessage>> {
    let places = seqs.map(|seq| Some((id.clone(), at(seq)))).collect();
    match completed(reader, user, Answer::Messages(places)) {
        Reply::MessageItems(items) => items
            .into_iter()
            .map(|item| match item {
                MessageItem::Found(message) => Some(message),
                MessageItem::Absent => None,
                MessageItem::Skipped => panic!("there was room"),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// State, revision and content, or that it is a hole.
fn shown(placed: &PlacedMessage) -> String {
    match &placed.message {
        None => "hole".into(),
        Some(message) => {
            let content = String::from_utf8_lossy(&message.draft.content[..]);
            format!("{:?} {} {content}", placed.state, placed.revision)
        }
    }
}

/// What bob sees of the first four messages after a change that must not be.
#[track_caller]
fn check(wrong: impl FnOnce(&Reader, &mut Commit), expected: [&str; 4]) {
    let place = Place::new();
    let (store, writer) = place.open();
    let mut writer = everything(&store, writer);
    let mut commit = Commit::new();
    wrong(&store.reader(), &mut commit);
    writer.stage(&commit).unwrap();
    writer.flush().unwrap();
    for on_disk in [false, true] {
        if on_disk {
            store.settle().unwrap();
        }
        let items = fetched(&store.reader(), &user("bob"), &direct(), 1..=4);
        let items: Vec<String> =
            items.iter().map(|item| item.as_ref().map_or("nothing".into(), shown)).collect();
        assert_eq!(items, expected);
    }
}

#[test]
fn what_is_damaged_is_a_hole_and_never_what_it_was_before() {
    let whole =
        ["Normal 2 Hello, Bob", "Recalled 0 ", "Normal 0 typing", "Normal 0 this came late"];
    let with = |place: usize, what| {
        let mut expected = whole;
        expected[place] = what;
        expected
    };
    let key = |seq| mutated_key(&direct(), at(seq));
    let put = |commit: &mut Commit, seq, mutation, gone| {
        let row = Mutated { mutation: MutationSeq::new(mutation), gone, counted: true };
        commit.put(Table::Mutated, key(seq), row.encode());
    };
    check(|_, _| (), whole);
    // The changes: 1 and 3 edit the first message, 2 the fifth, 4 recalls the second.
    check(|_, commit| commit.put(Table::Mutated, key(2), "?".into()), with(1, "hole"));
    check(|_, commit| commit.put(Table::Mutated, key(3), "?".into()), with(2, "hole"));
    check(|_, commit| put(commit, 2, 4, false), with(1, "hole"));
    check(|_, commit| put(commit, 2, 99, true), with(1, "hole"));
    check(|_, commit| put(commit, 1, 4, true), with(0, "hole"));
    check(|_, commit| put(commit, 1, 2, false), with(0, "hole"));
    check(|_, commit| put(commit, 1, 3, true), with(0, "hole"));
    check(
        |_, commit| {
            commit.append(LogKey::mutations(&direct()), "?".into());
            put(commit, 4, 5, true);
        },
        with(3, "hole"),
    );
    let own = || membership_key(&user("bob"), &direct());
    check(|_, commit| commit.put(Table::Membership, own(), "?".into()), ["nothing"; 4]);
    check(|_, commit| commit.delete(Table::Membership, own()), ["nothing"; 4]);
    // Hidden is hidden, even if the row that says so is damaged.
    check(
        |reader, commit| {
            let row = reader.row(Table::Membership, &own()).unwrap().unwrap();
            let hidden_max = at(1);
            let row = Membership { hidden_max, ..Membership::decode(row).unwrap() };
            commit.put(Table::Membership, own(), row.encode());
            let key = row_of_user_key(&user("bob"), &direct(), at(1));
            commit.put(Table::Hidden, key, "?".into());
        },
        with(0, "Hidden 0 "),
    );
}

/// One conversation with four messages that are changed at random, and a member who leaves meanwhile.
struct Story {
    id: ConversationId,
    commit: Commit,
    /// Of each message: the changes in order, with where each stands.
    changes: [Vec<(u64, Change)>; 4],
    last: u64,
    left: Option<u64>,
}

impl Story {
    fn new(name: String) -> Self {
        let id = ConversationId::new(&name).unwrap();
        let mut commit = Commit::new();
        for seq in 1..=4 {
            let message = Message {
                id: MessageId::new(seq),
                sender: user("alice"),
                device: DeviceId::new("phone").unwrap(),
                client_id: ClientMessageId::new(seq),
                time: Timestamp::from_millis(seq),
                ordinal: seq,
                draft: text(format!("first {seq}")),
            };
            commit.append(LogKey::history(&id), history::encode(&message));
        }
        Self { id, commit, changes: Default::default(), last: 0, left: None }
    }

    fn is_gone(&self, message: usize) -> bool {
        let newest = self.changes[message].last();
        newest.is_some_and(|(_, change)| !matches!(change, Change::Edited { .. }))
    }

    fn change(&mut self, message: usize, change: Change) {
        self.last += 1;
        let previous = self.changes[message].last().map_or(0, |(at, _)| *at);
        let seq = at(message as u64 + 1);
        let gone = !matches!(change, Change::Edited { .. });
        let mutation = Mutation {
            seq,
            previous: MutationSeq::new(previous),
            time: Timestamp::from_millis(1000 + self.last),
            by: user("alice"),
            change: change.clone(),
        };
        self.commit.append(LogKey::mutations(&self.id), mutation.encode());
        let row = Mutated { mutation: MutationSeq::new(self.last), gone, counted: true };
        self.commit.put(Table::Mutated, mutated_key(&self.id, seq), row.encode());
        self.changes[message].push((self.last, change));
    }

    /// What somebody who left after change `left` is to see of a message.
    fn expected(&self, message: usize, left: Option<u64>) -> String {
        let seen = |(at, change): &&(u64, Change)| {
            !matches!(change, Change::Edited { .. }) || left.is_none_or(|left| *at <= left)
        };
        match self.changes[message].iter().rev().find(seen) {
            None => format!("Normal 0 first {}", message + 1),
            Some((_, Change::Recalled)) => "Recalled 0 ".into(),
            Some((_, Change::Deleted)) => "Deleted 0 ".into(),
            Some((_, Change::Edited { revision, content, .. })) => {
                format!("Normal {revision} {}", String::from_utf8_lossy(&content[..]))
            }
        }
    }
}

#[test]
fn changes_are_laid_over_rows_as_the_user_may_see_them() {
    let place = Place::new();
    let (store, mut writer) = place.open();
    let (alice, bob) = (user("alice"), user("bob"));
    for seed in 0..300 {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut story = Story::new(format!("story{seed}"));
        let policy = HistoryPolicy::SinceJoin;
        let own = Membership::join(Role::Member, policy, at(0), 0, Timestamp::from_millis(1));
        let mut theirs = own.clone();
        for _ in 0..dice.random_range(0..12) {
            let message = dice.random_range(0..4);
            if story.left.is_none() && dice.random_ratio(1, 6) {
                story.left = Some(story.last);
                theirs.leave(at(4), 4, MutationSeq::new(story.last), &"".into());
            }
            if story.is_gone(message) {
                continue;
            }
            let revision = story.changes[message].len() as u32 + 1;
            let content = Bytes::from(format!("revision {revision} of {}", message + 1));
            let edited = Change::Edited { revision, content_type: "text/plain".into(), content };
            let change = match dice.random_range(0..6) {
                0 => Change::Recalled,
                1 => Change::Deleted,
                _ => edited,
            };
            story.change(message, change);
        }
        let mut commit = std::mem::take(&mut story.commit);
        for (user, row) in [(&alice, &own), (&bob, &theirs)] {
            commit.put(Table::Membership, membership_key(user, &story.id), row.encode());
        }
        writer.stage(&commit).unwrap();
        writer.flush().unwrap();
        if seed % 50 == 49 {
            store.settle().unwrap();
        }
        for (user, left) in [(&alice, None), (&bob, story.left)] {
            let reader = store.reader();
            let expected: Vec<String> = (0..4).map(|m| story.expected(m, left)).collect();
            let items = fetched(&reader, user, &story.id, 1..=4);
            let items: Vec<String> = items.iter().flatten().map(shown).collect();
            assert_eq!(items, expected, "seed {seed}, {user}");

            // The feed, in pages of any size, brings a copy of the first contents up to date.
            let upto = left.unwrap_or(story.last);
            let mut copy: Vec<String> = (1..=4).map(|n| format!("Normal 0 first {n}")).collect();
            let mut after = MutationSeq::ZERO;
            loop {
                let limit = dice.random_range(1..4);
                let conversation = story.id.clone();
                let upto = MutationSeq::new(upto);
                let grant = MutationGrant { conversation, after, upto, limit };
                let reply = completed(&reader, user, Answer::Mutations(grant));
                let Reply::MutationPage { mutations, last, complete } = reply else {
                    panic!("{reply:?}");
                };
                assert!(mutations.len() <= limit as usize && last <= upto, "seed {seed}");
                for (place, message) in mutations {
                    assert!(place > after && place <= last, "seed {seed}");
                    after = place;
                    let content = message.message.as_ref().unwrap().draft.content.is_empty();
                    assert_eq!(content, message.state != MessageState::Normal, "seed {seed}");
                    copy[message.seq.number() as usize - 1] = shown(&message);
                }
                after = last;
                if complete {
                    break;
                }
            }
            assert_eq!(after.number(), upto, "seed {seed}");
            let changed = |m: &usize| story.changes[*m].iter().any(|(at, _)| *at <= upto);
            for message in (0..4).filter(changed) {
                assert_eq!(copy[message], expected[message], "seed {seed}, {user}");
            }
        }
    }
}
