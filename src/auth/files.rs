//! Keys on disk: `keys/<kid>.pem` in the data directory (folder 0700, files 0600) and the file of
//! the HS256 secret.
//!
//! A key appears complete or not at all (written aside, synced, renamed, folder synced), and one
//! process at a time changes the folder, so that two first starts agree on one key. Names come from
//! the folder, never from a token. To rotate, add a key; to retire one, delete its file; then reload.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{Key, KeyError, KeyRing, SECRET_BYTES_MIN, key::generate};
use crate::time::Timestamp;

/// The folder of the keys in the data directory.
pub const KEY_FOLDER: &str = "keys";
/// Largest file that is read as a key or a secret, in bytes.
pub const SECRET_BYTES_MAX: u64 = 16 * 1024;

const LOCK: &str = ".lock";
const ASIDE: &str = ".new.tmp";

impl KeyRing {
    /// The keys of a data directory, and the HS256 secret when there is one.
    ///
    /// Makes the folder and its first key when there is none; `now` becomes part of its name.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what is wrong with it.
    pub fn open(data: &Path, secret: Option<&Path>, now: Timestamp) -> Result<Self, KeyError> {
        let folder = Folder::lock(data)?;
        let mut keys = folder.load()?;
        if keys.is_empty() {
            keys.push(folder.create(&keys, now)?);
        }
        if let Some(path) = secret {
            keys.push(read_shared_secret(path)?);
        }
        Self::new(keys)
    }

    /// The same for a process that runs already: without any key there is an error, and no new one.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what is wrong with it.
    pub fn reopen(data: &Path, secret: Option<&Path>) -> Result<Self, KeyError> {
        let mut keys = Folder::lock(data)?.load()?;
        if let Some(path) = secret {
            keys.push(read_shared_secret(path)?);
        }
        Self::new(keys)
    }

    /// Deletes a key; false = there is none of this name. Whoever runs on it must reload.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what is wrong with it.
    pub fn remove(data: &Path, kid: &str) -> Result<bool, KeyError> {
        let folder = Folder::lock(data)?;
        // The name comes from the folder, never from outside.
        let keys = folder.load()?;
        let Some(key) = keys.iter().find(|key| key.kid() == kid) else { return Ok(false) };
        let path = folder.path.join(format!("{}.pem", key.kid()));
        fs::remove_file(&path).map_err(on("remove", &path))?;
        sync_folder(&folder.path)?;
        Ok(true)
    }

    /// Adds a key that signs from the next [`KeyRing::open`] on, and tells its name.
    ///
    /// Older keys stay accepted until their files are deleted.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what is wrong with it.
    pub fn rotate(data: &Path, now: Timestamp) -> Result<String, KeyError> {
        let folder = Folder::lock(data)?;
        let key = folder.create(&folder.load()?, now)?;
        Ok(key.kid().to_owned())
    }
}

/// The folder of the keys, locked for this value's life.
struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    fn lock(data: &Path) -> Result<Self, KeyError> {
        let path = data.join(KEY_FOLDER);
        if !path.exists() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(&path).map_err(on("create", &path))?;
        }
        let mode = fs::metadata(&path).map_err(on("read", &path))?.mode() & 0o777;
        if mode & 0o022 != 0 {
            return Err(KeyError::OpenToOthers { path, mode, wanted: 0o700 });
        }
        let name = path.join(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&name)
            .map_err(on("open", &name))?;
        lock.lock().map_err(on("lock", &name))?;
        Ok(Self { path, _lock: lock })
    }

    /// Every `<kid>.pem`; other names, and those that start with a dot, are not keys.
    fn load(&self) -> Result<Vec<Key>, KeyError> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(on("list", &self.path))? {
            let path = entry.map_err(on("list", &self.path))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(kid) = name.strip_suffix(".pem").filter(|kid| !kid.starts_with('.')) else {
                continue;
            };
            let bytes = read_secret(&path, 0o600)?;
            let not_a_key = || KeyError::NotAKey { kid: kid.to_owned() };
            keys.push(Key::ed25519(kid, str::from_utf8(&bytes).map_err(|_| not_a_key())?)?);
        }
        Ok(keys)
    }

    /// A new key whose name sorts behind those of the keys that were made here before.
    fn create(&self, existing: &[Key], now: Timestamp) -> Result<Key, KeyError> {
        let made_at = |key: &Key| key.kid().split_once('-')?.0.parse::<u64>().ok();
        let newest = existing.iter().filter_map(made_at).max();
        let millis =
            newest.map_or(now.millis(), |newest| now.millis().max(newest.saturating_add(1)));
        let (tag, pem) = generate()?;
        let kid = format!("{millis:013}-{tag}");
        let key = Key::ed25519(&kid, &pem)?;

        let aside = self.path.join(ASIDE);
        // Left by a process that died here; the lock says that it is nobody's now.
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(on("remove", &aside)(error));
            }
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)
            .map_err(on("create", &aside))?;
        file.write_all(pem.as_bytes()).map_err(on("write", &aside))?;
        file.sync_all().map_err(on("sync", &aside))?;
        let path = self.path.join(format!("{kid}.pem"));
        fs::rename(&aside, &path).map_err(on("rename", &aside))?;
        sync_folder(&self.path)?;
        // A kill may have come between the folder's making and its first key.
        self.path.parent().map_or(Ok(()), sync_folder)?;
        Ok(key)
    }
}

/// The key that is a secret in a file.
fn read_shared_secret(path: &Path) -> Result<Key, KeyError> {
    Key::hs256(&secret_file(path)?)
}

/// The secret in a file, without the line end that editors leave. The owner's group may read it.
///
/// # Errors
/// [`KeyError`] names the file and what is wrong with it.
pub fn secret_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut bytes = read_secret(path, 0o640)?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(KeyError::SecretTooShort { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// A whole file, whose permissions must lie within `allowed`.
fn read_secret(path: &Path, allowed: u32) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let file = File::open(path).map_err(on("open", path))?;
    let about = file.metadata().map_err(on("read", path))?;
    let mode = about.mode() & 0o777;
    // What the owner may do is the owner's affair.
    if mode & !(allowed | 0o700) != 0 {
        return Err(KeyError::OpenToOthers { path: path.to_owned(), mode, wanted: allowed });
    }
    let too_large = || KeyError::TooLarge { path: path.to_owned() };
    if about.len() > SECRET_BYTES_MAX {
        return Err(too_large());
    }
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX as usize + 2));
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(on("read", path))?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(too_large());
    }
    Ok(bytes)
}

fn sync_folder(path: &Path) -> Result<(), KeyError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(on("sync", path))
}

fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    move |source| KeyError::Io { action, path: path.to_owned(), source }
}
