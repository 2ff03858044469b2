//! Tests the tester: one lie at a time, put between the server and those who check it. Each must be
//! found, or the model proves less than it seems.

use bytes::Bytes;
use roamd::{
    engine::{Effects, Sign},
    message::MessageState,
    reply::{EntryView, LargeNews, PlacedMessage, Reply, Verdict},
    seq::{HistorySeq, InboxSeq},
};

use super::model::Outcome;

/// A lie. It is told once, at the first occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    // In a frame.
    EntryLost,
    EntryAgain,
    RecalledContent,
    HintLost,
    PushAgain,
    PushOfAnotherRow,
    ChangePushedAsItWas,
    TotalPushed,
    PresencePushed,
    CaughtUpTotal,
    WelcomeHead,
    // In an answer.
    Unread,
    UnreadOfOne,
    Mentions,
    HistoryRowLost,
    HistoryFloor,
    EditedContent,
    HiddenContent,
    MutationLost,
    Reader,
    AckSeq,
    AckAgain,
    VerdictUpToDate,
    Title,
    Preferences,
    DeviceList,
    MemberLeftOut,
    // In what is told after a flush.
    InboxNotTold,
    SessionNotEnded,
    PresenceNotTold,
    EphemeralToAll,
    Badge,
    JobOfAnotherDevice,
}

/// A lie that waits for its occasion.
#[derive(Clone, Copy, Debug)]
pub struct Spoiler {
    lie: Lie,
    pub told: bool,
}

fn leak(message: &mut PlacedMessage) -> bool {
    if let Some(message) = &mut message.message {
        message.draft.content = Bytes::from_static(b"what it was");
    }
    message.message.is_some()
}

/// Leaks the content of a message that is in this state.
fn leak_in(messages: &mut [PlacedMessage], state: MessageState) -> bool {
    messages.iter_mut().find(|message| message.state == state).is_some_and(leak)
}

impl Spoiler {
    pub fn new(lie: Lie) -> Self {
        Self { lie, told: false }
    }

    fn once(&mut self, tell: impl FnOnce(Lie) -> bool) {
        if !self.told {
            self.told = tell(self.lie);
        }
    }

    pub fn frame(&mut self, reply: &mut Reply) {
        self.once(|lie| match (lie, reply) {
            (Lie::EntryLost, Reply::SyncBatch(batch)) if batch.entries.len() > 1 => {
                batch.entries.remove(0);
                true
            }
            (Lie::EntryAgain, Reply::SyncBatch(batch)) => {
                batch.prev = batch.prev.previous();
                batch.prev > InboxSeq::ZERO
            }
            (Lie::RecalledContent, Reply::SyncBatch(batch)) => {
                batch.entries.iter_mut().any(|entry| match entry {
                    EntryView::Message { message, .. } => {
                        message.state == MessageState::Recalled && leak(message)
                    }
                    _ => false,
                })
            }
            (Lie::HintLost, Reply::CaughtUp { hints, .. }) => {
                let moved = |hint: &roamd::request::LargeCursor| hint.history > HistorySeq::ZERO;
                let lost = hints.iter().any(moved);
                if lost {
                    hints.retain(|hint| !moved(hint));
                }
                lost
            }
            (Lie::PushOfAnotherRow, Reply::ConversationPush(news)) => match &mut **news {
                LargeNews::Message { message, prev } if message.seq.number() > 1 => {
                    message.seq = message.seq.previous();
                    *prev = prev.previous();
                    true
                }
                _ => false,
            },
            (Lie::ChangePushedAsItWas, Reply::ConversationPush(news)) => match &mut **news {
                LargeNews::Mutation { message, .. } => leak(message),
                _ => false,
            },
            (Lie::TotalPushed, Reply::UnreadPush { total, .. })
            | (Lie::CaughtUpTotal, Reply::CaughtUp { unread_total: total, .. }) => {
                *total += 1;
                true
            }
            (Lie::PresencePushed, Reply::PresencePush(devices)) => devices.pop().is_some(),
            (Lie::WelcomeHead, Reply::Welcome(welcome)) => {
                welcome.head = welcome.head.next();
                true
            }
            _ => false,
        });
    }

    /// Whether the frame comes a second time.
    pub fn again(&mut self, reply: &Reply) -> bool {
        let before = self.told;
        let message = matches!(reply, Reply::ConversationPush(news)
            if matches!(**news, LargeNews::Message { .. }));
        self.once(|lie| lie == Lie::PushAgain && message);
        self.told && !before
    }

    pub fn answer(&mut self, outcome: &mut Outcome) {
        if let Outcome::Attached(compared) = outcome {
            return self.once(|lie| {
                let tell = lie == Lie::VerdictUpToDate && compared.verdict == Verdict::CatchUp;
                if tell {
                    compared.verdict = Verdict::UpToDate;
                }
                tell
            });
        }
        let Outcome::Reply(reply) = outcome else { return };
        self.once(|lie| match (lie, reply) {
            (Lie::Unread, Reply::Unread { total, .. }) => {
                *total += 1;
                true
            }
            (Lie::UnreadOfOne, Reply::Unread { conversations, .. }) => {
                conversations.iter_mut().take(1).for_each(|item| item.unread += 1);
                !conversations.is_empty()
            }
            (Lie::Mentions, Reply::Unread { conversations, .. }) => {
                let named = conversations.iter_mut().find(|item| item.mentions > 0);
                named.map(|item| item.mentions -= 1).is_some()
            }
            (Lie::HistoryRowLost, Reply::HistoryPage { messages, .. }) => {
                messages.len() > 1 && messages.pop().is_some()
            }
            (Lie::HistoryFloor, Reply::HistoryPage { visible_first, .. }) => {
                *visible_first = visible_first.previous();
                true
            }
            (Lie::EditedContent, Reply::HistoryPage { messages, .. }) => {
                messages.iter_mut().find(|message| message.revision > 0).is_some_and(leak)
            }
            (Lie::HiddenContent, Reply::HistoryPage { messages, .. }) => {
                leak_in(messages, MessageState::Hidden)
            }
            (Lie::MutationLost, Reply::MutationPage { mutations, .. }) => mutations.pop().is_some(),
            (Lie::Reader, Reply::ReaderPage { users, .. }) => users.pop().is_some(),
            (Lie::AckSeq, Reply::SendAck { seq, .. }) => {
                *seq = seq.next();
                true
            }
            (Lie::AckAgain, Reply::SendAck { duplicate, .. }) if *duplicate => {
                *duplicate = false;
                true
            }
            (Lie::Title, Reply::ConversationItems { items, .. }) => {
                let view = items.iter_mut().flatten().next();
                view.map(|view| view.title = "another".into()).is_some()
            }
            (Lie::Preferences, Reply::ConversationItems { items, .. }) => {
                let view = items.iter_mut().flatten().next();
                view.map(|view| view.preferences.pinned = !view.preferences.pinned).is_some()
            }
            (Lie::DeviceList, Reply::DevicePage(devices)) => devices.pop().is_some(),
            (Lie::MemberLeftOut, Reply::MemberPage { members, .. }) => members.pop().is_some(),
            _ => false,
        });
    }

    pub fn effects(&mut self, effects: &mut Effects) {
        self.once(|lie| match lie {
            Lie::InboxNotTold => {
                let one = effects.inboxes.iter().next().cloned();
                one.is_some_and(|user| effects.inboxes.remove(&user))
            }
            Lie::SessionNotEnded => {
                let count = effects.signs.len();
                effects.signs.retain(|sign| !matches!(sign, Sign::End(..)));
                effects.signs.len() < count
            }
            Lie::PresenceNotTold => {
                let one = effects.presence.keys().next().cloned();
                one.is_some_and(|session| effects.presence.remove(&session).is_some())
            }
            Lie::EphemeralToAll => effects.signs.iter_mut().any(|sign| match sign {
                Sign::Spread(users, ..) => {
                    users.extend(super::plan::users());
                    true
                }
                _ => false,
            }),
            Lie::Badge => {
                effects.jobs.iter_mut().take(1).for_each(|job| job.badge += 1);
                !effects.jobs.is_empty()
            }
            Lie::JobOfAnotherDevice => {
                let device = roamd::id::DeviceId::new("another").expect("a valid id");
                effects.jobs.iter_mut().take(1).for_each(|job| job.place.device = device.clone());
                !effects.jobs.is_empty()
            }
            _ => false,
        });
    }
}
