//! The push hook: which device without a live session is to be told of what, and what it was told.
//!
//! Three rows: a [`Target`] per device that can be reached, an [`Outbox`] per (device, conversation)
//! with the one thing the device is to be told next and what it shows, and a [`Round`] per large
//! conversation whose members are being told. The rules that change an outbox are here, as functions
//! of values; who calls them, and the hook itself, are further out.

mod outbox;
mod round;
mod target;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{
    outbox::{Facts, Kind, News, Next, Outbox, SHOWN_MEMORY, Shown, Wanted, back_off},
    round::{Due, Round},
    target::Target,
};
use crate::{
    id::{ConversationId, DeviceId, UserId},
    seq::{HistorySeq, InboxSeq},
    store::{catalogue::push_job_key, codec::read_id},
    time::Timestamp,
};

/// How the hook behaves. Without settings there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A device that lost its session is left alone for so long.
    pub delay: Duration,
    /// What nobody took in this time is given up.
    pub expiry: Duration,
    /// Pause before the first repetition; it doubles with each one ...
    pub retry_first: Duration,
    /// ... up to this.
    pub retry_max: Duration,
    /// The members of a large conversation are told at most once in this time.
    pub large_interval: Duration,
    /// Jobs carry the content of the message.
    pub include_content: bool,
}

/// Names one outbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Whose.
    pub user: UserId,
    /// Which device of it.
    pub device: DeviceId,
    /// About what.
    pub conversation: ConversationId,
}

impl Place {
    /// Key of [`crate::store::catalogue::Table::PushJob`].
    #[must_use]
    pub fn key(&self) -> Bytes {
        push_job_key(&self.user, &self.device, &self.conversation)
    }

    /// The place of such a key.
    #[must_use]
    pub fn of_key(key: &Bytes) -> Option<Self> {
        let mut key = key.clone();
        let user = read_id(&mut key).ok()?;
        let device = read_id(&mut key).ok()?;
        let conversation = read_id(&mut key).ok()?;
        key.is_empty().then_some(Self { user, device, conversation })
    }
}

/// One thing the hook is to say, with everything it needs.
#[derive(Clone, PartialEq, Eq)]
pub struct Job {
    /// Which outbox it is of.
    pub place: Place,
    /// Unique in the data set; the same for every repetition.
    pub id: u64,
    /// From 1.
    pub attempt: u32,
    /// What.
    pub kind: Kind,
    /// Which message.
    pub seq: HistorySeq,
    /// Where the device is reached.
    pub provider: Arc<str>,
    /// Where the device is reached: a secret.
    pub token: Arc<str>,
    /// About the message, with [`Kind::Message`].
    pub message: Option<Notification>,
    /// The user's unread total at `position`.
    pub badge: u64,
    /// The newest entry of the user's inbox.
    pub position: InboxSeq,
}

/// What a notification of a message needs.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification {
    /// Who wrote it.
    pub sender: UserId,
    /// When.
    pub time: Timestamp,
    /// This message, or one since the last notification, names the user.
    pub mention: bool,
    /// Without sound.
    pub silent: bool,
    /// Its label and content, when the settings say so.
    pub content: Option<(Arc<str>, Bytes)>,
}

impl fmt::Debug for Job {
    /// Neither token nor content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("place", &self.place)
            .field("id", &self.id)
            .field("attempt", &self.attempt)
            .field("kind", &self.kind)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Notification {
    /// No content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification").field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which outbox it is of.
    pub place: Place,
    /// Which job.
    pub id: u64,
    /// What the hook said to it.
    pub verdict: Verdict,
}

/// What the hook said to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the hook's now.
    Accepted,
    /// The token reaches nobody, and never will.
    Rejected,
    /// Nothing is known: to be repeated, not before this has passed.
    Failed(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_by_its_key() {
        let place = Place {
            user: UserId::new("u").unwrap(),
            device: DeviceId::new("d".repeat(64).as_str()).unwrap(),
            conversation: ConversationId::new("c").unwrap(),
        };
        let key = place.key();
        assert_eq!(Place::of_key(&key), Some(place));
        for len in 0..key.len() {
            assert_eq!(Place::of_key(&key.slice(..len)), None);
        }
        assert_eq!(Place::of_key(&[&key[..], b"x"].concat().into()), None);
    }

    /// The rows of `docs/storage.md`, byte by byte.
    #[test]
    fn stored_bytes_are_these() {
        let at = Timestamp::from_millis;
        let target = Target {
            provider: "p".into(),
            token: "tk".into(),
            registered: at(300),
            attended: true,
        };
        assert_eq!(&target.encode()[..], b"\x01\x01\xac\x02\x01p\x02tk");
        let wanted = Wanted {
            id: 7,
            kind: Kind::Recalled,
            seq: HistorySeq::new(5),
            entry: InboxSeq::new(6),
            mention: true,
            since: at(1),
            due: at(2),
            attempts: 3,
        };
        let seq = HistorySeq::new(5);
        let (untrue, before) = (Some((Kind::Read, seq)), HistorySeq::ZERO);
        let shown = Shown { seq, at: at(4), untrue, sure: true, before };
        let outbox = Outbox { wanted: Some(wanted), shown: Some(shown) };
        assert_eq!(&outbox.encode()[..], b"\x01\x0f\x03\x07\x05\x06\x01\x02\x03\x05\x04");
        let (untrue, before) = (Some((Kind::Recalled, seq.previous())), seq.previous());
        let shown = Shown { untrue, before, sure: false, ..shown };
        let unsure = Outbox { wanted: None, shown: Some(shown) };
        assert_eq!(&unsure.encode()[..], b"\x01\x32\x05\x04\x04\x04");
        assert_eq!(Outbox::decode(unsure.encode()), Ok(unsure));
        let round = Round {
            started: at(1),
            upto: HistorySeq::new(2),
            newest: HistorySeq::new(3),
            recalled: true,
            running: true,
            after: UserId::new("u").ok(),
        };
        assert_eq!(&round.encode()[..], b"\x01\x07\x01\x02\x03\x01u");
    }
}
