//! The network between devices and the server: streams of bytes with delay, loss and silence.
//!
//! Bytes of one direction arrive in order, in pieces of any size; directions and connections do not
//! wait for each other. A connection is **cut** (both ends hear of it, what was under way is lost from
//! some place on) or goes **dark** (nothing arrives any more, and nobody is told).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::dice::Dice;

/// What a socket and the network take before the sender has to wait.
const WINDOW_BYTES: usize = 64 * 1024;

/// One direction.
#[derive(Debug)]
pub struct Pipe {
    /// When it arrives, and what; in order.
    under_way: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    last: Instant,
    /// When the reader hears that no more will come.
    ends: Option<Instant>,
    /// What is written now goes nowhere.
    closed: bool,
    delay: Duration,
}

/// What comes out of a pipe.
pub enum Arrival {
    Piece(Bytes),
    End,
}

impl Pipe {
    fn new(now: Instant, delay: Duration) -> Self {
        Self { under_way: VecDeque::new(), bytes: 0, last: now, ends: None, closed: false, delay }
    }

    fn next(&self) -> Option<Instant> {
        let first = self.under_way.front().map(|(at, _)| *at);
        first.or(self.ends)
    }

    fn take(&mut self, now: Instant) -> Option<Arrival> {
        match self.under_way.front() {
            Some((at, _)) if *at <= now => {
                let (_, piece) = self.under_way.pop_front()?;
                self.bytes -= piece.len();
                Some(Arrival::Piece(piece))
            }
            None if self.ends.is_some_and(|at| at <= now) => {
                self.ends = None;
                Some(Arrival::End)
            }
            _ => None,
        }
    }

    fn send(&mut self, now: Instant, dice: &mut Dice, mut bytes: Bytes) {
        while !self.closed && !bytes.is_empty() {
            let most = bytes.len() as u64;
            let len = match dice.below(4) {
                0 => dice.within(1, most.min(9)),
                1 => dice.within(1, most),
                _ => most,
            };
            let piece = bytes.split_to(len as usize);
            let jitter = Duration::from_micros(dice.below(self.delay.as_micros() as u64 + 1));
            self.last = self.last.max(now + self.delay + jitter);
            self.bytes += piece.len();
            self.under_way.push_back((self.last, piece));
        }
    }

    /// Loses what is under way from some place on, and tells the reader of the end.
    fn cut(&mut self, now: Instant, dice: &mut Dice) {
        let keep = dice.below(self.under_way.len() as u64 + 1) as usize;
        self.bytes -= self.under_way.drain(keep..).map(|(_, piece)| piece.len()).sum::<usize>();
        self.finish(now);
    }

    fn finish(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.closed, true) {
            self.last = self.last.max(now + self.delay);
            self.ends = Some(self.last);
        }
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Device,
    Server,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    pub id: u64,
    up: Pipe,
    down: Pipe,
    dark: bool,
    /// The device has let go of it; the server.
    gone: (bool, bool),
}

impl Link {
    pub fn new(id: u64, now: Instant, delay: Duration) -> Self {
        let pipe = || Pipe::new(now, delay);
        Self { id, up: pipe(), down: pipe(), dark: false, gone: (false, false) }
    }

    fn towards(&mut self, end: End) -> &mut Pipe {
        match end {
            End::Device => &mut self.down,
            End::Server => &mut self.up,
        }
    }

    /// When something arrives at this end.
    pub fn next(&self, end: End) -> Option<Instant> {
        match end {
            _ if self.dark => None,
            End::Device if self.gone.0 => None,
            End::Server if self.gone.1 => None,
            End::Device => self.down.next(),
            End::Server => self.up.next(),
        }
    }

    /// What has arrived at this end.
    pub fn take(&mut self, end: End, now: Instant) -> Option<Arrival> {
        self.next(end).filter(|at| *at <= now)?;
        self.towards(end).take(now)
    }

    /// Whether the sender at the other end may go on.
    pub fn takes(&self, to: End) -> bool {
        let pipe = match to {
            End::Device => &self.down,
            End::Server => &self.up,
        };
        pipe.bytes < WINDOW_BYTES
    }

    pub fn send(&mut self, to: End, now: Instant, dice: &mut Dice, bytes: Bytes) {
        self.towards(to).send(now, dice, bytes);
    }

    /// This end lets go: the other reads what is under way, and then the end.
    pub fn leave(&mut self, end: End, now: Instant) {
        match end {
            End::Device => {
                self.gone.0 = true;
                self.up.finish(now);
            }
            End::Server => {
                self.gone.1 = true;
                self.down.finish(now);
            }
        }
    }

    pub fn cut(&mut self, now: Instant, dice: &mut Dice) {
        self.up.cut(now, dice);
        self.down.cut(now, dice);
        self.dark = false;
    }

    pub fn darken(&mut self) {
        self.dark = true;
    }

    pub fn is_dark(&self) -> bool {
        self.dark
    }

    pub fn set_delay(&mut self, delay: Duration) {
        (self.up.delay, self.down.delay) = (delay, delay);
    }

    /// Nobody has anything to do with it any more.
    pub fn is_over(&self) -> bool {
        self.gone == (true, true)
    }
}
