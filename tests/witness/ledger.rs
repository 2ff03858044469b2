//! What the daemon has promised and what it has shown, over all its lives.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;

use roamd::wire::proto::{self, client_frame, server_frame};

use super::{
    Complaints, Launch,
    connection::Connection,
    load::Played,
    seen::{Change, Row, Seen, payload},
};

const USERS: usize = 8;
const GROUPS: usize = 4;
/// Devices that have a sibling: those of the first users.
const SECOND_DEVICES: usize = 4;
/// Acked sends of a device that are kept whole, to be repeated in later rounds.
const KEPT_WHOLE: usize = 4;

/// Where a send goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Direct(String),
    Group(String),
}

/// What became of a send.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// No reply: it may have been done or not.
    Open,
    Acked(proto::SendAck),
    /// Refused: it must not have been done.
    Refused,
}

/// One send of a device.
#[derive(Debug)]
pub struct Sent {
    pub target: Target,
    pub hash: u64,
    pub outcome: Outcome,
    /// The request, as long as it may be repeated.
    pub request: Option<proto::Send>,
    /// It was repeated later, behind what the device has sent since.
    pub late: bool,
    /// Where it was found in a history.
    pub found: Option<(String, u64)>,
}

#[derive(Debug)]
pub struct Device {
    pub user: usize,
    pub id: String,
    pub sent: BTreeMap<u64, Sent>,
    /// Everything before this id has been settled.
    pub settled: u64,
    pub next_client_id: u64,
    /// The last inbox_seq it has stored.
    pub position: u64,
    /// The highest it has ever acked or resumed from: no stored cursor may be above.
    pub acked: u64,
    /// A resume that was answered: no stored cursor may be below.
    pub floor: u64,
}

#[derive(Debug)]
pub struct User {
    pub name: String,
    pub token: String,
    /// What was shown, by inbox_seq, as far back as the daemon keeps it.
    pub inbox: BTreeMap<u64, Seen>,
    /// The highest inbox_seq heard of.
    pub head: u64,
    /// Everything up to here has been read by the checker.
    pub pulled: u64,
    /// Read markers that were acked.
    pub marks: HashMap<String, u64>,
}

#[derive(Debug)]
pub enum Kind {
    Direct(String, String),
    Group { owner: usize },
}

#[derive(Debug)]
pub struct Conversation {
    pub kind: Kind,
    pub rows: Vec<Row>,
    /// Rows that have been compared with the inboxes.
    pub compared: usize,
    pub members: BTreeSet<String>,
    /// What each user may see: first and last row.
    pub intervals: HashMap<String, Vec<(u64, Option<u64>)>>,
    /// Greatest client id of each device, and last row of each user.
    pub last_client_id: HashMap<String, u64>,
    pub last_own: HashMap<String, u64>,
}

impl Conversation {
    pub fn new(kind: Kind) -> Self {
        let mut conversation = Self {
            kind,
            rows: Vec::new(),
            compared: 0,
            members: BTreeSet::new(),
            intervals: HashMap::new(),
            last_client_id: HashMap::new(),
            last_own: HashMap::new(),
        };
        if let Kind::Direct(a, b) = &conversation.kind {
            for user in [a.clone(), b.clone()] {
                conversation.intervals.insert(user.clone(), vec![(1, None)]);
                conversation.members.insert(user);
            }
        }
        conversation
    }

    pub fn sees(&self, user: &str, seq: u64) -> bool {
        let inside = |(first, last): &(u64, Option<u64>)| {
            *first <= seq && last.is_none_or(|last| seq <= last)
        };
        self.intervals.get(user).is_some_and(|intervals| intervals.iter().any(inside))
    }
}

/// Figures for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub acked: u64,
    pub open: u64,
    pub done_without_reply: u64,
    pub repeated: u64,
    pub entries: u64,
}

/// See the head of this folder.
#[derive(Debug)]
pub struct Ledger {
    pub users: Vec<User>,
    pub devices: Vec<Device>,
    pub conversations: BTreeMap<String, Conversation>,
    /// Changes of members that were acked: owner, its inbox_seq, conversation, whether added, who.
    pub changes: Vec<(usize, u64, String, bool, String)>,
    pub message_ids: HashSet<u64>,
    pub epoch: Option<u64>,
    /// The disk may be full at times: what would write may be refused, and is then not done.
    pub may_be_full: bool,
    pub figures: Figures,
}

impl Ledger {
    /// Mints the tokens and makes the groups, on a daemon that runs.
    pub fn open(launch: &Launch, address: SocketAddr) -> Result<Self, String> {
        let mut users = Vec::new();
        for index in 0..USERS {
            let name = format!("user-{index}");
            users.push(User {
                token: launch.mint(&name)?,
                name,
                inbox: BTreeMap::new(),
                head: 0,
                pulled: 0,
                marks: HashMap::new(),
            });
        }
        let second = (0..SECOND_DEVICES).map(|user| (user, "tablet"));
        let devices = (0..USERS).map(|user| (user, "phone")).chain(second);
        let device = |(user, id): (usize, &str)| Device {
            user,
            id: id.to_owned(),
            sent: BTreeMap::new(),
            settled: 0,
            next_client_id: 1,
            position: 0,
            acked: 0,
            floor: 0,
        };
        let mut ledger = Self {
            users,
            devices: devices.map(device).collect(),
            conversations: BTreeMap::new(),
            changes: Vec::new(),
            message_ids: HashSet::new(),
            epoch: None,
            may_be_full: false,
            figures: Figures::default(),
        };
        for owner in 0..GROUPS {
            ledger.make_group(address, owner).map_err(|error| format!("no group: {error}"))?;
        }
        Ok(ledger)
    }

    fn make_group(&mut self, address: SocketAddr, owner: usize) -> Result<(), String> {
        let id = format!("team-{owner}");
        let members = (owner..owner + 5).filter_map(|user| self.users.get(user % USERS));
        let request = proto::CreateGroup {
            client_request_id: 1,
            conversation_id: id.clone(),
            title: id.clone(),
            user_ids: members.map(|user| user.name.clone()).collect(),
            ..Default::default()
        };
        let token = &self.users[owner].token;
        let mut connection = Connection::open(address).map_err(|error| error.to_string())?;
        connection.greet(token, "desk", None).map_err(super::connection::Trouble::text)?;
        match connection.call(client_frame::Body::CreateGroup(request)) {
            Ok(server_frame::Body::GroupCreated(_)) => {
                self.conversations.insert(id, Conversation::new(Kind::Group { owner }));
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// Asks a daemon whose disk is gone for something that has to be written. It must not be done.
    pub fn knock(&self, address: SocketAddr) -> Option<String> {
        let mut connection = Connection::open(address).ok()?;
        let welcome = connection.greet(&self.users[0].token, "late", None).ok()?;
        Some(format!("a daemon without a disk lets somebody in: {welcome:?}"))
    }

    /// Something was shown. Whatever had this number before must have been the same.
    pub fn see(&mut self, user: usize, seq: u64, seen: Seen) -> Result<(), String> {
        let User { name, inbox, head, .. } = &mut self.users[user];
        *head = (*head).max(seq);
        match inbox.get(&seq) {
            Some(before) if *before != seen => Err(format!(
                "inbox_seq used twice: entry {seq} of {name} was {before:?} and is now {seen:?}"
            )),
            Some(_) => Ok(()),
            None => {
                inbox.insert(seq, seen);
                self.figures.entries += 1;
                Ok(())
            }
        }
    }

    /// Takes in what the devices did and saw.
    pub fn take(&mut self, plays: Vec<Played>) -> Complaints {
        let mut complaints = Vec::new();
        for play in plays {
            let user = self.devices[play.device].user;
            complaints.extend(play.complaints);
            for (seq, seen) in play.seen {
                complaints.extend(self.see(user, seq, seen).err());
            }
            let User { head, marks, .. } = &mut self.users[user];
            *head = (*head).max(play.head);
            for (conversation, seq) in play.marks {
                let mark = marks.entry(conversation).or_default();
                *mark = seq.max(*mark);
            }
            let changes = play.changes.into_iter();
            self.changes.extend(changes.map(|(seq, id, add, who)| (user, seq, id, add, who)));
            let device = &mut self.devices[play.device];
            device.next_client_id = play.next_client_id;
            device.position = play.position;
            device.acked = device.acked.max(play.acked);
            device.floor = device.floor.max(play.floor);
            for (request, outcome) in play.sent {
                match outcome {
                    Outcome::Open => self.figures.open += 1,
                    Outcome::Acked(_) => self.figures.acked += 1,
                    Outcome::Refused => {}
                }
                let target = match &request.to {
                    Some(proto::send::To::Peer(peer)) => Target::Direct(peer.clone()),
                    Some(proto::send::To::ConversationId(id)) => Target::Group(id.clone()),
                    None => unreachable!("every send has a target"),
                };
                let hash = payload(&request.content_type, &request.content, request.created_at_ms);
                let id = request.client_message_id;
                let request = Some(request);
                device
                    .sent
                    .insert(id, Sent { target, hash, outcome, request, late: false, found: None });
            }
        }
        complaints
    }

    /// Lets go of requests that will not be repeated, but for a few.
    pub fn forget_requests(&mut self) {
        for device in &mut self.devices {
            let whole = device.sent.iter_mut().rev().filter(|(_, sent)| sent.request.is_some());
            for (_, sent) in whole.skip(KEPT_WHOLE) {
                sent.request = None;
            }
            device.settled = device.next_client_id;
        }
    }

    /// Notes a change of members: who sees what from now on.
    pub fn change_members(&mut self, id: &str, change: &Change) -> Complaints {
        use proto::MembershipAction::{Added, Created, Removed};
        let mut complaints = Vec::new();
        let Some(conversation) = self.conversations.get_mut(id) else {
            return vec![format!("{id} is a group nobody made: {change:?}")];
        };
        for user in &change.users {
            let intervals = conversation.intervals.entry(user.clone()).or_default();
            let changed = match change.action {
                Created | Added => {
                    intervals.push((change.at + 1, None));
                    conversation.members.insert(user.clone())
                }
                Removed => {
                    if let Some(open) = intervals.last_mut() {
                        open.1 = Some(change.at);
                        if open.0 > change.at {
                            intervals.pop();
                        }
                    }
                    conversation.members.remove(user)
                }
                _ => false,
            };
            if !changed {
                complaints.push(format!("a change in {id} that changes nothing: {change:?}"));
            }
        }
        if conversation.members.len() != change.member_count as usize {
            let count = conversation.members.len();
            complaints.push(format!("{id} has {count} members, not as told: {change:?}"));
        }
        complaints
    }
}
