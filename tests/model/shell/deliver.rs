//! The shell, continued: what goes from sessions to the engine and the store, and what comes back
//! after a flush.

use bytes::BytesMut;
use roamd::{
    engine::{Answer, Caller, Command, LargeNotice, read},
    id::{SessionId, UserId},
    limits::SERVER_FRAME_BYTES_MAX,
    refusal::{ErrorCode, Refusal},
    reply::{GoAwayReason, Reply},
    request::{Position, Request},
    seq::InboxSeq,
    session::Output,
    store::ReadLimit,
    wire,
};

use super::Connection;
use crate::{
    client::{End, Phase},
    compare::{kind, same},
    driver::{Driver, Found},
    invariant::of_answer,
    model::{Chosen, News, Outcome},
};

impl Driver {
    /// Does what sessions want, as far as their sockets take it.
    pub fn pump(&mut self) -> Result<(), Found> {
        for at in 0..self.shell.connections.len() {
            for turn in 0.. {
                let connection = &mut self.shell.connections[at];
                if connection.closed || connection.stalled {
                    break;
                }
                let id = connection.id;
                Self::hand_over(connection);
                let Some(output) = connection.session.poll_output() else { break };
                if turn > 10_000 {
                    return Err(format!("connection {id} never has enough: {output:?}"));
                }
                self.output(at, output).map_err(|found| format!("connection {id}: {found}"))?;
            }
        }
        self.shell.connections.retain(|connection| !connection.closed);
        Ok(())
    }

    fn output(&mut self, at: usize, output: Output) -> Result<(), Found> {
        self.shell.stirred += 1;
        let connection = &mut self.shell.connections[at];
        match output {
            Output::Frame(req_id, mut reply) => {
                let mut again = false;
                if let Some(spoiler) = &mut self.spoiler {
                    spoiler.frame(&mut reply);
                    again = spoiler.again(&reply);
                }
                let mut frame = BytesMut::new();
                wire::encode_server(req_id, &reply, &mut frame);
                if frame.len() > SERVER_FRAME_BYTES_MAX + 5 {
                    return Err(format!("a frame of {} bytes", frame.len()));
                }
                let client = &mut connection.client;
                let kind = match &reply {
                    Reply::TooLong { .. }
                        if client.phase == (Phase::Streaming { caught_up: true }) =>
                    {
                        Some("TooLong in the stream")
                    }
                    Reply::CaughtUp { .. } => Some("CaughtUp"),
                    Reply::Resumed { .. } => Some("Resumed"),
                    Reply::SyncBatch(_) => Some("SyncBatch"),
                    Reply::PresencePush(_) => Some("PresencePush"),
                    Reply::EphemeralPush(_) => Some("EphemeralPush"),
                    _ => None,
                };
                if let Some(kind) = kind {
                    *self.tally.entry(format!("frame: {kind}")).or_default() += 1;
                }
                if again {
                    client.receive(&self.durable, req_id, reply.clone())?;
                }
                if let Some(kind) = client.receive(&self.durable, req_id, reply)? {
                    *self.tally.entry(kind.to_owned()).or_default() += 1;
                }
                self.store_replica(at);
                Ok(())
            }
            Output::Submit(number, caller, command) => {
                let id = connection.id;
                let connection_waits = connection.session.waits_only_for(number);
                if (&caller.user, &caller.device)
                    != (&connection.client.user, &connection.client.device)
                {
                    return Err(format!("speaks for {caller:?}"));
                }
                if self.shell.overloaded > 0 {
                    self.shell.overloaded -= 1;
                    self.note(format!("{id} finds no room for {number}: {command:?}"));
                    if let Command::Cursor(_) = command {
                        // The next ack says more, so nothing has to happen; it may be taken for
                        // something that the session cannot do without.
                        self.shell.connections[at].client.may_end_overloaded = true;
                        self.shell.connections[at].session.handle_overloaded(number);
                        return Ok(());
                    }
                    let detail = "the server has too much to do; try again";
                    let refusal = Refusal::new(ErrorCode::Overloaded, detail);
                    self.owe(at, number, Reply::Refused(refusal));
                    if number == 0 || matches!(command, Command::Attach { .. }) {
                        self.end(at, End::Error(ErrorCode::Overloaded));
                    }
                    self.shell.connections[at].session.handle_overloaded(number);
                    return Ok(());
                }
                if let Command::Attach { .. } = command {
                    self.shell.connections[at].attached = true;
                }
                if connection_waits && self.at_once((id, number), &caller, &command)? {
                    return Ok(());
                }
                self.apply(Some((id, number)), caller, command)
            }
            Output::Read { after, upto, entries, bytes } => {
                let kept = self.model.limits.inbox_entries;
                let most = ReadLimit { entries, bytes };
                let user = connection.client.user.clone();
                let reader = self.reader();
                let read = read::entries(&reader, &user, after, upto, most, kept);
                let session = &mut self.shell.connections[at].session;
                match read.map_err(|e| e.to_string())? {
                    Some(entries) => {
                        let bytes = entries.iter().map(wire::entry_len).sum();
                        session.handle_batch(entries, bytes);
                    }
                    None => session.handle_trimmed(),
                }
                Ok(())
            }
            Output::ReadRows(id, span) => {
                let user = connection.client.user.clone();
                let rows = read::rows(&self.reader(), &user, &id, span);
                let rows = rows.map_err(|e| e.to_string())?;
                self.shell.connections[at].session.handle_rows(&id, span, rows);
                Ok(())
            }
            Output::ReadChanges(id, first, last) => {
                let user = connection.client.user.clone();
                let changes = read::changes(&self.reader(), &user, &id, first, last);
                let changes = changes.map_err(|e| e.to_string())?;
                self.shell.connections[at].session.handle_changes(&id, last, changes);
                Ok(())
            }
            Output::Close => {
                connection.closed = true;
                let kind = connection.client.closed()?;
                *self.tally.entry(kind).or_default() += 1;
                self.leave(at)
            }
        }
    }

    /// What the device has is on its own disk.
    fn store_replica(&mut self, at: usize) {
        let client = &self.shell.connections[at].client;
        let Phase::Streaming { .. } = client.phase else { return };
        if !client.honest {
            return;
        }
        // TooLong follows a Welcome that says so; until Resume nothing is adopted.
        if client
            .compared
            .as_ref()
            .is_some_and(|c| matches!(c.verdict, roamd::reply::Verdict::TooLong(_)))
        {
            return;
        }
        let caller = Caller {
            user: client.user.clone(),
            device: client.device.clone(),
            session: SessionId::new(0),
            admin: false,
        };
        let position = Position { epoch: self.model.epoch, seq: InboxSeq::new(client.stored) };
        let copy = client.copy.clone();
        self.shell.replicas.retain(|(held, ..)| *held != caller);
        self.shell.replicas.push((caller, position, copy));
    }

    /// A command was applied: whoever attaches displaces the device's older session.
    pub fn applied(&mut self, origin: u64, answer: &Answer) {
        let Answer::Attached(_) = answer else { return };
        let Some(new) = self.shell.connections.iter().position(|c| c.id == origin) else { return };
        let device = |connection: &Connection| {
            (connection.client.user.clone(), connection.client.device.clone())
        };
        let own = device(&self.shell.connections[new]);
        for connection in &mut self.shell.connections {
            if connection.online && device(connection) == own {
                connection.online = false;
                self.displaced.push(connection.id);
            }
        }
        self.shell.connections[new].online = true;
    }

    /// After a flush, first of all.
    pub fn displace(&mut self) {
        for id in std::mem::take(&mut self.displaced) {
            if let Some(at) = self.shell.connections.iter().position(|c| c.id == id) {
                self.end(at, End::Away(GoAwayReason::Replaced));
                self.shell.connections[at].session.handle_end(GoAwayReason::Replaced);
            }
        }
    }

    /// Answers, half of the time, what needs no word of the engine; says whether it did. It must be what is
    /// durable at this moment, whatever else was applied.
    fn at_once(
        &mut self,
        origin: (u64, u64),
        caller: &Caller,
        command: &Command,
    ) -> Result<bool, Found> {
        let page = matches!(command, Command::Request(Request::FetchHistory { .. }));
        if !page || self.plan.dice.chance(1, 2) {
            return Ok(false);
        }
        let reply = read::at_once(&self.reader(), &caller.user, command);
        let Some(reply) = reply.map_err(|e| e.to_string())? else { return Ok(false) };
        let actual = Outcome::Reply(reply);
        let (now, chosen) = (self.now, Chosen::default());
        let (expected, _) = self.durable.clone().apply(now, caller, command, &chosen);
        let expected = expected.at(&self.durable);
        *self.tally.entry(format!("at once: {}", kind(command, &actual))).or_default() += 1;
        same(&format!("what is read at once for {command:?}"), &actual, &expected)
            .map_err(|found| of_answer(command, &actual, &expected).broken(found))?;
        self.deliver(origin, actual);
        Ok(true)
    }

    /// After a flush: an answer goes to the session that asked.
    pub fn deliver(&mut self, origin: (u64, u64), outcome: Outcome) {
        self.shell.stirred += 1;
        let now = self.now;
        let (id, number) = origin;
        let hold = self.model.limits.heartbeat_interval * 3;
        let Some(at) = self.shell.connections.iter().position(|c| c.id == id) else { return };
        let Connection { session, client, .. } = &mut self.shell.connections[at];
        match outcome {
            Outcome::Nothing => {}
            Outcome::Reply(reply) => {
                if let (Phase::Greeting(_), Reply::Refused(refusal)) = (&client.phase, &reply) {
                    client.ends.push(End::Error(refusal.code));
                }
                if let Some(due) = client.asked.get_mut(&number) {
                    *due = Some(reply.clone());
                }
                session.handle_reply(number, reply);
            }
            Outcome::Attached(compared) => {
                client.compared = Some(compared.clone());
                client.silence = now.mono + hold;
                session.handle_answer(now, number, Answer::Attached(Box::new(compared)));
            }
            Outcome::Resumed(compared) => {
                client.compared = Some(compared.clone());
                session.handle_answer(now, number, Answer::Resumed(Box::new(compared)));
            }
            Outcome::CaughtUp { seq, unread_total, changed, complete, large } => {
                let state = Reply::CaughtUp {
                    seq,
                    unread_total,
                    changed: changed.clone(),
                    complete,
                    hints: Vec::new(),
                };
                client.state = Some(state);
                client.large_ends = large.clone();
                let answer = Answer::CaughtUp { seq, unread_total, changed, complete, large };
                session.handle_answer(now, number, answer);
            }
        }
    }

    /// The connection is gone: so is its session, for everybody.
    pub(super) fn leave(&mut self, at: usize) -> Result<(), Found> {
        let connection = &mut self.shell.connections[at];
        connection.online = false;
        match connection.session.caller().cloned() {
            Some(caller) if std::mem::take(&mut connection.attached) => {
                self.apply(None, caller, Command::Detach)
            }
            _ => Ok(()),
        }
    }

    /// After a flush, before the answers: what waits about users that are no longer followed is void.
    pub fn unfollow(&mut self, news: &News) {
        for ((user, session), followed) in &news.unfollowed {
            if let Some(at) = self.session_of(user, *session) {
                self.shell.connections[at].presence.retain(|(of, _), _| of != followed);
            }
        }
    }

    fn session_of(&self, user: &UserId, session: SessionId) -> Option<usize> {
        let mut connections = self.shell.connections.iter();
        connections.position(|c| c.online && c.client.user == *user && c.id == session.number())
    }

    /// After a flush: what there is to read in large conversations.
    pub fn tell_large(&mut self, notices: &[LargeNotice]) {
        for notice in notices {
            for connection in self.shell.connections.iter_mut().filter(|c| c.online) {
                let sign = match notice {
                    LargeNotice::User(user, sign) if *user == connection.client.user => sign,
                    LargeNotice::All(users, sign) if users.contains(&connection.client.user) => {
                        sign
                    }
                    _ => continue,
                };
                self.shell.stirred += 1;
                connection.session.handle_large(sign);
            }
        }
    }

    /// After a flush: the total of a user that large conversations have moved.
    pub fn tell_total(&mut self, user: &UserId, (total, position): (u64, InboxSeq)) {
        for connection in self.shell.connections.iter_mut().filter(|c| c.online) {
            if connection.client.user == *user {
                self.shell.stirred += 1;
                connection.client.may_come(Reply::UnreadPush { total, position });
                connection.session.handle_total(total, position);
            }
        }
    }

    /// After a flush: sessions that end, pushes, presence.
    pub fn tell_news(&mut self, news: News) {
        for ((user, session), reason) in news.ends {
            let Some(at) = self.session_of(&user, session) else { continue };
            let reason = match reason.as_str() {
                "Kicked" => GoAwayReason::Kicked,
                "Revoked" => GoAwayReason::Revoked,
                _ => GoAwayReason::Replaced,
            };
            self.end(at, End::Away(reason));
            self.shell.connections[at].session.handle_end(reason);
        }
        for (users, but, push) in news.spread {
            for connection in &mut self.shell.connections {
                let wanted = users.contains(&connection.client.user);
                if connection.online && wanted && connection.id != but.number() {
                    connection.client.may_come(push.clone());
                    connection.session.handle_push(push.clone());
                }
            }
        }
        for ((user, session), changes) in news.presence {
            if let Some(at) = self.session_of(&user, session) {
                self.shell.connections[at].presence.extend(changes);
            }
        }
    }

    /// Presence waits until the socket takes something; then it is the newest there is.
    fn hand_over(connection: &mut Connection) {
        if !connection.presence.is_empty() {
            let changes = std::mem::take(&mut connection.presence);
            let push = Reply::PresencePush(changes.into_values().collect());
            connection.client.may_come(push.clone());
            connection.session.handle_push(push);
        }
    }

    /// After a flush, last: inboxes that grew.
    pub fn tell_heads(&mut self, grown: &std::collections::BTreeSet<roamd::id::UserId>) {
        for connection in &mut self.shell.connections {
            if connection.online && grown.contains(&connection.client.user) {
                let head = self.durable.head(&connection.client.user);
                connection.session.handle_head(head);
            }
        }
    }

    /// The earliest end by silence or expiry.
    pub fn session_deadline(&self) -> Option<std::time::Instant> {
        self.shell.connections.iter().filter_map(|c| c.session.deadline()).min()
    }

    /// Ends those whose time has come, which must be exactly those.
    pub fn time_out(&mut self) -> Result<(), Found> {
        let now = self.now;
        for at in 0..self.shell.connections.len() {
            let Connection { id, session, client, .. } = &mut self.shell.connections[at];
            let due = session.deadline().is_some_and(|due| due <= now.mono);
            let expired = client.expires.is_some_and(|at| at <= now.mono);
            let silent = client.silence <= now.mono;
            if due != (expired || silent) && session.deadline().is_some() {
                return Err(format!("connection {id}: timeout {due}, expected {expired} {silent}"));
            }
            if !due {
                continue;
            }
            let unheard = client.compared.is_some() && client.ends.is_empty();
            if !expired && unheard && !session.wants_input() {
                // So much of it has no answer that nothing it says is read: that is no silence.
                client.silence = now.mono + self.model.limits.heartbeat_interval * 3;
                session.handle_timeout(now);
                continue;
            }
            let end = match &client.phase {
                _ if expired => End::Away(GoAwayReason::TokenExpired),
                Phase::Greeting(0) => End::Error(ErrorCode::HelloTimeout),
                // It has said Hello; the server is too slow to answer.
                _ if client.compared.is_none() => End::Error(ErrorCode::Overloaded),
                _ => End::Away(GoAwayReason::Idle),
            };
            client.ends.push(end);
            session.handle_timeout(now);
        }
        Ok(())
    }

    /// Lets everything come to rest and looks whether everything has arrived.
    pub fn settle(&mut self) -> Result<(), Found> {
        self.note("settle".into());
        self.shell.overloaded = 0;
        for connection in &mut self.shell.connections {
            connection.stalled = false;
        }
        for turn in 0.. {
            let before = self.shell.stirred;
            self.pump()?;
            self.flush()?;
            self.pump()?;
            for at in 0..self.shell.connections.len() {
                let client = &self.shell.connections[at].client;
                if client.is_open() && client.acked < client.ackable() {
                    let seq = InboxSeq::new(client.ackable());
                    self.say(at, InboxSeq::ZERO, Request::Ack(seq))?;
                }
            }
            self.pump()?;
            if self.shell.stirred == before {
                break;
            }
            if turn > 10_000 {
                return Err("it never comes to rest".into());
            }
        }
        for connection in &self.shell.connections {
            let silent = matches!(connection.client.phase, Phase::Greeting(0));
            if !silent {
                let id = connection.id;
                let settled = connection.client.settled(&self.model);
                settled.map_err(|found| format!("connection {id}: {found}"))?;
            }
        }
        Ok(())
    }
}
