//! Large conversations against a server that behaves as `proto/` says, in every order that is allowed:
//! changes of mode, lost connections, pages that come late, a consumer that is slow or killed.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::client::{LargeEvent, Position};

const NAMES: [&str; 2] = ["g1", "g2"];
const EPOCH: u64 = 7;
/// Events that may wait for the consumer.
const ROOM: usize = 4;
/// Rows of a page.
const PAGE: usize = 3;

fn message(conversation: usize, seq: u64, revision: u32) -> proto::Message {
    proto::Message {
        conversation_id: NAMES[conversation].into(),
        history_seq: seq,
        revision,
        ..Default::default()
    }
}

#[derive(Default)]
struct Conversation {
    /// The revision of each message.
    rows: Vec<u32>,
    /// Which message each change is of.
    changes: Vec<u64>,
    large: bool,
}

impl Conversation {
    fn tip(&self) -> (u64, u64) {
        (self.rows.len() as u64, self.changes.len() as u64)
    }
}

/// What a session pushes of a large conversation.
struct Pushing {
    after: usize,
    at: (u64, u64),
    upto: Option<(u64, u64)>,
}

#[derive(Clone)]
enum Frame {
    Next(Event),
    Push(proto::ConversationPush),
    Messages(Fetch, proto::HistoryPage),
    Changes(Fetch, proto::MutationPage),
}

#[derive(Default)]
struct Session {
    sent: usize,
    live: bool,
    pushing: HashMap<usize, Pushing>,
    /// Waits for the consumer to adopt this snapshot.
    snapshot: Option<u64>,
    cursors: HashMap<String, (u64, u64)>,
    frames: VecDeque<Frame>,
    asked: Vec<Fetch>,
}

#[derive(Default)]
struct Server {
    conversations: [Conversation; 2],
    inbox: Vec<proto::Entry>,
    /// Entries that are no longer kept.
    trimmed: usize,
    session: Option<Session>,
}

impl Server {
    fn send(&mut self, c: usize) {
        let conversation = &mut self.conversations[c];
        conversation.rows.push(0);
        let seq = conversation.rows.len() as u64;
        if !conversation.large {
            self.entry(Kind::Message(message(c, seq, 0)));
        }
    }

    fn change(&mut self, c: usize, which: usize) {
        let conversation = &mut self.conversations[c];
        if conversation.rows.is_empty() {
            return;
        }
        let index = which % conversation.rows.len();
        conversation.rows[index] += 1;
        conversation.changes.push(index as u64 + 1);
        if !conversation.large {
            let message = Some(message(c, index as u64 + 1, conversation.rows[index]));
            let mutation_seq = conversation.changes.len() as u64;
            self.entry(Kind::Edited(proto::MessageEdited { message, mutation_seq }));
        }
    }

    fn mode(&mut self, c: usize) {
        let conversation = &mut self.conversations[c];
        conversation.large = !conversation.large;
        let (large, tip) = (conversation.large, conversation.tip());
        let mode =
            proto::ModeChange { conversation_id: NAMES[c].into(), large, history_seq: tip.0 + 1 };
        self.entry(Kind::Mode(mode));
        let after = self.inbox.len();
        let Some(session) = &mut self.session else { return };
        if large {
            session.pushing.insert(c, Pushing { after, at: tip, upto: None });
        } else if let Some(pushing) = session.pushing.get_mut(&c) {
            pushing.upto = Some(tip);
        }
    }

    fn entry(&mut self, kind: Kind) {
        self.inbox.push(proto::Entry { time_ms: 0, kind: Some(kind) });
    }

    fn connect(&mut self, seq: usize, large: &Large) {
        let cursors =
            large.cursors().map(|it| (it.conversation_id, (it.history_seq, it.mutation_seq)));
        let cursors = cursors.collect();
        self.session = Some(Session { sent: seq, cursors, ..Session::default() });
        self.compare();
    }

    /// Retention passes by.
    fn trim(&mut self) {
        self.trimmed = self.inbox.len();
        self.compare();
    }

    fn compare(&mut self) {
        let behind = |session: &Session| session.snapshot.is_none() && session.sent < self.trimmed;
        if self.session.as_ref().is_some_and(behind) {
            self.too_long();
        }
    }

    fn adopted(&mut self, seq: u64) {
        if let Some(session) = self.session.as_mut().filter(|it| it.snapshot == Some(seq)) {
            (session.snapshot, session.sent) = (None, seq as usize);
            self.compare();
        }
    }

    fn too_long(&mut self) {
        let position = Position { epoch: EPOCH, seq: self.inbox.len() as u64 };
        let view = |(c, conversation): (usize, &Conversation)| proto::Conversation {
            conversation_id: NAMES[c].into(),
            large: conversation.large,
            visible_last_seq: conversation.rows.len() as u64,
            mutation_seq: conversation.changes.len() as u64,
            ..Default::default()
        };
        let conversations = self.conversations.iter().enumerate().map(view).collect();
        let reason = proto::TooLongReason::Trimmed;
        let snapshot =
            Snapshot { position, reason, conversations, unread_total: 0, large: Vec::new() };
        let Some(session) = &mut self.session else { return };
        session.pushing.clear();
        (session.live, session.snapshot) = (false, Some(position.seq));
        session.frames.push_back(Frame::Next(Event::Snapshot(snapshot)));
    }

    /// The session makes one frame, if there is one to make.
    fn pump(&mut self) {
        let Some(session) = &mut self.session else { return };
        if session.snapshot.is_some() {
            return;
        }
        if session.live {
            for (c, name) in NAMES.iter().enumerate() {
                let Some(pushing) = session.pushing.get_mut(&c) else { continue };
                let conversation = &self.conversations[c];
                let upto = pushing.upto.unwrap_or(conversation.tip());
                if session.sent < pushing.after {
                    continue;
                }
                let (at, mut push) = (pushing.at, proto::ConversationPush::default());
                push.conversation_id = (*name).into();
                if at.0 < upto.0 {
                    pushing.at.0 += 1;
                    push.message = Some(message(c, at.0 + 1, conversation.rows[at.0 as usize]));
                    push.prev_history_seq = at.0;
                } else if at.1 < upto.1 {
                    pushing.at.1 += 1;
                    let seq = conversation.changes[at.1 as usize];
                    push.message = Some(message(c, seq, conversation.rows[seq as usize - 1]));
                    (push.mutation_seq, push.prev_mutation_seq) = (at.1 + 1, at.1);
                } else {
                    if pushing.upto.is_some() {
                        session.pushing.remove(&c);
                    }
                    continue;
                }
                return session.frames.push_back(Frame::Push(push));
            }
        } else {
            session.pushing.retain(|_, pushing| pushing.upto.is_none());
        }
        if session.sent < self.inbox.len() {
            let entry = self.inbox[session.sent].clone();
            session.sent += 1;
            let event = Event::Entry { seq: session.sent as u64, entry };
            return session.frames.push_back(Frame::Next(event));
        }
        if !session.live {
            session.live = true;
            let mut caught_up = proto::CaughtUp { seq: session.sent as u64, ..Default::default() };
            for (c, conversation) in self.conversations.iter().enumerate() {
                if !conversation.large {
                    continue;
                }
                let tip = conversation.tip();
                let known = session.cursors.get(NAMES[c]).copied().unwrap_or_default();
                session.pushing.insert(c, Pushing { after: 0, at: tip, upto: None });
                if tip.0 > known.0 || tip.1 > known.1 {
                    caught_up.hints.push(proto::ConversationCursor {
                        conversation_id: NAMES[c].into(),
                        history_seq: tip.0,
                        mutation_seq: tip.1,
                        version: 0,
                    });
                }
            }
            session.frames.push_back(Frame::Next(Event::CaughtUp(Box::new(caught_up))));
        }
    }

    /// Falls back to catching up, as a session that is too slow does.
    fn fall_back(&mut self) {
        if let Some(session) = self.session.as_mut().filter(|session| session.snapshot.is_none()) {
            session.live = false;
            session.cursors.clear();
        }
    }

    fn answer(&mut self, which: usize, ahead: bool) {
        let Some(session) = &mut self.session else { return };
        if session.asked.is_empty() {
            return;
        }
        let fetch = session.asked.swap_remove(which % session.asked.len());
        let c = usize::from(fetch.conversation == NAMES[1]);
        let conversation = &self.conversations[c];
        let from = fetch.after as usize;
        let frame = if fetch.changes {
            let count = conversation.changes.len();
            let last = count.min(from + PAGE);
            let row = |at: usize| {
                let seq = conversation.changes[at];
                let message = message(c, seq, conversation.rows[seq as usize - 1]);
                proto::Mutation { mutation_seq: at as u64 + 1, message: Some(message) }
            };
            let page = proto::MutationPage {
                mutations: (from..last).map(row).collect(),
                last_mutation_seq: last.max(from) as u64,
                complete: last == count,
            };
            Frame::Changes(fetch, page)
        } else {
            let count = conversation.rows.len();
            let last = count.min(from + PAGE);
            let row = |at: usize| message(c, at as u64 + 1, conversation.rows[at]);
            let page = proto::HistoryPage {
                messages: (from..last).map(row).collect(),
                first_seq: from as u64 + 1,
                last_seq: last as u64,
                complete: last == count,
                ..Default::default()
            };
            Frame::Messages(fetch, page)
        };
        if ahead {
            session.frames.push_front(frame);
        } else {
            session.frames.push_back(frame);
        }
    }
}

/// What the consumer has stored.
#[derive(Default)]
struct Stored {
    seq: usize,
    cursors: HashMap<String, proto::ConversationCursor>,
    /// The last message of each conversation; none = whatever comes next is the first.
    last: HashMap<usize, Option<u64>>,
    /// The newest revision of each message given since the last snapshot.
    revisions: HashMap<(usize, u64), u32>,
}

impl Stored {
    fn take(&mut self, event: Event) {
        match event {
            Event::Entry { seq, entry } => {
                assert_eq!(seq as usize, self.seq + 1, "the inbox in order");
                match entry.kind {
                    Some(Kind::Message(message)) => self.message(&message),
                    Some(Kind::Edited(edited)) => self.changed(&edited.message.unwrap()),
                    _ => {}
                }
                self.seq += 1;
            }
            Event::Snapshot(snapshot) => {
                self.seq = snapshot.position.seq as usize;
                let cursor = |it: proto::ConversationCursor| (it.conversation_id.clone(), it);
                self.cursors = snapshot.large.into_iter().map(cursor).collect();
                self.last = (0..NAMES.len()).map(|c| (c, None)).collect();
                self.revisions.clear();
            }
            Event::Large(event) => {
                let LargeEvent { cursor, news } = *event;
                match news {
                    LargeNews::Message(message) => self.message(&message),
                    LargeNews::Changed(message) => self.changed(&message),
                    LargeNews::Begins | LargeNews::Version => {}
                    LargeNews::Ends => {
                        self.cursors.remove(&cursor.conversation_id);
                        return;
                    }
                }
                self.cursors.insert(cursor.conversation_id.clone(), cursor);
            }
            _ => {}
        }
    }

    fn message(&mut self, message: &proto::Message) {
        let c = usize::from(message.conversation_id == NAMES[1]);
        let last = self.last.entry(c).or_insert(Some(0));
        if let Some(last) = last {
            assert_eq!(message.history_seq, *last + 1, "{} has no gap", NAMES[c]);
        }
        *last = Some(message.history_seq);
        self.revisions.insert((c, message.history_seq), message.revision);
    }

    fn changed(&mut self, message: &proto::Message) {
        let c = usize::from(message.conversation_id == NAMES[1]);
        if let Some(Some(last)) = self.last.get(&c) {
            assert!(message.history_seq <= *last, "the change of a message comes after it");
        }
        if let Some(known) = self.revisions.get_mut(&(c, message.history_seq)) {
            *known = (*known).max(message.revision);
        }
    }
}

struct World {
    now: Instant,
    server: Server,
    large: Large,
    received: usize,
    queue: VecDeque<Event>,
    stored: Stored,
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            server: Server::default(),
            large: Large::new(Some(EPOCH), &[]),
            received: 0,
            queue: VecDeque::new(),
            stored: Stored::default(),
        }
    }

    fn connect(&mut self) {
        if self.server.session.is_none() {
            self.server.connect(self.stored.seq, &self.large);
        }
    }

    fn lose(&mut self) {
        self.server.session = None;
        self.large.lost();
    }

    fn crash(&mut self) {
        self.lose();
        self.queue.clear();
        let cursors: Vec<_> = self.stored.cursors.values().cloned().collect();
        self.large = Large::new(Some(EPOCH), &cursors);
        self.received = self.stored.seq;
    }

    fn deliver(&mut self) {
        let Some(session) = &mut self.server.session else { return };
        let Some(frame) = session.frames.pop_front() else { return };
        let (room, queue) = (self.queue.len() < ROOM, &mut self.queue);
        let mut given = VecDeque::new();
        let give: Give<'_> = &mut |event, _| given.push_back(event);
        match frame {
            Frame::Next(event) => {
                if let Event::Entry { seq, .. } = &event {
                    if *seq as usize <= self.received {
                        return;
                    }
                    self.received = *seq as usize;
                }
                if self.large.has_snapshot() {
                    queue.retain(|it| !matches!(it, Event::Snapshot(_)));
                }
                self.large.next(event, 1, give);
            }
            Frame::Push(push) => self.large.push(push, room, give),
            Frame::Messages(fetch, page) => self.large.messages(&fetch, page, give),
            Frame::Changes(fetch, page) => self.large.changes(&fetch, page, give),
        }
        queue.append(&mut given);
    }

    fn ask(&mut self) {
        let Some(session) = &mut self.server.session else { return };
        while self.queue.len() < ROOM
            && let Some(fetch) = self.large.fetch(self.now)
        {
            session.asked.push(fetch);
        }
    }

    fn consume(&mut self) {
        let Some(mut event) = self.queue.pop_front() else { return };
        let mut adopted = None;
        if let Event::Snapshot(snapshot) = &mut event {
            self.large.adopt(snapshot);
            adopted = Some(snapshot.position.seq);
        }
        self.stored.take(event);
        let Some(seq) = adopted else { return };
        self.received = seq as usize;
        match &self.server.session {
            Some(session) if session.snapshot.is_none() => {
                self.large.discard();
                self.lose();
                self.connect();
            }
            _ => self.server.adopted(seq),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(c) => self.server.send(c),
            Step::Change(c, which) => self.server.change(c, which),
            Step::Mode(c) => self.server.mode(c),
            Step::Pump(times) => (0..times).for_each(|_| self.server.pump()),
            Step::Deliver(times) => (0..times).for_each(|_| self.deliver()),
            Step::Ask => self.ask(),
            Step::Answer(which, ahead) => self.server.answer(which, ahead),
            Step::Consume(times) => (0..times).for_each(|_| self.consume()),
            Step::FallBack => self.server.fall_back(),
            Step::Connect => self.connect(),
            Step::Lose => self.lose(),
            Step::Crash => self.crash(),
            Step::Trim => self.server.trim(),
        }
    }

    /// Until nothing is left to do; then everything must be there.
    fn settle(&mut self) {
        self.connect();
        for _ in 0..2000 {
            self.server.pump();
            self.deliver();
            self.ask();
            self.server.answer(0, false);
            self.consume();
        }
        assert_eq!(self.large.behind(), 0);
        assert!(self.queue.is_empty() && self.large.held.is_empty() && self.large.noted.is_empty());
        assert_eq!(self.stored.seq, self.server.inbox.len());
        for (c, conversation) in self.server.conversations.iter().enumerate() {
            if let Some(last) = self.stored.last.get(&c).copied().unwrap_or(Some(0)) {
                assert_eq!(last, conversation.rows.len() as u64, "{} is whole", NAMES[c]);
            }
            assert_eq!(self.stored.cursors.contains_key(NAMES[c]), conversation.large);
        }
        for ((c, seq), revision) in &self.stored.revisions {
            let truth = self.server.conversations[*c].rows[*seq as usize - 1];
            assert_eq!(*revision, truth, "{} #{seq} is as it is now", NAMES[*c]);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize),
    Change(usize, usize),
    Mode(usize),
    Pump(usize),
    Deliver(usize),
    Ask,
    Answer(usize, bool),
    Consume(usize),
    FallBack,
    Connect,
    Lose,
    Crash,
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let c = || 0..NAMES.len();
    let step = prop_oneof![
        10 => c().prop_map(Step::Send),
        5 => (c(), 0usize..100).prop_map(|(c, which)| Step::Change(c, which)),
        3 => c().prop_map(Step::Mode),
        10 => (1usize..6).prop_map(Step::Pump),
        10 => (1usize..6).prop_map(Step::Deliver),
        6 => Just(Step::Ask),
        6 => (0usize..4, any::<bool>()).prop_map(|(which, ahead)| Step::Answer(which, ahead)),
        10 => (1usize..6).prop_map(Step::Consume),
        1 => Just(Step::FallBack),
        4 => Just(Step::Connect),
        2 => Just(Step::Lose),
        1 => Just(Step::Crash),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 0..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens in whatever order: no gap, no message twice, the newest content of each.
    #[test]
    fn nothing_is_missing_and_nothing_comes_twice(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
    }
}
