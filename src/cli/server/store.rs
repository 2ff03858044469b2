//! `roamd store …`: a look into a data directory whose daemon is stopped; its other forms are in
//! [`super::archive`].

use std::{fmt::Write, path::PathBuf};

use clap::Subcommand;

use super::{
    archive::{self, ArchiveCommand},
    fail, print, repair,
    serve::store_config,
};
use crate::{
    cli::exit::Exit,
    config::Config,
    history::{Change, Laid, Mutation},
    id::{ConversationId, UserId},
    inspect::{self, HistoryRow, Report},
    message::{Entry, EntryKind, MutationRef},
    seq::{HistorySeq, InboxSeq},
    store::{Store, StoreError},
};

/// Entries or rows printed by default.
const DUMP_DEFAULT: usize = 50;

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Print figures: format, position, logs, tables, bytes.
    Stat,
    /// Read everything and say whether it agrees: checksums, sequences, pointers, unread. Exit 9
    /// when something is wrong. A backup is restored for a moment, and what comes of it is verified.
    Verify {
        /// A backup [default: the data directory].
        backup: Option<PathBuf>,
        /// Where the backup is restored for a moment [default: the system's temporary directory].
        #[arg(long, value_name = "DIR", requires = "backup")]
        scratch: Option<PathBuf>,
    },
    /// Print entries of a user's inbox, oldest first.
    Log {
        /// Whose inbox.
        user: UserId,
        /// Only entries after this one.
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
        /// At most so many.
        #[arg(short = 'n', long, value_name = "N", default_value_t = DUMP_DEFAULT)]
        most: usize,
    },
    /// Print messages of a conversation, oldest first.
    History {
        /// Which conversation.
        conversation: ConversationId,
        /// Only messages after this one.
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
        /// At most so many.
        #[arg(short = 'n', long, value_name = "N", default_value_t = DUMP_DEFAULT)]
        most: usize,
    },
    #[command(flatten)]
    Archive(ArchiveCommand),
    /// Make a sound data directory of what can still be read, with a new epoch: clients start over.
    /// Tells what is lost and what was rebuilt. Exit 0 when nothing is lost, 7 when something is, 9 when
    /// it cannot be repaired.
    Repair {
        /// Only tell; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) fn run(config: &Config, command: &StoreCommand) -> Exit {
    match command {
        StoreCommand::Archive(command) => return archive::run(config, command),
        StoreCommand::Verify { backup: Some(backup), scratch } => {
            return archive::verify(config, backup, scratch.as_deref());
        }
        StoreCommand::Repair { dry_run } if config.data.dir.is_dir() => {
            return repair::run(config, *dry_run);
        }
        _ => {}
    }
    if !config.data.dir.join("ROAMD").exists() {
        eprintln!("roamd: {} is not a data directory", config.data.dir.display());
        eprintln!("  hint: name one with --data");
        return Exit::Failed;
    }
    let outcome = Store::open(&store_config(config)).and_then(|(store, writer)| {
        let exit = look(&store, command)?;
        store.close(writer)?;
        Ok(exit)
    });
    match outcome {
        Ok(exit) => exit,
        Err(error @ StoreError::InUse(_)) => fail(Exit::Failed, &error, "stop the daemon first"),
        Err(error) => fail(
            Exit::Storage,
            &error,
            "if it is damaged: restore a backup, or run `roamd store repair` (first with --dry-run)",
        ),
    }
}

fn look(store: &Store, command: &StoreCommand) -> Result<Exit, StoreError> {
    match command {
        StoreCommand::Stat => print(&stat(store)?),
        StoreCommand::Verify { .. } => return Ok(verify(store)),
        StoreCommand::Archive(_) | StoreCommand::Repair { .. } => {}
        StoreCommand::Log { user, after, most } => {
            let page = inspect::log_page(&store.reader(), user, InboxSeq::new(*after), *most)?;
            let mut text = format!("# inbox of {user}: {} to {}\n", page.first, page.last);
            for (seq, entry) in page.entries {
                text.push_str(&entry_line(seq, entry.as_ref()));
            }
            print(&text);
        }
        StoreCommand::History { conversation, after, most } => {
            let after = HistorySeq::new(*after);
            let page = inspect::history_page(&store.reader(), conversation, after, *most)?;
            let mut text =
                format!("# history of {conversation}: {} to {}\n", page.first, page.last);
            for row in &page.rows {
                text.push_str(&message_line(row));
            }
            print(&text);
        }
    }
    Ok(Exit::Ok)
}

fn stat(store: &Store) -> Result<String, StoreError> {
    let stat = inspect::stat(store)?;
    let mut text = String::new();
    let _ = writeln!(text, "format    {}", stat.format);
    let _ = writeln!(text, "epoch     {}", stat.epoch);
    let _ = writeln!(text, "applied   commit {}", stat.store.applied);
    let _ = writeln!(text, "trees     {} bytes on disk", stat.store.trees_bytes);
    let _ = writeln!(text, "memory    {} bytes not yet in the trees", stat.store.memory_bytes);
    let _ = writeln!(
        text,
        "\n{:<16}{:>10}{:>12}{:>14}{:>10}{:>12}",
        "log", "logs", "entries", "bytes", "longest", "appended"
    );
    for log in &stat.logs {
        let _ = writeln!(
            text,
            "{:<16}{:>10}{:>12}{:>14}{:>10}{:>12}",
            log.kind.tree(),
            log.logs,
            log.entries,
            log.bytes,
            log.longest,
            log.appended
        );
    }
    let _ = writeln!(text, "\n{:<16}{:>10}{:>26}", "table", "rows", "bytes");
    for table in &stat.tables {
        let _ = writeln!(text, "{:<16}{:>10}{:>26}", table.table.tree(), table.rows, table.bytes);
    }
    Ok(text)
}

pub(super) fn verify(store: &Store) -> Exit {
    let bar = indicatif::ProgressBar::no_length();
    let report = inspect::verify(store, &mut |counts| {
        bar.set_message(format!("{} messages, {} entries", counts.messages, counts.entries));
        bar.tick();
    });
    bar.finish_and_clear();
    print(&verdict(&report));
    if report.is_sound() { Exit::Ok } else { Exit::Storage }
}

pub(super) fn verdict(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let _ = writeln!(text, "{finding}");
    }
    if report.findings_left_out > 0 {
        let _ = writeln!(text, "and {} more", report.findings_left_out);
    }
    let counts = &report.counts;
    let _ = writeln!(
        text,
        "{}: {} values, {} conversations, {} messages, {} inboxes, {} entries, {} memberships, {} devices, {} sent, {} changes{}",
        if report.is_sound() { "sound" } else { "DAMAGED" },
        counts.values,
        counts.conversations,
        counts.messages,
        counts.inboxes,
        counts.entries,
        counts.memberships,
        counts.devices,
        counts.sent,
        counts.mutations,
        match counts.lost {
            0 => String::new(),
            lost => format!(", {lost} lost before a repair"),
        }
    );
    text
}

fn entry_line(seq: InboxSeq, entry: Option<&Entry>) -> String {
    let Some(entry) = entry else { return format!("{seq} damaged\n") };
    let what = match &entry.kind {
        EntryKind::Message { conversation, seq } => format!("message {conversation} {seq}"),
        EntryKind::Read { conversation, read_seq, marked_unread } => {
            let mark = if *marked_unread { ", marked unread" } else { "" };
            format!("read {conversation} {read_seq}{mark}")
        }
        EntryKind::Recalled(mutation) => mutation_line("recalled", mutation),
        EntryKind::Edited(mutation) => mutation_line("edited", mutation),
        EntryKind::Deleted(mutation) => mutation_line("deleted", mutation),
        EntryKind::Hidden { conversation, seqs } => {
            format!("hidden {conversation} {}", HiddenSeqs(seqs))
        }
        EntryKind::PeerRead { conversation, user, read_seq } => {
            format!("peer read {conversation} {user} {read_seq}")
        }
        EntryKind::Preferences { conversation } => format!("preferences {conversation}"),
        EntryKind::Cleared { conversation, cleared_to } => {
            format!("cleared {conversation} {cleared_to}")
        }
        EntryKind::Notice { notice } => format!("notice {notice}"),
        EntryKind::Mode { conversation, large, from } => {
            let mode = if *large { "large" } else { "not large" };
            format!("mode {conversation} {mode} from {from}")
        }
        EntryKind::Membership(change) => format!(
            "membership {} {:?} by {}: {} users, {} members",
            change.conversation, change.action, change.by, change.user_count, change.member_count
        ),
        EntryKind::Unknown => "of a newer version".into(),
    };
    format!("{seq} {} {what}\n", entry.time)
}

fn mutation_line(what: &str, mutation: &MutationRef) -> String {
    let MutationRef { conversation, seq, mutation, by } = mutation;
    format!("{what} {conversation} {seq} by {by}, change {mutation}")
}

/// Sequences in a row.
struct HiddenSeqs<'a>(&'a [HistorySeq]);

impl std::fmt::Display for HiddenSeqs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|seq| write!(f, "{seq} "))
    }
}

fn message_line(row: &HistoryRow) -> String {
    let seq = row.seq;
    let (Some(message), Laid::Nothing | Laid::Change(_)) = (&row.message, &row.change) else {
        return format!("{seq} damaged\n");
    };
    let head = format!("{seq} {} {}", message.time, message.sender);
    let draft = &message.draft;
    match &row.change {
        Laid::Change(Mutation { change: Change::Recalled, by, time, .. }) => {
            format!("{head} recalled by {by} at {time}\n")
        }
        Laid::Change(Mutation { change: Change::Deleted, by, time, .. }) => {
            format!("{head} deleted by {by} at {time}\n")
        }
        Laid::Change(Mutation {
            change: Change::Edited { revision, content_type, content },
            time,
            ..
        }) => format!("{head} {content_type} {} revision {revision} at {time}\n", escaped(content)),
        _ => format!("{head} {} {}\n", draft.content_type, escaped(&draft.content)),
    }
}

/// The beginning of a content, on one line.
fn escaped(content: &[u8]) -> String {
    String::from_utf8_lossy(content).chars().take(200).flat_map(char::escape_debug).collect()
}
