//! What messages say: who sent which message into which conversation, when it was due, and bytes that
//! follow from that. So whoever receives one sees whether it is what was sent.

use bytes::{BufMut, Bytes, BytesMut};

/// What every content has at its beginning.
pub const HEADER_BYTES: usize = MAGIC.len() + 8 + 8 + 8 + 4 + 4 + 8;

const MAGIC: &[u8; 4] = b"SWRM";

/// What a content says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Of which run.
    pub run: u64,
    /// Which message of the run.
    pub number: u64,
    /// When it was due, in microseconds since the start of the run.
    pub due_us: u64,
    /// The device that sent it.
    pub bot: u32,
    /// The conversation it was sent into.
    pub talk: u32,
}

/// A content that cannot have been sent by a swarm, or not like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl Tag {
    /// The content, with `bytes` bytes or the header.
    #[must_use]
    pub fn write(&self, bytes: usize) -> Bytes {
        let mut content = BytesMut::with_capacity(bytes.max(HEADER_BYTES));
        content.put_slice(MAGIC);
        content.put_u64(self.run);
        content.put_u64(self.number);
        content.put_u64(self.due_us);
        content.put_u32(self.bot);
        content.put_u32(self.talk);
        let rest = bytes.saturating_sub(HEADER_BYTES);
        content.put_u64(self.check() ^ rest as u64);
        content.extend(self.fill().take(rest));
        content.freeze()
    }

    /// Reads a content whole.
    ///
    /// # Errors
    /// [`Damaged`] when any byte is not as it was written.
    pub fn read(content: &[u8]) -> Result<Self, Damaged> {
        let (head, rest) = content.split_at_checked(HEADER_BYTES).ok_or(Damaged)?;
        let number = |at: usize| {
            let bytes = head.get(at..at + 8).and_then(|it| it.try_into().ok());
            bytes.map(u64::from_be_bytes).ok_or(Damaged)
        };
        let both = number(28)?;
        let tag = Self {
            run: number(4)?,
            number: number(12)?,
            due_us: number(20)?,
            bot: (both >> 32) as u32,
            talk: both as u32,
        };
        let whole = head.starts_with(MAGIC)
            && number(36)? == tag.check() ^ rest.len() as u64
            && tag.fill().take(rest.len()).eq(rest.iter().copied());
        if whole { Ok(tag) } else { Err(Damaged) }
    }

    fn check(&self) -> u64 {
        let both = u64::from(self.bot) << 32 | u64::from(self.talk);
        [self.run, self.number, self.due_us, both].into_iter().fold(0, |sum, it| mix(sum ^ it))
    }

    /// Bytes that follow from the tag.
    fn fill(&self) -> impl Iterator<Item = u8> {
        let mut state = self.check();
        std::iter::repeat_with(move || {
            state = mix(state);
            state.to_be_bytes()
        })
        .flatten()
    }
}

/// Spreads a number over all bits (the finish of `splitmix64`).
#[must_use]
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_any_other_byte_is_seen() {
        let tag = Tag { run: 1, number: 2, due_us: 3, bot: 4, talk: 5 };
        for bytes in [0, HEADER_BYTES, 200] {
            let content = tag.write(bytes);
            assert_eq!(content.len(), bytes.max(HEADER_BYTES));
            assert_eq!(Tag::read(&content), Ok(tag));
            for at in 0..content.len() {
                let mut damaged = content.to_vec();
                damaged[at] ^= 1;
                assert_eq!(Tag::read(&damaged), Err(Damaged), "byte {at}");
                assert_eq!(Tag::read(&content[..at]), Err(Damaged), "cut at {at}");
            }
        }
    }
}
