//! The checker is fed streams that are right and streams that are broken, and must tell which.

use bytes::Bytes;

use super::*;
use crate::swarm::scenario::Scenario;

const RUN: u64 = 77;

/// Two users with two devices each and one conversation, and a history of messages by the first device.
struct Stage {
    world: World,
    truth: Truth,
    messages: Vec<proto::Message>,
}

impl Stage {
    fn new(count: u64) -> Self {
        let text = "description = \"two\"\nusers = 2\ndevices = 2\nrate = 1.0\nduration = \"1s\"\n\
                    direct = { pairs = 1 }";
        let world = World::new(&Scenario::parse("two", text).unwrap(), 1, "t");
        let truth = Truth::new(&world);
        let mut stage = Self { world, truth, messages: Vec::new() };
        for number in 0..count {
            let seq = number + 1;
            stage.truth.acked(&stage.world, 0, 0, seq, number);
            let message = stage.message(0, seq, number);
            stage.messages.push(message);
        }
        stage
    }

    fn message(&self, bot: u32, seq: u64, number: u64) -> proto::Message {
        let tag = Tag { run: RUN, number, due_us: 5, bot, talk: 0 };
        proto::Message {
            conversation_id: self.world.talks[0].id.clone(),
            history_seq: seq,
            sender: self.world.user_id(self.world.user_of(bot)),
            sender_device: self.world.device_id(bot),
            content: tag.write(100),
            ..proto::Message::default()
        }
    }

    /// What a device of the other user finds when these come.
    fn feed(&self, messages: &[proto::Message]) -> Result<Mirror, Broken> {
        let mut copy = Mirror::new(&self.world, 2);
        let issued = self.messages.len() as u64;
        for (message, entry) in messages.iter().zip(1..) {
            copy.entry(entry).map_err(|it| it.broken)?;
            copy.message(&self.world, (RUN, issued), message, Way::Stream)
                .map_err(|it| it.broken)?;
        }
        self.truth.check(0)?;
        copy.compare(&self.world, &self.truth).map_err(|it| it.broken)?;
        Ok(copy)
    }
}

#[test]
fn what_is_right_passes() {
    let stage = Stage::new(50);
    let copy = stage.feed(&stage.messages).unwrap();
    assert!(copy.is_complete(&stage.world, &stage.truth));
    assert_eq!((copy.last(&stage.world, 0), copy.inbox()), (50, 50));
}

#[test]
fn what_is_lost_repeated_or_out_of_order_is_seen_at_once() {
    let stage = Stage::new(9);
    let spoil = |change: fn(&mut Vec<proto::Message>)| {
        let mut messages = stage.messages.clone();
        change(&mut messages);
        stage.feed(&messages).unwrap_err()
    };
    let lost = spoil(|all| drop(all.remove(3)));
    assert_eq!(lost, Broken::Order { last: 3, came: 5 });
    let repeated = spoil(|all| all.insert(4, all[3].clone()));
    assert_eq!(repeated, Broken::Order { last: 4, came: 4 });
    let reordered = spoil(|all| all.swap(3, 4));
    assert_eq!(reordered, Broken::Order { last: 3, came: 5 });
    let late = spoil(|all| drop(all.pop()));
    assert_eq!(late, Broken::Missing { last: 8, acked: 9 });
    let nothing = spoil(Vec::clear);
    assert_eq!(nothing, Broken::Missing { last: 0, acked: 9 });
}

#[test]
fn what_is_changed_or_invented_is_seen() {
    let stage = Stage::new(9);
    let with = |at: usize, message: proto::Message| {
        let mut messages = stage.messages.clone();
        messages[at] = message;
        stage.feed(&messages).unwrap_err()
    };
    let mut content = stage.messages[3].content.to_vec();
    content[60] ^= 4;
    let damaged = proto::Message { content: Bytes::from(content), ..stage.messages[3].clone() };
    assert_eq!(with(3, damaged), Broken::Damaged { seq: 4 });
    // Never sent, and by somebody who did not.
    assert_eq!(with(3, stage.message(0, 4, 9)), Broken::Foreign { seq: 4 });
    let forged = proto::Message { sender: stage.world.user_id(1), ..stage.messages[3].clone() };
    assert_eq!(with(3, forged), Broken::Foreign { seq: 4 });
    // Sent, but acked at another place: only the sum tells.
    assert_eq!(with(3, stage.message(0, 4, 5)), Broken::Differs { last: 9 });
    let elsewhere = proto::Message { conversation_id: "x".into(), ..stage.messages[3].clone() };
    assert_eq!(with(3, elsewhere), Broken::Leaked { seq: 4 });
}

#[test]
fn more_than_was_acked_is_seen() {
    let stage = Stage::new(9);
    // A send that was stored twice: the second time at a place that no ack names.
    let mut messages = stage.messages.clone();
    messages.push(stage.message(0, 10, 8));
    assert_eq!(stage.feed(&messages).unwrap_err(), Broken::Invented { acked: 9, last: 10 });
    stage.truth.acked(&stage.world, 0, 0, 11, 10);
    assert_eq!(stage.truth.check(0), Err(Broken::Invented { acked: 10, last: 11 }));
}

#[test]
fn an_inbox_with_a_gap_or_a_step_back_is_seen() {
    let stage = Stage::new(0);
    let mut copy = Mirror::new(&stage.world, 2);
    copy.adopt(10);
    copy.entry(11).unwrap();
    assert_eq!(copy.entry(13).unwrap_err().broken, Broken::Inbox { last: 11, came: 13 });
    assert_eq!(copy.entry(11).unwrap_err().broken, Broken::Inbox { last: 11, came: 11 });
}

#[test]
fn what_was_fetched_may_come_once_more_and_no_more() {
    let stage = Stage::new(6);
    let mut copy = Mirror::new(&stage.world, 2);
    let mut take = |message: &proto::Message, way| {
        copy.message(&stage.world, (RUN, 6), message, way).map_err(|it| it.broken)
    };
    for message in &stage.messages[..4] {
        assert!(take(message, Way::History).unwrap().is_some());
    }
    assert_eq!(take(&stage.messages[2], Way::Stream), Ok(None));
    assert_eq!(take(&stage.messages[3], Way::Stream), Ok(None));
    assert_eq!(take(&stage.messages[3], Way::Stream), Err(Broken::Order { last: 4, came: 4 }));
    assert!(take(&stage.messages[4], Way::Stream).unwrap().is_some());
    assert_eq!(take(&stage.messages[4], Way::History), Err(Broken::Order { last: 5, came: 5 }));
}

#[test]
fn sends_the_wrong_way_round_are_seen_whichever_is_acked_first() {
    let stage = Stage::new(0);
    let fed = |acks: &[(u64, u64)]| {
        let mut copy = Mirror::new(&stage.world, 0);
        acks.iter().try_for_each(|(order, seq)| copy.acked(&stage.world, 0, *order, *seq))
    };
    assert!(fed(&[(1, 4), (2, 6), (3, 7)]).is_ok());
    assert!(fed(&[(2, 6), (1, 4), (3, 7)]).is_ok());
    assert!(fed(&[(1, 6), (2, 4)]).is_err());
    assert!(fed(&[(2, 4), (1, 6)]).is_err());
}

#[test]
fn unread_is_recounted() {
    let stage = Stage::new(9);
    let copy = stage.feed(&stage.messages).unwrap();
    let check = |told: &[(u32, u64)], total| {
        copy.unread(&stage.world, &stage.truth, told, total).map_err(|it| it.broken)
    };
    assert_eq!(check(&[(0, 9)], 9), Ok(()));
    assert_eq!(check(&[(0, 8)], 8), Err(Broken::Unread { told: 8, counted: 9 }));
    assert_eq!(check(&[], 0), Err(Broken::Unread { told: 0, counted: 9 }));
    assert_eq!(check(&[(0, 9)], 10), Err(Broken::Total { told: 10, sum: 9 }));
    // Its other device reads, and marks never go back.
    stage.truth.read(&stage.world, 3, 0, 7);
    stage.truth.read(&stage.world, 2, 0, 5);
    assert_eq!(check(&[(0, 2)], 2), Ok(()));
    assert!(check(&[(0, 9)], 9).is_err());
    // The sender has read what it sent.
    let mut own = Mirror::new(&stage.world, 0);
    for message in &stage.messages {
        own.message(&stage.world, (RUN, 9), message, Way::Stream).unwrap();
    }
    assert!(own.unread(&stage.world, &stage.truth, &[], 0).is_ok());
}

#[test]
fn a_violation_says_where() {
    let stage = Stage::new(3);
    let mut copy = Mirror::new(&stage.world, 3);
    let broken = copy.message(&stage.world, (RUN, 3), &stage.messages[1], Way::Stream).unwrap_err();
    let text = broken.tell(&stage.world, 42);
    for part in ["user tu1", "device d1", &stage.world.talks[0].id, "message 2", "seed 42"] {
        assert!(text.contains(part), "{text}: {part}");
    }
}
