//! The report of a run: a folder for people and programs.
//!
//! | file | is |
//! |---|---|
//! | `index.html` | all of it with charts, in one page that needs nothing else |
//! | `summary.md` | all figures, to paste where people talk |
//! | `report.json` | the [`Record`], from which the others are made |
//! | `environment.json` | where it ran |
//! | `latency.hgrm`, `latency-*.hgrm` | latencies for HdrHistogram's plotters: send to ack, and the others |
//!
//! All texts of a record are taken for those of strangers: a scenario may come from anywhere.

mod chart;
mod charts;
mod folder;
mod hgrm;
mod page;
mod summary;
pub mod text;
mod ticks;
pub mod verdict;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::record::{Record, SEND_TO_ACK, VERSION};

/// The file with the record.
const RECORD_FILE: &str = "report.json";
/// Most bytes of a record that are read.
const RECORD_BYTES_MAX: u64 = 1 << 30;

/// Why a report cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Something that is no report is where it should be put.
    #[error("{0} is there and is no report (or has other files too): nothing is overwritten")]
    Taken(PathBuf),
    /// No record.
    #[error("{path} is no report: {source}")]
    Malformed {
        /// Of what.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A record of another form.
    #[error("{path} is a report of version {version}, this program reads version {VERSION}")]
    Version {
        /// Of what.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// More than any run writes.
    #[error("{0} is too large for a report")]
    TooLarge(PathBuf),
}

/// Writes the report of a run as a folder at this place. An older report there is replaced.
///
/// # Errors
/// [`ReportError::Taken`] if anything else is there; [`ReportError::Io`]. The place is then as it was.
pub fn write(record: &Record, place: &Path) -> Result<(), ReportError> {
    let malformed = |source| ReportError::Malformed { path: place.join(RECORD_FILE), source };
    let mut files = vec![
        (RECORD_FILE.to_owned(), serde_json::to_string(record).map_err(malformed)? + "\n"),
        (
            "environment.json".to_owned(),
            serde_json::to_string_pretty(&record.environment).map_err(malformed)? + "\n",
        ),
        ("summary.md".to_owned(), summary::write(record)),
        ("index.html".to_owned(), page::write(record)),
    ];
    for (name, latency) in &record.latencies {
        files.push((latency_file(name), hgrm::percentiles(latency)));
    }
    folder::write(place, &files)
}

/// Whether a report can be put at this place: better asked before a long run than after it.
///
/// # Errors
/// As [`write`].
pub fn check(place: &Path) -> Result<(), ReportError> {
    folder::check(place)
}

/// Reads the record of a report, given its folder or its `report.json`.
///
/// # Errors
/// [`ReportError`].
pub fn read(place: &Path) -> Result<Record, ReportError> {
    /// What every version has.
    #[derive(serde::Deserialize)]
    struct Head {
        version: u32,
    }
    let path = if place.is_dir() { place.join(RECORD_FILE) } else { place.to_owned() };
    let failed = |source| ReportError::Io { path: path.clone(), source };
    let malformed = |source| ReportError::Malformed { path: path.clone(), source };
    if fs::metadata(&path).map_err(failed)?.len() > RECORD_BYTES_MAX {
        return Err(ReportError::TooLarge(path));
    }
    let text = fs::read(&path).map_err(failed)?;
    let Head { version } = serde_json::from_slice(&text).map_err(malformed)?;
    if version != VERSION {
        return Err(ReportError::Version { path, version });
    }
    serde_json::from_slice(&text).map_err(malformed)
}

/// The name of a latency's file. Names are texts of others and must not lead out of the folder.
fn latency_file(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    match name {
        SEND_TO_ACK => "latency.hgrm".to_owned(),
        name => format!("latency-{}.hgrm", name.chars().take(64).map(safe).collect::<String>()),
    }
}

#[cfg(test)]
mod tests;
