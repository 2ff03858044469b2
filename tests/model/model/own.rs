//! What a user wants of its own conversations: read markers, hidden messages, preferences.

use std::{collections::BTreeSet, time::Instant};

use roamd::{
    engine::{Caller, Now},
    id::{ConversationId, UserId},
    limits::READ_ENTRY_INTERVAL,
    message::{ConversationKind, EntryKind},
    refusal::ErrorCode,
    reply::Reply,
    request::PreferencesChange,
    seq::HistorySeq,
};

use super::{Key, Model, Outcome, Place, done, nothing, refused};

/// What an entry that may be held back tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The read marker, to the user's own devices.
    Read,
    /// How far the user has read, to the peer.
    PeerRead,
    /// Preferences, to the user's own devices.
    Preferences,
}

/// Until when no entry is written about what.
pub(super) type Silence = (Instant, Key, About);

impl Model {
    fn place(&mut self, user: &UserId, id: &ConversationId) -> Option<&mut Place> {
        self.talks.get_mut(id)?.places.get_mut(user)
    }

    pub(super) fn mark_read(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        wanted: u64,
        peer_visible: bool,
    ) -> Outcome {
        if self.place(&caller.user, id).is_none() {
            return refused(ErrorCode::NotFound);
        }
        let row = wanted.min(self.visible_ends(&caller.user, id).1.number());
        let key = (caller.user.clone(), id.clone());
        let peer = self.peer(&caller.user, id);
        let Some(place) = self.place(&caller.user, id) else { unreachable!() };
        let unmarked = place.marked_unread && wanted >= place.read_seq();
        if unmarked {
            place.marked_unread = false;
        }
        let moved = row > place.read_seq();
        if moved {
            place.read_up_to(row);
        }
        let seen = peer_visible && peer.is_some() && row > place.peer_visible;
        if seen {
            place.peer_visible = row;
        }
        if unmarked {
            self.tell_of(now, &key, About::Read);
        } else if moved {
            self.tell_unless_quiet(now, &key, About::Read);
        }
        if seen {
            self.tell_unless_quiet(now, &key, About::PeerRead);
        }
        let read_seq = self.talks[id].places[&caller.user].read_seq();
        Outcome::Reply(Reply::MarkRead {
            read_seq: HistorySeq::new(read_seq),
            unread: self.unread(&caller.user, id),
            unread_total: self.unread_total(&caller.user),
        })
    }

    pub(super) fn mark_unread(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
    ) -> Outcome {
        let Some(place) = self.place(&caller.user, id) else {
            return refused(ErrorCode::NotFound);
        };
        if place.marked_unread {
            return nothing();
        }
        place.marked_unread = true;
        self.tell_of(now, &(caller.user.clone(), id.clone()), About::Read);
        done(self.head(&caller.user))
    }

    pub(super) fn delete_for_me(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        seqs: &[HistorySeq],
    ) -> Outcome {
        let visible = self.visible(&caller.user, id);
        let Some(place) = self.place(&caller.user, id) else {
            return refused(ErrorCode::NotFound);
        };
        let wanted: BTreeSet<u64> = seqs.iter().map(|seq| seq.number()).collect();
        let new = |row: &u64| visible.contains(row) && !place.hidden.contains(row);
        let new: Vec<u64> = wanted.into_iter().filter(new).collect();
        if new.is_empty() {
            return nothing();
        }
        place.hidden.extend(&new);
        let seqs = new.into_iter().map(HistorySeq::new).collect();
        self.deliver(now, &caller.user, EntryKind::Hidden { conversation: id.clone(), seqs });
        done(self.head(&caller.user))
    }

    pub(super) fn clear(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        to: u64,
    ) -> Outcome {
        if self.place(&caller.user, id).is_none() {
            return refused(ErrorCode::NotFound);
        }
        let to = to.min(self.visible_ends(&caller.user, id).1.number());
        let Some(place) = self.place(&caller.user, id) else { unreachable!() };
        if to <= place.cleared {
            return nothing();
        }
        place.cleared = to;
        if to > place.read_seq() {
            place.read_up_to(to);
            // The entry tells of the marker as well.
            place.told = to;
        }
        let cleared_to = HistorySeq::new(to);
        let entry = EntryKind::Cleared { conversation: id.clone(), cleared_to };
        self.deliver(now, &caller.user, entry);
        done(self.head(&caller.user))
    }

    pub(super) fn set_preferences(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        change: &PreferencesChange,
    ) -> Outcome {
        let Some(place) = self.place(&caller.user, id) else {
            return refused(ErrorCode::NotFound);
        };
        let before = place.preferences.clone();
        let preferences = &mut place.preferences;
        preferences.pinned = change.pinned.unwrap_or(preferences.pinned);
        preferences.muted = change.muted.unwrap_or(preferences.muted);
        preferences.hidden = change.hidden.unwrap_or(preferences.hidden);
        if let Some(draft) = &change.draft {
            preferences.draft = draft.clone();
        }
        if before == *preferences {
            return nothing();
        }
        place.preferences_told = false;
        let key = (caller.user.clone(), id.clone());
        if self.is_quiet(&key, About::Preferences) {
            return nothing();
        }
        self.tell_of(now, &key, About::Preferences);
        done(self.head(&caller.user))
    }

    // What is told, and when ---------------------------------------------------------------------

    fn is_quiet(&self, key: &Key, about: About) -> bool {
        self.quiet.iter().any(|(_, of, what)| (of, *what) == (key, about))
    }

    fn is_untold(&self, (user, id): &Key, about: About) -> bool {
        let place = self.talks.get(id).and_then(|talk| talk.places.get(user));
        place.is_some_and(|place| match about {
            About::Read => place.told < place.read_seq(),
            About::PeerRead => place.peer_told < place.peer_visible,
            About::Preferences => !place.preferences_told,
        })
    }

    fn tell_unless_quiet(&mut self, now: Now, key: &Key, about: About) {
        if self.is_untold(key, about) && !self.is_quiet(key, about) {
            self.tell_of(now, key, about);
        }
    }

    /// Tells devices how it stands now; then there is silence for a while.
    fn tell_of(&mut self, now: Now, key: &Key, about: About) {
        let (user, conversation) = key.clone();
        let peer = self.peer(&user, &conversation);
        let Some(place) = self.place(&user, &conversation) else { return };
        match about {
            About::Read => {
                place.told = place.read_seq();
                let read_seq = HistorySeq::new(place.told);
                let marked_unread = place.marked_unread;
                let entry = EntryKind::Read { conversation, read_seq, marked_unread };
                self.deliver(now, &user, entry);
            }
            About::PeerRead => {
                place.peer_told = place.peer_visible;
                let read_seq = HistorySeq::new(place.peer_told);
                if let Some(peer) = peer {
                    self.deliver(now, &peer, EntryKind::PeerRead { conversation, user, read_seq });
                }
            }
            About::Preferences => {
                place.preferences_told = true;
                self.deliver(now, &user, EntryKind::Preferences { conversation });
            }
        }
        // A silence that begins anew at another time stands behind the others.
        let until = now.mono + READ_ENTRY_INTERVAL;
        self.quiet.retain(|(at, of, what)| (of, *what) != (key, about) || *at == until);
        if !self.is_quiet(key, about) {
            self.quiet.push((until, key.clone(), about));
        }
    }

    /// The other one of a direct conversation.
    fn peer(&self, user: &UserId, id: &ConversationId) -> Option<UserId> {
        let talk = self.talks.get(id).filter(|talk| talk.kind == ConversationKind::Direct)?;
        talk.members.keys().find(|other| *other != user).cloned()
    }

    /// What a crash swallowed, made up for when a device of the user connects.
    pub(super) fn make_up(&mut self, now: Now, user: &UserId) {
        // Between conversations no order is promised; the store goes by key, in which an id comes
        // after its length.
        let mut ids: Vec<ConversationId> = self.talks.keys().cloned().collect();
        ids.sort_by_key(|id| (id.as_str().len(), id.clone()));
        let keys: Vec<Key> = ids.into_iter().map(|id| (user.clone(), id)).collect();
        for key in &keys {
            self.tell_unless_quiet(now, key, About::Read);
            self.tell_unless_quiet(now, key, About::PeerRead);
        }
        for key in &keys {
            self.tell_unless_quiet(now, key, About::Preferences);
        }
    }

    /// Silences end, in the order in which they began.
    pub(super) fn end_silences(&mut self, now: Now) {
        let (due, quiet) =
            std::mem::take(&mut self.quiet).into_iter().partition(|(at, ..)| *at <= now.mono);
        self.quiet = quiet;
        for (_, key, about) in due {
            self.tell_unless_quiet(now, &key, about);
        }
    }

    /// The earliest end of a silence.
    pub fn silences_end(&self) -> Option<Instant> {
        self.quiet.iter().map(|(until, ..)| *until).min()
    }

    /// Everything that waits may be told now.
    pub(super) fn hurry(&mut self, now: Now) {
        for (until, ..) in &mut self.quiet {
            *until = (*until).min(now.mono);
        }
        self.end_silences(now);
    }
}
