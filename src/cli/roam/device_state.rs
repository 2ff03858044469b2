//! What `roam recv` remembers between two runs: how far a device has its inbox, and how far it has
//! each conversation.
//!
//! Written after what it says was printed, and before it is acked: a run that is killed in between
//! repeats at most the last few lines, and loses none. One file per server, user and device, held by one
//! process at a time. Names from outside become file names with everything but letters, digits, `_`, `-`
//! and inner dots written as `%XX`.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Failure, profile};
use crate::{cli::exit::Exit, client::Position, wire::proto};

/// How far a device is.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Known {
    epoch: u64,
    seq: u64,
    /// Whether there is a position at all.
    present: bool,
    /// The last message given of each conversation.
    conversations: BTreeMap<String, u64>,
    /// How far each large conversation is followed: message, change, version.
    #[serde(default)]
    large: BTreeMap<String, (u64, u64, u64)>,
}

impl Known {
    pub(super) fn position(&self) -> Option<Position> {
        self.present.then_some(Position { epoch: self.epoch, seq: self.seq })
    }

    pub(super) fn move_to(&mut self, position: Position) {
        (self.epoch, self.seq, self.present) = (position.epoch, position.seq, true);
    }

    /// The data set is another one: what was given of its conversations was of others that only have
    /// the same names.
    pub(super) fn start_over(&mut self) {
        self.conversations.clear();
        self.large.clear();
    }

    /// Where large conversations are followed from.
    pub(super) fn large(&self) -> Vec<proto::ConversationCursor> {
        let cursor = |(id, at): (&String, &(u64, u64, u64))| proto::ConversationCursor {
            conversation_id: id.clone(),
            history_seq: at.0,
            mutation_seq: at.1,
            version: at.2,
        };
        self.large.iter().map(cursor).collect()
    }

    /// A large conversation has been given up to here.
    pub(super) fn follow(&mut self, cursor: &proto::ConversationCursor) {
        let at = (cursor.history_seq, cursor.mutation_seq, cursor.version);
        self.large.insert(cursor.conversation_id.clone(), at);
    }

    /// A conversation is no longer large.
    pub(super) fn unfollow(&mut self, conversation: &str) {
        self.large.remove(conversation);
    }

    /// These and no others are followed.
    pub(super) fn follow_only(&mut self, cursors: &[proto::ConversationCursor]) {
        self.large.clear();
        cursors.iter().for_each(|cursor| self.follow(cursor));
    }

    /// An entry of the same data set was given.
    pub(super) fn advance(&mut self, seq: u64) {
        self.seq = seq;
    }

    /// The last message given of a conversation.
    pub(super) fn last(&self, conversation: &str) -> Option<u64> {
        self.conversations.get(conversation).copied()
    }

    /// A message is given: true = it was not before.
    pub(super) fn give(&mut self, conversation: &str, seq: u64) -> bool {
        match self.conversations.get_mut(conversation) {
            Some(last) if *last >= seq => false,
            Some(last) => {
                *last = seq;
                true
            }
            None => {
                self.conversations.insert(conversation.to_owned(), seq);
                true
            }
        }
    }
}

/// The file of a device, locked while this exists.
pub(super) struct DeviceState {
    path: PathBuf,
    _lock: File,
    pub(super) known: Known,
}

impl DeviceState {
    /// Opens it for the one process that receives.
    pub(super) fn open(server: &str, user: &str, device: &str) -> Result<Self, Failure> {
        let path = path(server, user, device)?;
        let lock = lock_file(&path).map_err(|error| unusable(&path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("another `roam recv` runs as device {device:?}");
                let hint = "--device gives this one its own inbox position";
                return Err(Failure::new(Exit::Failed, text, hint));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&path, &error)),
        }
        let known = read(&path)?;
        Ok(Self { path, _lock: lock, known })
    }

    /// Keeps what is known now.
    pub(super) fn save(&self) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(&self.known)
            .map_err(|error| unusable(&self.path, &io::Error::from(error)))?;
        profile::write_private(&self.path, &bytes).map_err(|error| unusable(&self.path, &error))
    }
}

/// How far a device is, without holding it.
pub(super) fn look(server: &str, user: &str, device: &str) -> Result<Known, Failure> {
    read(&path(server, user, device)?)
}

/// Waits until no other process uses the device. None = there is no place for locks; go on without.
pub(super) async fn turn(server: &str, user: &str, device: &str) -> Option<File> {
    let path = path(server, user, device).ok()?;
    let wait = move || {
        let file = lock_file(&path).ok()?;
        file.lock().ok().map(|()| file)
    };
    tokio::task::spawn_blocking(wait).await.ok().flatten()
}

fn read(path: &Path) -> Result<Known, Failure> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| unusable(path, &io::Error::from(error)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Known::default()),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options().create(true).truncate(false).write(true).open(path.with_extension("lock"))
}

fn path(server: &str, user: &str, device: &str) -> Result<PathBuf, Failure> {
    let [server, user, device] = [server, user, device].map(file_name);
    let folder = profile::folder()?.join("state").join(server).join(user);
    Ok(folder.join(format!("{device}.json")))
}

fn file_name(id: &str) -> String {
    let mut name = String::new();
    for (at, byte) in id.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(byte)),
            b'.' if at > 0 => name.push('.'),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let hint = "remove the file to start over from a snapshot";
    Failure::new(Exit::Configuration, format!("{}: {error}", path.display()), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_the_folder() {
        assert_eq!(file_name("127.0.0.1:7100"), "127.0.0.1%3A7100");
        assert_eq!(file_name(".."), "%2E.");
        assert_eq!(file_name("../../etc/x"), "%2E.%2F..%2Fetc%2Fx");
        assert_eq!(file_name("grün"), "gr%C3%BCn");
    }

    #[test]
    fn a_message_is_given_once() {
        let mut known = Known::default();
        assert!(known.give("c", 3) && !known.give("c", 3) && !known.give("c", 1));
        assert!(known.give("c", 4) && known.give("d", 1));
        assert_eq!((known.last("c"), known.last("e")), (Some(4), None));
        known.start_over();
        assert!(known.give("c", 1));
    }
}
