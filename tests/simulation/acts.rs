//! What happens in a run, step by step. Steps say everything about themselves, so that any of them can
//! be left out and the rest done again; each brings its own luck for what it leads to.

use std::{collections::BTreeSet, time::Duration};

use roamd::{
    engine::{Caller, Command},
    id::{ClientMessageId, DeviceId, UserId},
    request::Request,
    store::simulated_disk::Fault,
    wire::proto::client_frame::Body,
};

use crate::{
    bodies::body,
    dice::Dice,
    model::Model,
    plan::{Plan, Step as Planned},
};

/// What a client says by itself.
fn is_its_own(request: &Request) -> bool {
    use Request::{Ack, Bye, Hello, Ping, Resume, Unknown};
    matches!(request, Hello(_) | Resume(_) | Ack(_) | Ping { .. } | Bye | Unknown)
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// kill -9: what it wrote is in the kernel's memory.
    Kill,
    /// The power goes: what was not synced is on the disk, or not, or in part.
    Power,
    /// The disk has failed.
    Fault,
    /// An orderly stop.
    Stop,
}

#[derive(Clone, Debug)]
pub enum Act {
    /// The application on a device asks for something.
    Ask(UserId, DeviceId, Body),
    Wait(Duration),
    /// The wall clock is set, as the next process will see.
    SetClock(i64),
    /// The application starts.
    Come(UserId, DeviceId),
    /// It is killed: what it was given is stored, nothing else.
    Go(UserId, DeviceId),
    /// It takes no events for a while.
    Sleep(UserId, DeviceId, Duration),
    /// Its connection is cut.
    Cut(UserId, DeviceId),
    /// Nothing arrives on its connection any more, and nobody is told.
    Dark(UserId, DeviceId),
    /// Its connection becomes slow, or fast.
    Slow(UserId, DeviceId, Duration),
    Die(Death),
    Restart,
    /// After so many more changes on disk one fails, or the process dies in it.
    Fault(u64, Fault),
    /// The disk is full for a while.
    Full(Duration),
    /// Recent data moves to the trees.
    Checkpoint,
    /// Everything in the store is compared with the model.
    Check,
    /// All faults end; all devices have to be up to date soon.
    Heal,
}

/// One step of a run.
#[derive(Clone, Debug)]
pub struct Step {
    pub act: Act,
    pub luck: u64,
}

/// Chooses steps by looking at the model.
pub struct Source {
    dice: Dice,
    plan: Plan,
    /// Numbers that the application gave: what it repeats with them repeats them.
    given: BTreeSet<(UserId, DeviceId, u64)>,
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Source {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5151);
        let plan = Plan::new(Dice::new(dice.below(1 << 40)));
        Self { dice, plan, given: BTreeSet::new() }
    }

    pub fn next(&mut self, model: &Model, known: &Plan) -> Vec<Step> {
        // What was told of pages and snapshots.
        self.plan.tokens.clone_from(&known.tokens);
        self.plan.snapshots.clone_from(&known.snapshots);
        let acts = match self.dice.below(20) {
            0..=13 => self.planned(model),
            14..=17 => vec![self.network(model)],
            _ => self.trouble(),
        };
        let step = |act| Step { act, luck: self.dice.below(1 << 40) };
        acts.into_iter().map(step).collect()
    }

    /// What the plan shared with the other layers has next.
    fn planned(&mut self, model: &Model) -> Vec<Act> {
        let mut acts = Vec::new();
        for step in self.plan.next(model) {
            match step {
                Planned::Do(caller, Command::Request(request)) => {
                    let request = self.numbered(&caller, request);
                    if !is_its_own(&request) {
                        acts.push(Act::Ask(caller.user, caller.device, body(&request)));
                    }
                    if self.dice.chance(1, 2) {
                        acts.push(Act::Wait(millis(self.dice.below(40))));
                    }
                }
                Planned::Wait(span) => acts.push(Act::Wait(span)),
                Planned::SetClock(by) => acts.push(Act::SetClock(by)),
                Planned::Flush => acts.push(Act::Wait(millis(5))),
                Planned::Crash => acts.push(Act::Die(Death::Kill)),
                Planned::Reopen => acts.push(Act::Restart),
                Planned::Live(user) => {
                    let caller = self.plan.caller(model);
                    acts.push(Act::Come(user, caller.device));
                }
                Planned::Do(..) | Planned::Online => {}
            }
        }
        acts
    }

    /// The client gives sends their numbers; sometimes the application does.
    fn numbered(&mut self, caller: &Caller, mut request: Request) -> Request {
        let own = self.dice.chance(1, 6);
        if let Request::Send { client_id, .. }
        | Request::CreateGroup { client_id, .. }
        | Request::SendNotice { client_id, .. } = &mut request
        {
            let number = (caller.user.clone(), caller.device.clone(), client_id.number());
            if own {
                self.given.insert(number);
            } else if !self.given.contains(&number) {
                *client_id = ClientMessageId::new(0);
            }
        }
        request
    }

    fn network(&mut self, model: &Model) -> Act {
        let caller = self.plan.caller(model);
        let (user, device) = (caller.user, caller.device);
        match self.dice.below(12) {
            0..=2 => Act::Come(user, device),
            3 | 4 => Act::Go(user, device),
            5 | 6 => Act::Cut(user, device),
            7 | 8 => Act::Dark(user, device),
            9 => Act::Slow(user, device, millis(*self.dice.pick(&[0, 5, 100, 900]))),
            10 => Act::Sleep(user, device, millis(*self.dice.pick(&[300, 3_000, 60_000]))),
            _ => Act::Wait(millis(*self.dice.pick(&[30, 300, 3_000, 30_000]))),
        }
    }

    fn trouble(&mut self) -> Vec<Act> {
        match self.dice.below(16) {
            0 => vec![Act::Die(Death::Kill)],
            1 | 2 => vec![Act::Die(Death::Power)],
            3 => vec![Act::Restart],
            4..=7 => {
                let fault = match self.dice.below(4) {
                    0 => Fault::Errno(5),
                    _ => Fault::Kill(*self.dice.pick(&[0, 300, 700, 1000])),
                };
                vec![Act::Fault(self.dice.below(25), fault)]
            }
            8 | 9 => vec![Act::Checkpoint],
            10 => vec![Act::Full(millis(*self.dice.pick(&[10, 700, 5_000])))],
            11 | 12 => vec![Act::Check],
            _ => vec![Act::Wait(millis(self.dice.below(9_000)))],
        }
    }
}
