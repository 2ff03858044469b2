//! A copy on its way from a daemon that serves to the command that keeps it.
//!
//! A frame is one letter and what follows: `v` or `c` a block of values or commits, `e` a line of
//! text with where the copy stands, `x` a line of text that says why there is none.

use std::io::{self, BufRead, Read, Write};

use super::{
    ArchiveError, BackupWriter, Block, BlockKind, Packer, Taken,
    block::{HEAD_BYTES, payload_bytes},
    io_error,
};
use crate::{
    id::Epoch,
    store::{Position, Reader},
};

const VALUES: u8 = b'v';
const COMMITS: u8 = b'c';
const END: u8 = b'e';
const FAILED: u8 = b'x';
/// The longest line of text.
const LINE_BYTES_MAX: u64 = 4096;

/// Takes a copy and writes it.
///
/// # Errors
/// When the store cannot be copied or nobody takes it; if possible the other side is told why.
pub fn send(reader: &Reader, out: &mut dyn Write) -> Result<Taken, ArchiveError> {
    match copy(reader, &mut |block| put(out, block)) {
        Ok(taken) => {
            let Position { epoch, applied, commit } = taken.position;
            let line = format!("{epoch} {applied} {commit} {}", taken.damaged);
            put_line(out, END, &line)?;
            Ok(taken)
        }
        Err(error) => {
            // If it is the way there that failed, this fails too.
            let _ = put_line(out, FAILED, &error.to_string().replace('\n', " "));
            Err(error)
        }
    }
}

/// Takes a copy and gives its blocks.
///
/// # Errors
/// When the store cannot be copied, and what `each` says.
pub fn copy(
    reader: &Reader,
    each: &mut dyn FnMut(&Block) -> Result<(), ArchiveError>,
) -> Result<Taken, ArchiveError> {
    let mut packer = Packer::default();
    let position = reader.copy(|part| packer.add(&part).map_or(Ok(()), |block| each(&block)))?;
    if let Some(block) = packer.close() {
        each(&block)?;
    }
    Ok(Taken { position, damaged: packer.damaged() })
}

/// Reads what [`send`] writes, into a backup. `progress` is told how many bytes there are.
///
/// # Errors
/// What the other side says, or that it is gone; any other when the backup cannot be written.
pub fn receive(
    input: &mut dyn BufRead,
    backup: &mut BackupWriter,
    progress: &mut dyn FnMut(u64),
) -> Result<Taken, ArchiveError> {
    let broken = || ArchiveError::Damaged("the daemon says something that is no copy".into());
    loop {
        let mut letter = [0];
        input.read_exact(&mut letter).map_err(lost)?;
        let kind = match letter[0] {
            VALUES => BlockKind::Values,
            COMMITS => BlockKind::Commits,
            END => {
                let line = line(input)?;
                let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
                let [epoch, applied, commit, damaged] = numbers[..] else { return Err(broken()) };
                let position = Position { epoch: Epoch::new(epoch), applied, commit };
                return Ok(Taken { position, damaged });
            }
            FAILED => return Err(ArchiveError::Refused(line(input)?)),
            _ => return Err(broken()),
        };
        let mut head = [0; HEAD_BYTES];
        input.read_exact(&mut head).map_err(lost)?;
        let len = payload_bytes(head).ok_or_else(broken)?;
        let mut bytes = head.to_vec();
        let read = (&mut *input).take(len as u64).read_to_end(&mut bytes);
        if read.map_err(lost)? != len {
            return Err(ArchiveError::Ended);
        }
        backup.add(&Block { kind, bytes })?;
        progress(backup.bytes());
    }
}

fn lost(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => ArchiveError::Ended,
        _ => io_error("reading", "what the daemon sends".as_ref())(error),
    }
}

fn put(out: &mut dyn Write, block: &Block) -> Result<(), ArchiveError> {
    let letter = match block.kind {
        BlockKind::Values => VALUES,
        BlockKind::Commits => COMMITS,
    };
    let sent = out.write_all(&[letter]).and_then(|()| out.write_all(&block.bytes));
    sent.map_err(io_error("sending to", "the command".as_ref()))
}

fn put_line(out: &mut dyn Write, letter: u8, line: &str) -> Result<(), ArchiveError> {
    let mut bytes = vec![letter];
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    let sent = out.write_all(&bytes).and_then(|()| out.flush());
    sent.map_err(io_error("sending to", "the command".as_ref()))
}

fn line(input: &mut dyn BufRead) -> Result<String, ArchiveError> {
    let mut text = String::new();
    let mut limited = (&mut *input).take(LINE_BYTES_MAX);
    limited.read_line(&mut text).map_err(lost)?;
    text.strip_suffix('\n').map(str::to_owned).ok_or(ArchiveError::Ended)
}
