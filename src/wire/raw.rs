//! Batches and history pages written field by field, without generated structs in between.
//!
//! They are nearly all bytes a server sends. Through generated structs every id would be copied
//! into a `String` and every list into a `Vec`; here content is copied once, into the output.
//!
//! Each shape is described once, as [`Fields`] (`sink`). A property test holds the result against the
//! generated types.

use crate::{
    message::{MembershipAction, MembershipChange, MutationRef, Preferences},
    reply::{EntryView, LargeNews, MessageItem, NoticeView, PlacedMessage},
    seq::{HistorySeq, InboxSeq, MutationSeq},
    wire::{
        proto,
        reply::{role, state},
        sink::{Count, Fields, Sink},
    },
};

/// What a batch says of a message whose row cannot be read.
const DAMAGED_ROW: &str = "the message is damaged";

/// Bytes `entry` takes in a batch, key and length prefix included.
#[must_use]
pub fn entry_len(entry: &EntryView) -> usize {
    let mut count = Count::default();
    count.nested(5, &EntryFields(entry));
    count.len
}

/// Bytes `message` takes in a history page, key and length prefix included.
#[must_use]
pub fn message_len(message: &PlacedMessage) -> usize {
    let mut count = Count::default();
    count.nested(1, &MessageFields(message));
    count.len
}

/// A `ServerFrame` with one body.
pub(super) struct FrameFields<'a, B> {
    pub req_id: u64,
    /// The body's number in `ServerFrame.body`.
    pub number: u32,
    pub body: &'a B,
}

impl<B: Fields> Fields for FrameFields<'_, B> {
    fn run(&self, sink: &mut impl Sink) {
        sink.number(1, self.req_id);
        sink.nested(self.number, self.body);
    }
}

/// A `SyncBatch`: a run of entries right after `prev`.
pub(super) struct BatchFields<'a> {
    pub prev: InboxSeq,
    pub head: InboxSeq,
    pub entries: &'a [EntryView],
}

impl BatchFields<'_> {
    /// The seq of the last entry; `prev` when there is none.
    pub(super) fn last(&self) -> InboxSeq {
        InboxSeq::new(self.prev.number().saturating_add(self.entries.len() as u64))
    }
}

impl Fields for BatchFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.number(1, self.prev.number());
        sink.number(2, self.prev.next().number());
        sink.number(3, self.last().number());
        sink.number(4, self.head.number());
        for entry in self.entries {
            sink.nested(5, &EntryFields(entry));
        }
    }
}

struct EntryFields<'a>(&'a EntryView);

impl Fields for EntryFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        match self.0 {
            EntryView::Message { time, message } => {
                sink.number(1, time.millis());
                match message.message {
                    Some(_) => sink.nested(2, &MessageFields(message)),
                    None => sink.nested(15, &HoleFields(DAMAGED_ROW)),
                }
            }
            EntryView::Read { time, conversation, read_seq, marked_unread } => {
                sink.number(1, time.millis());
                sink.nested(6, &ReadFields(conversation.as_str(), *read_seq, *marked_unread));
            }
            EntryView::Recalled { time, mutation } => {
                sink.number(1, time.millis());
                sink.nested(3, &GoneFields(mutation));
            }
            EntryView::Edited { time, mutation, message } => {
                sink.number(1, time.millis());
                match message.message {
                    Some(_) => sink.nested(4, &EditedFields(message, *mutation)),
                    None => sink.nested(15, &HoleFields(DAMAGED_ROW)),
                }
            }
            EntryView::Deleted { time, mutation } => {
                sink.number(1, time.millis());
                sink.nested(13, &GoneFields(mutation));
            }
            EntryView::Hidden { time, conversation, seqs } => {
                sink.number(1, time.millis());
                sink.nested(5, &HiddenFields(conversation.as_str(), seqs));
            }
            EntryView::PeerRead { time, conversation, user, read_seq } => {
                sink.number(1, time.millis());
                let fields = PeerReadFields(conversation.as_str(), user.as_str(), *read_seq);
                sink.nested(7, &fields);
            }
            EntryView::Preferences { time, conversation, preferences } => {
                sink.number(1, time.millis());
                sink.nested(10, &PreferencesFields(conversation.as_str(), preferences));
            }
            EntryView::Cleared { time, conversation, cleared_to } => {
                sink.number(1, time.millis());
                sink.nested(11, &ReadFields(conversation.as_str(), *cleared_to, false));
            }
            EntryView::Notice { time, notice } => {
                sink.number(1, time.millis());
                sink.nested(12, &NoticeFields(notice));
            }
            EntryView::Mode { time, conversation, large, from } => {
                sink.number(1, time.millis());
                sink.nested(16, &ModeFields(conversation.as_str(), *large, *from));
            }
            EntryView::Membership { time, change } => {
                sink.number(1, time.millis());
                sink.nested(8, &MembershipFields(change));
            }
            EntryView::Hole { time, detail } => {
                sink.number(1, time.millis());
                sink.nested(15, &HoleFields(detail));
            }
        }
    }
}

struct HoleFields<'a>(&'a str);

impl Fields for HoleFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.text(1, self.0);
    }
}

/// A `ReadMarker`; without its flag also a `ConversationCleared`.
struct ReadFields<'a>(&'a str, HistorySeq, bool);

impl Fields for ReadFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.text(1, self.0);
        sink.number(2, self.1.number());
        sink.flag(3, self.2);
    }
}

/// A `MessageRecalled` and a `MessageDeleted`.
struct GoneFields<'a>(&'a MutationRef);

impl Fields for GoneFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.text(1, self.0.conversation.as_str());
        sink.number(2, self.0.seq.number());
        sink.text(3, self.0.by.as_str());
        sink.number(4, self.0.mutation.number());
    }
}

/// A `MessageEdited`.
struct EditedFields<'a>(&'a PlacedMessage, MutationSeq);

impl Fields for EditedFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.nested(1, &MessageFields(self.0));
        sink.number(2, self.1.number());
    }
}

/// A `MessageHidden`.
struct HiddenFields<'a>(&'a str, &'a [HistorySeq]);

impl Fields for HiddenFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.text(1, self.0);
        sink.packed(2, self.1.iter().map(|seq| seq.number()));
    }
}

/// A `PeerRead`.
struct PeerReadFields<'a>(&'a str, &'a str, HistorySeq);

impl Fields for PeerReadFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.text(1, self.0);
        sink.text(2, self.1);
        sink.number(3, self.2.number());
    }
}

/// `Preferences` with everything set.
struct PreferencesFields<'a>(&'a str, &'a Preferences);

impl Fields for PreferencesFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.text(1, self.0);
        sink.present(2, self.1.pinned);
        sink.present(3, self.1.muted);
        sink.present(4, self.1.hidden);
        sink.present_bytes(5, &self.1.draft);
    }
}

/// A `Notice`.
struct NoticeFields<'a>(&'a NoticeView);

impl Fields for NoticeFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.number(1, self.0.notice.number());
        sink.text(2, &self.0.content_type);
        sink.bytes(3, &self.0.content);
        sink.text(4, self.0.conversation.as_ref().map_or("", |id| id.as_str()));
    }
}

/// A `ModeChange`.
struct ModeFields<'a>(&'a str, bool, HistorySeq);

impl Fields for ModeFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.text(1, self.0);
        sink.flag(2, self.1);
        sink.number(3, self.2.number());
    }
}

/// A `ConversationPush`.
impl Fields for LargeNews {
    fn run(&self, sink: &mut impl Sink) {
        match self {
            Self::Message { message, prev } => {
                sink.nested(1, &MessageFields(message));
                sink.number(2, prev.number());
                sink.text(5, message.conversation.as_str());
            }
            Self::Mutation { message, mutation, prev } => {
                sink.nested(1, &MessageFields(message));
                sink.number(3, mutation.number());
                sink.number(4, prev.number());
                sink.text(5, message.conversation.as_str());
            }
            Self::Version { conversation, version } => {
                sink.text(5, conversation.as_str());
                sink.number(6, *version);
            }
        }
    }
}

/// A `MutationPage`.
pub(super) struct MutationPageFields<'a> {
    pub mutations: &'a [(MutationSeq, PlacedMessage)],
    pub last: MutationSeq,
    pub complete: bool,
}

impl Fields for MutationPageFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        for item in self.mutations {
            sink.nested(1, &MutationFields(item));
        }
        sink.number(2, self.last.number());
        sink.flag(3, self.complete);
    }
}

struct MutationFields<'a>(&'a (MutationSeq, PlacedMessage));

impl Fields for MutationFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        sink.number(1, self.0.0.number());
        sink.nested(2, &MessageFields(&self.0.1));
    }
}

/// Bytes a mutation takes in a page, key and length prefix included.
pub(super) fn mutation_len(item: &(MutationSeq, PlacedMessage)) -> usize {
    let mut count = Count::default();
    count.nested(1, &MutationFields(item));
    count.len
}

/// `MessageItems` that take at most so many bytes.
pub(super) struct ItemsFields<'a> {
    pub items: &'a [MessageItem],
    pub bytes_max: usize,
}

impl Fields for ItemsFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        // What an item takes that is absent, or only marked as skipped: it always has its room.
        const EMPTY: usize = 4;
        let mut left = self.bytes_max.saturating_sub(self.items.len() * EMPTY);
        for item in self.items {
            let message = match item {
                MessageItem::Found(message) => Some(message),
                MessageItem::Absent | MessageItem::Skipped => None,
            };
            let skipped = *item == MessageItem::Skipped;
            let whole = ItemFields { message, skipped };
            let mut more = Count::default();
            more.nested(1, &whole);
            let more = more.len.saturating_sub(EMPTY);
            if more <= left {
                left -= more;
                sink.nested(1, &whole);
            } else {
                sink.nested(1, &ItemFields { message: None, skipped: true });
            }
        }
    }
}

struct ItemFields<'a> {
    message: Option<&'a PlacedMessage>,
    skipped: bool,
}

impl Fields for ItemFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        if let Some(message) = self.message {
            sink.nested(1, &MessageFields(message));
        }
        sink.flag(2, self.skipped);
    }
}

struct MembershipFields<'a>(&'a MembershipChange);

impl Fields for MembershipFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        let change = self.0;
        let action = match change.action {
            MembershipAction::Created => proto::MembershipAction::Created,
            MembershipAction::Added => proto::MembershipAction::Added,
            MembershipAction::Removed => proto::MembershipAction::Removed,
            MembershipAction::Left => proto::MembershipAction::Left,
            MembershipAction::Role => proto::MembershipAction::Role,
            MembershipAction::Disbanded => proto::MembershipAction::Disbanded,
            MembershipAction::Title => proto::MembershipAction::Title,
        };
        sink.text(1, change.conversation.as_str());
        sink.number(2, action as u64);
        sink.text(3, change.by.as_str());
        for user in &change.users {
            sink.element(4, user.as_str());
        }
        sink.number(5, change.user_count.into());
        sink.number(6, change.member_count.into());
        sink.number(7, change.at.number());
        sink.number(8, change.role.map_or(0, |own| role(own) as u64));
        sink.text(9, &change.title);
    }
}

/// A `Message`; of a damaged row only its place.
struct MessageFields<'a>(&'a PlacedMessage);

impl Fields for MessageFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        let Some(message) = &self.0.message else {
            sink.text(2, self.0.conversation.as_str());
            sink.number(3, self.0.seq.number());
            return;
        };
        let draft = &message.draft;
        sink.number(1, message.id.number());
        sink.text(2, self.0.conversation.as_str());
        sink.number(3, self.0.seq.number());
        sink.text(4, message.sender.as_str());
        sink.text(5, message.device.as_str());
        sink.number(6, message.client_id.number());
        sink.number(7, message.time.millis());
        sink.number(8, draft.created_at.millis());
        sink.text(9, &draft.content_type);
        sink.bytes(10, &draft.content);
        sink.number(11, draft.reply_to.number());
        for user in &draft.mentions {
            sink.element(12, user.as_str());
        }
        sink.flag(13, draft.flags.silent);
        sink.flag(14, draft.flags.uncounted);
        sink.number(15, state(self.0.state) as u64);
        sink.number(16, self.0.revision.into());
        sink.number(17, self.0.edited.millis());
    }
}

/// A `HistoryPage`.
pub(super) struct PageFields<'a> {
    pub messages: &'a [PlacedMessage],
    pub visible_first: HistorySeq,
    pub visible_last: HistorySeq,
    pub mutation: MutationSeq,
    pub complete: bool,
}

impl Fields for PageFields<'_> {
    fn run(&self, sink: &mut impl Sink) {
        let seq = |message: Option<&PlacedMessage>| message.map_or(0, |m| m.seq.number());
        for message in self.messages {
            sink.nested(1, &MessageFields(message));
        }
        sink.number(2, seq(self.messages.first()));
        sink.number(3, seq(self.messages.last()));
        sink.number(4, self.visible_first.number());
        sink.number(5, self.visible_last.number());
        sink.number(6, self.mutation.number());
        sink.flag(7, self.complete);
    }
}
