//! How a session begins: Hello is checked, the versions are compared, and the stream is set up.

use std::time::Duration;

use super::{OWN, PROTOCOL, Session, SessionContext, State};
use crate::{
    auth::{AuthError, Scope},
    engine::{Caller, Command, Compared, Now},
    limits::BATCH_BYTES_TARGET,
    refusal::{ErrorCode, Refusal},
    reply::{Reply, ServerLimits, Verdict, Welcome},
    request::{ClientLimits, Hello, Position},
    seq::InboxSeq,
};

impl Session {
    pub(super) fn hello(&mut self, now: Now, req_id: u64, hello: Hello) {
        if hello.protocol_max < PROTOCOL {
            let detail = format!(
                "the client is older: it speaks up to version {}, this server {PROTOCOL}",
                hello.protocol_max
            );
            return self.refuse(req_id, Refusal::fatal(ErrorCode::ClientTooOld, detail));
        }
        if hello.protocol_min > PROTOCOL {
            let detail = format!(
                "the server is older: it speaks version {PROTOCOL}, the client at least {}",
                hello.protocol_min
            );
            return self.refuse(req_id, Refusal::fatal(ErrorCode::ServerTooOld, detail));
        }
        let claims = match self.context.keys.verify(&hello.token, now.wall) {
            Ok(claims) => claims,
            Err(error) => {
                let code = match error {
                    AuthError::Invalid => {
                        self.denied = true;
                        ErrorCode::Unauthenticated
                    }
                    AuthError::Expired => ErrorCode::TokenExpired,
                };
                return self.refuse(req_id, Refusal::fatal(code, error.to_string()));
            }
        };
        if claims.device.as_ref().is_some_and(|device| *device != hello.device) {
            self.denied = true;
            let detail = AuthError::Invalid.to_string();
            let refusal = Refusal::fatal(ErrorCode::Unauthenticated, detail);
            return self.refuse(req_id, refusal);
        }
        if !claims.scopes.contains(Scope::Client) {
            let detail = "the token lacks the scope \"client\"";
            return self.refuse(req_id, Refusal::fatal(ErrorCode::ForbiddenScope, detail));
        }
        let SessionContext { quotas, limits, .. } = &*self.context;
        if let Err(too_fast) = self.rates.open(quotas, limits, &claims.user, now.mono) {
            return self.refuse_too_fast(req_id, too_fast, true);
        }
        let left = claims.expires.millis().saturating_sub(now.wall.millis());
        // A token without end is still looked at again after a month.
        let left = Duration::from_millis(left).min(Duration::from_secs(30 * 24 * 3600));
        self.expires = now.mono.checked_add(left);
        self.signed_by = Some(claims.key);
        self.wanted = hello.limits;
        self.features = hello.features.into();
        let device = hello.device;
        let admin = claims.scopes.contains(Scope::Admin);
        self.caller = Some(Caller { user: claims.user, device, session: self.id, admin });
        self.state = State::Attaching;
        if !hello.cursors.is_empty() {
            self.large.get_or_insert_default().begin(&hello.cursors);
        }
        self.stream.start(self.stream_limits(), hello.resume.map_or(InboxSeq::ZERO, |at| at.seq));
        if hello.resume.is_some() {
            self.stream.ask_ahead();
        }
        let missed_entries = hello.limits.missed_entries;
        let platform = hello.platform;
        let (resume, background, issued) = (hello.resume, hello.background, claims.issued);
        let attach = Command::Attach { resume, missed_entries, platform, issued, background };
        self.submit(req_id, attach);
    }

    pub(super) fn welcome(&mut self, now: Now, req_id: u64, compared: Compared) {
        let Some(caller) = &self.caller else { return };
        self.epoch = compared.epoch;
        let limits = &self.context.limits;
        let agreed = self.stream_limits();
        let welcome = Welcome {
            protocol: PROTOCOL,
            features: self.features.to_vec(),
            session: self.id,
            user: caller.user.clone(),
            epoch: compared.epoch,
            head: compared.head,
            first: compared.first,
            cursor: compared.cursor,
            verdict: compared.verdict,
            time: now.wall,
            limits: ServerLimits {
                content_bytes: limits.content_bytes,
                unacked_entries: agreed.unacked_entries,
                unacked_bytes: agreed.unacked_bytes,
                batch_bytes: agreed.batch_bytes,
                outstanding_requests: limits.outstanding_requests,
                inbox_entries: limits.inbox_entries,
                inbox_age: limits.inbox_age,
                fanout_members: limits.fanout_members,
                heartbeat_interval: limits.heartbeat_interval,
            },
            unread_total: compared.unread_total,
            last_client_id: compared.last_client_id,
        };
        self.silence = now.mono + limits.heartbeat_interval * 3;
        self.say(req_id, Reply::Welcome(Box::new(welcome)));
        match compared.verdict {
            Verdict::TooLong(_) => self.too_long(0, compared),
            Verdict::UpToDate | Verdict::CatchUp => {
                self.stream.grow(compared.head);
                self.state = State::Streaming;
            }
        }
    }

    pub(super) fn resumed(&mut self, req_id: u64, position: Position, compared: Compared) {
        match compared.verdict {
            Verdict::TooLong(_) => self.too_long(req_id, compared),
            Verdict::UpToDate | Verdict::CatchUp => {
                if req_id == OWN {
                    // Nothing was trimmed after all: the stream goes on where it stood, with what
                    // is un-acked still un-acked.
                    let _ = self.stream.read(Vec::new(), 0);
                } else {
                    self.say(req_id, Reply::Resumed { head: compared.head });
                    self.stream.start(self.stream_limits(), position.seq);
                    self.submit_own(Command::Cursor(position.seq));
                }
                self.stream.grow(compared.head);
                self.state = State::Streaming;
            }
        }
    }

    fn too_long(&mut self, req_id: u64, compared: Compared) {
        let Verdict::TooLong(reason) = compared.verdict else { return };
        self.state = State::TooLong;
        self.stream.asks_no_more();
        self.say(
            req_id,
            Reply::TooLong {
                epoch: compared.epoch,
                head: compared.head,
                first: compared.first,
                reason,
                snapshot: compared.snapshot,
            },
        );
    }

    /// What client and server agree on.
    fn stream_limits(&self) -> ClientLimits {
        let limits = &self.context.limits;
        let agree = |wanted: u32, most: u32| if wanted == 0 { most } else { wanted.min(most) };
        ClientLimits {
            unacked_entries: agree(self.wanted.unacked_entries, limits.unacked_entries),
            unacked_bytes: agree(self.wanted.unacked_bytes, limits.unacked_bytes),
            batch_bytes: agree(self.wanted.batch_bytes, BATCH_BYTES_TARGET as u32),
            missed_entries: self.wanted.missed_entries,
        }
    }
}
