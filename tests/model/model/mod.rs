//! The reference: what the protocol says, in the plainest data and the plainest code.
//!
//! Written from `docs/protocol.md` and the comments of `roamd.proto`, not from the engine. Histories
//! and inboxes are vectors that nothing is ever taken out of; what may be seen are ranges; what was
//! read is a set of rows; unread is counted one by one. Nothing here is fast, and nothing is derived
//! from anything but the data itself. One room for each part of the protocol.

mod inbox;
mod large;
mod lists;
mod members;
mod messages;
mod mutations;
mod notices;
mod own;
mod presence;
mod reads;
mod sessions;
mod sight;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use roamd::{
    engine::{Caller, Command, Compared, Now},
    id::{ConversationId, DeviceId, Epoch, MessageId, UserId},
    limits::Limits,
    message::{ConversationKind, HistoryPolicy, Message, Preferences, Role},
    refusal::{ErrorCode, Refusal},
    reply::{ConversationUnread, NoticeView, Reply},
    request::{LargeCursor, Request},
    seq::InboxSeq,
    time::Timestamp,
};

pub use self::{
    inbox::Inbox,
    lists::MORE,
    messages::Accepted,
    presence::{News, Sessions},
};

/// What comes back for one command, when it has left the process.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Nothing,
    Reply(Reply),
    Attached(Compared),
    Resumed(Compared),
    CaughtUp {
        seq: InboxSeq,
        unread_total: u64,
        changed: Vec<ConversationUnread>,
        complete: bool,
        large: Vec<LargeCursor>,
    },
}

/// What an answer says. Content is joined when an answer leaves, after the flush: by then a message
/// may be gone that was there when the request was applied.
pub enum Expected {
    Now(Outcome),
    AtFlush(Box<dyn FnOnce(&Model) -> Outcome>),
}

impl Expected {
    /// What leaves, given the state that is durable then.
    pub fn at(self, durable: &Model) -> Outcome {
        match self {
            Self::Now(outcome) => outcome,
            Self::AtFlush(outcome) => outcome(durable),
        }
    }
}

/// Where a list continues: the sort key of the last item of a page.
pub type PageKey = (u64, String);

/// What only the server can know: the numbers and names it chose, and what it chose to forget.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    pub message: Option<MessageId>,
    pub group: Option<ConversationId>,
    pub stale: bool,
    /// A part of the protocol that is not built yet.
    pub off: bool,
    /// The disk is full: the row of a device that comes is kept in memory.
    pub waits: bool,
    /// The meaning of the page token in the request.
    pub page: Option<PageKey>,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub role: Role,
    pub joined_seq: u64,
    pub joined: Timestamp,
}

/// What one user has, or had, to do with a conversation.
#[derive(Clone, Debug)]
pub struct Place {
    /// Rows it may see: first, and last once it has left.
    pub stays: Vec<(u64, Option<u64>)>,
    pub joined: Timestamp,
    /// Every row that is read.
    pub read: BTreeSet<u64>,
    /// The last change of messages when it left; none while it is a member.
    pub left_mutation: Option<u64>,
    /// The title when it left.
    pub left_title: Arc<str>,
    /// Everything up to here is gone for it.
    pub cleared: u64,
    /// Every row it ever deleted for itself.
    pub hidden: BTreeSet<u64>,
    pub marked_unread: bool,
    /// The read marker its devices know of.
    pub told: u64,
    pub preferences: Preferences,
    pub preferences_told: bool,
    /// How far the peer may know that it has read, and was told.
    pub peer_visible: u64,
    pub peer_told: u64,
}

impl Place {
    pub fn read_seq(&self) -> u64 {
        self.read.last().copied().unwrap_or(0)
    }

    /// Whether the row was ever for it.
    pub fn was_shown(&self, row: u64) -> bool {
        self.stays.iter().any(|(first, last)| *first <= row && last.is_none_or(|last| row <= last))
    }

    pub fn sees(&self, row: u64) -> bool {
        row > self.cleared && self.was_shown(row)
    }

    fn read_up_to(&mut self, row: u64) {
        self.read.extend(1..=row);
    }
}

/// What was done to a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Recalled,
    Edited(Arc<str>, Bytes),
    Deleted,
}

/// One change of one message; the number of a change is its place.
#[derive(Clone, Debug)]
pub struct Mutation {
    pub row: u64,
    pub time: Timestamp,
    pub change: Change,
    /// Members who were shown the message.
    pub for_whom: BTreeSet<UserId>,
}

#[derive(Clone, Debug)]
pub struct Talk {
    pub kind: ConversationKind,
    pub title: Arc<str>,
    pub policy: HistoryPolicy,
    pub created: Timestamp,
    pub version: u64,
    pub large: bool,
    pub disbanded: bool,
    /// Row `n` is at `n - 1`, as it was sent.
    pub rows: Vec<Message>,
    /// Who was a member when a row was written.
    pub written_for: Vec<BTreeSet<UserId>>,
    /// Change `n` is at `n - 1`.
    pub mutations: Vec<Mutation>,
    pub members: BTreeMap<UserId, Member>,
    pub places: BTreeMap<UserId, Place>,
}

impl Talk {
    pub fn head(&self) -> u64 {
        self.rows.len() as u64
    }

    pub fn last_mutation(&self) -> u64 {
        self.mutations.len() as u64
    }

    /// Taken from everybody.
    pub fn is_gone(&self, row: u64) -> bool {
        let of_row = self.mutations.iter().filter(|mutation| mutation.row == row);
        of_row.into_iter().any(|mutation| !matches!(mutation.change, Change::Edited(..)))
    }
}

/// A device that has been here.
#[derive(Clone, Debug)]
pub struct Device {
    pub cursor: u64,
    platform: String,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

/// Whose, and of which conversation.
pub type Key = (UserId, ConversationId);

/// Everything the server would know, in one value that can be copied: the state at a flush.
#[derive(Clone, Debug)]
pub struct Model {
    pub limits: Limits,
    pub epoch: Epoch,
    pub talks: BTreeMap<ConversationId, Talk>,
    pub inboxes: BTreeMap<UserId, Inbox>,
    /// Every device that ever attached and was not revoked.
    pub devices: BTreeMap<(UserId, DeviceId), Device>,
    /// Until when tokens of a device are worth nothing.
    revoked: BTreeMap<(UserId, DeviceId), Timestamp>,
    /// Where the push hook reaches a device: provider and token.
    push_targets: BTreeMap<(UserId, DeviceId), (Arc<str>, Arc<str>)>,
    /// Users whose inbox grew since the last flush.
    pub grown: BTreeSet<UserId>,
    accepted: BTreeMap<(UserId, DeviceId), BTreeMap<u64, Accepted>>,
    message_ids: BTreeSet<MessageId>,
    latest: Timestamp,
    /// Notice `n` is at `n - 1`.
    pub notices: Vec<NoticeView>,
    /// What those who are online are told after the next flush.
    pub news: News,
    // Lost in a crash, and allowed to be.
    pub sessions: Sessions,
    seen: BTreeMap<(UserId, DeviceId), Timestamp>,
    cursors: BTreeMap<(UserId, DeviceId), u64>,
    cursors_due: Option<Instant>,
    /// Devices that came while the disk was full, and what is stored of them meanwhile.
    unwritten: BTreeMap<(UserId, DeviceId), Option<Device>>,
    /// In the order in which the silences began.
    quiet: Vec<own::Silence>,
}

pub fn refused(code: ErrorCode) -> Outcome {
    Outcome::Reply(Reply::Refused(Refusal::new(code, "")))
}

fn done(inbox_seq: InboxSeq) -> Outcome {
    Outcome::Reply(Reply::Done { inbox_seq })
}

/// Nothing was to be done.
fn nothing() -> Outcome {
    done(InboxSeq::ZERO)
}

impl Model {
    pub fn new(limits: Limits, epoch: Epoch) -> Self {
        Self {
            limits,
            epoch,
            talks: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            devices: BTreeMap::new(),
            revoked: BTreeMap::new(),
            push_targets: BTreeMap::new(),
            grown: BTreeSet::new(),
            accepted: BTreeMap::new(),
            message_ids: BTreeSet::new(),
            latest: Timestamp::default(),
            notices: Vec::new(),
            news: News::default(),
            sessions: Sessions::default(),
            seen: BTreeMap::new(),
            cursors: BTreeMap::new(),
            cursors_due: None,
            unwritten: BTreeMap::new(),
            quiet: Vec::new(),
        }
    }

    /// Does one command; says what is answered, and where the next page of a list would begin.
    pub fn apply(
        &mut self,
        now: Now,
        caller: &Caller,
        command: &Command,
        chosen: &Chosen,
    ) -> (Expected, Option<PageKey>) {
        self.latest = self.latest.max(now.wall);
        if chosen.off {
            return (Expected::Now(refused(ErrorCode::FeatureOff)), None);
        }
        let outcome = match command {
            Command::Attach { issued, .. } if self.is_revoked(caller, *issued) => {
                refused(ErrorCode::Unauthenticated)
            }
            Command::Attach { resume, missed_entries, platform, background, .. } => {
                let (missed, who) = (u64::from(*missed_entries), (&**platform, *background));
                self.attach(now, caller, *resume, missed, who, chosen.waits)
            }
            Command::Resume(at) => Outcome::Resumed(self.compare(now, caller, Some(*at), 0, 0)),
            Command::CaughtUp => self.caught_up(caller),
            Command::Detach => self.detach(now, caller),
            Command::Cursor(seq) => self.cursor(now, caller, *seq),
            Command::Request(_) if self.is_over(caller) => refused(ErrorCode::WrongState),
            Command::Request(request) => match self.change(now, caller, request, chosen) {
                Some(outcome) => outcome,
                None => {
                    let mut next = None;
                    return (self.read(caller, request, chosen, &mut next), next);
                }
            },
        };
        (Expected::Now(outcome), None)
    }

    /// The requests that change something; none = it only reads.
    fn change(
        &mut self,
        now: Now,
        caller: &Caller,
        request: &Request,
        chosen: &Chosen,
    ) -> Option<Outcome> {
        Some(match request {
            Request::Send { to, client_id, draft } => {
                self.send(now, caller, to, *client_id, draft, chosen)
            }
            Request::CancelSend { client_id } => self.cancel(now, caller, *client_id, chosen),
            Request::Recall { conversation, seq } => {
                self.recall(now, caller, conversation, seq.number())
            }
            Request::Edit { conversation, seq, content_type, content, base_revision } => {
                let new = (Arc::clone(content_type), content.clone());
                self.edit(now, caller, conversation, seq.number(), new, *base_revision)
            }
            Request::DeleteForAll { conversation, seq } => {
                self.delete_for_all(now, caller, conversation, seq.number())
            }
            Request::MarkRead { conversation, read_seq, peer_visible } => {
                self.mark_read(now, caller, conversation, read_seq.number(), *peer_visible)
            }
            Request::MarkUnread { conversation } => self.mark_unread(now, caller, conversation),
            Request::DeleteForMe { conversation, seqs } => {
                self.delete_for_me(now, caller, conversation, seqs)
            }
            Request::ClearConversation { conversation, to } => {
                self.clear(now, caller, conversation, to.number())
            }
            Request::SetPreferences { conversation, change } => {
                self.set_preferences(now, caller, conversation, change)
            }
            Request::CreateGroup { client_id, conversation, title, users, policy } => {
                let title = Arc::clone(title);
                let payload = (conversation.clone(), title, users.clone(), *policy);
                self.create_group(now, caller, *client_id, payload, chosen)
            }
            Request::AddMembers { conversation, users } => {
                self.add_members(now, caller, conversation, users)
            }
            Request::RemoveMembers { conversation, users } => {
                self.remove_members(now, caller, conversation, users)
            }
            Request::LeaveGroup { conversation } => self.leave_group(now, caller, conversation),
            Request::DisbandGroup { conversation } => self.disband(now, caller, conversation),
            Request::SetRole { conversation, user, role } => {
                self.set_role(now, caller, conversation, user, *role)
            }
            Request::SetTitle { conversation, title } => {
                self.set_title(now, caller, conversation, title)
            }
            Request::SetPresence { background } => self.set_presence(now, caller, *background),
            Request::SubscribePresence { users, unsubscribe } => {
                self.subscribe(caller, users, *unsubscribe)
            }
            Request::SendEphemeral { conversation, content_type, content } => {
                self.ephemeral(caller, conversation, content_type, content)
            }
            Request::SendNotice { to, client_id, content_type, content } => {
                let what = (Arc::clone(content_type), content.clone());
                self.notice(now, caller, to, *client_id, what, chosen)
            }
            Request::RegisterPush { provider, token } => {
                self.register_push(caller, provider, token.reveal())
            }
            Request::KickDevice { device } => self.kick(now, caller, device),
            Request::RevokeDevice { device } => self.revoke(now, caller, device),
            _ => return None,
        })
    }
}
