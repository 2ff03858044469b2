//! What the model found, one test for each cause, so that it stays found. The model says what is
//! right; a step fails when the engine differs.

use std::time::Duration;

use bytes::Bytes;
use roamd::{
    engine::{Caller, Command},
    id::{ClientMessageId, ConversationId, DeviceId, SessionId},
    limits::Limits,
    message::{Draft, HistoryPolicy, MessageFlags},
    request::{Destination, Direction, Position, Request},
    seq::{HistorySeq, InboxSeq},
    time::Timestamp,
};

use super::{
    driver::Driver,
    plan::{self, Step, user},
};

struct Script(Driver);

impl Script {
    fn new(limits: Limits) -> Self {
        Self(Driver::with(1, limits).unwrap())
    }

    fn step(&mut self, step: Step) {
        let shown = format!("{step:?}");
        self.0.step(step).unwrap_or_else(|found| panic!("{shown}: {found}"));
    }

    fn ask(&mut self, name: &str, request: Request) {
        self.step(Step::Do(caller(name), Command::Request(request)));
    }

    fn create(&mut self, name: &str, group: &str, users: &[&str], policy: HistoryPolicy) {
        let client_id = self.next_id(name);
        self.ask(name, creation(client_id, group, users, policy));
    }

    fn send(&mut self, name: &str, group: &str) {
        let draft = Draft {
            created_at: Timestamp::default(),
            content_type: "text/plain".into(),
            content: Bytes::from_static(b"hello"),
            reply_to: HistorySeq::ZERO,
            mentions: Vec::new(),
            flags: MessageFlags::default(),
        };
        let to = Destination::Conversation(id(group));
        let client_id = self.next_id(name);
        self.ask(name, Request::Send { to, client_id, draft });
    }

    fn next_id(&self, name: &str) -> ClientMessageId {
        ClientMessageId::new(self.0.model.last_client_id(&caller(name)) + 1)
    }

    fn add(&mut self, name: &str, group: &str, who: &str) {
        self.ask(name, Request::AddMembers { conversation: id(group), users: vec![user(who)] });
    }

    fn leave(&mut self, name: &str, group: &str) {
        self.ask(name, Request::LeaveGroup { conversation: id(group) });
    }

    fn mark(&mut self, name: &str, group: &str, row: u64) {
        let read_seq = HistorySeq::new(row);
        self.ask(
            name,
            Request::MarkRead { conversation: id(group), read_seq, peer_visible: false },
        );
    }

    fn attach(&mut self, name: &str) {
        let seq = self.0.model.head(&user(name));
        let resume = Some(Position { epoch: self.0.model.epoch, seq });
        let attach = plan::attach(resume, 0);
        self.step(Step::Do(caller(name), attach));
    }

    fn wait(&mut self, millis: u64) {
        self.step(Step::Wait(Duration::from_millis(millis)));
    }

    fn flush(&mut self) {
        self.step(Step::Flush);
    }
}

fn caller(name: &str) -> Caller {
    let device = DeviceId::new("p").unwrap();
    Caller { user: user(name), device, session: SessionId::new(1), admin: false }
}

fn id(text: &str) -> ConversationId {
    ConversationId::new(text).unwrap()
}

fn creation(
    client_id: ClientMessageId,
    group: &str,
    users: &[&str],
    policy: HistoryPolicy,
) -> Request {
    Request::CreateGroup {
        client_id,
        conversation: Some(id(group)),
        title: "".into(),
        users: users.iter().map(|name| user(name)).collect(),
        policy,
    }
}

const SINCE: HistoryPolicy = HistoryPolicy::SinceJoin;

/// Cause: a pull after an entry that was never assigned was an empty batch, which a device that has
/// more than the server takes for "nothing new". Now RESYNC_NEEDED.
#[test]
fn a_pull_beyond_the_head_is_not_nothing_new() {
    let mut script = Script::new(Limits::default());
    script.create("a", "c", &["b"], SINCE);
    for after in [0, 1, 2, 9] {
        script.ask("a", Request::SyncPull { after: InboxSeq::new(after), limit: 5 });
    }
    script.flush();
}

/// Cause: a retried CreateGroup was answered with the members of today, also to a creator who has
/// left. A retry gets the first answer.
#[test]
fn a_retried_creation_tells_what_was_told_then() {
    let mut script = Script::new(Limits::default());
    let creation = creation(ClientMessageId::new(1), "c", &["b"], SINCE);
    script.ask("a", creation.clone());
    script.leave("a", "c");
    script.add("b", "c", "ab");
    script.add("b", "c", "aa");
    script.ask("a", creation);
    script.flush();
}

/// Cause: the order of unread conversations went by the newest message, also for somebody who left
/// before it was written, and so told of it.
#[test]
fn unread_lists_go_by_what_the_user_may_see() {
    let mut script = Script::new(Limits::default());
    script.create("a", "c", &["b"], SINCE);
    script.create("a", "cc", &["b"], SINCE);
    script.wait(1);
    script.send("a", "c");
    script.leave("b", "c");
    script.wait(1);
    script.send("a", "cc");
    script.wait(1);
    script.send("a", "c");
    script.step(Step::Do(caller("b"), Command::CaughtUp));
    script.flush();
}

/// Cause: with nothing visible, the ends of what is visible were those of the whole history, also
/// for somebody who had left: it could follow how many messages were written, and move its marker.
#[test]
fn whoever_left_without_a_message_learns_nothing_of_the_head() {
    let mut script = Script::new(Limits::default());
    script.create("a", "c", &[], SINCE);
    script.send("a", "c");
    script.add("a", "c", "b");
    script.leave("b", "c");
    script.send("a", "c");
    script.mark("b", "c", 2);
    script.ask("b", Request::GetConversations { conversations: vec![id("c")] });
    let direction = Direction::Newest;
    script.ask(
        "b",
        Request::FetchHistory { conversation: id("c"), direction, limit: 5, max_bytes: 1 << 20 },
    );
    script.flush();
}

/// Cause: the limit of conversations was asked also for somebody who comes back, and who has the
/// conversation already.
#[test]
fn coming_back_needs_no_room_for_another_conversation() {
    let mut script = Script::new(Limits { conversations_per_user: 1, ..Limits::default() });
    script.create("a", "c", &["b"], SINCE);
    script.leave("b", "c");
    script.add("a", "c", "b");
    script.flush();
}

/// Cause: the READ entry that an attach makes up for did not start the silence of two seconds, so
/// that the next mark wrote a second one.
#[test]
fn a_read_entry_made_up_for_starts_the_silence_too() {
    let mut script = Script::new(Limits::default());
    script.create("a", "c", &["b"], SINCE);
    for _ in 0..3 {
        script.send("a", "c");
    }
    script.mark("b", "c", 1);
    script.mark("b", "c", 2);
    script.flush();
    script.step(Step::Crash);
    script.attach("b");
    script.mark("b", "c", 3);
    script.flush();
    script.wait(3_000);
    script.flush();
}

/// Cause: READ entries due at the same time were written in the order of a hash table, which is
/// another one in every process. The same input must give the same log.
#[test]
fn read_entries_due_together_come_in_one_order() {
    let mut script = Script::new(Limits::default());
    let groups = ["c", "cc", "team", "x", "y", "z"];
    for group in groups {
        script.create("a", group, &["b"], SINCE);
        script.send("a", group);
        script.send("a", group);
        script.mark("b", group, 1);
    }
    for group in groups {
        script.mark("b", group, 2);
    }
    script.wait(2_000);
    script.flush();
}
