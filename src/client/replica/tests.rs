//! The replica against a server that loses connections at any moment.

use proptest::prelude::*;

use super::*;

const EPOCH: u64 = 7;

fn at(seq: u64) -> Position {
    Position { epoch: EPOCH, seq }
}

fn replica(seq: u64) -> Replica {
    let mut replica = Replica::new(Some(at(seq)), AckConfig::CLIENT);
    assert_eq!(replica.greet(), Some(at(seq)));
    replica.agree(1000);
    replica
}

fn batch(prev: u64, last: u64) -> proto::SyncBatch {
    let entries = vec![proto::Entry::default(); usize::try_from(last - prev).unwrap()];
    proto::SyncBatch {
        prev_seq: prev,
        first_seq: prev + 1,
        last_seq: last,
        head_seq: last,
        entries,
    }
}

#[test]
fn a_gap_is_an_error_and_changes_nothing() {
    let now = Instant::now();
    let mut device = replica(41);
    let gap = StreamError::Gap { expected: 41, prev: 42 };
    assert_eq!(device.batch(now, &batch(42, 50), 9), Err(gap));
    let back = StreamError::Gap { expected: 41, prev: 40 };
    assert_eq!(device.batch(now, &batch(40, 50), 9), Err(back));
    assert_eq!(device.batch(now, &batch(41, 50), 9), Ok(0));
    assert_eq!(device.received(), 50);
    assert_eq!(device.position(), Some(at(41)));
}

#[test]
fn the_numbers_of_a_batch_must_agree() {
    let now = Instant::now();
    let wrong = [
        proto::SyncBatch { first_seq: 43, ..batch(41, 44) },
        proto::SyncBatch { last_seq: 43, ..batch(41, 44) },
        proto::SyncBatch { last_seq: u64::MAX, ..batch(41, 44) },
        proto::SyncBatch { first_seq: 0, ..batch(41, 44) },
        batch(41, 41),
    ];
    for bad in wrong {
        let outcome = replica(41).batch(now, &bad, 1);
        assert!(matches!(outcome, Err(StreamError::Count { .. })), "{bad:?}: {outcome:?}");
    }
}

#[test]
fn what_was_received_before_is_dropped_and_what_was_stored_is_acked_again() {
    let now = Instant::now();
    let mut device = replica(0);
    assert_eq!(device.batch(now, &batch(0, 10), 100), Ok(0));
    device.store(now, 4, 4, 40);
    device.lost();
    assert_eq!(device.greet(), Some(at(4)));
    // The consumer goes on with what it still has.
    device.store(now, 8, 4, 40);
    assert_eq!(device.take_ack(), None, "this session has sent nothing yet");
    assert_eq!(device.batch(now, &batch(4, 6), 20), Ok(2));
    assert_eq!(device.take_ack(), Some(6));
    assert_eq!(device.batch(now, &batch(6, 12), 60), Ok(4));
    assert_eq!(device.take_ack(), Some(8));
    assert_eq!(device.received(), 12);
}

#[test]
fn the_server_may_not_send_more_than_agreed() {
    let now = Instant::now();
    let mut device = replica(0);
    device.agree(10);
    assert_eq!(device.batch(now, &batch(0, 10), 1), Ok(0));
    let overrun = StreamError::Overrun { waiting: 11, agreed: 10 };
    assert_eq!(device.batch(now, &batch(10, 11), 1), Err(overrun));
    device.store(now, 1, 1, 1);
    assert_eq!(device.batch(now, &batch(10, 11), 1), Ok(0));
}

#[test]
fn caught_up_cannot_pass_the_stream() {
    let mut device = replica(5);
    assert_eq!(device.caught_up(5), Ok(()));
    assert_eq!(device.caught_up(6), Err(StreamError::Beyond { seq: 6, sent: 5 }));
    device.too_long(at(9));
    assert_eq!(device.caught_up(5), Err(StreamError::Uninvited));
}

#[test]
fn too_long_stops_the_stream_until_its_snapshot_is_stored() {
    let now = Instant::now();
    let mut device = replica(5);
    assert_eq!(device.batch(now, &batch(5, 7), 1), Ok(0));
    device.too_long(at(500));
    assert_eq!(device.batch(now, &batch(7, 8), 1), Err(StreamError::Uninvited));
    device.store(now, 7, 2, 2);
    assert_eq!(device.take_ack(), None, "the session is not at a position that can be acked");
    assert_eq!(device.adopt(at(500)), Adopted::Resume);
    assert_eq!(device.batch(now, &batch(500, 501), 1), Ok(0));
    assert_eq!(device.position(), Some(at(500)));
}

#[test]
fn a_server_that_lost_data_takes_the_position_back() {
    let mut device = replica(100);
    let restored = Position { epoch: 8, seq: 60 };
    device.too_long(restored);
    assert_eq!(device.adopt(restored), Adopted::Resume);
    assert_eq!(device.position(), Some(restored));
    assert_eq!(device.batch(Instant::now(), &batch(60, 61), 1), Ok(0));
}

#[test]
fn a_snapshot_that_is_stored_late_serves_the_next_session() {
    let mut device = replica(5);
    device.too_long(at(500));
    device.lost();
    assert_eq!(device.adopt(at(500)), Adopted::Later);
    assert_eq!(device.greet(), Some(at(500)));

    device.too_long(at(900));
    assert_eq!(device.adopt(at(500)), Adopted::Later, "a newer snapshot is on its way");
    assert_eq!(device.adopt(at(900)), Adopted::Resume);

    assert_eq!(device.adopt(at(901)), Adopted::Reconnect, "the stream follows another position");
}

#[test]
fn a_new_device_has_no_position() {
    let mut device = Replica::new(None, AckConfig::CLIENT);
    assert_eq!(device.greet(), None);
    device.too_long(at(3));
    assert_eq!(device.adopt(at(3)), Adopted::Resume);
    assert_eq!(device.position(), Some(at(3)));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Grow(u64),
    Send(u64),
    Store(u64),
    Wait(u64),
    Lose,
    Ack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1u64..80).prop_map(Step::Grow),
        5 => (1u64..60).prop_map(Step::Send),
        5 => (1u64..60).prop_map(Step::Store),
        2 => (0u64..300).prop_map(Step::Wait),
        1 => Just(Step::Lose),
        3 => Just(Step::Ack),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Every entry is accepted once and in order, acks are never beyond what the session was sent
    /// nor what is stored, and everything stored is acked in time.
    #[test]
    fn nothing_is_skipped_or_repeated(steps in steps()) {
        const UNACKED: u64 = 100;
        let mut now = Instant::now();
        let mut device = replica(0);
        device.agree(UNACKED as u32);
        let (mut head, mut sent, mut acked) = (0, 0, 0);
        // What the consumer was given, and what it has stored.
        let (mut given, mut stored) = (0, 0);
        for step in steps {
            match step {
                Step::Grow(count) => head += count,
                Step::Send(count) => {
                    let last = head.min(sent + count).min(acked + UNACKED);
                    if last > sent {
                        let dropped = device.batch(now, &batch(sent, last), 10).unwrap() as u64;
                        for seq in sent + 1 + dropped..=last {
                            prop_assert_eq!(seq, given + 1);
                            given = seq;
                        }
                        sent = last;
                    }
                }
                Step::Store(count) => {
                    let upto = given.min(stored + count);
                    device.store(now, upto, upto - stored, (upto - stored) * 10);
                    stored = upto;
                }
                Step::Wait(millis) => now += std::time::Duration::from_millis(millis),
                Step::Lose => {
                    device.lost();
                    sent = device.greet().unwrap().seq;
                    prop_assert_eq!(sent, stored);
                    acked = sent;
                }
                Step::Ack => {}
            }
            let due = device.ack_deadline().is_some_and(|due| due <= now);
            if (due || matches!(step, Step::Ack))
                && let Some(seq) = device.take_ack()
            {
                prop_assert!(seq <= sent && seq <= stored && seq >= acked);
                acked = seq;
            }
            prop_assert_eq!(device.position(), Some(at(stored)));
            prop_assert_eq!(device.received(), given);
            prop_assert!(stored.min(sent) == acked || device.ack_deadline().is_some());
        }
    }
}
