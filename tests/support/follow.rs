//! What a device makes of one group, whichever way its messages come: by the inbox, by pushes, or
//! fetched where the rules of `docs/protocol.md` say that something is missing. Every message is
//! taken once and in order, or the test fails.

use roamd::wire::proto::{
    ConversationCursor, Direction, Message, MessageState, ModeChange, entry::Kind,
};

use super::{Client, client::Came};

/// One device's copy of a conversation.
#[derive(Debug)]
pub struct Copy {
    pub id: String,
    /// The last message taken.
    pub history_seq: u64,
    pub mutation_seq: u64,
    pub version: u64,
    pub large: bool,
    /// Every message taken: its number and content.
    pub messages: Vec<(u64, String)>,
    /// Messages that came by the inbox, by push, and had to be fetched.
    pub by_inbox: usize,
    pub by_push: usize,
    pub fetched: usize,
    /// Pushes of what was there already.
    pub dropped: usize,
}

impl Copy {
    /// Of a device that has everything up to this message.
    pub fn new(id: &str, history_seq: u64) -> Self {
        Self {
            id: id.into(),
            history_seq,
            mutation_seq: 0,
            version: 0,
            large: false,
            messages: Vec::new(),
            by_inbox: 0,
            by_push: 0,
            fetched: 0,
            dropped: 0,
        }
    }

    /// For Hello.
    pub fn cursor(&self) -> ConversationCursor {
        ConversationCursor {
            conversation_id: self.id.clone(),
            history_seq: self.history_seq,
            mutation_seq: self.mutation_seq,
            version: self.version,
        }
    }

    /// Takes everything that has come so far.
    #[track_caller]
    pub fn follow(&mut self, client: &mut Client) {
        while let Some(came) = client.came.pop_front() {
            match came {
                Came::Entry(_, entry) => match entry.kind {
                    Some(Kind::Message(message)) if message.conversation_id == self.id => {
                        assert!(!self.large, "an entry of a large group: {message:?}");
                        if message.history_seq > self.history_seq {
                            self.by_inbox += 1;
                            self.take(&message);
                        }
                    }
                    Some(Kind::Mode(mode)) if mode.conversation_id == self.id => {
                        self.change(client, &mode);
                    }
                    _ => {}
                },
                Came::News(news) => {
                    if let Some(message) = &news.message
                        && message.conversation_id == self.id
                    {
                        self.push(client, message, news.prev_history_seq, news.mutation_seq);
                    } else if news.conversation_id == self.id {
                        self.version = news.version;
                    }
                }
                Came::CaughtUp(state) => {
                    let hint = state.hints.iter().find(|hint| hint.conversation_id == self.id);
                    if let Some(hint) = hint {
                        self.fetch(client, hint.history_seq);
                        self.mutation_seq = self.mutation_seq.max(hint.mutation_seq);
                        self.version = self.version.max(hint.version);
                    }
                }
            }
        }
    }

    #[track_caller]
    fn push(&mut self, client: &mut Client, message: &Message, prev: u64, mutation: u64) {
        if mutation > 0 {
            self.mutation_seq = self.mutation_seq.max(mutation);
        } else if message.history_seq <= self.history_seq {
            self.dropped += 1;
        } else {
            assert!(self.large, "a push of what is not large: {message:?}");
            self.fetch(client, prev);
            self.by_push += 1;
            self.take(message);
        }
    }

    #[track_caller]
    fn change(&mut self, client: &mut Client, mode: &ModeChange) {
        if mode.large {
            // Whoever joins begins here; whoever was there has everything before.
            self.history_seq = self.history_seq.max(mode.history_seq - 1);
        } else {
            self.fetch(client, mode.history_seq - 1);
        }
        self.large = mode.large;
    }

    /// Whatever is missing up to this message.
    #[track_caller]
    fn fetch(&mut self, client: &mut Client, upto: u64) {
        while self.history_seq < upto {
            let page = client.history(&self.id, Direction::Newer, self.history_seq, 200);
            assert!(!page.messages.is_empty(), "nothing after {} of {upto}", self.history_seq);
            for message in page.messages.iter().filter(|message| message.history_seq <= upto) {
                self.fetched += 1;
                self.take(message);
            }
        }
    }

    #[track_caller]
    fn take(&mut self, message: &Message) {
        assert_eq!(message.history_seq, self.history_seq + 1, "a gap: {self:?}");
        assert_ne!(message.state(), MessageState::Unspecified, "a hole: {message:?}");
        self.history_seq = message.history_seq;
        let content = String::from_utf8_lossy(&message.content).into_owned();
        self.messages.push((message.history_seq, content));
    }
}
