//! One damage: of a bit, of a page, of a file.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rand::{Rng, rngs::StdRng};

const PAGE: u64 = 4096;

pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(files(&entry.path()));
        } else if entry.metadata().unwrap().len() > 0 {
            all.push(entry.path());
        }
    }
    all.sort();
    all
}

struct Content {
    handle: File,
    bytes: Vec<u8>,
    /// Where something lives: behind it there are only zeros.
    used: u64,
}

fn content(file: &Path) -> Content {
    let handle = File::options().read(true).write(true).open(file).unwrap();
    let mut bytes = vec![0; handle.metadata().unwrap().len() as usize];
    handle.read_exact_at(&mut bytes, 0).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |at| at as u64 + 1);
    Content { handle, bytes, used }
}

/// Does one damage; says what and where.
pub fn damage(random: &mut StdRng, dir: &Path) -> String {
    let files = files(dir);
    // Half of them in the trees, where most of the data is.
    let trees: Vec<_> = files.iter().filter(|file| file.ends_with("trees/db")).cloned().collect();
    let from = if random.random_bool(0.5) { &trees } else { &files };
    let file = &from[random.random_range(0..from.len())];
    let Content { handle, bytes, used } = content(file);
    let len = bytes.len() as u64;
    let at = random.random_range(0..used);
    let what = match random.random_range(0..10) {
        0..=2 => {
            let bit = random.random_range(0..8);
            handle.write_all_at(&[bytes[at as usize] ^ (1 << bit)], at).unwrap();
            format!("bit {bit} of byte {at}")
        }
        3 => {
            let page = at / PAGE * PAGE;
            let until = len.min(page + PAGE);
            handle.write_all_at(&vec![0; (until - page) as usize], page).unwrap();
            format!("zeros in {page}..{until}")
        }
        4 => {
            let until = len.min(at + random.random_range(1..PAGE));
            handle.write_all_at(&vec![0; (until - at) as usize], at).unwrap();
            format!("zeros in {at}..{until}")
        }
        5 | 6 => {
            handle.set_len(at).unwrap();
            format!("cut at {at}")
        }
        7 | 8 => {
            // Two pages change their places, or sectors of a small file.
            let size = if used > 2 * PAGE { PAGE } else { 16.min(used / 2).max(1) };
            let pages = used / size;
            let (one, two) = (random.random_range(0..pages), random.random_range(0..pages));
            let (one, two) = (one * size, two * size);
            let piece = |at: u64| bytes[at as usize..(at + size) as usize].to_vec();
            handle.write_all_at(&piece(two), one).unwrap();
            handle.write_all_at(&piece(one), two).unwrap();
            format!("{size} bytes at {one} and {two} swapped")
        }
        _ => {
            fs::remove_file(file).unwrap();
            "removed".to_owned()
        }
    };
    format!("{}: {what}, {used} of {len} bytes used", file.strip_prefix(dir).unwrap().display())
}
