//! What one user sees of the messages of one conversation: the stored row, less what is not for this
//! user, with the change that was made of it laid over. Every path on which a message leaves the
//! server goes through here, so that none of them can show too much.
//!
//! A sight is opened after its rows are known to be there: then nothing that was done to them before
//! is missed. It takes the end of the mutation log first and the membership second: whoever is a
//! member then may see every edit up to that end, and whoever has left by then sees no edit made
//! after it left, whatever happens meanwhile. What cannot be read is a hole, never the content that
//! a change was to replace.

use std::{iter::Peekable, vec};

use hashbrown::{HashMap, hash_map::EntryRef};

use crate::{
    conversation::Membership,
    history::{self, Alike, Change, Laid, Mutation},
    id::{ConversationId, UserId},
    message::{Message, MessageState},
    planted::{self, Bug},
    reply::PlacedMessage,
    seq::{HistorySeq, MutationSeq},
    store::{
        LogEntry, ReadLimit, Reader, StoreError,
        catalogue::{LogKey, Table, membership_key, row_of_user_key},
    },
};

/// Rows read at once when they are asked for one after the other: they stand together in the store.
const AHEAD: ReadLimit = ReadLimit { entries: 32, bytes: 32 << 10 };

/// One user's view of one conversation, at the moment it was opened.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    reader: &'a Reader,
    user: &'a UserId,
    conversation: ConversationId,
    history: LogKey,
    /// None when what decides is missing or damaged: then nothing is shown.
    known: Option<Known>,
    /// The row behind the one that was asked for last, and rows from there on. A row never changes.
    next: HistorySeq,
    ahead: Peekable<vec::IntoIter<LogEntry>>,
    alike: Alike,
}

#[derive(Debug)]
struct Known {
    own: Membership,
    /// Edits after this one are not for the user.
    edits: MutationSeq,
    /// No message of the conversation was ever changed.
    unchanged: bool,
}

impl<'a> Sight<'a> {
    pub(super) fn open(
        reader: &'a Reader,
        user: &'a UserId,
        conversation: &ConversationId,
    ) -> Result<Self, StoreError> {
        let head = readable(reader.bounds(&LogKey::mutations(conversation)))?;
        let own = readable(reader.row(Table::Membership, &membership_key(user, conversation)))?;
        let own = own.flatten().and_then(|row| Membership::decode(row).ok());
        let known = head.zip(own).map(|(head, own)| {
            let head = MutationSeq::new(head.last);
            let edits = if own.is_member() { head } else { own.left_mutation };
            Known { own, edits, unchanged: head == MutationSeq::ZERO }
        });
        let history = LogKey::history(conversation);
        Ok(Self {
            reader,
            user,
            conversation: conversation.clone(),
            history,
            known,
            next: HistorySeq::ZERO,
            ahead: Vec::new().into_iter().peekable(),
            alike: Alike::default(),
        })
    }

    /// The change up to which what is shown is up to date.
    pub(super) fn mutation(&self) -> MutationSeq {
        self.known.as_ref().map_or(MutationSeq::ZERO, |known| known.edits)
    }

    /// Whether the row is one of those the user may see.
    pub(super) fn sees(&self, seq: HistorySeq) -> bool {
        self.known.as_ref().is_some_and(|known| known.own.sees(seq))
    }

    /// A message as the user sees it.
    pub(super) fn message(&mut self, seq: HistorySeq) -> Result<PlacedMessage, StoreError> {
        let row = self.row(seq)?;
        self.show(seq, row)
    }

    fn row(&mut self, seq: HistorySeq) -> Result<Option<Message>, StoreError> {
        let number = seq.number();
        if std::mem::replace(&mut self.next, seq.next()) == seq {
            if self.ahead.peek().is_none_or(|entry| entry.seq != number) {
                self.ahead = self.reader.read(&self.history, number, AHEAD)?.into_iter().peekable();
            }
            if let Some(entry) = self.ahead.next_if(|entry| entry.seq == number) {
                return Ok(history::parse_alike(entry, &mut self.alike).1);
            }
        }
        history::row(self.reader, &self.history, seq)
    }

    /// As [`Sight::message`], of a row that was read already.
    pub(super) fn show(
        &self,
        seq: HistorySeq,
        message: Option<Message>,
    ) -> Result<PlacedMessage, StoreError> {
        let hole = || PlacedMessage::new(self.conversation.clone(), seq, None);
        let Some(known) = self.known.as_ref().filter(|known| known.own.was_shown(seq)) else {
            return Ok(hole());
        };
        let placed = PlacedMessage::new(self.conversation.clone(), seq, message);
        if seq <= known.own.cleared_to || self.is_hidden(known, seq)? {
            return Ok(placed.blanked(MessageState::Hidden));
        }
        if known.unchanged {
            return Ok(placed);
        }
        Ok(match history::laid(self.reader, &self.conversation, seq, known.edits)? {
            Laid::Nothing => placed,
            Laid::Change(mutation) => changed(placed, mutation),
            Laid::Damaged => hole(),
        })
    }

    fn is_hidden(&self, known: &Known, seq: HistorySeq) -> Result<bool, StoreError> {
        if seq > known.own.hidden_max {
            return Ok(false);
        }
        let key = row_of_user_key(self.user, &self.conversation, seq);
        // That the row is there is what counts, not what is in it.
        Ok(readable(self.reader.row(Table::Hidden, &key))?.is_none_or(|row| row.is_some()))
    }
}

/// One user's views of several conversations, each opened when it is first asked for.
#[derive(Debug)]
pub(super) struct Sights<'a> {
    reader: &'a Reader,
    user: &'a UserId,
    open: HashMap<ConversationId, Sight<'a>>,
}

impl<'a> Sights<'a> {
    pub(super) fn new(reader: &'a Reader, user: &'a UserId) -> Self {
        Self { reader, user, open: HashMap::new() }
    }

    pub(super) fn of(
        &mut self,
        conversation: &ConversationId,
    ) -> Result<&mut Sight<'a>, StoreError> {
        Ok(match self.open.entry_ref(conversation) {
            EntryRef::Occupied(there) => there.into_mut(),
            EntryRef::Vacant(place) => {
                place.insert(Sight::open(self.reader, self.user, conversation)?)
            }
        })
    }
}

fn changed(placed: PlacedMessage, mutation: Mutation) -> PlacedMessage {
    match mutation.change {
        Change::Recalled if planted::is(Bug::RecalledContentLeaves) => placed,
        Change::Recalled => placed.blanked(MessageState::Recalled),
        Change::Deleted => placed.blanked(MessageState::Deleted),
        Change::Edited { revision, content_type, content } => {
            let message = placed.message.map(|mut message| {
                message.draft.content_type = content_type;
                message.draft.content = content;
                message
            });
            PlacedMessage { message, revision, edited: mutation.time, ..placed }
        }
    }
}

/// None for what is damaged: here that is an answer, not a failure.
pub(super) fn readable<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(it) => Ok(Some(it)),
        Err(StoreError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
