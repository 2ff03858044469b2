//! Everything as lines of JSON: the same data gives the same lines, whatever it went through.

use std::io::Write;

use super::{
    ArchiveError, Counted,
    fields::Fields,
    io_error, line,
    walk::{Item, walk},
};
use crate::store::{Reader, catalogue::LogKind};

/// The format of the lines, and the only one there is.
pub(super) const FORMAT: u64 = 1;

/// What was exported.
pub type Exported = Counted;

/// The first line. Nothing of it depends on the data set, so that two exports of the same data are the
/// same.
pub(super) fn head() -> Fields {
    vec![("export", "roamd".into()), ("format", FORMAT.into())]
}

/// The last line: an export without it is not whole.
pub(super) fn end(counted: &Counted, checksum: u32) -> Fields {
    vec![
        ("end", true.into()),
        ("logs", counted.logs.into()),
        ("entries", counted.entries.into()),
        ("rows", counted.rows.into()),
        ("holes", counted.holes.into()),
        ("checksum", format!("{checksum:08x}").into()),
    ]
}

/// Writes everything. `progress` is told how much is done. Damage is written as holes and counted.
///
/// # Errors
/// When the store cannot be read or the lines cannot be written.
pub fn export(
    reader: &Reader,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&Counted),
) -> Result<Exported, ArchiveError> {
    let mut counted = Counted::default();
    let mut checksum = 0;
    let mut kind = LogKind::Inbox;
    let mut text = String::new();
    let mut write = |fields: &Fields, checksum: u32| {
        text.clear();
        line::put(&mut text, fields);
        out.write_all(text.as_bytes()).map_err(io_error("writing", "the export".as_ref()))?;
        Ok::<_, ArchiveError>(crc32c::crc32c_append(checksum, text.as_bytes()))
    };
    checksum = write(&head(), checksum)?;
    walk(reader, |item| {
        if let Item::Log(log, _) = &item {
            kind = log.kind();
        }
        counted.add(&item);
        progress(&counted);
        checksum = write(&line::render(&item, kind), checksum)?;
        Ok::<_, ArchiveError>(())
    })?;
    write(&end(&counted, checksum), checksum)?;
    out.flush().map_err(io_error("writing", "the export".as_ref()))?;
    Ok(counted)
}
