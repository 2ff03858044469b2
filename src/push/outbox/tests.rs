//! The rules against a device that really shows and hides notifications.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const EXPIRY: Duration = Duration::from_secs(24 * 3600);

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn seq(number: u64) -> HistorySeq {
    HistorySeq::new(number)
}

fn news(number: u64) -> News {
    News { seq: seq(number), entry: InboxSeq::new(number), mention: false, due: at(0) }
}

fn facts() -> Facts {
    Facts {
        attended: false,
        quiet_until: at(0),
        cursor: InboxSeq::ZERO,
        read_seq: HistorySeq::ZERO,
        wants: true,
        gone: false,
    }
}

/// Kind and message of what is wanted.
fn wanted(outbox: &Outbox) -> Option<(Kind, u64)> {
    outbox.wanted.map(|wanted| (wanted.kind, wanted.seq.number()))
}

#[test]
fn one_thing_waits_and_the_newest_wins() {
    let mut outbox = Outbox::default();
    assert!(outbox.message(News { mention: true, ..news(1) }, 1, at(1)));
    assert!(outbox.message(news(3), 2, at(2)));
    assert!(!outbox.message(news(2), 3, at(3)), "older than what waits");
    assert_eq!(wanted(&outbox), Some((Kind::Message, 3)));
    assert!(outbox.wanted.unwrap().mention, "one of them names the user");
    outbox.told();
    outbox.accepted(&outbox.wanted.unwrap(), at(4));
    assert_eq!((wanted(&outbox), outbox.shown.unwrap().seq), (None, seq(3)));
    assert!(!outbox.message(news(3), 4, at(5)), "told already");
}

#[test]
fn reading_drops_what_waits_and_takes_back_what_was_told() {
    let mut outbox = Outbox::default();
    outbox.message(news(1), 1, at(1));
    assert!(outbox.read(seq(1), 2, at(2)));
    assert!(outbox.is_empty());

    outbox.message(news(2), 3, at(3));
    outbox.told();
    let told = outbox.wanted.unwrap();
    assert!(!outbox.read(seq(1), 4, at(4)));
    assert!(outbox.read(seq(2), 4, at(4)), "while it is in flight");
    assert_eq!(wanted(&outbox), Some((Kind::Read, 2)));
    outbox.accepted(&told, at(5));
    assert_eq!(wanted(&outbox), Some((Kind::Read, 2)));
    outbox.told();
    outbox.accepted(&outbox.wanted.unwrap(), at(6));
    assert!(outbox.is_empty());
}

#[test]
fn a_recall_takes_back_or_gives_way_to_the_one_before() {
    let mut outbox = Outbox::default();
    outbox.message(news(2), 1, at(1));
    assert!(outbox.gone(seq(2), Some(news(1)), 2, at(2)));
    assert_eq!(wanted(&outbox), Some((Kind::Message, 1)));
    assert!(outbox.gone(seq(1), None, 3, at(3)));
    assert!(outbox.is_empty());

    outbox.message(news(3), 4, at(4));
    outbox.told();
    outbox.accepted(&outbox.wanted.unwrap(), at(5));
    outbox.message(news(4), 5, at(6));
    assert!(outbox.gone(seq(3), None, 6, at(7)), "noted");
    assert_eq!(wanted(&outbox), Some((Kind::Message, 4)), "which takes its place");
    assert!(outbox.gone(seq(4), None, 7, at(8)), "so 3 is still shown");
    assert_eq!(wanted(&outbox), Some((Kind::Recalled, 3)));
    assert!(!outbox.gone(seq(3), None, 9, at(9)));
}

#[test]
fn what_is_due_is_decided_again() {
    let waiting = || {
        let mut outbox = Outbox::default();
        outbox.message(News { due: at(100), ..news(5) }, 1, at(1));
        outbox
    };
    let due = |facts: &Facts, earlier, now| {
        let mut outbox = waiting();
        (outbox.due(facts, earlier, 2, at(now)), wanted(&outbox))
    };
    let told = Some((Kind::Message, 5));
    assert_eq!(due(&facts(), None, 99), (Next::Wait(at(100)), told));
    assert_eq!(due(&facts(), None, 100), (Next::Tell, told));
    let quiet = Facts { quiet_until: at(150), ..facts() };
    assert_eq!(due(&quiet, None, 149), (Next::Wait(at(150)), told));
    let nothing = (Next::Nothing, None);
    for facts in [
        Facts { attended: true, ..facts() },
        Facts { cursor: InboxSeq::new(5), ..facts() },
        Facts { read_seq: seq(5), ..facts() },
        Facts { wants: false, ..facts() },
        Facts { gone: true, ..facts() },
    ] {
        assert_eq!(due(&facts, None, 100), nothing, "{facts:?}");
    }
    let gone = Facts { gone: true, ..facts() };
    assert_eq!(due(&gone, Some(news(4)), 100), (Next::Tell, Some((Kind::Message, 4))));
    let behind = Facts { cursor: InboxSeq::new(4), read_seq: seq(4), ..facts() };
    assert_eq!(due(&behind, None, 100), (Next::Tell, told));

    // A message without an entry: the cursor says nothing about it.
    let mut large = Outbox::default();
    large.message(News { entry: InboxSeq::ZERO, ..news(5) }, 1, at(1));
    assert_eq!(
        large.due(&Facts { cursor: InboxSeq::new(9), ..facts() }, None, 2, at(1)),
        Next::Tell
    );
}

#[test]
fn failures_are_repeated_until_it_is_too_late() {
    let mut outbox = Outbox::default();
    outbox.message(news(1), 1, at(0));
    outbox.told();
    outbox.failed(Duration::from_secs(8), at(0));
    assert_eq!(outbox.due(&facts(), None, 2, at(10)), Next::Wait(at(8000)));
    assert!(outbox.message(news(2), 3, at(20)));
    assert_eq!(outbox.due(&facts(), None, 4, at(30)), Next::Wait(at(8000)), "not hurried");
    assert!(!outbox.forget(EXPIRY, at(86_400_000)));
    assert!(outbox.forget(EXPIRY, at(86_400_020)));
    assert_eq!((outbox.wanted, outbox.shown.unwrap().seq), (None, seq(1)), "1 may be shown");
    assert!(outbox.forget(EXPIRY, at(20 + 7 * 86_400_000)));
    assert!(outbox.is_empty());
}

#[test]
fn pauses_double_up_to_the_most() {
    let (first, most) = (Duration::from_secs(1), Duration::from_secs(300));
    for id in 0..1000 {
        for attempts in 1..40 {
            let pause = back_off(attempts, first, most, id);
            let full = first.saturating_mul(1 << (attempts - 1).min(20)).min(most);
            assert!(pause <= full && pause >= full / 4 * 3, "{attempts} {id} {pause:?}");
        }
    }
}

/// A step of a history: what happens, and to which message.
#[derive(Clone, Copy, Debug)]
enum Step {
    Message,
    Read(u64),
    Gone(u64),
    /// The hook is told, and the answer comes or is lost.
    Tell(bool),
    /// The hook is told; the answer comes after the next step.
    TellSlowly,
    Attend,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Message),
        1 => (0_u64..12).prop_map(Step::Read),
        1 => (0_u64..12).prop_map(Step::Gone),
        3 => any::<bool>().prop_map(Step::Tell),
        2 => Just(Step::TellSlowly),
        1 => Just(Step::Attend),
    ]
}

proptest! {
    /// Whatever a device shows is either to be replaced, to be taken back, or remembered; and once
    /// everything is read and told, it shows nothing.
    #[test]
    fn nothing_shown_is_forgotten(steps in proptest::collection::vec(step(), 0..60)) {
        let mut outbox = Outbox::default();
        let mut shows: Option<HistorySeq> = None;
        let mut in_flight: Option<Wanted> = None;
        let (mut newest, mut read_seq) = (0, HistorySeq::ZERO);
        let mut gone = BTreeSet::new();
        let all = steps.into_iter().chain([Step::Read(u64::MAX), Step::Tell(true)]);
        for (number, step) in all.enumerate() {
            let (id, now) = (number as u64 + 1, at(number as u64));
            let answered = in_flight.take();
            let tell = |outbox: &mut Outbox, shows: &mut Option<HistorySeq>| {
                let wanted = outbox.wanted?;
                outbox.told();
                match wanted.kind {
                    Kind::Message => *shows = Some(wanted.seq),
                    _ => *shows = shows.filter(|seq| *seq > wanted.seq),
                }
                Some(wanted)
            };
            match step {
                Step::Message => {
                    newest += 1;
                    outbox.message(news(newest), id, now);
                }
                Step::Read(upto) => {
                    read_seq = read_seq.max(seq(upto.min(newest)));
                    outbox.read(read_seq, id, now);
                    let left = outbox.wanted.filter(|wanted| wanted.kind == Kind::Message);
                    prop_assert!(left.is_none_or(|wanted| wanted.seq > read_seq));
                }
                Step::Gone(number) => {
                    gone.insert(seq(number));
                    outbox.gone(seq(number), None, id, now);
                    let left = outbox.wanted.filter(|wanted| wanted.kind == Kind::Message);
                    prop_assert!(left.is_none_or(|wanted| wanted.seq != seq(number)));
                }
                Step::Attend => {
                    outbox.attend(now);
                    // The application takes away what is read or gone.
                    shows = shows.filter(|seq| *seq > read_seq && !gone.contains(seq));
                }
                Step::Tell(answer) if answered.is_none() => {
                    let told = tell(&mut outbox, &mut shows);
                    match told {
                        Some(told) if answer => outbox.accepted(&told, now),
                        _ => outbox.failed(Duration::ZERO, now),
                    }
                }
                Step::TellSlowly if answered.is_none() => in_flight = tell(&mut outbox, &mut shows),
                Step::Tell(_) | Step::TellSlowly => {}
            }
            if let Some(told) = answered {
                outbox.accepted(&told, now);
            }
            if let (Some(wanted), Some(shown)) = (outbox.wanted, outbox.shown) {
                prop_assert!(wanted.kind != Kind::Message || wanted.seq > shown.seq);
            }
            if let Some(seq) = shows {
                let told = outbox.wanted.filter(|w| w.kind == Kind::Message && w.attempts > 0);
                let known = told.map(|told| told.seq).max(outbox.shown.map(|shown| shown.seq));
                prop_assert!(known >= Some(seq), "{seq} is shown, {outbox:?} after {step:?}");
            }
            prop_assert_eq!(Outbox::decode(outbox.encode()), Ok(outbox));
        }
        prop_assert_eq!(shows, None);
    }

    #[test]
    fn reading_anything_never_panics(bytes: Vec<u8>) {
        let _ = Outbox::decode(Bytes::from(bytes));
    }
}

/// A READ gave way to a new message, and that was recalled before anybody was told: the old
/// notification stayed for good, because nothing remembered that it was to go.
#[test]
fn what_gave_way_to_a_message_that_is_gone_is_taken_back_all_the_same() {
    let shows_one = || {
        let mut outbox = Outbox::default();
        outbox.message(news(1), 1, at(1));
        outbox.told();
        outbox.accepted(&outbox.wanted.unwrap(), at(2));
        outbox
    };
    // Read first, then the new message; and the other way round.
    let mut outbox = shows_one();
    assert!(outbox.read(seq(1), 2, at(3)));
    assert!(outbox.message(news(2), 3, at(4)));
    assert!(outbox.gone(seq(2), None, 4, at(5)));
    assert_eq!(wanted(&outbox), Some((Kind::Read, 1)));
    let mut outbox = shows_one();
    assert!(outbox.message(news(2), 2, at(3)));
    assert!(outbox.read(seq(1), 3, at(4)));
    assert!(outbox.gone(seq(2), None, 4, at(5)));
    assert_eq!(wanted(&outbox), Some((Kind::Read, 1)));
    // The message takes its place.
    let mut outbox = shows_one();
    outbox.message(news(2), 2, at(3));
    outbox.gone(seq(1), None, 3, at(4));
    outbox.told();
    outbox.accepted(&outbox.wanted.unwrap(), at(5));
    assert_eq!((wanted(&outbox), outbox.shown.unwrap().untrue), (None, None));
}

/// Two messages were told and both answers were lost; then the older one was recalled. What was taken
/// back was the older one alone, and the newer one, read or recalled meanwhile, stayed for good.
#[test]
fn what_may_be_shown_is_taken_back_though_something_older_is_being_taken_back() {
    let may_show_two = || {
        let mut outbox = Outbox::default();
        for number in 1..=2 {
            outbox.message(news(number), number, at(number));
            outbox.told();
            outbox.failed(Duration::ZERO, at(number));
        }
        outbox.message(news(3), 3, at(3));
        outbox.gone(seq(3), None, 4, at(4));
        outbox.gone(seq(1), None, 5, at(5));
        assert_eq!(wanted(&outbox), Some((Kind::Recalled, 1)));
        outbox
    };
    let mut outbox = may_show_two();
    assert!(outbox.read(seq(9), 6, at(6)));
    assert_eq!(wanted(&outbox), Some((Kind::Read, 2)));
    let mut outbox = may_show_two();
    assert!(outbox.gone(seq(2), None, 6, at(6)));
    assert_eq!(wanted(&outbox), Some((Kind::Recalled, 2)));
    // Only the older one is to go: the newer one is not forgotten.
    let mut outbox = may_show_two();
    outbox.told();
    outbox.accepted(&outbox.wanted.unwrap(), at(6));
    assert!(outbox.read(seq(9), 7, at(7)));
    assert_eq!(wanted(&outbox), Some((Kind::Read, 2)));
}
