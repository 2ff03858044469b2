//! The way in for the operator's commands on the same machine: a socket in the data directory.
//!
//! Only the user that the daemon runs as, and root, may speak here: by the rights of the file, and by
//! what the kernel says of the other side. A request is one line, and the only one there is asks for
//! a copy of everything ([`crate::archive::send`]). It names no file: the command writes what it
//! gets, wherever its user may.

use std::{
    fs,
    io::{self, BufReader, BufWriter, Write},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{net::UnixListener, sync::Semaphore};

use crate::{archive, store::Reader};

/// Name of the socket in the data directory.
const NAME: &str = "control";
/// The one request.
const BACKUP: &str = "roamd control 1 backup";
/// A command that takes nothing for so long is gone.
const STALL_TIME_MAX: Duration = Duration::from_secs(60);
/// A command says what it wants within so long.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// Commands at a time.
const COMMANDS_MAX: usize = 4;
/// Longest path of a socket, with a margin.
const PATH_BYTES_MAX: usize = 100;
const ROOT: u32 = 0;

/// The socket; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    listener: UnixListener,
}

impl Control {
    /// Listens in a data directory that this process has taken.
    pub(super) fn open(data: &Path) -> io::Result<Self> {
        let path = data.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // Of a life that was killed.
            _ => {}
        }
        let listener = reach(data, |short| UnixListener::bind(short))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { path, listener })
    }

    /// Serves commands; never ends.
    pub(super) async fn serve(&self, reader: &Reader) {
        let commands = Arc::new(Semaphore::new(COMMANDS_MAX));
        loop {
            let Ok(place) = Arc::clone(&commands).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a command");
                    tokio::time::sleep(super::ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let allowed = self.owner().is_ok_and(|owner| {
                stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == ROOT)
            });
            let (true, Ok(stream)) = (allowed, stream.into_std()) else {
                tracing::warn!("a command of another user was refused");
                continue;
            };
            let reader = reader.clone();
            let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
                let _place = place;
                if let Err(error) = answer(&reader, stream) {
                    tracing::warn!(%error, "a command was not served");
                }
            });
            if let Err(error) = thread {
                tracing::warn!(%error, "a command was not served");
            }
        }
    }

    /// The user that this process runs as: it made the file.
    fn owner(&self) -> io::Result<u32> {
        Ok(fs::symlink_metadata(&self.path)?.uid())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn answer(reader: &Reader, stream: UnixStream) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(REQUEST_TIME_MAX))?;
    stream.set_write_timeout(Some(STALL_TIME_MAX))?;
    let mut request = [0; BACKUP.len() + 1];
    io::Read::read_exact(&mut &stream, &mut request)?;
    if request.strip_suffix(b"\n") != Some(BACKUP.as_bytes()) {
        return Err("it asks for something that this version does not know".into());
    }
    tracing::info!("a backup begins");
    let taken = archive::send(reader, &mut BufWriter::new(&stream))?;
    tracing::info!(commit = taken.position.commit, "a backup was taken");
    Ok(())
}

/// Asks the daemon that has a data directory for a copy; the stream gives what
/// [`archive::receive`] reads.
///
/// # Errors
/// When no daemon listens there, or not to this user.
pub fn ask_for_backup(data: &Path) -> io::Result<BufReader<UnixStream>> {
    let stream = reach(data, |short| UnixStream::connect(short))?;
    stream.set_read_timeout(Some(STALL_TIME_MAX))?;
    (&stream).write_all(format!("{BACKUP}\n").as_bytes())?;
    Ok(BufReader::with_capacity(1 << 16, stream))
}

/// Names the socket by a path that is short enough for the kernel.
fn reach<T>(data: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = data.join(NAME);
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return with(&path);
    }
    let dir = fs::File::open(data)?;
    with(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(NAME))
}
