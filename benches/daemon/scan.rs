//! Server frames as far as a driver must know them: what it is, and how many entries or messages.
//!
//! A driver that shares two cores with the daemon must not spend them on values nobody looks at. What
//! is rare comes as its bytes, to be decoded in full.

/// What a server frame says.
#[derive(Debug)]
pub enum Said<'a> {
    SendAck,
    /// Inbox entries `first..=last`.
    Batch {
        first: u64,
        last: u64,
    },
    /// One message of a large conversation.
    Push,
    /// So many messages.
    Page(u64),
    CaughtUp,
    /// Anything else: the whole frame.
    Other(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The next field: its number, and its number or bytes.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, u64, &'a [u8])> {
    let tag = varint(bytes)?;
    let (value, length) = match tag & 7 {
        0 => (varint(bytes)?, 0),
        1 => (0, 8),
        2 => (0, varint(bytes)? as usize),
        _ => return None,
    };
    let (data, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((tag >> 3, value, data))
}

/// The length of the frame at the start of `bytes` and of its prefix, once all of it is there.
pub fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut rest = bytes;
    let length = varint(&mut rest)? as usize;
    (rest.len() >= length).then_some((bytes.len() - rest.len(), length))
}

/// `frame` is the body of a frame without its prefix.
pub fn said(frame: &[u8]) -> Said<'_> {
    let mut rest = frame;
    while let Some((number, _, mut body)) = field(&mut rest) {
        match number {
            1 => {}
            4 => return batch(body),
            5 => return Said::CaughtUp,
            10 => return Said::SendAck,
            30 => {
                let mut messages = 0;
                while let Some((number, ..)) = field(&mut body) {
                    messages += u64::from(number == 1);
                }
                return Said::Page(messages);
            }
            60 if matches!(field(&mut body), Some((1, ..))) => return Said::Push,
            _ => return Said::Other(frame),
        }
    }
    Said::Other(frame)
}

fn batch<'a>(mut body: &[u8]) -> Said<'a> {
    let (mut first, mut last, mut entries) = (0, 0, 0);
    while let Some((number, value, _)) = field(&mut body) {
        match number {
            2 => first = value,
            3 => last = value,
            5 => entries += 1,
            _ => {}
        }
    }
    assert_eq!(first + entries, last + 1, "a batch has the entries that it says");
    Said::Batch { first, last }
}
