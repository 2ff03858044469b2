//! A folder that is there with all of its files or not at all.
//!
//! The files are written beside the place and moved there at the end. What stands at the place is
//! replaced only if it is an older report and nothing else.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::ReportError;

/// The beginnings and ends of names that a report has.
fn is_of_report(name: &str) -> bool {
    let names = ["report.json", "summary.md", "index.html", "latency.hgrm", "environment.json"];
    names.contains(&name) || name.starts_with("latency-") && name.ends_with(".hgrm")
}

/// Puts these files into a folder at this place.
///
/// # Errors
/// [`ReportError::Taken`] if something else is there; [`ReportError::Io`].
pub fn write(place: &Path, files: &[(String, String)]) -> Result<(), ReportError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ReportError::Io { path, source }
    };
    check(place)?;
    let parent = match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed(parent))?;
    let new = Beside::of(place, "new").ok_or_else(|| ReportError::Taken(place.to_owned()))?;
    fs::create_dir(&new.0).map_err(failed(&new.0))?;
    for (name, text) in files {
        let path = new.0.join(name);
        fs::write(&path, text).map_err(failed(&path))?;
    }
    let old = Beside::of(place, "old").ok_or_else(|| ReportError::Taken(place.to_owned()))?;
    match fs::rename(place, &old.0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(place)(error)),
    }
    if let Err(error) = fs::rename(&new.0, place) {
        // Better the old one than none.
        let _ = fs::rename(&old.0, place);
        return Err(failed(place)(error));
    }
    Ok(())
}

/// Whether a report may be put at this place: nothing is there, an empty folder, or a report with no
/// file of somebody else's in it.
///
/// # Errors
/// [`ReportError::Taken`] if not; [`ReportError::Io`].
pub fn check(place: &Path) -> Result<(), ReportError> {
    let failed = |source| ReportError::Io { path: place.to_owned(), source };
    let kind = match fs::symlink_metadata(place) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !kind.is_dir() {
        return Err(ReportError::Taken(place.to_owned()));
    }
    let (mut any, mut has_record) = (false, false);
    for entry in fs::read_dir(place).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if !is_of_report(name) || !entry.file_type().map_err(failed)?.is_file() {
            return Err(ReportError::Taken(place.to_owned()));
        }
        any = true;
        has_record |= name == "report.json";
    }
    if any && !has_record { Err(ReportError::Taken(place.to_owned())) } else { Ok(()) }
}

/// A folder beside another one, gone at the end.
struct Beside(PathBuf);

impl Beside {
    fn of(place: &Path, what: &str) -> Option<Self> {
        let name = place.file_name()?.to_string_lossy();
        let own = std::process::id();
        Some(Self(place.with_file_name(format!(".{name}.{what}.{own}"))))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It is gone already if all went well.
        let _ = fs::remove_dir_all(&self.0);
    }
}
