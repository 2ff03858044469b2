//! Things that take several steps.

use bytes::Bytes;
use roamd::{
    engine::{Caller, Command},
    id::{ClientMessageId, UserId},
    message::{ConversationKind, Draft, HistoryPolicy, Role},
    request::{Destination, Position, Request},
    seq::HistorySeq,
};

use super::{Plan, Step, attach, device, millis};
use crate::model::{Model, Talk};

impl Plan {
    /// So many sends of one device that what is remembered of them is cut; then some of them again.
    pub(super) fn burst(&mut self, model: &Model) -> Vec<Step> {
        let caller = Caller { device: device(0), ..self.caller(model) };
        let mut last = model.last_client_id(&caller);
        let peer = self.anybody();
        let mut steps = vec![Step::Flush];
        for _ in 0..self.dice.within(250, 330) {
            last += self.dice.within(1, 2);
            let request = Request::Send {
                to: Destination::Peer(peer.clone()),
                client_id: ClientMessageId::new(last),
                draft: Draft {
                    content: Bytes::from(format!("burst {last}")),
                    ..self.draft(model, 0)
                },
            };
            self.attempt(&caller, &request);
            steps.push(Step::Do(caller.clone(), Command::Request(request)));
            if self.dice.chance(1, 40) {
                steps.push(Step::Wait(millis(self.dice.below(8_000))));
            }
        }
        steps.push(Step::Flush);
        for _ in 0..4 {
            let otherwise = self.dice.chance(1, 3);
            steps.push(self.again(otherwise));
        }
        let late = Request::Send {
            to: Destination::Peer(peer),
            client_id: ClientMessageId::new(self.dice.within(1, last)),
            draft: self.draft(model, 0),
        };
        steps.push(Step::Do(caller, Command::Request(late)));
        steps
    }

    /// One user comes and goes in one group, while others write; what it may see is looked at.
    pub(super) fn churn(&mut self, model: &Model) -> Vec<Step> {
        fn owned(talk: &Talk) -> Option<&UserId> {
            let owner = talk.members.iter().find(|(_, member)| member.role == Role::Owner);
            owner.map(|(user, _)| user)
        }
        let groups = model.talks.iter().filter(|(_, talk)| talk.kind == ConversationKind::Group);
        let groups: Vec<_> = groups.filter_map(|(id, t)| Some((id, owned(t)?))).collect();
        if groups.is_empty() {
            return vec![self.command(model)];
        }
        let (group, owner) = *self.dice.pick(&groups);
        let (group, owner) = (group.clone(), Caller { user: owner.clone(), ..self.caller(model) });
        let guest = Caller { user: self.anybody(), ..self.caller(model) };
        let mut steps = Vec::new();
        for turn in 0..self.dice.within(4, 30) {
            let (conversation, users) = (group.clone(), vec![guest.user.clone()]);
            let who = if self.dice.chance(1, 2) { &owner } else { &guest };
            let seq = HistorySeq::new(model.talks[&group].head() + self.dice.below(turn + 1));
            let (who, request) = match self.dice.below(15) {
                12 | 13 => {
                    self.contents += 1;
                    let content = Bytes::from(format!("edit {}", self.contents));
                    let (content_type, base_revision) = ("text/plain".into(), None);
                    let edit =
                        Request::Edit { conversation, seq, content_type, content, base_revision };
                    (&owner, edit)
                }
                14 if self.dice.chance(1, 8) => (&owner, Request::DisbandGroup { conversation }),
                0 | 1 => (&owner, Request::AddMembers { conversation, users }),
                2 => (&owner, Request::RemoveMembers { conversation, users }),
                3 => (&guest, Request::LeaveGroup { conversation }),
                4..=7 => {
                    let to = Destination::Conversation(conversation);
                    let client_id = ClientMessageId::new(model.last_client_id(who) + turn + 1);
                    let draft = self.draft(model, 0);
                    (who, Request::Send { to, client_id, draft })
                }
                8 => {
                    let row = self.dice.below(model.talks[&group].head() + turn + 2);
                    let read_seq = HistorySeq::new(row);
                    (&guest, Request::MarkRead { conversation, read_seq, peer_visible: false })
                }
                9 => (&guest, Request::GetConversations { conversations: vec![conversation] }),
                _ => (&guest, self.fetch(model, &guest, conversation)),
            };
            steps.push(Step::Do(who.clone(), Command::Request(request)));
            if self.dice.chance(1, 6) {
                steps.push(Step::Flush);
            }
        }
        steps
    }

    /// Somebody reads on in all conversations, while the server may go down.
    pub(super) fn reading(&mut self, model: &Model) -> Vec<Step> {
        let caller = self.caller(model);
        let places = |talk: &Talk| talk.places.contains_key(&caller.user);
        let own: Vec<_> = model.talks.iter().filter(|(_, talk)| places(talk)).collect();
        let mut steps = Vec::new();
        for (id, talk) in own {
            let read = talk.places[&caller.user].read_seq();
            for row in (read + 1..=talk.head() + 1).take(4) {
                let read_seq = HistorySeq::new(row);
                let request =
                    Request::MarkRead { conversation: id.clone(), read_seq, peer_visible: false };
                steps.push(Step::Do(caller.clone(), Command::Request(request)));
            }
        }
        // Turns of the conversations mix.
        for at in (1..steps.len()).rev() {
            let other = self.dice.below(at as u64 + 1) as usize;
            steps.swap(at, other);
        }
        let at = Position { epoch: model.epoch, seq: model.head(&caller.user) };
        let attach = attach(Some(at), 0);
        let extra = [
            vec![],
            vec![Step::Flush, Step::Crash, Step::Do(caller.clone(), attach.clone())],
            vec![Step::Reopen],
            vec![Step::Do(caller.clone(), attach)],
            vec![Step::Wait(millis(2_000))],
        ];
        let place = self.dice.below(steps.len() as u64 + 1) as usize;
        steps.splice(place..place, self.dice.pick(&extra).clone());
        steps
    }

    /// A device without anything: attach, page the snapshot, resume.
    pub(super) fn walk(&mut self, model: &Model) -> Vec<Step> {
        let caller = self.caller(model);
        let attach = attach(None, 0);
        let at = Position { epoch: model.epoch, seq: model.head(&caller.user) };
        vec![
            Step::Do(caller.clone(), attach),
            Step::Flush,
            Step::Do(caller.clone(), Command::Resume(at)),
            Step::Do(caller, Command::CaughtUp),
            Step::Flush,
        ]
    }

    /// Somebody writes, and then it and others change their minds about it.
    pub(super) fn regret(&mut self, model: &Model) -> Vec<Step> {
        let conversations: Vec<_> =
            model.talks.iter().filter(|(_, t)| !t.members.is_empty()).collect();
        if conversations.is_empty() {
            return vec![self.command(model)];
        }
        let (id, talk) = *self.dice.pick(&conversations);
        let members: Vec<_> = talk.members.keys().chain(talk.places.keys()).cloned().collect();
        let mut steps = Vec::new();
        let writer = Caller { user: self.dice.pick(&members).clone(), ..self.caller(model) };
        let mut last = model.last_client_id(&writer);
        let mut head = talk.head();
        for turn in 0..self.dice.within(4, 16) {
            let user = if self.dice.chance(1, 2) { &writer.user } else { self.dice.pick(&members) };
            let who = Caller { user: user.clone(), ..self.caller(model) };
            let conversation = id.clone();
            let newest = HistorySeq::new(self.dice.within(head.saturating_sub(2), head + 1));
            let (who, request) = match self.dice.below(12) {
                _ if turn == 0 => {
                    last += 1;
                    head += 1;
                    let to = Destination::Conversation(conversation);
                    let client_id = ClientMessageId::new(last);
                    let draft = self.draft(model, 0);
                    (writer.clone(), Request::Send { to, client_id, draft })
                }
                0 | 1 => {
                    let to = Destination::Conversation(conversation);
                    let client_id = ClientMessageId::new(model.last_client_id(&who) + turn + 1);
                    head += 1;
                    let draft = self.draft(model, 0);
                    (who, Request::Send { to, client_id, draft })
                }
                2 | 3 => (who, Request::Recall { conversation, seq: newest }),
                4..=6 => {
                    self.contents += self.dice.below(2);
                    let content = Bytes::from(format!("edit {}", self.contents));
                    let content_type = "text/plain".into();
                    let base_revision = None;
                    let seq = newest;
                    (who, Request::Edit { conversation, seq, content_type, content, base_revision })
                }
                7 => (who, Request::DeleteForAll { conversation, seq: newest }),
                8 => (who, Request::DeleteForMe { conversation, seqs: vec![newest] }),
                9 => {
                    let after = roamd::seq::MutationSeq::new(talk.last_mutation());
                    (who, Request::FetchMutations { conversation, after, limit: 200 })
                }
                10 => (who, Request::CancelSend { client_id: ClientMessageId::new(last) }),
                _ => (who.clone(), self.fetch(model, &who, conversation)),
            };
            steps.push(Step::Do(who, Command::Request(request)));
            if self.dice.chance(1, 6) {
                steps.push(Step::Flush);
            }
            if self.dice.chance(1, 20) {
                steps.push(Step::Wait(millis(self.dice.within(1_000, 4_000))));
            }
        }
        steps
    }

    /// Somebody puts its conversations in order, while the server may go down.
    pub(super) fn tidy(&mut self, model: &Model) -> Vec<Step> {
        let caller = self.caller(model);
        let at = Position { epoch: model.epoch, seq: model.head(&caller.user) };
        let mut steps = Vec::new();
        for _ in 0..self.dice.within(3, 12) {
            let (conversation, seq) = self.message(model, &caller);
            let request = match self.dice.below(9) {
                0 => Request::MarkUnread { conversation },
                1 | 2 => {
                    let peer_visible = self.dice.chance(2, 3);
                    Request::MarkRead { conversation, read_seq: seq, peer_visible }
                }
                3 | 4 => self.hide(model, &caller),
                5 if self.dice.chance(1, 3) => Request::ClearConversation { conversation, to: seq },
                6 | 7 => self.prefer(model, &caller),
                _ => Request::GetConversations { conversations: vec![conversation] },
            };
            steps.push(Step::Do(caller.clone(), Command::Request(request)));
            match self.dice.below(16) {
                0 => steps.push(Step::Flush),
                1 => steps.push(Step::Wait(millis(self.dice.within(100, 2_100)))),
                2 => steps.extend([Step::Flush, Step::Crash]),
                3 => steps.push(Step::Do(caller.clone(), attach(Some(at), 0))),
                _ => {}
            }
        }
        steps
    }

    /// Devices come and go, follow each other and are thrown out.
    pub(super) fn gather(&mut self, model: &Model) -> Vec<Step> {
        let mut there: Vec<Caller> = Vec::new();
        for ((user, device), online) in &model.sessions.online {
            let (user, device, session) = (user.clone(), device.clone(), online.session);
            there.push(Caller { user, device, session, admin: false });
        }
        let mut steps = Vec::new();
        for _ in 0..self.dice.within(1, 3) {
            let caller = self.caller(model);
            let caller = self.anew(caller);
            steps.push(Step::Do(caller.clone(), attach(None, 0)));
            there.push(caller);
        }
        for caller in there.clone() {
            if self.dice.chance(2, 3) {
                let (users, unsubscribe) = (super::users(), false);
                let follow = Request::SubscribePresence { users, unsubscribe };
                steps.push(Step::Do(caller, Command::Request(follow)));
            }
        }
        for _ in 0..self.dice.within(4, 12) {
            let caller = self.dice.pick(&there).clone();
            let device = self.dice.pick(&there).device.clone();
            let request = match self.dice.below(14) {
                0..=3 => Request::SetPresence { background: self.dice.chance(1, 2) },
                4 => Request::KickDevice { device },
                5 => Request::RevokeDevice { device },
                6 => Request::ListDevices,
                7 => {
                    let (users, unsubscribe) = (self.others(2), self.dice.chance(2, 3));
                    Request::SubscribePresence { users, unsubscribe }
                }
                8 | 9 => Request::SendEphemeral {
                    conversation: self.conversation(model, &caller.user),
                    content_type: "typing".into(),
                    content: Bytes::from_static(b"..."),
                },
                10 => {
                    steps.push(Step::Do(caller, Command::Detach));
                    continue;
                }
                _ => {
                    let mut attach = attach(None, 0);
                    if let Command::Attach { issued, background, .. } = &mut attach {
                        *background = self.dice.chance(1, 3);
                        if self.dice.chance(1, 3) {
                            *issued = roamd::time::Timestamp::from_millis(crate::driver::WALL_MS);
                        }
                    }
                    let caller = self.anew(caller);
                    there.push(caller.clone());
                    steps.push(Step::Do(caller, attach));
                    continue;
                }
            };
            steps.push(Step::Do(caller, Command::Request(request)));
            if self.dice.chance(1, 4) {
                steps.push(Step::Flush);
            }
            if self.dice.chance(1, 8) {
                steps.push(Step::Online);
            }
        }
        steps
    }

    /// Members of a group are live while much happens in it, and it becomes large and small again.
    pub(super) fn crowd(&mut self, model: &Model) -> Vec<Step> {
        let groups = model.talks.iter().filter(|(_, talk)| {
            talk.kind == ConversationKind::Group && !talk.disbanded && talk.members.len() > 1
        });
        let groups: Vec<_> = groups.collect();
        if groups.is_empty() {
            let caller = self.caller(model);
            let client_id = self.client_id(model, &caller);
            let (conversation, users) = (None, super::users());
            let (title, policy) = ("Crowd".into(), HistoryPolicy::SinceJoin);
            let create = Request::CreateGroup { client_id, conversation, title, users, policy };
            return vec![Step::Do(caller, Command::Request(create)), Step::Flush];
        }
        let (group, talk) = *self.dice.pick(&groups);
        let members: Vec<UserId> = talk.members.keys().cloned().collect();
        let owner = talk.members.iter().find(|(_, member)| member.role == Role::Owner);
        let owner = owner.map_or(&members[0], |(user, _)| user).clone();
        let mut steps = vec![Step::Flush];
        for _ in 0..self.dice.within(1, 3) {
            steps.push(Step::Live(self.dice.pick(&members).clone()));
        }
        let mut last: std::collections::BTreeMap<UserId, u64> = Default::default();
        let mut head = talk.head();
        for _ in 0..self.dice.within(6, 30) {
            let manages = self.dice.chance(1, 3);
            let user = if manages { owner.clone() } else { self.dice.pick(&members).clone() };
            // A device that none of the connections is of: what is said there comes to all of them.
            let device = roamd::id::DeviceId::new("desk").expect("a valid id");
            let caller = Caller { user: user.clone(), device, ..self.caller(model) };
            let caller = self.anew(caller);
            let conversation = group.clone();
            let seq = HistorySeq::new(self.dice.within(head.saturating_sub(3).max(1), head.max(1)));
            let request = match self.dice.below(14) {
                0..=5 => {
                    head += 1;
                    let number = last.entry(user).or_insert(model.last_client_id(&caller));
                    *number += 1;
                    let client_id = ClientMessageId::new(*number);
                    let to = Destination::Conversation(conversation);
                    Request::Send { to, client_id, draft: self.draft(model, 0) }
                }
                6 => Request::Recall { conversation, seq },
                7 | 8 => {
                    self.contents += 1;
                    let content = Bytes::from(format!("edit {}", self.contents));
                    let (content_type, base_revision) = ("text/plain".into(), None);
                    Request::Edit { conversation, seq, content_type, content, base_revision }
                }
                9 => Request::DeleteForMe { conversation, seqs: vec![seq] },
                10 => {
                    let peer_visible = false;
                    Request::MarkRead { conversation, read_seq: seq, peer_visible }
                }
                11 => Request::AddMembers { conversation, users: self.others(3) },
                12 => Request::RemoveMembers { conversation, users: self.others(2) },
                _ => Request::SetTitle { conversation, title: format!("{head}").into() },
            };
            steps.push(Step::Do(caller, Command::Request(request)));
            match self.dice.below(12) {
                0..=3 => steps.push(Step::Flush),
                4 => steps.push(Step::Wait(millis(self.dice.within(50, 400)))),
                5 => steps.push(Step::Online),
                6 => steps.push(Step::Live(self.dice.pick(&members).clone())),
                _ => {}
            }
        }
        steps.push(Step::Flush);
        steps
    }
}
