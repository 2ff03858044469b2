//! Groups: who is in them, with which rights, and what everybody is told of it.

use std::{collections::BTreeSet, sync::Arc};

use roamd::{
    engine::{Caller, Now},
    id::{ClientMessageId, ConversationId, UserId},
    limits::ENTRY_USERS_MAX,
    message::{
        ConversationKind, EntryKind, HistoryPolicy, MembershipAction, MembershipChange,
        Preferences, Role,
    },
    refusal::ErrorCode,
    reply::{MemberOutcome, Reply},
    seq::{HistorySeq, InboxSeq},
    time::Timestamp,
};

use super::{
    Chosen, Member, Model, Outcome, Place, Talk, done, messages::Payload, nothing, refused,
};

/// Wanted id, title, users, policy.
pub(super) type Creation = (Option<ConversationId>, Arc<str>, Vec<UserId>, HistoryPolicy);

/// What an entry tells of a change.
struct Told<'a> {
    action: MembershipAction,
    users: &'a [UserId],
    role: Option<Role>,
}

impl Talk {
    pub(super) fn join(&mut self, user: &UserId, role: Role, now: Now) {
        let head = self.head();
        let first = match self.policy {
            HistoryPolicy::SinceJoin => head + 1,
            HistoryPolicy::LastN(count) => (head + 1).saturating_sub(u64::from(count)).max(1),
            HistoryPolicy::Full => 1,
        };
        let place = self.places.entry(user.clone()).or_insert(Place {
            stays: Vec::new(),
            joined: now.wall,
            read: BTreeSet::new(),
            left_mutation: None,
            left_title: "".into(),
            cleared: 0,
            hidden: BTreeSet::new(),
            marked_unread: false,
            told: 0,
            preferences: Preferences::default(),
            preferences_told: true,
            peer_visible: 0,
            peer_told: 0,
        });
        place.stays.push((first, None));
        place.joined = now.wall;
        place.left_mutation = None;
        // What was written before it joined is never unread.
        place.read_up_to(head);
        place.told = place.read_seq();
        let member = Member { role, joined_seq: head + 1, joined: now.wall };
        self.members.insert(user.clone(), member);
    }

    fn leave(&mut self, user: &UserId) {
        let (head, mutation) = (self.head(), self.last_mutation());
        let title = Arc::clone(&self.title);
        self.members.remove(user);
        if let Some(place) = self.places.get_mut(user) {
            place.left_mutation = Some(mutation);
            place.left_title = title;
            if let Some(open) = place.stays.last_mut() {
                open.1 = Some(head);
            }
        }
    }

    fn role(&self, user: &UserId) -> Option<Role> {
        self.members.get(user).map(|member| member.role)
    }

    /// A group does not stay without an owner: the highest role takes over, of these the longest
    /// there.
    fn find_owner(&mut self) {
        if self.members.values().any(|member| member.role == Role::Owner) {
            return;
        }
        let rank = |(user, member): &(&UserId, &mut Member)| {
            (std::cmp::Reverse(member.role), member.joined_seq, (*user).clone())
        };
        if let Some((_, heir)) = self.members.iter_mut().min_by_key(rank) {
            heir.role = Role::Owner;
        }
    }

    pub(super) fn everybody(&self) -> BTreeSet<UserId> {
        self.members.keys().cloned().collect()
    }
}

impl Model {
    pub(super) fn empty(&self, kind: ConversationKind, title: &str, policy: HistoryPolicy) -> Talk {
        Talk {
            kind,
            title: title.into(),
            policy,
            created: Timestamp::default(),
            version: 1,
            large: false,
            disbanded: false,
            rows: Vec::new(),
            written_for: Vec::new(),
            mutations: Vec::new(),
            members: Default::default(),
            places: Default::default(),
        }
    }

    /// Whether the user may have no more conversations.
    pub(super) fn is_full(&self, user: &UserId) -> bool {
        let have = self.talks.values().filter(|talk| talk.places.contains_key(user)).count();
        have >= self.limits.conversations_per_user
    }

    pub(super) fn create_group(
        &mut self,
        now: Now,
        caller: &Caller,
        client_id: ClientMessageId,
        creation: Creation,
        chosen: &Chosen,
    ) -> Outcome {
        let (wanted, title, users, policy) = creation.clone();
        let payload = Payload::Group(creation);
        if let Some(outcome) = self.accepted_before(caller, client_id, &payload, chosen) {
            return outcome;
        }
        let all: BTreeSet<&UserId> = users.iter().chain([&caller.user]).collect();
        if all.len() > self.limits.members_per_group {
            return refused(ErrorCode::TooManyMembers);
        }
        if all.iter().any(|user| self.is_full(user)) {
            return refused(ErrorCode::Forbidden);
        }
        let id = match &wanted {
            Some(id) => id.clone(),
            None => match &chosen.group {
                Some(id) => id.clone(),
                None => return refused(ErrorCode::Unauthenticated),
            },
        };
        if self.talks.contains_key(&id) {
            assert!(wanted.is_some(), "the server chose an id that is taken: {id}");
            return refused(ErrorCode::AlreadyExists);
        }
        assert!(wanted.is_some() || id.has_server_form(), "not of the server's form: {id}");
        let mut talk = self.empty(ConversationKind::Group, &title, policy);
        talk.created = now.wall;
        for user in &all {
            let role = if **user == caller.user { Role::Owner } else { Role::Member };
            talk.join(user, role, now);
        }
        let everybody = talk.everybody();
        let member_count = everybody.len() as u32;
        self.talks.insert(id.clone(), talk);
        let users: Vec<_> = everybody.iter().cloned().collect();
        let told = Told { action: MembershipAction::Created, users: &users, role: None };
        let inbox_seq = self.tell(now, caller, &id, told, &everybody);
        self.decide_mode(now, &id);
        let reply =
            Reply::GroupCreated { conversation: id, member_count, inbox_seq, duplicate: false };
        self.accept(now, caller, client_id, payload, reply)
    }

    pub(super) fn add_members(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        users: &[UserId],
    ) -> Outcome {
        let mut talk = match self.managed(caller, id, Role::Admin) {
            Ok(talk) => talk.clone(),
            Err(outcome) => return outcome,
        };
        let mut added = Vec::new();
        let mut outcomes = Vec::new();
        for user in users {
            outcomes.push(if talk.members.contains_key(user) {
                MemberOutcome::Unchanged
            } else if talk.members.len() >= self.limits.members_per_group
                || (self.is_full(user) && !talk.places.contains_key(user))
            {
                MemberOutcome::Limit
            } else {
                talk.join(user, Role::Member, now);
                added.push(user.clone());
                MemberOutcome::Changed
            });
        }
        let told = Told { action: MembershipAction::Added, users: &added, role: None };
        self.changed(now, caller, id, talk, told, outcomes)
    }

    pub(super) fn remove_members(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        users: &[UserId],
    ) -> Outcome {
        let mut talk = match self.managed(caller, id, Role::Admin) {
            Ok(talk) => talk.clone(),
            Err(outcome) => return outcome,
        };
        let own = talk.role(&caller.user);
        let mut removed = Vec::new();
        let mut outcomes = Vec::new();
        for user in users {
            outcomes.push(match talk.role(user) {
                None => MemberOutcome::Unchanged,
                role if role >= own => MemberOutcome::Forbidden,
                Some(_) => {
                    talk.leave(user);
                    removed.push(user.clone());
                    MemberOutcome::Changed
                }
            });
        }
        let told = Told { action: MembershipAction::Removed, users: &removed, role: None };
        self.changed(now, caller, id, talk, told, outcomes)
    }

    pub(super) fn leave_group(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
    ) -> Outcome {
        let Some(mut talk) = self.talks.get(id).cloned() else {
            return refused(ErrorCode::NotFound);
        };
        if !talk.members.contains_key(&caller.user) {
            let was_here = talk.places.contains_key(&caller.user);
            return if was_here { nothing() } else { refused(ErrorCode::NotFound) };
        }
        if talk.kind == ConversationKind::Direct {
            return refused(ErrorCode::Forbidden);
        }
        talk.leave(&caller.user);
        talk.find_owner();
        let left = [caller.user.clone()];
        let told = Told { action: MembershipAction::Left, users: &left, role: None };
        self.changed(now, caller, id, talk, told, Vec::new());
        self.last_entry(&caller.user, id)
    }

    pub(super) fn set_role(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        user: &UserId,
        role: Role,
    ) -> Outcome {
        let mut talk = match self.managed(caller, id, Role::Owner) {
            Ok(talk) => talk.clone(),
            Err(outcome) => return outcome,
        };
        let Some(member) = talk.members.get_mut(user) else {
            return refused(ErrorCode::NotFound);
        };
        if member.role == role {
            return nothing();
        }
        if *user == caller.user {
            // The owner can only hand over.
            return refused(ErrorCode::Forbidden);
        }
        member.role = role;
        if role == Role::Owner
            && let Some(before) = talk.members.get_mut(&caller.user)
        {
            before.role = Role::Admin;
        }
        let users = [user.clone()];
        let told = Told { action: MembershipAction::Role, users: &users, role: Some(role) };
        self.changed(now, caller, id, talk, told, Vec::new());
        self.last_entry(&caller.user, id)
    }

    pub(super) fn set_title(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        title: &Arc<str>,
    ) -> Outcome {
        let mut talk = match self.managed(caller, id, Role::Admin) {
            Ok(talk) => talk.clone(),
            Err(outcome) => return outcome,
        };
        if talk.title == *title {
            return nothing();
        }
        talk.title = Arc::clone(title);
        let told = Told { action: MembershipAction::Title, users: &[], role: None };
        self.changed(now, caller, id, talk, told, Vec::new());
        self.last_entry(&caller.user, id)
    }

    pub(super) fn disband(&mut self, now: Now, caller: &Caller, id: &ConversationId) -> Outcome {
        let missing = || refused(ErrorCode::NotFound);
        let Some(mut talk) = self.talks.get(id).cloned() else { return missing() };
        match talk.role(&caller.user) {
            None => return missing(),
            Some(Role::Owner) if talk.kind == ConversationKind::Group => {}
            Some(_) => return refused(ErrorCode::Forbidden),
        }
        if talk.disbanded {
            return nothing();
        }
        talk.disbanded = true;
        let told = Told { action: MembershipAction::Disbanded, users: &[], role: None };
        self.changed(now, caller, id, talk, told, Vec::new());
        self.last_entry(&caller.user, id)
    }

    /// The answer that names the membership entry just written for the caller.
    fn last_entry(&self, user: &UserId, id: &ConversationId) -> Outcome {
        let inbox = &self.inboxes[user];
        let of = |entry: &&(u64, &EntryKind)| matches!(entry.1, EntryKind::Membership(change) if change.conversation == *id);
        let entries = (1..).zip(inbox.entries.iter().map(|(_, kind)| kind));
        let last = entries.filter(|entry| of(&entry)).last();
        done(InboxSeq::new(last.map_or(0, |(seq, _)| seq)))
    }

    /// The rest of every change: the new version, the entries, the mode, the answer.
    fn changed(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        mut talk: Talk,
        told: Told<'_>,
        outcomes: Vec<MemberOutcome>,
    ) -> Outcome {
        let member_count = talk.members.len() as u32;
        let mut inbox_seq = InboxSeq::ZERO;
        let nobody = matches!(told.action, MembershipAction::Added | MembershipAction::Removed)
            && told.users.is_empty();
        if !nobody {
            talk.version += 1;
            let before = self.talks[id].everybody();
            let concerned: BTreeSet<_> = told.users.iter().chain([&caller.user]).cloned().collect();
            let everybody = before.union(&talk.everybody()).cloned().collect();
            let stays_large = talk.large && self.is_large_with(talk.kind, talk.members.len());
            let to = if stays_large { &concerned } else { &everybody };
            let newcomers = match told.action {
                MembershipAction::Added if stays_large => told.users.to_vec(),
                _ => Vec::new(),
            };
            self.talks.insert(id.clone(), talk);
            inbox_seq = self.tell(now, caller, id, told, to);
            self.decide_mode(now, id);
            self.tell_mode(now, id, newcomers);
        }
        Outcome::Reply(Reply::MemberItems { outcomes, member_count, inbox_seq })
    }

    /// A group that somebody of at least this role may change.
    fn managed(&self, caller: &Caller, id: &ConversationId, least: Role) -> Result<&Talk, Outcome> {
        let missing = || refused(ErrorCode::NotFound);
        let talk = self.talks.get(id).ok_or_else(missing)?;
        let role = talk.role(&caller.user).ok_or_else(missing)?;
        if talk.kind == ConversationKind::Direct {
            return Err(refused(ErrorCode::Forbidden));
        }
        if talk.disbanded {
            return Err(refused(ErrorCode::Gone));
        }
        if role < least {
            return Err(refused(ErrorCode::Forbidden));
        }
        Ok(talk)
    }

    /// One membership entry for everybody named; the caller's own.
    fn tell(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        Told { action, users, role }: Told<'_>,
        to: &BTreeSet<UserId>,
    ) -> InboxSeq {
        let talk = &self.talks[id];
        let change = MembershipChange {
            conversation: id.clone(),
            action,
            by: caller.user.clone(),
            users: users.iter().take(ENTRY_USERS_MAX).cloned().collect(),
            user_count: users.len() as u32,
            member_count: talk.members.len() as u32,
            at: HistorySeq::new(talk.head()),
            role,
            title: Arc::clone(&talk.title),
        };
        for user in to {
            self.deliver(now, user, EntryKind::Membership(change.clone()));
        }
        self.head(&caller.user)
    }
}
