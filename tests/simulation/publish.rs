//! The server, continued: a flush, and what leaves the process after it, in the daemon's order.

use roamd::{
    engine::{Answer, LargeNotice},
    id::{SessionId, UserId},
    reply::{GoAwayReason, Reply},
    seq::InboxSeq,
    store::simulated_disk as disk,
};

use crate::{
    compare::{news, same},
    driver::Found,
    model::{News, Outcome},
    server::Conn,
    tap,
    world::World,
};

impl World {
    pub fn flush(&mut self) -> Result<(), Found> {
        self.stirred += 1;
        self.process()?.flush_at = None;
        self.attempted = Some(self.model.clone());
        let flushed = self.process()?.engine.flush();
        let mut effects = match flushed {
            Ok(effects) if !disk::is_dead() => effects,
            Ok(_) => return self.failed("it died after the flush"),
            Err(error) => return self.failed(&error.to_string()),
        };
        self.attempted = None;
        let process = self.process()?;
        process.commit = process.engine.last_commit();
        let told = news(&effects)?;
        let grown = std::mem::take(&mut effects.inboxes).into_iter().collect();
        same("users whose inbox grew", &grown, &std::mem::take(&mut self.model.grown))?;
        let mut expected = std::mem::take(&mut self.model.news);
        expected.presence.retain(|_, changes| !changes.is_empty());
        same("I12: news for those who are online", &told, &expected)?;
        self.durable = self.model.clone();
        for id in std::mem::take(&mut self.process()?.displaced) {
            self.end(|conn| conn.id == id, GoAwayReason::Replaced)?;
        }
        for ((user, session), followed) in &told.unfollowed {
            let process = self.process()?;
            for conn in process.conns.iter_mut().filter(|c| is(c, user, *session)) {
                conn.presence.retain(|(of, _), _| of != followed);
            }
        }
        for pending in std::mem::take(&mut self.process()?.pending) {
            let origin = pending.origin;
            self.tell_large(&pending.before)?;
            let outcome = self.compare(pending)?;
            if let Some(origin) = origin {
                self.deliver(origin, outcome)?;
            }
        }
        self.tell_large(&effects.large)?;
        self.tell_totals(effects.totals)?;
        self.tell_news(told)?;
        for user in grown {
            let head = self.durable.head(&user);
            let process = self.process()?;
            for conn in process.conns.iter_mut().filter(|c| c.online && c.user == user) {
                conn.session.handle_head(head);
            }
        }
        Ok(())
    }

    fn end(&mut self, which: impl Fn(&Conn) -> bool, reason: GoAwayReason) -> Result<(), Found> {
        for conn in self.process()?.conns.iter_mut().filter(|conn| which(conn)) {
            conn.tap.ends.push(tap::End::Away(reason));
            conn.session.handle_end(reason);
        }
        Ok(())
    }

    fn deliver(&mut self, (id, number): (u64, u64), outcome: Outcome) -> Result<(), Found> {
        let now = self.now;
        let process = self.process()?;
        let Some(conn) = process.conns.iter_mut().find(|conn| conn.id == id) else { return Ok(()) };
        match outcome {
            Outcome::Nothing => {}
            Outcome::Reply(reply) => {
                conn.tap.owe(number, reply.clone());
                conn.session.handle_reply(number, reply);
            }
            Outcome::Attached(compared) => {
                conn.tap.compared = Some(compared.clone());
                conn.session.handle_answer(now, number, Answer::Attached(Box::new(compared)));
            }
            Outcome::Resumed(compared) => {
                conn.tap.compared = Some(compared.clone());
                conn.session.handle_answer(now, number, Answer::Resumed(Box::new(compared)));
            }
            Outcome::CaughtUp { seq, unread_total, changed, complete, large } => {
                let (hints, state) = (Vec::new(), changed.clone());
                conn.tap.state =
                    Some(Reply::CaughtUp { seq, unread_total, changed: state, complete, hints });
                let answer = Answer::CaughtUp { seq, unread_total, changed, complete, large };
                conn.session.handle_answer(now, number, answer);
            }
        }
        Ok(())
    }

    fn tell_large(&mut self, notices: &[LargeNotice]) -> Result<(), Found> {
        for notice in notices {
            for conn in self.process()?.conns.iter_mut().filter(|conn| conn.online) {
                match notice {
                    LargeNotice::User(user, sign) if *user == conn.user => {
                        conn.session.handle_large(sign);
                    }
                    LargeNotice::All(users, sign) if users.contains(&conn.user) => {
                        conn.session.handle_large(sign);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn tell_totals(
        &mut self,
        told: impl IntoIterator<Item = (UserId, (u64, InboxSeq))>,
    ) -> Result<(), Found> {
        let moments = std::mem::take(&mut self.process()?.totals);
        for (user, (total, position)) in told {
            if !moments.iter().any(|moment| moment.get(&user) == Some(&(total, position))) {
                let when: Vec<_> = moments.iter().map(|moment| moment.get(&user)).collect();
                return Err(format!("I9: {user} is told {total} at {position}, was {when:?}"));
            }
            for conn in self.process()?.conns.iter_mut().filter(|c| c.online && c.user == user) {
                conn.tap.may_come(Reply::UnreadPush { total, position });
                conn.session.handle_total(total, position);
            }
        }
        Ok(())
    }

    fn tell_news(&mut self, news: News) -> Result<(), Found> {
        for ((user, session), reason) in news.ends {
            let reason = match reason.as_str() {
                "Kicked" => GoAwayReason::Kicked,
                "Revoked" => GoAwayReason::Revoked,
                _ => GoAwayReason::Replaced,
            };
            self.end(|conn| is(conn, &user, session), reason)?;
        }
        for (users, but, push) in news.spread {
            for conn in self.process()?.conns.iter_mut() {
                if conn.online && users.contains(&conn.user) && conn.id != but.number() {
                    conn.tap.may_come(push.clone());
                    conn.session.handle_push(push.clone());
                }
            }
        }
        for ((user, session), changes) in news.presence {
            for conn in self.process()?.conns.iter_mut().filter(|c| is(c, &user, session)) {
                conn.presence.extend(changes.clone());
            }
        }
        Ok(())
    }
}

fn is(conn: &Conn, user: &UserId, session: SessionId) -> bool {
    conn.online && conn.user == *user && conn.id == session.number()
}
