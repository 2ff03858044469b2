//! Where a run is made: what the system tells of itself, and how fast the disk under the data syncs.

use std::{
    fs,
    io::{Seek, Write},
    path::Path,
    process::Command,
    time::Instant,
};

use super::record::Environment;

/// Syncs that are measured. Their median is told.
const SYNCS: usize = 21;
/// Bytes of each.
const SYNC_BYTES: [u8; 64] = [0x5a; 64];

/// This machine; of the daemon only the version that its program tells, and the filesystem of its data.
///
/// What `beside` says is whether the program was built together with this one: only then is its build
/// known. The data directory must be there and nobody's who runs: a file is written to it.
#[must_use]
pub fn look(daemon: Option<(&Path, bool)>, data: Option<&Path>) -> Environment {
    let known = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = ["ostype", "osrelease"].map(|it| known(&format!("/proc/sys/kernel/{it}")));
    let built = if cfg!(debug_assertions) { "debug" } else { "release" };
    let is_same = daemon.is_some_and(|(_, beside)| beside);
    Environment {
        roamd_version: daemon.and_then(|(program, _)| version(program)).unwrap_or_default(),
        roam_version: env!("CARGO_PKG_VERSION").to_owned(),
        profile: if is_same { built.to_owned() } else { String::new() },
        cpu_model: value(&known("/proc/cpuinfo"), "model name").unwrap_or_default().to_owned(),
        cpu_count: std::thread::available_parallelism().ok().map(|count| count.get() as u64),
        memory_bytes: value(&known("/proc/meminfo"), "MemTotal").and_then(kibibytes),
        kernel: kernel.map(|text| text.trim().to_owned()).join(" ").trim().to_owned(),
        filesystem: data
            .and_then(|data| data.canonicalize().ok())
            .and_then(|data| filesystem(&known("/proc/self/mountinfo"), &data))
            .unwrap_or_default(),
        fdatasync_p50_us: data.and_then(sync_us),
    }
}

/// The last word of what a program prints with `--version`.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.split_whitespace().last()?.to_owned())
}

/// What stands behind a name in a text of `name : value` lines.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(found, value)| (found.trim(), value.trim()))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

fn kibibytes(text: &str) -> Option<u64> {
    text.trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The kind of the filesystem that is mounted nearest above a path.
fn filesystem(mounts: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let place = place.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&place).then(|| (place.len(), kind.split(' ').next().map(str::to_owned)))
    };
    // Of several at the same place the last one is what is seen.
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length)?.1
}

/// The median of some syncs of a few bytes.
fn sync_us(folder: &Path) -> Option<u64> {
    let path = folder.join(format!(".sync-{}", std::process::id()));
    let mut file = fs::File::create_new(&path).ok()?;
    let mut one = || -> std::io::Result<u64> {
        file.rewind()?;
        let since = Instant::now();
        file.write_all(&SYNC_BYTES)?;
        file.sync_data()?;
        Ok(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX))
    };
    let times: std::io::Result<Vec<_>> = (0..SYNCS).map(|_| one()).collect();
    // It is of no use any more, whatever came of it.
    let _ = fs::remove_file(&path);
    let mut times = times.ok()?;
    times.sort_unstable();
    times.get(SYNCS / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells_of_itself() {
        let folder = tempfile::tempdir().unwrap();
        let found = look(None, Some(folder.path()));
        assert_eq!((found.roamd_version.as_str(), found.profile.as_str()), ("", ""));
        assert!(found.cpu_count.is_some_and(|count| count > 0));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        if cfg!(target_os = "linux") {
            assert!(found.kernel.starts_with("Linux "), "{found:?}");
            assert!(!found.filesystem.is_empty() && found.fdatasync_p50_us.is_some(), "{found:?}");
            assert!(found.memory_bytes.is_some_and(|bytes| bytes > 1 << 20), "{found:?}");
        }
        assert_eq!(look(None, Some(Path::new("/nowhere"))).fdatasync_p50_us, None);
    }

    #[test]
    fn texts_of_the_system_are_read() {
        let cpu = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz: fast\nprocessor\t: 1\n";
        assert_eq!(value(cpu, "model name"), Some("Some CPU @ 2 GHz: fast"));
        assert_eq!(value("MemTotal:   16384 kB\n", "MemTotal").and_then(kibibytes), Some(16 << 20));
        let mounts = "20 1 8:1 / / rw - ext4 /dev/a rw\n30 20 0:9 / /tmp rw shared:1 - tmpfs t rw\n\
                      31 20 0:9 / /with\\040space rw - xfs t rw\nnonsense\n";
        let kind = |path| filesystem(mounts, Path::new(path));
        assert_eq!(kind("/tmp/a").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/tmpa").as_deref(), Some("ext4"));
        assert_eq!(kind("/with space/a").as_deref(), Some("xfs"));
    }
}
