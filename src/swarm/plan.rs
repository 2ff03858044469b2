//! What happens when: every act of a run in order of time, drawn from a seed. The same seed gives the
//! same plan, whatever the daemon does.
//!
//! Sends are an open loop: their moments are fixed here, and a slow daemon changes none of them.
//! Each kind of act is a Poisson process of its own, so that more of one leaves the others where they
//! were. The plan knows who is away, so nobody who is away sends.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{scenario::Scenario, world::World};

/// How often somebody who is there is looked for, before an act is left out.
const TRIES_MAX: usize = 64;

/// One act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, in microseconds since the start.
    pub at_us: u64,
    /// What.
    pub act: Act,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A device sends message `number` of the run.
    Send {
        /// Which device.
        bot: u32,
        /// Into which conversation.
        talk: u32,
        /// Which message of the run, from 0.
        number: u64,
    },
    /// A device marks a conversation as read, as far as it has it.
    Read {
        /// Which device.
        bot: u32,
        /// Which conversation.
        talk: u32,
    },
    /// A device goes away.
    Leave {
        /// Which.
        bot: u32,
        /// Without a word.
        killed: bool,
    },
    /// A device comes back.
    Come {
        /// Which.
        bot: u32,
    },
    /// A device loses its connection.
    Cut {
        /// Which.
        bot: u32,
    },
    /// All devices lose their connections.
    Storm,
    /// The daemon is killed and started again.
    Crash,
}

/// One process of random moments.
#[derive(Debug)]
struct Process {
    dice: StdRng,
    rate: f64,
    next_us: f64,
}

impl Process {
    fn new(seed: u64, salt: u64, rate: f64) -> Self {
        let dice = StdRng::seed_from_u64(seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut process = Self { dice, rate, next_us: 0.0 };
        process.advance();
        process
    }

    fn advance(&mut self) {
        // 1 - [0, 1) is never zero.
        let pause = -(1.0 - self.dice.random::<f64>()).ln() / self.rate * 1e6;
        self.next_us = if self.rate > 0.0 { self.next_us + pause } else { f64::INFINITY };
    }
}

/// The acts of a run, in order.
#[derive(Debug)]
pub struct Plan<'a> {
    world: &'a World,
    end_us: u64,
    away_us: u64,
    killed: f64,
    /// Sends, reads, leaves, cuts.
    processes: [Process; 4],
    /// Acts whose moment is known.
    fixed: BinaryHeap<Reverse<(u64, u8, u32)>>,
    away: Vec<bool>,
    number: u64,
    traffic: f64,
}

const COME: u8 = 0;
const STORM: u8 = 1;
const CRASH: u8 = 2;

impl<'a> Plan<'a> {
    /// The plan of a scenario in a world.
    #[must_use]
    pub fn new(scenario: &Scenario, world: &'a World, seed: u64) -> Self {
        let faults = &scenario.faults;
        let end_us = micros(scenario.warm_up + scenario.duration);
        let mut fixed = BinaryHeap::new();
        fixed.extend(faults.storms.iter().map(|at| Reverse((micros(*at), STORM, 0))));
        fixed.extend(faults.crashes.iter().map(|at| Reverse((micros(*at), CRASH, 0))));
        let mut away = vec![false; world.bots() as usize];
        let mut dice = StdRng::seed_from_u64(seed ^ 0xab5e_0000_0000_0000);
        let absent = (f64::from(world.bots()) * faults.absent).round() as usize;
        let until = faults.absent_until.map_or(u64::MAX, micros);
        for bot in rand::seq::index::sample(&mut dice, away.len(), absent.min(away.len())) {
            away[bot] = true;
            if until < end_us {
                fixed.push(Reverse((until, COME, bot as u32)));
            }
        }
        let rates = [scenario.rate, scenario.reads, faults.leaves, faults.cuts];
        let mut salt = 0;
        let processes = rates.map(|rate| {
            salt += 1;
            Process::new(seed, salt, rate)
        });
        Self {
            world,
            end_us,
            away_us: micros(faults.away),
            killed: faults.killed,
            processes,
            fixed,
            away,
            number: 0,
            traffic: world.kinds.iter().filter(|kind| kind.count > 0).map(|it| it.traffic).sum(),
        }
    }

    /// Who is away at this point of the plan.
    #[must_use]
    pub fn away(&self) -> &[bool] {
        &self.away
    }

    /// A conversation, by the traffic of its kind, and a device of a member who is there.
    fn speaker(&mut self, process: usize) -> Option<(u32, u32)> {
        let Self { world, processes, away, traffic, .. } = self;
        let dice = &mut processes[process].dice;
        for _ in 0..TRIES_MAX {
            let mut left = dice.random::<f64>() * *traffic;
            let kind = world.kinds.iter().filter(|kind| kind.count > 0).find(|kind| {
                left -= kind.traffic;
                left < 0.0
            })?;
            let talk = kind.first + dice.random_range(0..kind.count);
            let members = &world.talks.get(talk as usize)?.members;
            let user = members.get(dice.random_range(0..members.len()))?;
            let bot = user * world.devices + dice.random_range(0..world.devices);
            if !away[bot as usize] {
                return Some((bot, talk));
            }
        }
        None
    }

    /// A device that is there.
    fn present(&mut self, process: usize) -> Option<u32> {
        let Self { processes, away, .. } = self;
        let dice = &mut processes[process].dice;
        (0..TRIES_MAX).map(|_| dice.random_range(0..away.len())).find_map(|bot| {
            let there = !away[bot];
            there.then_some(bot as u32)
        })
    }

    fn act(&mut self, process: usize, at_us: u64) -> Option<Act> {
        match process {
            0 => self.speaker(0).map(|(bot, talk)| {
                self.number += 1;
                Act::Send { bot, talk, number: self.number - 1 }
            }),
            1 => self.speaker(1).map(|(bot, talk)| Act::Read { bot, talk }),
            2 => {
                let bot = self.present(2)?;
                let killed = self.processes[2].dice.random::<f64>() < self.killed;
                self.away[bot as usize] = true;
                self.fixed.push(Reverse((at_us.saturating_add(self.away_us), COME, bot)));
                Some(Act::Leave { bot, killed })
            }
            _ => self.present(3).map(|bot| Act::Cut { bot }),
        }
    }
}

impl Iterator for Plan<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let times = self.processes.iter().map(|process| process.next_us);
            let (process, next_us) =
                times.enumerate().min_by(|one, other| one.1.total_cmp(&other.1))?;
            let fixed_us = self.fixed.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            let at_us = fixed_us.min(next_us as u64);
            if at_us >= self.end_us {
                return None;
            }
            if fixed_us <= next_us as u64 {
                let Reverse((_, what, bot)) = self.fixed.pop()?;
                let act = match what {
                    COME => {
                        self.away[bot as usize] = false;
                        Act::Come { bot }
                    }
                    STORM => Act::Storm,
                    _ => Act::Crash,
                };
                return Some(Step { at_us, act });
            }
            let act = self.act(process, at_us);
            self.processes[process].advance();
            if let Some(act) = act {
                return Some(Step { at_us, act });
            }
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::scenario::BUILT_IN;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        for built_in in BUILT_IN {
            let scenario = Scenario::find(built_in.name).unwrap().with_users(30).unwrap();
            let plan = |seed| {
                let world = World::new(&scenario, seed, "x");
                Plan::new(&scenario, &world, seed).collect::<Vec<_>>()
            };
            let first = plan(3);
            assert_eq!(first, plan(3), "{}", built_in.name);
            assert_ne!(first, plan(4), "{}", built_in.name);
        }
    }

    #[test]
    fn acts_are_in_order_at_the_rate_and_nobody_acts_who_is_away() {
        let scenario = Scenario::find("mixed-day").unwrap().with_users(100).unwrap();
        let world = World::new(&scenario, 5, "x");
        let plan = Plan::new(&scenario, &world, 5);
        let mut away = plan.away().to_vec();
        assert!(away.iter().any(|away| *away));
        let (mut last, mut sends, mut storms, mut crashes) = (0, 0, 0, 0);
        for Step { at_us, act } in plan {
            assert!(at_us >= last);
            last = at_us;
            match act {
                Act::Send { bot, talk, number } => {
                    assert_eq!(number, sends);
                    sends += 1;
                    let user = world.user_of(bot);
                    assert!(!away[bot as usize] && world.talks_of[user as usize].contains(&talk));
                }
                Act::Read { bot, .. } | Act::Cut { bot } => assert!(!away[bot as usize]),
                Act::Leave { bot, .. } => {
                    assert!(!std::mem::replace(&mut away[bot as usize], true));
                }
                Act::Come { bot } => assert!(std::mem::replace(&mut away[bot as usize], false)),
                Act::Storm => storms += 1,
                Act::Crash => crashes += 1,
            }
        }
        // 33 s at 200 per second, give or take five standard deviations.
        assert!((6200..7000).contains(&sends), "{sends}");
        assert_eq!((storms, crashes), (1, 1));
    }
}
