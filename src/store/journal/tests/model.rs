//! Random lives of a journal against a vector.

use proptest::prelude::*;

use super::*;
use crate::store::journal::disk::sim::{self, Fault};

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    /// Moves the checkpoint this many thousandths of the way to the end, and recycles.
    Recycle(u64),
    Reopen,
    /// Ends the process some disk steps later; with a seed, the power too.
    Crash(u64, usize, Option<u64>),
    /// Another segment size from the next open on.
    Resize(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop_oneof![0..200_usize, 0..4000_usize, 0..20_000_usize].prop_map(Step::Append),
        3 => (0..=1000_u64).prop_map(Step::Recycle),
        1 => Just(Step::Reopen),
        2 => (0..30_u64, 0..=1000_usize, any::<Option<u64>>())
            .prop_map(|(after, torn, power)| Step::Crash(after, torn, power)),
        1 => (1..5_u64).prop_map(|blocks| Step::Resize(blocks * 4096)),
    ]
}

struct Life {
    config: JournalConfig,
    journal: Option<Journal>,
    commits: Vec<Vec<u8>>,
    pending: Option<Vec<u8>>,
    applied: CommitNo,
    power: Option<u64>,
}

impl Life {
    /// After a clean or a hard end: opens until it succeeds, which an armed fault may delay once.
    fn reopen(&mut self) {
        self.journal = None;
        let (journal, seen) = loop {
            match open(&self.config, self.applied) {
                Ok(opened) => break opened,
                Err(error) => assert!(sim::fired(), "{error}"),
            }
            self.end();
        };
        let applied = self.applied.number() as usize;
        if seen.len() + applied > self.commits.len() {
            self.commits.extend(self.pending.take());
        }
        self.pending = None;
        assert_eq!(seen, self.commits[applied..]);
        self.journal = Some(journal);
    }

    fn end(&mut self) {
        match self.power.take() {
            Some(seed) => sim::power_cut(seed),
            None => sim::restart(),
        }
    }

    fn append(&mut self, bytes: usize) {
        let payload = payload(self.commits.len() as u64 + 7, bytes);
        let journal = self.journal.as_mut().expect("open");
        match journal.append(&payload) {
            Ok(commit) => {
                self.commits.push(payload);
                assert_eq!(commit.number() as usize, self.commits.len());
            }
            Err(_) => {
                self.pending = Some(payload);
                self.end();
                self.reopen();
            }
        }
    }

    fn recycle(&mut self, thousandths: u64) {
        let behind = self.commits.len() as u64 - self.applied.number();
        self.applied = CommitNo::new(self.applied.number() + behind * thousandths / 1000);
        let journal = self.journal.as_ref().expect("open");
        if journal.recycler().recycle(self.applied).is_err() {
            self.end();
            self.reopen();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_is_a_vector(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().expect("dir");
        sim::start(dir.path());
        let mut life = Life {
            config: config(dir.path()),
            journal: None,
            commits: Vec::new(),
            pending: None,
            applied: CommitNo::ZERO,
            power: None,
        };
        life.reopen();
        for step in steps {
            match step {
                Step::Append(bytes) => life.append(bytes),
                Step::Recycle(thousandths) => life.recycle(thousandths),
                Step::Reopen => life.reopen(),
                Step::Crash(after, torn, power) => {
                    life.power = power;
                    sim::fail_after(after, Fault::Kill(torn));
                }
                Step::Resize(bytes) => life.config.segment_bytes = bytes,
            }
        }
        life.reopen();
        sim::stop();
    }
}
