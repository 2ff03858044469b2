//! Who is in the swarm, and who talks with whom: drawn from a seed, the same each time.

use std::collections::{BTreeSet, HashMap};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::scenario::Scenario;
use crate::id::{ConversationId, UserId};

/// A conversation and where it takes place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    /// The id the daemon knows it by.
    pub id: String,
    /// Its members, ascending.
    pub members: Box<[u32]>,
    /// A pair needs no group to be made.
    pub direct: bool,
}

/// Conversations that share a part of the messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kind {
    /// The first of them.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Their part, in relation to that of the others.
    pub traffic: f64,
}

/// Users, devices and conversations. Devices are numbered through: those of a user follow each other.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    prefix: String,
    /// How many users.
    pub users: u32,
    /// Devices of each user.
    pub devices: u32,
    /// All conversations.
    pub talks: Vec<Talk>,
    /// The same by kind.
    pub kinds: Vec<Kind>,
    /// Per user: its conversations, ascending.
    pub talks_of: Vec<Box<[u32]>>,
    by_id: HashMap<String, u32>,
}

impl World {
    /// The world of a scenario. Names of users and groups begin with the prefix, so that one daemon can
    /// have had more than one swarm.
    ///
    /// # Panics
    /// With a prefix that is not part of an id.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64, prefix: &str) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut world = Self {
            prefix: prefix.to_owned(),
            users: scenario.users,
            devices: scenario.devices,
            talks: Vec::new(),
            kinds: Vec::new(),
            talks_of: Vec::new(),
            by_id: HashMap::new(),
        };
        world.add_pairs(&mut dice, scenario.direct.pairs, scenario.direct.traffic);
        for groups in &scenario.groups {
            let first = world.talks.len() as u32;
            for _ in 0..groups.count {
                let id = format!("{prefix}g{}", world.talks.len());
                let members = members(&mut dice, world.users, groups.members);
                world.talks.push(Talk { id, members, direct: false });
            }
            world.kinds.push(Kind { first, count: groups.count, traffic: groups.traffic });
        }
        let mut talks_of = vec![Vec::new(); world.users as usize];
        for (talk, index) in world.talks.iter().zip(0..) {
            for member in &talk.members {
                talks_of[*member as usize].push(index);
            }
            world.by_id.insert(talk.id.clone(), index);
        }
        world.talks_of = talks_of.into_iter().map(Vec::into_boxed_slice).collect();
        world
    }

    fn add_pairs(&mut self, dice: &mut StdRng, count: u32, traffic: f64) {
        let mut pairs = BTreeSet::new();
        // A bound of the scenario: there are so many pairs.
        while pairs.len() < count as usize {
            let one = dice.random_range(0..self.users);
            let other = dice.random_range(0..self.users);
            if one != other && pairs.insert((one.min(other), one.max(other))) {
                let (low, high) = (one.min(other), one.max(other));
                let user = |number| {
                    UserId::new(&self.user_id(number)).expect("a prefix and a number are an id")
                };
                let id = ConversationId::direct(&user(low), &user(high)).as_str().to_owned();
                self.talks.push(Talk { id, members: [low, high].into(), direct: true });
            }
        }
        self.kinds.push(Kind { first: 0, count, traffic });
    }

    /// How many devices there are.
    #[must_use]
    pub fn bots(&self) -> u32 {
        self.users * self.devices
    }

    /// Whose a device is.
    #[must_use]
    pub fn user_of(&self, bot: u32) -> u32 {
        bot / self.devices
    }

    /// The id of a user.
    #[must_use]
    pub fn user_id(&self, user: u32) -> String {
        format!("{}u{user}", self.prefix)
    }

    /// The id of a device, among those of its user.
    #[must_use]
    pub fn device_id(&self, bot: u32) -> String {
        format!("d{}", bot % self.devices)
    }

    /// The device that a message says it is from; none = it is not from the swarm.
    #[must_use]
    pub fn bot_of(&self, user_id: &str, device_id: &str) -> Option<u32> {
        let user: u32 = user_id.strip_prefix(&self.prefix)?.strip_prefix('u')?.parse().ok()?;
        let device: u32 = device_id.strip_prefix('d')?.parse().ok()?;
        let known = user < self.users && device < self.devices;
        known.then(|| user * self.devices + device)
    }

    /// The conversation of an id.
    #[must_use]
    pub fn talk(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }
}

/// So many different users, ascending.
fn members(dice: &mut StdRng, users: u32, count: u32) -> Box<[u32]> {
    if count >= users {
        return (0..users).collect();
    }
    let chosen = rand::seq::index::sample(dice, users as usize, count as usize);
    let mut members: Vec<_> = chosen.into_iter().map(|user| user as u32).collect();
    members.sort_unstable();
    members.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_members_know_their_conversations() {
        let scenario = Scenario::find("mixed-day").unwrap().with_users(50).unwrap();
        let world = World::new(&scenario, 7, "x");
        assert_eq!(world, World::new(&scenario, 7, "x"));
        assert_ne!(world.talks, World::new(&scenario, 8, "x").talks);
        for bot in 0..world.bots() {
            let user = world.user_id(world.user_of(bot));
            assert_eq!(world.bot_of(&user, &world.device_id(bot)), Some(bot));
        }
        assert_eq!(world.bot_of("xu50", "d0"), None);
        assert_eq!(world.bot_of("xu1", "d2"), None);
        for (talk, index) in world.talks.iter().zip(0..) {
            assert_eq!(world.talk(&talk.id), Some(index));
            assert!(talk.members.is_sorted());
            for member in &talk.members {
                assert!(world.talks_of[*member as usize].contains(&index));
            }
        }
        let memberships: usize = world.talks.iter().map(|talk| talk.members.len()).sum();
        assert_eq!(memberships, world.talks_of.iter().map(|talks| talks.len()).sum::<usize>());
    }
}
