//! The server: the real store, engine and sessions, and a shell around them that does what the
//! daemon's threads do, one thing after the other. Beside it the model does every command as well.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use roamd::{
    engine::{Answer, Caller, Command, Engine, read},
    id::{DeviceId, SessionId, UserId},
    limits::{CLIENT_FRAME_BYTES_MAX, GREETING_FRAME_BYTES_MAX},
    refusal::ErrorCode,
    reply::{DevicePresence, GoAwayReason, Reply},
    request::Request,
    seq::InboxSeq,
    session::{Output, Session},
    store::{ReadLimit, Reader, Store},
    wire::{self, FrameDecoder},
};

use crate::{
    compare::{Pending, chosen, is_refusal, only_reads, pages, same},
    driver::Found,
    model::{Expected, PageKey, refused},
    network::{Arrival, End},
    tap::{self, Phase, Tap},
    world::World,
};

/// Outputs are made until so many bytes wait for the socket.
const OUT_BYTES_MAX: usize = 512 * 1024;

pub struct Conn {
    pub id: u64,
    pub user: UserId,
    pub session: Session,
    pub tap: Tap,
    decoder: FrameDecoder,
    input: BytesMut,
    output: BytesMut,
    taken: Instant,
    pub online: bool,
    attached: bool,
    /// The session is over; what is still to be written is written.
    closing: bool,
    /// Nothing more is expected of it.
    gone: bool,
    pub presence: BTreeMap<(UserId, DeviceId), DevicePresence>,
}

impl Conn {
    fn deadline(&self, stall: Duration) -> Option<Instant> {
        let stalled = (!self.output.is_empty()).then_some(self.taken + stall);
        let session = if self.closing { None } else { self.session.deadline() };
        [session, stalled].into_iter().flatten().min()
    }

    fn reads(&self) -> bool {
        self.closing || (self.session.wants_input() && self.output.len() < OUT_BYTES_MAX)
    }
}

/// Everything that is lost with the process.
pub struct Process {
    pub store: Store,
    pub engine: Engine,
    pub conns: Vec<Conn>,
    pub pending: Vec<Pending>,
    pub displaced: Vec<u64>,
    /// When what was applied is flushed.
    pub flush_at: Option<Instant>,
    /// What totals and positions were when timers ran since the last flush.
    pub totals: Vec<BTreeMap<UserId, (u64, InboxSeq)>>,
    /// The last commit that was flushed.
    pub commit: u64,
}

impl Process {
    pub fn new(store: Store, engine: Engine) -> Self {
        let commit = engine.last_commit();
        Self {
            store,
            engine,
            conns: Vec::new(),
            pending: Vec::new(),
            displaced: Vec::new(),
            flush_at: None,
            totals: Vec::new(),
            commit,
        }
    }
}

impl World {
    pub fn process(&mut self) -> Result<&mut Process, Found> {
        self.process.as_mut().ok_or_else(|| "the process is not there".into())
    }

    pub fn reader(&self) -> Result<Reader, Found> {
        let process = self.process.as_ref().ok_or("the process is not there")?;
        Ok(process.store.reader())
    }

    /// A device has connected.
    pub fn accept(&mut self, id: u64, user: UserId) -> Result<(), Found> {
        let session = Session::new(Arc::clone(&self.context), SessionId::new(id), self.now);
        let conn = Conn {
            id,
            user,
            session,
            tap: Tap::new(),
            decoder: FrameDecoder::new(GREETING_FRAME_BYTES_MAX),
            input: BytesMut::new(),
            output: BytesMut::new(),
            taken: self.now.mono,
            online: false,
            attached: false,
            closing: false,
            gone: false,
            presence: BTreeMap::new(),
        };
        self.process()?.conns.push(conn);
        Ok(())
    }

    /// When the server has something to do.
    pub fn server_deadline(&self) -> Option<Instant> {
        let Some(process) = &self.process else { return self.up_at };
        let stall = self.context.limits.write_stall;
        let engine = [process.engine.deadline(), process.flush_at];
        let model = if process.engine.is_full() { None } else { self.model.deadline() };
        let conns = process.conns.iter().flat_map(|conn| {
            let link = self.links.iter().find(|link| link.id == conn.id);
            let arrives = link.and_then(|link| link.next(End::Server)).filter(|_| conn.reads());
            [conn.deadline(stall), arrives]
        });
        engine.into_iter().chain([model]).chain(conns).flatten().min()
    }

    /// Does what is due at the server.
    pub fn serve(&mut self) -> Result<(), Found> {
        if self.process.is_none() || self.dying {
            return Ok(());
        }
        self.timers()?;
        let mut at = 0;
        while !self.dying && at < self.process()?.conns.len() {
            self.read(at)?;
            self.pump(at)?;
            self.write(at)?;
            if !self.dying {
                at += 1;
            }
        }
        if self.dying {
            return Ok(());
        }
        let ended: Vec<u64> =
            self.process()?.conns.iter().filter(|c| c.gone).map(|conn| conn.id).collect();
        for id in ended {
            let Some(at) = self.process()?.conns.iter().position(|c| c.id == id) else { continue };
            self.leave(at)?;
            if self.dying {
                return Ok(());
            }
            self.process()?.conns.remove(at);
            if let Some(link) = self.links.iter_mut().find(|link| link.id == id) {
                link.leave(End::Server, self.now.mono);
            }
        }
        if self.process()?.flush_at.is_some_and(|at| at <= self.now.mono) {
            self.flush()?;
        }
        Ok(())
    }

    fn timers(&mut self) -> Result<(), Found> {
        let now = self.now;
        for slices in 0.. {
            let model_due = self.model.deadline();
            let process = self.process()?;
            let due = [process.engine.deadline(), model_due.filter(|_| !process.engine.is_full())];
            if due.into_iter().flatten().min().is_none_or(|at| at > now.mono) {
                break;
            }
            if slices > 1000 {
                return Err(format!("a timer never has enough: {due:?} at {:?}", now.mono));
            }
            self.stirred += 1;
            if let Err(error) = self.process()?.engine.on_timer(now) {
                return self.failed(&error.to_string());
            }
            self.note_totals()?;
            if !self.process()?.engine.is_full() {
                // After a full disk cursors are written by the timer of what had waited longest.
                let wait = self.process()?.engine.devices_wait();
                match (self.was_full, wait) {
                    (true, true) => self.model.put_off_cursors(),
                    (true, false) => self.model.write_cursors(),
                    (false, _) => {}
                }
                self.model.on_timer(now);
                self.note_totals()?;
            }
            self.flush_soon()?;
            let (engine, model) = (self.process()?.engine.deadline(), self.model.deadline());
            if !self.was_full
                && model.is_some_and(|model| engine.is_none_or(|engine| engine > model))
            {
                return Err(format!("next timer: engine {engine:?}, model {model:?}"));
            }
        }
        self.time_out()
    }

    fn time_out(&mut self) -> Result<(), Found> {
        let (now, stall) = (self.now, self.context.limits.write_stall);
        for conn in &mut self.process()?.conns {
            if !conn.closing && conn.session.deadline().is_some_and(|due| due <= now.mono) {
                let end = match conn.tap.phase {
                    Phase::Greeting => tap::End::Error(ErrorCode::HelloTimeout),
                    _ => tap::End::Away(GoAwayReason::Idle),
                };
                conn.tap.ends.extend([end, tap::End::Away(GoAwayReason::TokenExpired)]);
                conn.session.handle_timeout(now);
            }
            if !conn.output.is_empty() && conn.taken + stall <= now.mono {
                conn.session.handle_stalled();
                conn.output.clear();
                (conn.closing, conn.gone) = (true, true);
            }
        }
        Ok(())
    }

    /// What was applied is flushed in a moment, together with what comes meanwhile.
    fn flush_soon(&mut self) -> Result<(), Found> {
        let wait = Duration::from_micros(self.dice.below(4_000));
        let at = self.now.mono + wait;
        self.process()?.flush_at.get_or_insert(at);
        Ok(())
    }

    /// Takes what has arrived for a connection.
    fn read(&mut self, at: usize) -> Result<(), Found> {
        let now = self.now;
        loop {
            if self.dying {
                return Ok(());
            }
            let process = self.process.as_mut().ok_or("the process is not there")?;
            let conn = &mut process.conns[at];
            if conn.gone || !conn.reads() {
                return Ok(());
            }
            let link = self.links.iter_mut().find(|link| link.id == conn.id);
            match link.and_then(|link| link.take(End::Server, now.mono)) {
                None => return Ok(()),
                Some(Arrival::End) => {
                    conn.gone = true;
                    self.stirred += 1;
                    return Ok(());
                }
                Some(Arrival::Piece(_)) if conn.closing => {}
                Some(Arrival::Piece(piece)) => {
                    conn.input.extend_from_slice(&piece);
                    self.stirred += 1;
                    self.decode(at)?;
                }
            }
        }
    }

    fn decode(&mut self, at: usize) -> Result<(), Found> {
        loop {
            if self.dying {
                return Ok(());
            }
            let (now, limits) = (self.now, &self.model);
            let process = self.process.as_mut().ok_or("the process is not there")?;
            let conn = &mut process.conns[at];
            if conn.closing || !conn.session.wants_input() || conn.input.is_empty() {
                return Ok(());
            }
            if conn.session.is_open() {
                conn.decoder.set_limit(CLIENT_FRAME_BYTES_MAX);
            }
            let frame = match conn.decoder.next_frame(&mut conn.input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => return Err(format!("the client's framing: {error}")),
            };
            match wire::decode_client(frame) {
                Ok(incoming) => {
                    conn.tap.heard(limits, &conn.user, &incoming);
                    if let Request::Ping { client_time_ms } = incoming.request {
                        let pong = Reply::Pong { client_time_ms, time: now.wall };
                        conn.tap.owe(incoming.req_id, pong);
                    }
                    conn.session.handle_frame(now, incoming);
                }
                Err(refused) => {
                    let request = Request::Unknown;
                    let (req_id, ack) = (refused.req_id, refused.ack);
                    let incoming = roamd::request::Incoming { req_id, ack, request };
                    conn.tap.heard(limits, &conn.user, &incoming);
                    conn.tap.owe(req_id, Reply::Refused(refused.refusal.clone()));
                    conn.session.handle_refused(now, refused);
                }
            }
            self.pump(at)?;
        }
    }

    /// Does what a session wants.
    pub fn pump(&mut self, at: usize) -> Result<(), Found> {
        for turn in 0.. {
            if self.dying {
                return Ok(());
            }
            let conn = &mut self.process()?.conns[at];
            if conn.closing || conn.output.len() >= OUT_BYTES_MAX {
                return Ok(());
            }
            if conn.output.is_empty() && !conn.presence.is_empty() {
                let changes = std::mem::take(&mut conn.presence);
                let push = Reply::PresencePush(changes.into_values().collect());
                conn.tap.may_come(push.clone());
                conn.session.handle_push(push);
            }
            let Some(output) = conn.session.poll_output() else { return Ok(()) };
            let id = conn.id;
            if turn > 10_000 {
                return Err(format!("connection {id} never has enough: {output:?}"));
            }
            self.stirred += 1;
            self.output(at, output).map_err(|found| format!("connection {id}: {found}"))?;
        }
        Ok(())
    }

    fn output(&mut self, at: usize, output: Output) -> Result<(), Found> {
        let now = self.now;
        let reader = self.reader()?;
        let process = self.process.as_mut().ok_or("the process is not there")?;
        let conn = &mut process.conns[at];
        let user = conn.user.clone();
        match output {
            Output::Frame(req_id, reply) => {
                conn.tap.said(&self.durable, req_id, &reply)?;
                if conn.output.is_empty() {
                    conn.taken = now.mono;
                }
                wire::encode_server(req_id, &reply, &mut conn.output);
            }
            Output::Submit(number, caller, command) => {
                let who = Some((caller.user.clone(), caller.device.clone()));
                same("who speaks", &who, &conn.tap.who)?;
                conn.attached |= matches!(command, Command::Attach { .. });
                let id = conn.id;
                self.apply(Some((id, number)), caller, command)?;
            }
            Output::Read { after, upto, entries, bytes } => {
                let kept = self.model.limits.inbox_entries;
                let most = ReadLimit { entries, bytes };
                let read = read::entries(&reader, &user, after, upto, most, kept);
                match read.map_err(|e| e.to_string())? {
                    Some(entries) => {
                        let bytes = entries.iter().map(wire::entry_len).sum();
                        conn.session.handle_batch(entries, bytes);
                    }
                    None => conn.session.handle_trimmed(),
                }
            }
            Output::ReadRows(id, span) => {
                let rows = read::rows(&reader, &user, &id, span).map_err(|e| e.to_string())?;
                conn.session.handle_rows(&id, span, rows);
            }
            Output::ReadChanges(id, first, last) => {
                let changes = read::changes(&reader, &user, &id, first, last);
                conn.session.handle_changes(&id, last, changes.map_err(|e| e.to_string())?);
            }
            Output::Close => {
                conn.closing = true;
                let kind = conn.tap.closed()?;
                self.count(kind);
            }
        }
        Ok(())
    }

    fn write(&mut self, at: usize) -> Result<(), Found> {
        if self.dying {
            return Ok(());
        }
        let now = self.now.mono;
        let process = self.process.as_mut().ok_or("the process is not there")?;
        let conn = &mut process.conns[at];
        let link = self.links.iter_mut().find(|link| link.id == conn.id);
        match link {
            None => conn.gone = true,
            Some(link) if link.takes(End::Device) && !conn.output.is_empty() => {
                let bytes = std::mem::take(&mut conn.output).freeze();
                link.send(End::Device, now, &mut self.dice, bytes);
                conn.taken = now;
                self.stirred += 1;
            }
            _ => {}
        }
        if conn.closing && conn.output.is_empty() && !conn.gone {
            conn.gone = true;
            self.stirred += 1;
        }
        Ok(())
    }

    /// The connection is gone: so is its session, for everybody.
    fn leave(&mut self, at: usize) -> Result<(), Found> {
        let conn = &mut self.process()?.conns[at];
        conn.online = false;
        match conn.session.caller().cloned() {
            Some(caller) if std::mem::take(&mut conn.attached) => {
                self.apply(None, caller, Command::Detach)
            }
            _ => Ok(()),
        }
    }

    fn page_key(&self, user: &UserId, command: &Command) -> Option<PageKey> {
        let (pages, token) = pages(command)?;
        let known =
            self.plan.tokens.iter().find(|(u, p, t, _)| (u, p, t) == (user, &pages, &token));
        known.map(|(.., key)| key.clone())
    }

    fn apply(
        &mut self,
        origin: Option<(u64, u64)>,
        caller: Caller,
        command: Command,
    ) -> Result<(), Found> {
        let now = self.now;
        self.flush_soon()?;
        let engine = &mut self.process()?.engine;
        let before = match command {
            // What its answer tells is newer.
            Command::CaughtUp => engine.take_large(),
            _ => Vec::new(),
        };
        let staged = engine.staged_bytes();
        let was_full = engine.is_full();
        let answer = match engine.apply(now, &caller, &command) {
            Ok(answer) => answer,
            Err(error) => return self.failed(&error.to_string()),
        };
        let full = was_full || engine.is_full();
        let staged = engine.staged_bytes() - staged;
        if staged > 0 && (only_reads(&command) || is_refusal(&answer)) {
            return Err(format!("{staged} bytes were staged by what changes nothing: {answer:?}"));
        }
        let (expected, next) = match &answer {
            Answer::Reply(Reply::Refused(refusal)) if refusal.code == ErrorCode::StorageFull => {
                if !full {
                    return Err(format!("STORAGE_FULL on a disk with room: {command:?}"));
                }
                (Expected::Now(refused(ErrorCode::StorageFull)), None)
            }
            _ => {
                let mut chosen = chosen(&answer);
                chosen.waits = full;
                chosen.page = self.page_key(&caller.user, &command);
                self.model.apply(now, &caller, &command, &chosen)
            }
        };
        if let (Some((id, _)), Answer::Attached(_)) = (origin, &answer) {
            self.attached(id)?;
        }
        let what = format!("step {}", self.step);
        self.process()?.pending.push(Pending {
            before,
            origin,
            what,
            caller,
            command,
            answer,
            expected,
            next,
        });
        Ok(())
    }

    /// Whoever attaches displaces the device's older session.
    fn attached(&mut self, id: u64) -> Result<(), Found> {
        let process = self.process()?;
        let Some(new) = process.conns.iter().position(|conn| conn.id == id) else { return Ok(()) };
        let own = process.conns[new].tap.who.clone();
        let older = process.conns.iter_mut().filter(|conn| conn.online && conn.tap.who == own);
        for conn in older {
            conn.online = false;
            process.displaced.push(conn.id);
        }
        process.conns[new].online = true;
        Ok(())
    }

    /// An orderly stop: sessions are told.
    pub fn drain(&mut self) -> Result<(), Found> {
        for at in 0..self.process()?.conns.len() {
            let conn = &mut self.process()?.conns[at];
            conn.tap.ends.push(tap::End::Away(GoAwayReason::Draining));
            conn.session.handle_drain();
            self.pump(at)?;
            self.write(at)?;
        }
        Ok(())
    }
}
