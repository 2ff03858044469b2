//! What the store knows of the wall clock, so that a clock set between two lives expires nothing at
//! once.
//!
//! The greatest time known since the last jump is written down every hour, with commits that are made
//! anyway: when a device comes, and with the cursors. A start whose wall clock is more than a day away
//! from it, ahead or behind, is a jump: from then on nothing counts as older than that moment
//! ([`Ages`]). A daemon that was off for long looks the same, and is treated the same: who could not
//! connect keeps what it has missed. `docs/decisions/0018-ages-count-from-a-jump-of-the-clock.md`.

use bytes::{Bytes, BytesMut};

use super::Now;
use crate::{
    limits::{CLOCK_JUMP_MIN, CLOCK_RECORD_INTERVAL},
    store::{
        Commit, StoreError, Writer,
        catalogue::{CLOCK_JUMP, CLOCK_LATEST, Table},
        codec::{put_varint, read_varint},
    },
    time::{Ages, Timestamp},
};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct KnownTime {
    /// What is written down; none = nothing, or not yet what this life has found.
    recorded: Option<Timestamp>,
    /// When the clock was last found to have been set.
    jump: Timestamp,
}

impl KnownTime {
    /// Compares the wall clock of a start with what is written down.
    pub(super) fn read(writer: &Writer, now: Now) -> Result<Self, StoreError> {
        let (latest, jump) = match (time(writer, CLOCK_LATEST), time(writer, CLOCK_JUMP)) {
            (Ok(latest), Ok(jump)) => (latest, jump.unwrap_or_default()),
            (Err(StoreError::Damaged(what)), _) | (_, Err(StoreError::Damaged(what))) => {
                tracing::error!(what, "the time last known cannot be read: ages count from now");
                return Ok(Self { recorded: None, jump: now.wall });
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let Some(latest) = latest else { return Ok(Self { recorded: None, jump }) };
        let ahead = now.wall > latest.plus(CLOCK_JUMP_MIN);
        let behind = latest > now.wall.plus(CLOCK_JUMP_MIN);
        if !ahead && !behind {
            return Ok(Self { recorded: Some(latest), jump });
        }
        tracing::warn!(
            known_ms = latest.millis(),
            now_ms = now.wall.millis(),
            "the wall clock is more than a day {} the time last known: nothing counts as older \
             than this start",
            if ahead { "ahead of" } else { "behind" }
        );
        Ok(Self { recorded: None, jump: now.wall })
    }

    /// How old things are now.
    pub(super) fn ages(&self, now: Now) -> Ages {
        Ages { now: now.wall, jump: self.jump }
    }

    /// Adds the time to a commit if it is due; returns what to say to [`KnownTime::recorded`] once
    /// the commit is staged.
    pub(super) fn record(&self, now: Now, commit: &mut Commit) -> Option<Timestamp> {
        if self.recorded.is_some_and(|at| at.plus(CLOCK_RECORD_INTERVAL) > now.wall) {
            return None;
        }
        commit.put(Table::Counter, Bytes::from_static(CLOCK_LATEST), row(now.wall));
        if self.recorded.is_none() && self.jump > Timestamp::default() {
            commit.put(Table::Counter, Bytes::from_static(CLOCK_JUMP), row(self.jump));
        }
        Some(now.wall)
    }

    /// The commit is staged.
    pub(super) fn recorded(&mut self, at: Option<Timestamp>) {
        self.recorded = at.or(self.recorded);
    }
}

fn time(writer: &Writer, name: &[u8]) -> Result<Option<Timestamp>, StoreError> {
    match writer.row(Table::Counter, name)? {
        None => Ok(None),
        Some(mut row) => Ok(Some(Timestamp::from_millis(read_varint(&mut row)?))),
    }
}

fn row(time: Timestamp) -> Bytes {
    let mut row = BytesMut::new();
    put_varint(&mut row, time.millis());
    row.freeze()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use crate::{
        engine::{Answer, Caller, Command, Engine, Now},
        id::{ClientMessageId, DeviceId, SessionId, UserId},
        limits::Limits,
        message::{Draft, MessageFlags},
        refusal::ErrorCode,
        reply::Reply,
        request::{Destination, Request},
        seq::HistorySeq,
        store::{Store, StoreConfig},
        time::Timestamp,
    };

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const YEARS: Duration = Duration::from_secs(3653 * 24 * 3600);

    /// One data directory through lives that begin at any time.
    struct World {
        folder: TempDir,
        /// As real time would go.
        wall: Timestamp,
        mono: Instant,
    }

    impl World {
        fn new() -> Self {
            let wall = Timestamp::from_millis(1_700_000_000_000);
            Self { folder: tempfile::tempdir().unwrap(), wall, mono: Instant::now() }
        }

        /// A life; it is closed in order, but tells the engine nothing of that.
        fn live<T>(&mut self, act: impl FnOnce(&mut Life) -> T) -> T {
            let config = StoreConfig {
                cache_bytes: 8 << 20,
                segment_bytes: 1 << 20,
                ..StoreConfig::new(self.folder.path().join("data"))
            };
            let (store, writer) = Store::open(&config).unwrap();
            let now = Now { wall: self.wall, mono: self.mono };
            let engine = Engine::new(writer, store.epoch(), Limits::default(), now).unwrap();
            let mut life = Life { engine, now };
            let it = act(&mut life);
            (self.wall, self.mono) = (life.now.wall, life.now.mono);
            store.close(life.engine.into_writer()).unwrap();
            it
        }
    }

    struct Life {
        engine: Engine,
        now: Now,
    }

    impl Life {
        fn apply(&mut self, user: &str, command: &Command) -> Answer {
            let caller = Caller {
                user: UserId::new(user).unwrap(),
                device: DeviceId::new("phone").unwrap(),
                session: SessionId::new(1),
                admin: false,
            };
            let answer = self.engine.apply(self.now, &caller, command).unwrap();
            self.engine.flush().unwrap();
            answer
        }

        fn pass(&mut self, time: Duration) {
            self.now.mono += time;
            self.now.wall = self.now.wall.plus(time);
        }

        /// A session begins; the first entry that is kept.
        fn first(&mut self, user: &str) -> u64 {
            let command = Command::Attach {
                resume: None,
                missed_entries: 0,
                platform: "test".into(),
                issued: self.now.wall,
                background: false,
            };
            match self.apply(user, &command) {
                Answer::Attached(compared) => compared.first.number(),
                other => panic!("{other:?}"),
            }
        }

        /// Alice sends to Bob: the history_seq of it, or why not.
        fn send(&mut self, number: u64) -> Result<u64, ErrorCode> {
            let draft = Draft {
                created_at: Timestamp::default(),
                content_type: "text/plain".into(),
                content: "x".into(),
                reply_to: HistorySeq::ZERO,
                mentions: Vec::new(),
                flags: MessageFlags::default(),
            };
            let to = Destination::Peer(UserId::new("bob").unwrap());
            let client_id = ClientMessageId::new(number);
            match self.apply("alice", &Command::Request(Request::Send { to, client_id, draft })) {
                Answer::Reply(Reply::SendAck { seq, .. }) => Ok(seq.number()),
                Answer::Reply(Reply::Refused(refusal)) => Err(refusal.code),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Cause: a clock that was years ahead at a start expired every inbox, as its users connected.
    /// Fix: ages count from the start that found it ahead.
    #[test]
    fn a_clock_that_jumps_ahead_expires_nothing_before_a_whole_age_has_passed() {
        let mut world = World::new();
        world.live(|life| {
            life.first("alice");
            (1..=3).for_each(|number| assert_eq!(life.send(number), Ok(number)));
        });
        world.wall = world.wall.plus(YEARS);
        world.live(|life| {
            assert_eq!(life.first("bob"), 1);
            assert_eq!(life.send(4), Ok(4), "order goes on");
        });
        // A second start does not forget what the first one found, ...
        world.wall = world.wall.plus(Duration::from_secs(5));
        world.live(|life| {
            // ... nor does time that passes while it runs.
            life.pass(DAY * 7 - Duration::from_secs(10));
            assert_eq!(life.first("bob"), 1);
            life.pass(Duration::from_secs(6));
            assert_eq!(life.first("bob"), 5, "as old as entries may be");
        });
    }

    /// Ordinary restarts, and days without one, expire as they did.
    #[test]
    fn without_a_jump_ages_are_what_they_are() {
        let mut world = World::new();
        world.live(|life| {
            life.first("alice");
            life.send(1).unwrap();
        });
        for _ in 0..6 {
            world.live(|life| {
                life.pass(DAY + Duration::from_secs(3600));
                life.first("carol");
            });
        }
        world.live(|life| {
            assert_eq!(life.first("bob"), 1);
            life.pass(DAY);
            assert_eq!(life.first("bob"), 2);
        });
    }

    #[test]
    fn a_clock_that_jumps_ahead_forgets_no_retry_before_a_whole_window_has_passed() {
        let mut world = World::new();
        let acks = world.live(|life| {
            life.first("alice");
            (1..=200).map(|number| life.send(number).unwrap()).collect::<Vec<_>>()
        });
        world.wall = world.wall.plus(YEARS);
        world.live(|life| {
            life.first("alice");
            // Beyond the number of sends at which old ones are looked for.
            (201..=300).for_each(|number| assert_eq!(life.send(number), Ok(number)));
            for (number, ack) in (1..).zip(&acks) {
                assert_eq!(life.send(number), Ok(*ack), "the same message, not a new one");
            }
            life.pass(DAY * 9 + Duration::from_secs(1));
            (301..=600).for_each(|number| assert_eq!(life.send(number), Ok(number)));
            assert_eq!(life.send(1), Err(ErrorCode::Stale));
        });
    }

    /// Ten years ahead, and put right: what was written meanwhile does not stay for ten years.
    #[test]
    fn a_clock_put_right_lets_things_grow_old_again() {
        let mut world = World::new();
        world.live(|life| {
            life.first("alice");
            life.send(1).unwrap();
        });
        let right = world.wall;
        world.wall = right.plus(YEARS);
        world.live(|life| {
            life.first("alice");
            assert_eq!(life.send(2), Ok(2));
        });
        world.wall = right.plus(DAY);
        world.live(|life| {
            life.first("alice");
            assert_eq!(life.send(3), Ok(3), "order goes on");
            life.pass(DAY * 7);
            assert_eq!(life.first("bob"), 1);
            life.pass(Duration::from_secs(1));
            assert_eq!(life.first("bob"), 4);
        });
    }

    /// A clock that goes back a little, again and again, is seen once that adds up.
    #[test]
    fn a_clock_three_days_behind_changes_no_order_and_loses_nothing() {
        let mut world = World::new();
        for number in 1..=5 {
            world.live(|life| {
                life.first("alice");
                assert_eq!(life.send(number), Ok(number));
                assert_eq!(life.send(1), Ok(1));
                assert_eq!(life.first("bob"), 1);
            });
            world.wall = world.wall.minus(if number == 1 { DAY * 3 } else { DAY * 4 / 5 });
        }
    }
}
