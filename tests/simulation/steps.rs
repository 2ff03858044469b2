//! What the plan does to the world: one step after the other, and the end at which all is whole again.

use std::time::Duration;

use roamd::store::{StoreError, simulated_disk as disk};

use crate::{
    acts::{Act, Death},
    device::Device,
    dice::Dice,
    driver::Found,
    network::End,
    world::World,
};

/// All must be well so long after everything is whole again, where the device lets enough come at once.
const CONVERGE: Duration = Duration::from_secs(10);

impl World {
    /// One step of the plan.
    pub fn act(&mut self, act: &Act) -> Result<(), Found> {
        self.note(|| format!("-- {}", short(act)));
        let now = self.now.mono;
        let is_full = self.process.as_ref().is_some_and(|process| process.engine.is_full());
        match act {
            Act::Ask(user, device, body) => {
                let at = self.come(user, device);
                self.devices[at].ask(body.clone());
            }
            Act::Wait(span) => return self.pass(*span),
            Act::SetClock(by) => self.clock_set += by,
            Act::Come(user, device) => {
                self.come(user, device);
            }
            Act::Go(user, device) => {
                if let Some(link) = self.link_of(user, device) {
                    link.leave(End::Device, now);
                }
                if let Some(at) = self.find(user, device) {
                    self.devices[at].app = None;
                }
            }
            Act::Sleep(user, device, span) => {
                if let Some(at) = self.find(user, device)
                    && let Some(app) = &mut self.devices[at].app
                {
                    app.asleep_until = Some(now + *span);
                }
            }
            Act::Cut(user, device) => {
                let mut dice = Dice::new(self.dice.below(1 << 40));
                if let Some(link) = self.link_of(user, device) {
                    link.cut(now, &mut dice);
                }
            }
            Act::Dark(user, device) => {
                if let Some(link) = self.link_of(user, device) {
                    link.darken();
                }
            }
            Act::Slow(user, device, delay) => {
                if let Some(link) = self.link_of(user, device) {
                    link.set_delay(*delay);
                }
            }
            // What waits for room is in memory only, and the model does not tell it apart.
            Act::Die(_) | Act::Restart | Act::Fault(..) if is_full => {}
            Act::Die(death) if self.process.is_some() => self.die(*death),
            Act::Restart if self.process.is_some() => self.stop()?,
            Act::Fault(steps, fault) if self.process.is_some() => disk::fail_after(*steps, *fault),
            Act::Full(span) if self.process.is_some() && !disk::armed() => {
                // What is held back for a while is written first.
                for _ in 0..20 {
                    if self.model.deadline().is_none() {
                        break;
                    }
                    self.pass(Duration::from_millis(250))?;
                }
                if self.process.is_some() && self.model.deadline().is_none() {
                    disk::set_full(true);
                    self.was_full = true;
                    self.full_until = Some(self.now.mono + *span);
                    self.count("full".into());
                }
            }
            Act::Checkpoint if !is_full => {
                let settled = self.process.as_ref().map(|process| process.store.settle());
                match settled {
                    // The disk is full, and nobody has met it yet.
                    None | Some(Ok(()) | Err(StoreError::NoSpace)) => {}
                    Some(Err(error)) => self.failed(&error.to_string())?,
                }
            }
            Act::Check => self.check()?,
            Act::Heal => return self.heal(),
            _ => {}
        }
        self.work()
    }

    /// Everything is whole again, and everybody is there.
    pub fn heal(&mut self) -> Result<(), Found> {
        disk::disarm();
        if self.process.is_some() && disk::fired() {
            self.die(Death::Fault);
        }
        let now = self.now.mono;
        for link in &mut self.links {
            link.set_delay(Duration::from_millis(1));
            if link.is_dark() {
                link.cut(now, &mut self.dice);
            }
        }
        if self.process.is_none() {
            self.up_at = Some(now);
        }
        self.full_until = self.full_until.map(|_| now);
        self.pass(Duration::from_secs(1))?;
        let now = self.now.mono;
        for device in &mut self.devices {
            if let Some(app) = &mut device.app {
                app.asleep_until = None;
                app.retry_at = app.retry_at.map(|at| at.min(now));
            }
        }
        self.pass(CONVERGE)?;
        let waits = |device: &Device| device.app.as_ref().is_some_and(|it| it.retry_at.is_some());
        if self.devices.iter().any(waits) {
            // A token of half a minute may have ended just now; its device comes back with another one.
            self.pass(Duration::from_secs(1))?;
        }
        self.check()?;
        self.converged(false)?;
        if self.devices.iter().any(|device| device.app.is_some() && device.narrow) {
            self.pass(CONVERGE * 20)?;
            self.check()?;
        }
        self.converged(true)
    }
}

/// A step in one line.
pub fn short(act: &Act) -> String {
    let mut line = format!("{act:?}");
    if line.len() > 300 {
        line = line.chars().take(300).chain("...".chars()).collect();
    }
    line
}
