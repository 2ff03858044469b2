//! How a session ends: by a refusal that is fatal, by GoAway, by silence, by a drain.

use std::{sync::Arc, time::Duration};

use super::{OWN, Output, Session, SessionContext, State, rate::TooFast};
use crate::{
    engine::Now,
    refusal::{ErrorCode, Refusal, Retry},
    reply::{GoAwayReason, Reply},
};

impl Session {
    /// The engine has ended this session.
    pub fn handle_end(&mut self, reason: GoAwayReason) {
        self.go_away(reason);
    }

    /// The daemon stops: replies still due are given, then GoAway.
    pub fn handle_drain(&mut self) {
        match self.state {
            State::Greeting | State::Attaching => self.go_away(GoAwayReason::Draining),
            State::Ending(_) | State::Closed => {}
            _ => self.state = State::Ending(Some(GoAwayReason::Draining)),
        }
    }

    /// Somebody else wants the place of a connection that has not said Hello.
    pub fn handle_crowded(&mut self) {
        if self.is_greeting() {
            let detail = "there are too many connections that have not said Hello";
            self.fail(ErrorCode::Overloaded, detail);
        }
    }

    /// Keys and limits are others now. Who has said Hello keeps the limits that it is told in Welcome,
    /// unless the key of its token is gone: then the session ends.
    pub fn handle_reload(&mut self, context: Arc<SessionContext>) {
        if self.state == State::Greeting {
            self.context = context;
        } else if self.signed_by.is_some_and(|key| !context.keys.has(key)) {
            self.go_away(GoAwayReason::Revoked);
        }
    }

    /// The engine cannot take a command: too much waits.
    pub fn handle_overloaded(&mut self, number: u64) {
        let needed = match self.state {
            State::Attaching | State::Streaming => self.stream.is_asking(),
            State::Resuming(by, _) => by == OWN,
            // Whoever leaves waits for what is due, and for nothing of this.
            _ => false,
        };
        if number == OWN && !needed {
            // A cursor: the next ack says more.
            return;
        }
        let detail = "the server has too much to do; try again";
        self.handle_reply(number, Reply::Refused(Refusal::new(ErrorCode::Overloaded, detail)));
    }

    /// The socket takes nothing any more.
    pub fn handle_stalled(&mut self) {
        self.go_away(GoAwayReason::Idle);
    }

    /// The time of [`Session::deadline`] has come.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.expires.is_some_and(|expires| expires <= now.mono) {
            self.go_away(GoAwayReason::TokenExpired);
        } else if self.silence <= now.mono {
            match self.state {
                State::Greeting => self.fail(ErrorCode::HelloTimeout, "no Hello within 10 s"),
                // The client has done its part; the disk has not.
                State::Attaching => {
                    self.fail(ErrorCode::Overloaded, "the server takes too long; try again");
                }
                // What it says is not read while so much of it has no answer.
                _ if self.has_enough_to_do() => self.hear(now),
                _ => self.go_away(GoAwayReason::Idle),
            }
        }
    }

    pub(super) fn refuse(&mut self, req_id: u64, refusal: Refusal) {
        let fatal = refusal.fatal;
        self.say(req_id, Reply::Refused(refusal));
        if fatal {
            self.close(None);
        }
    }

    pub(super) fn refuse_too_fast(&mut self, req_id: u64, too_fast: TooFast, fatal: bool) {
        let TooFast { wait, detail } = too_fast;
        let refusal = Refusal::new(ErrorCode::RateLimited, detail);
        self.refuse(req_id, Refusal { retry: Retry::AfterDelay(wait), fatal, ..refusal });
    }

    pub(super) fn fail(&mut self, code: ErrorCode, detail: &str) {
        self.refuse(0, Refusal::fatal(code, detail));
    }

    fn go_away(&mut self, reason: GoAwayReason) {
        if self.state != State::Closed {
            self.close(Some(reason));
        }
    }

    /// Once: what comes after an end has no effect.
    pub(super) fn close(&mut self, reason: Option<GoAwayReason>) {
        if self.state == State::Closed {
            return;
        }
        if let Some(reason) = reason {
            let retry_after = match reason {
                // Spread over two seconds, so that they do not all come back at once.
                GoAwayReason::Draining => Duration::from_millis(200 + self.id.number() % 1800),
                GoAwayReason::Idle | GoAwayReason::TokenExpired => Duration::from_millis(100),
                _ => Duration::ZERO,
            };
            self.say(0, Reply::GoAway { reason, retry_after });
        }
        self.state = State::Closed;
        self.outputs.push_back(Output::Close);
    }

    pub(super) fn is_ending(&self) -> bool {
        matches!(self.state, State::Ending(_) | State::Closed)
    }
}
