//! A data directory of every format version is opened, and every value in it is what it was.
//!
//! `tests/golden/format-1` was written by the first version: half of it lies in the trees, half in
//! the journal alone; `format-1.txt` tells what is in it, line by line. `format-2` has everything that
//! the second format brought. What a release has written is never made anew: a later version that
//! cannot read it needs a new format version and a migration.

use std::{fmt::Write, fs, path::Path};

use roamd::{
    conversation::{self, Conversation, Member, Membership},
    history::{self, Change},
    id::Epoch,
    inbox::{self, Device},
    inspect::verify,
    limits::Limits,
    message::{EntryKind, MutationRef},
    sent::Remembered,
    store::{
        FORMAT_VERSION, Reader, Store, StoreConfig,
        catalogue::{LogKind, Table},
    },
};

use crate::{
    place::{ALL, copy, quiet},
    scenario::{
        World, changes, first_half, own_state, second_half, text, to_peer, told_by_the_system,
    },
};

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Everything in a store, as text.
fn told(reader: &Reader) -> String {
    let mut text = String::new();
    for kind in LogKind::ALL {
        for (log, bounds) in reader.logs(kind).unwrap() {
            let bounds = bounds.unwrap();
            let key = log.bytes().escape_ascii();
            writeln!(text, "{} {key}: {}..={}", kind.tree(), bounds.first, bounds.last).unwrap();
            for entry in reader.read(&log, 1, ALL).unwrap() {
                let record = entry.record.unwrap();
                let line = match kind {
                    LogKind::Inbox => inbox_line(record),
                    LogKind::History => history_line(record),
                    LogKind::Sent => sent_line(Remembered::decode(record).unwrap()),
                    LogKind::Mutation => mutation_line(record),
                    LogKind::Notice => record.escape_ascii().to_string(),
                };
                writeln!(text, "  {} {line}", entry.seq).unwrap();
            }
        }
    }
    for table in Table::ALL {
        let rows = reader.rows(table, b"", b"", usize::MAX).unwrap();
        if !rows.is_empty() {
            writeln!(text, "{}", table.tree()).unwrap();
        }
        for (key, row) in rows {
            let line = match table {
                Table::Conversation => {
                    let c = Conversation::decode(row).unwrap();
                    format!(
                        "v{} {:?} {:?} made {} by {}, {:?}, {} members{}{}",
                        c.version,
                        c.kind,
                        c.title,
                        c.created,
                        c.creator,
                        c.policy,
                        c.member_count,
                        if c.large { ", large" } else { "" },
                        if c.disbanded { ", disbanded" } else { "" }
                    )
                }
                Table::Membership => {
                    let m = Membership::decode(row).unwrap();
                    let sees = |i: &conversation::Interval| (i.first.number(), i.last);
                    let sees: Vec<_> = m.intervals.iter().map(sees).collect();
                    format!(
                        "{:?} since {}, sees {sees:?}, read {} ordinal {}, announced {}, left {}{}",
                        m.role,
                        m.joined,
                        m.read_seq,
                        m.read_ordinal,
                        m.announced_seq,
                        m.left_ordinal,
                        own_marks(&m)
                    )
                }
                Table::Member => {
                    let m = Member::decode(row).unwrap();
                    format!("{:?} from {} at {}", m.role, m.joined_seq, m.joined)
                }
                Table::Device => {
                    let d = Device::decode(row).unwrap();
                    format!("{} {}..{} {}", d.cursor, d.first_seen, d.last_seen, d.platform)
                }
                Table::SentException => sent_line(Remembered::decode(row).unwrap()),
                Table::Counter => format!("{:?}", &row[..]),
                Table::Mutated => {
                    let m = history::Mutated::decode(row).unwrap();
                    format!("change {}, gone {}, counted {}", m.mutation, m.gone, m.counted)
                }
                Table::Hidden
                | Table::Mention
                | Table::Preference
                | Table::PushTarget
                | Table::PushJob
                | Table::PushRound
                | Table::Revocation
                | Table::NoticeRound => row.escape_ascii().to_string(),
            };
            writeln!(text, "  {}: {line}", key.escape_ascii()).unwrap();
        }
    }
    text
}

/// What the first format did not have, where it is not as the first format would have it.
fn own_marks(m: &Membership) -> String {
    let mut text = String::new();
    for (name, number) in [
        ("left at change", m.left_mutation.number()),
        ("cleared to", m.cleared_to.number()),
        ("marked unread", m.marked_unread.into()),
        ("hidden up to", m.hidden_max.number()),
        ("hidden", m.hidden_count),
        ("mentioned up to", m.mention_max.number()),
        ("peer may see", m.peer_visible_seq.number()),
        ("peer was told", m.peer_told_seq.number()),
    ] {
        if number > 0 {
            write!(text, ", {name} {number}").unwrap();
        }
    }
    text
}

fn mutation_ref(m: &MutationRef) -> String {
    format!("{} {} by {}, change {}", m.conversation, m.seq, m.by, m.mutation)
}

fn shortened(content: &[u8]) -> String {
    let content = content.escape_ascii().to_string();
    match content.len() {
        0..100 => content,
        len => format!("{}... {len}", &content[..20]),
    }
}

fn mutation_line(record: bytes::Bytes) -> String {
    let m = history::Mutation::decode(record).unwrap();
    let change = match m.change {
        Change::Recalled => "recalled".into(),
        Change::Deleted => "deleted".into(),
        Change::Edited { revision, content_type, content } => {
            format!("edited {revision} {content_type} {:?}", shortened(&content))
        }
    };
    format!("{} after {} by {} at {}: {change}", m.seq, m.previous, m.by, m.time)
}

fn inbox_line(record: bytes::Bytes) -> String {
    let entry = inbox::decode(record).unwrap();
    let what = match entry.kind {
        EntryKind::Message { conversation, seq } => format!("message {conversation} {seq}"),
        EntryKind::Read { conversation, read_seq, marked_unread } => {
            let unread = if marked_unread { ", marked unread" } else { "" };
            format!("read {conversation} {read_seq}{unread}")
        }
        EntryKind::Membership(m) => format!(
            "{:?} {} {:?} by {}: {:?} ({}), {} members, after {}{}",
            m.action,
            m.conversation,
            m.title,
            m.by,
            m.users,
            m.user_count,
            m.member_count,
            m.at,
            m.role.map_or(String::new(), |role| format!(", now {role:?}"))
        ),
        EntryKind::Unknown => "unknown".into(),
        EntryKind::Recalled(m) => format!("recalled {}", mutation_ref(&m)),
        EntryKind::Edited(m) => format!("edited {}", mutation_ref(&m)),
        EntryKind::Deleted(m) => format!("deleted {}", mutation_ref(&m)),
        EntryKind::Hidden { conversation, seqs } => {
            let seqs: Vec<_> = seqs.iter().map(|seq| seq.number()).collect();
            format!("hidden {conversation} {seqs:?}")
        }
        EntryKind::PeerRead { conversation, user, read_seq } => {
            format!("peer {user} read {conversation} {read_seq}")
        }
        EntryKind::Preferences { conversation } => format!("preferences {conversation}"),
        EntryKind::Cleared { conversation, cleared_to } => {
            format!("cleared {conversation} {cleared_to}")
        }
        EntryKind::Notice { notice } => format!("notice {notice}"),
        EntryKind::Mode { conversation, large, from } => {
            format!("mode {conversation} large {large} from {from}")
        }
    };
    format!("{} {what}", entry.time)
}

fn history_line(record: bytes::Bytes) -> String {
    let m = history::decode(record).unwrap();
    let d = m.draft;
    let content = shortened(&d.content);
    let flags = (d.flags.silent, d.flags.uncounted, d.flags.no_push);
    format!(
        "{} from {} {} {} at {} ordinal {}, created {}, {} {content:?}, answers {}, {:?}, {flags:?}",
        m.id,
        m.sender,
        m.device,
        m.client_id,
        m.time,
        m.ordinal,
        d.created_at,
        d.content_type,
        d.reply_to,
        d.mentions
    )
}

fn sent_line(remembered: Remembered) -> String {
    let s = match remembered {
        Remembered::Accepted(sent) => sent,
        Remembered::Notice(s) => {
            return format!(
                "{} hash {:016x} at {}: notice {}, inbox {}",
                s.client_id, s.payload_hash, s.time, s.notice, s.inbox_seq
            );
        }
        Remembered::UsedUp { client_id, time } => return format!("{client_id} given up at {time}"),
    };
    format!(
        "{} hash {:016x} at {}: {} {} id {}, inbox {}",
        s.client_id, s.payload_hash, s.time, s.conversation, s.seq, s.id, s.inbox_seq
    )
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: 8192, ..quiet(dir) }
}

#[test]
fn the_first_format_is_read_whole() {
    is_read_whole(1);
}

/// Until a release has it, this one is made anew with [`make_a_golden_directory`] when bytes change.
#[test]
fn the_second_format_is_read_whole() {
    assert_eq!(FORMAT_VERSION, 2, "a new format needs a golden directory and a migration");
    is_read_whole(2);
}

fn is_read_whole(format: u32) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    copy(&golden(&format!("format-{format}")), &dir);
    let expected = fs::read_to_string(golden(&format!("format-{format}.txt"))).unwrap();

    let (store, writer) =
        Store::open(&StoreConfig { new_epoch: Epoch::new(9), ..config(&dir) }).unwrap();
    assert_eq!(store.epoch(), Epoch::new(7));
    // From here on a program that knows only the first format keeps away.
    let says = fs::read_to_string(dir.join("ROAMD")).unwrap();
    assert!(says.contains(&format!("\nformat {FORMAT_VERSION}\n")), "{says}");
    let found = told(&store.reader());
    let mut lines = found.lines().zip(expected.lines()).enumerate();
    if let Some((line, (is, was))) = lines.find(|(_, (is, was))| is != was) {
        panic!("line {}:\nis  {is}\nwas {was}", line + 1);
    }
    assert_eq!(found.len(), expected.len());
    assert_eq!(verify(&store, &mut |_| ()).findings, []);

    // It is not only read: it goes on.
    let mut world = World::new(&store, writer);
    world.pass(3600);
    world.send("alice", to_peer("bob"), 50, text("much later"));
    world.engine.flush().unwrap();
    store.close(world.engine.into_writer()).unwrap();
    let (store, _writer) = Store::open(&config(&dir)).unwrap();
    assert_eq!(verify(&store, &mut |_| ()).findings, []);
    let after = told(&store.reader());
    assert!(after.contains("\"much later\""), "{after}");
    // The message, a pointer in two inboxes, and what the device has sent.
    assert_eq!(after.lines().count(), expected.lines().count() + 4);
}

/// Makes the golden directory of the present format in the directory that `ROAMD_GOLDEN` names.
#[test]
fn make_a_golden_directory() {
    let Ok(to) = std::env::var("ROAMD_GOLDEN") else { return };
    let to = Path::new(&to).join(format!("format-{FORMAT_VERSION}"));
    let (store, writer) = Store::open(&config(&to)).unwrap();
    // So few that the group of the story becomes large, and small again.
    let limits = Limits { fanout_members: 3, ..Limits::default() };
    let mut world = World::with(&store, writer, limits);
    first_half(&mut world);
    store.settle().unwrap();
    second_half(&mut world);
    changes(&mut world);
    own_state(&mut world);
    told_by_the_system(&mut world);
    fs::write(to.with_extension("txt"), told(&store.reader())).unwrap();
    drop((world, store));
    // A spare segment holds nothing.
    for file in fs::read_dir(to.join("journal")).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("spare") {
            fs::remove_file(file.path()).unwrap();
        }
    }
}
