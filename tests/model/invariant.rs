//! Which promise of `docs/trust.md` a difference breaks. Whoever finds one names it once, as close to
//! the place as possible; what is put around it later keeps that name.

use std::fmt;

use roamd::{
    engine::Command,
    message::MessageState,
    reply::{EntryView, PlacedMessage, Reply},
    request::Request,
    seq::InboxSeq,
};

use super::{driver::Found, model::Outcome};

macro_rules! invariants {
    ($($name:ident $promise:literal,)*) => {
        /// A promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Invariant {
            $($name,)*
        }

        impl Invariant {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub fn promise(self) -> &'static str {
                match self {
                    $(Self::$name => $promise,)*
                }
            }
        }
    };
}

invariants! {
    I1 "what was acked is in the history and in every inbox",
    I2 "no phantom, no damage, no leak",
    I3 "inbox_seq is contiguous, one entry each, the same for all devices",
    I4 "a history has one order",
    I5 "retries of one client_message_id are one message",
    I6 "a device is skipped nothing, taken back nothing, and live after CaughtUp only",
    I7 "a cursor never goes back and is never ahead of the device",
    I8 "operations follow their target, recalled content does not leave",
    I9 "unread is a count by hand, totals are sums",
    I10 "only the oldest is trimmed, and who needs it is told TooLong",
    I11 "in the end all have converged",
    I12 "one live session for a device, and presence tells of it",
    I13 "a message to a large group is written once",
    I14 "a request gets one reply",
}

const BREAKS: &str = "breaks ";

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BREAKS}{self:?} ({})", self.promise())
    }
}

impl Invariant {
    /// Names this one, where none was named before.
    pub fn broken(self, found: Found) -> Found {
        if named(&found).is_some() { found } else { format!("{self}: {found}") }
    }
}

/// The promise that is named in a finding.
pub fn named(found: &str) -> Option<Invariant> {
    let (_, after) = found.split_once(BREAKS)?;
    let name = after.split(' ').next()?;
    Invariant::ALL.iter().find(|invariant| format!("{invariant:?}") == name).copied()
}

fn is_operation(entry: &EntryView) -> bool {
    matches!(
        entry,
        EntryView::Recalled { .. } | EntryView::Edited { .. } | EntryView::Deleted { .. }
    )
}

/// Something is shown that was taken back, or as it no longer is.
fn shows_more(actual: &PlacedMessage, model: &PlacedMessage) -> bool {
    model.state != MessageState::Normal && actual.message.is_some()
        || model.revision != actual.revision
}

/// Entries of an inbox differ.
pub fn of_entries(actual: &[EntryView], model: &[EntryView]) -> Invariant {
    let pairs = actual.iter().zip(model);
    match pairs.into_iter().find(|(actual, model)| actual != model) {
        Some((
            EntryView::Message { message: actual, .. },
            EntryView::Message { message: model, .. },
        )) if (&actual.conversation, actual.seq) == (&model.conversation, model.seq)
            && shows_more(actual, model) =>
        {
            Invariant::I8
        }
        Some((
            EntryView::Message { message: actual, .. },
            EntryView::Message { message: model, .. },
        )) if actual.seq == model.seq && actual.message.is_none() && model.message.is_some() => {
            Invariant::I1
        }
        Some((actual, model)) if is_operation(model) != is_operation(actual) => Invariant::I8,
        _ => Invariant::I3,
    }
}

/// The ends of an inbox differ. `missing` are entries that should be there and are not, `extra` those
/// that are there and should not; `is_large` knows conversations whose messages go to no inbox.
pub fn of_ends(
    actual: (InboxSeq, InboxSeq),
    model: (InboxSeq, InboxSeq),
    missing: &[EntryView],
    extra: &[EntryView],
    is_large: impl Fn(&PlacedMessage) -> bool,
) -> Invariant {
    let of_large = |entry: &EntryView| match entry {
        EntryView::Message { message, .. } => is_large(message),
        _ => false,
    };
    if actual.1 > model.1 {
        return if extra.iter().any(of_large) { Invariant::I13 } else { Invariant::I2 };
    }
    let kept = |(first, last): (InboxSeq, InboxSeq)| last.since(first);
    if actual.1 == model.1 || (actual.0 < model.0 && kept(actual) == kept(model)) {
        return Invariant::I10;
    }
    if missing.iter().any(is_operation) { Invariant::I8 } else { Invariant::I1 }
}

/// An answer differs.
pub fn of_answer(command: &Command, actual: &Outcome, model: &Outcome) -> Invariant {
    if let (Outcome::Attached(actual), Outcome::Attached(model))
    | (Outcome::Resumed(actual), Outcome::Resumed(model)) = (actual, model)
    {
        return match () {
            () if actual.cursor != model.cursor => Invariant::I7,
            () if (actual.verdict, actual.first) != (model.verdict, model.first) => Invariant::I10,
            () if actual.unread_total != model.unread_total => Invariant::I9,
            () if actual.last_client_id != model.last_client_id => Invariant::I5,
            () => Invariant::I3,
        };
    }
    let messages = |outcome: &Outcome| match outcome {
        Outcome::Reply(Reply::HistoryPage { messages, .. }) => messages.clone(),
        _ => Vec::new(),
    };
    let entries = |outcome: &Outcome| match outcome {
        Outcome::Reply(Reply::Pulled(batch)) => batch.entries.clone(),
        _ => Vec::new(),
    };
    let over = |outcome: &Outcome| {
        matches!(outcome, Outcome::Reply(Reply::Refused(refusal))
        if refusal.code == roamd::refusal::ErrorCode::WrongState)
    };
    if over(model) && !over(actual) {
        return Invariant::I12;
    }
    if let (
        Outcome::Reply(Reply::SendAck { id, duplicate, inbox_seq, .. }),
        Outcome::Reply(Reply::SendAck {
            id: id_due, duplicate: duplicate_due, inbox_seq: due, ..
        }),
    ) = (actual, model)
        && (id, duplicate) == (id_due, duplicate_due)
    {
        // Something before it is missing, or should not be there.
        return if inbox_seq < due { Invariant::I1 } else { Invariant::I3 };
    }
    let Command::Request(request) = command else { return Invariant::I9 };
    match request {
        Request::Send { .. } | Request::CreateGroup { .. } | Request::SendNotice { .. } => {
            Invariant::I5
        }
        Request::FetchHistory { .. } => {
            let (actual, model) = (messages(actual), messages(model));
            let seqs = |all: &[PlacedMessage]| {
                let mut seqs: Vec<_> = all.iter().map(|message| message.seq).collect();
                seqs.sort_unstable();
                seqs
            };
            let same_rows = seqs(&actual) == seqs(&model);
            let mut pairs = actual.iter().zip(&model);
            match same_rows {
                true if pairs.any(|(a, m)| a.seq == m.seq && shows_more(a, m)) => Invariant::I8,
                true => Invariant::I4,
                false => Invariant::I2,
            }
        }
        Request::FetchMessages { .. } | Request::FetchMutations { .. } => Invariant::I8,
        Request::SyncPull { .. } => of_entries(&entries(actual), &entries(model)),
        Request::ListDevices
        | Request::KickDevice { .. }
        | Request::RevokeDevice { .. }
        | Request::SetPresence { .. }
        | Request::SubscribePresence { .. }
        | Request::SendEphemeral { .. } => Invariant::I12,
        Request::Recall { .. }
        | Request::Edit { .. }
        | Request::DeleteForAll { .. }
        | Request::CancelSend { .. } => Invariant::I8,
        _ => Invariant::I9,
    }
}

#[test]
fn the_name_closest_to_the_place_stays() {
    let found = Invariant::I3.broken("a gap".into());
    let found = Invariant::I11.broken(format!("connection 3: {found}"));
    assert_eq!(named(&found), Some(Invariant::I3));
    assert_eq!(named("a gap"), None);
    for invariant in Invariant::ALL {
        assert_eq!(named(&invariant.broken("x".into())), Some(*invariant));
    }
}
