//! Lines of an export: everything is there, and comes back the same.

use std::{fs, io::Write, path::Path, process::Stdio};

use roamd::{
    id::{ConversationId, Epoch, UserId},
    notice, push,
    seq::{HistorySeq, NoticeSeq},
    store::{
        Bounds, Builder, Store,
        catalogue::{LogKey, LogKind, Table, conversation_key, notice_key},
    },
    time::Timestamp,
};
use serde_json::Value;

use crate::place::{Place, ended, lines, refused, roamd, run, same, small};

fn epoch(data: &Path) -> Epoch {
    let (store, writer) = Store::open(&small(data)).unwrap();
    let epoch = store.epoch();
    store.close(writer).unwrap();
    epoch
}

#[test]
fn an_import_of_an_export_exports_the_same_lines() {
    let place = Place::new();
    let data = place.everything("data");
    let exported = lines(&data);
    let values: Vec<Value> =
        exported.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kind in LogKind::ALL {
        assert!(values.iter().any(|line| line["log"] == kind.tree()), "no {}", kind.tree());
    }
    // What only comes and goes is not there when everything is told, and there is no large group.
    let rounds = [Table::NoticeRound, Table::PushRound];
    for table in Table::ALL.into_iter().filter(|table| !rounds.contains(table)) {
        assert!(values.iter().any(|line| line["table"] == table.tree()), "no {}", table.tree());
    }
    let unknown = values.iter().find(|line| line.get("unknown").is_some());
    assert_eq!(unknown, None, "everything has a form");

    // By files, and by pipes.
    let file = place.path("lines");
    run(&data, ["export".as_ref(), file.as_os_str()], 0);
    let (one, two) = (place.path("one"), place.path("two"));
    let told = run(&one, ["import".as_ref(), file.as_os_str()], 0);
    assert!(told.contains("the epoch is"), "{told}");
    let mut piped = roamd(&two);
    piped.args(["store", "import"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut piped = piped.stderr(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(&fs::read(&file).unwrap()).unwrap();
    ended(&piped.wait_with_output().unwrap(), 0);
    for imported in [&one, &two] {
        same(&exported, &lines(imported));
        let verified = run(imported, ["verify"], 0);
        assert!(verified.starts_with("sound"), "{verified}");
        assert_ne!(epoch(imported), epoch(&data), "devices must start over");
    }
    assert_ne!(epoch(&one), epoch(&two));
}

#[test]
fn contents_of_messages_that_are_gone_are_not_exported() {
    let place = Place::new();
    let data = place.everything("data");
    let text = lines(&data).join("\n");
    // Recalled by alice; recalled by bob; deleted for everyone by dave.
    for gone in ["are you there?", "welcome dave", "before bob\""] {
        assert!(!text.contains(gone), "{gone} is exported");
    }
    for kept in ["Hello, Bob", "hello bob", "this came late", "news 3"] {
        assert!(text.contains(kept), "{kept} is not exported");
    }
}

#[test]
fn rounds_under_way_and_records_of_a_newer_version_come_back() {
    let place = Place::new();
    let data = place.path("data");
    let mut builder = Builder::begin(&small(&data)).unwrap();
    let bounds = Bounds { first: 1, last: 1 };
    builder.log(&LogKey::inbox(&UserId::new("u").unwrap()), Some(bounds)).unwrap();
    builder.entry(Some(b"\xffnew".as_slice().into())).unwrap();
    let conversation = ConversationId::new("c").unwrap();
    let round = push::Round::new(Timestamp::from_millis(7), HistorySeq::new(3)).encode();
    builder.row(Table::PushRound, conversation_key(&conversation), Some(round)).unwrap();
    let round = notice::Round { told: 5, after: "key".into() }.encode();
    builder.row(Table::NoticeRound, notice_key(NoticeSeq::new(2)), Some(round)).unwrap();
    builder.finish(Epoch::new(9), 3).unwrap();
    let exported = lines(&data);
    let expected = [
        "\"seq\":1,\"unknown\":true,\"raw\":\"/25ldw==\"",
        "\"table\":\"push_round\",\"conversation\":\"c\"",
        "\"table\":\"notice_round\",\"notice\":2,",
        "\"told\":5,",
    ];
    let text = exported.join("\n");
    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
    let (file, imported) = (place.path("lines"), place.path("imported"));
    run(&data, ["export".as_ref(), file.as_os_str()], 0);
    run(&imported, ["import".as_ref(), file.as_os_str()], 0);
    same(&exported, &lines(&imported));
}

#[test]
fn an_export_that_was_changed_is_refused_with_the_line() {
    let place = Place::new();
    let exported = lines(&place.everything("data"));
    let message = exported.iter().position(|line| line.contains("hello bob")).unwrap();
    let entry = exported.iter().position(|line| line.contains("\"seq\":2,")).unwrap();
    let last = exported.len() - 1;
    let try_import = |name: &str, lines: &[String], expected: &str| {
        let file = place.path(&format!("{name}.lines"));
        let mut text = lines.join("\n");
        text.push('\n');
        fs::write(&file, text).unwrap();
        let data = place.path(name);
        let why = refused(&data, ["import".as_ref(), file.as_os_str()], 1);
        assert!(why.contains(expected), "{name}: {why}");
        // It is no data directory, and may become one.
        assert!(!data.join("ROAMD").exists() && !data.join("trees").exists(), "{name}");
        assert!(!data.join("copy.new").exists(), "{name}");
    };
    let changed = |at: usize, from: &str, to: &str| {
        let mut lines = exported.clone();
        assert!(lines[at].contains(from), "{}", lines[at]);
        lines[at] = lines[at].replacen(from, to, 1);
        lines
    };
    let without = |at: usize| {
        let mut lines = exported.clone();
        lines.remove(at);
        lines
    };
    let line = |at: usize| format!("line {}:", at + 1);
    try_import("text", &changed(message, "hello bob", "hello rob"), &line(message));
    try_import("seq", &changed(entry, "\"seq\":2,", "\"seq\":3,"), &line(entry));
    try_import("gap", &without(entry), &line(entry));
    try_import("short", &exported[..last], "its last line is missing");
    try_import("cut", &[&exported[..message], &exported[last..]].concat(), &line(message));
    try_import("row", &without(last - 1), &line(last - 1));
    try_import("head", &exported[1..], "no export of roamd");
    try_import("twice", &[&exported[..], &exported[last..]].concat(), "behind the end");
    let newer = changed(0, "\"format\":1", "\"format\":2");
    try_import("newer", &newer, "format 2; this program reads format 1");
    try_import("none", &["{}".to_owned()], "no export of roamd");
    let mut swapped = exported.clone();
    swapped.swap(last - 1, last - 2);
    try_import("order", &swapped, "out of order");
}

#[test]
fn nothing_is_written_over_data() {
    let place = Place::new();
    let data = place.everything("data");
    let file = place.path("lines");
    run(&data, ["export".as_ref(), file.as_os_str()], 0);
    let before = lines(&data);
    for arguments in [["import".as_ref(), file.as_os_str()], ["export".as_ref(), file.as_os_str()]]
    {
        refused(&data, arguments, 1);
    }
    let backup = place.path("backup");
    run(&data, ["backup".as_ref(), backup.as_os_str()], 0);
    let why = refused(&data, ["restore".as_ref(), backup.as_os_str()], 1);
    assert!(why.contains("is not empty"), "{why}");
    let why = refused(&data, ["backup".as_ref(), backup.as_os_str()], 1);
    assert!(why.contains("is not empty"), "{why}");
    same(&before, &lines(&data));
}

/// A data directory with a hole, damaged bounds and a damaged row.
pub fn damaged(dir: &Path) {
    let mut builder = Builder::begin(&small(dir)).unwrap();
    let conversation = ConversationId::new("c").unwrap();
    builder.log(&LogKey::inbox(&UserId::new("lost").unwrap()), None).unwrap();
    let bounds = Bounds { first: 3, last: 5 };
    builder.log(&LogKey::history(&conversation), Some(bounds)).unwrap();
    for entry in [Some("one".into()), None, Some("three".into())] {
        builder.entry(entry).unwrap();
    }
    builder.row(Table::Counter, "hole".into(), None).unwrap();
    builder.row(Table::Counter, "whole".into(), Some("1".into())).unwrap();
    builder.finish(Epoch::new(9), 3).unwrap();
}

#[test]
fn damage_is_told_and_stays_damage() {
    let place = Place::new();
    let data = place.path("data");
    damaged(&data);
    let exported = run(&data, ["export"], 9);
    let holes: Vec<_> = exported.lines().filter(|line| line.contains("\"hole\":true")).collect();
    assert_eq!(holes.len(), 3, "{exported}");
    let last = exported.lines().last().unwrap();
    assert!(last.contains("\"holes\":3"), "{last}");
    let file = place.path("lines");
    fs::write(&file, &exported).unwrap();
    let imported = place.path("imported");
    run(&imported, ["import".as_ref(), file.as_os_str()], 9);
    assert_eq!(run(&imported, ["export"], 9), exported);

    let backup = place.path("backup");
    let why = refused(&data, ["backup".as_ref(), backup.as_os_str()], 9);
    assert!(why.contains("2 values were damaged"), "{why}");
    let restored = place.path("restored");
    run(&restored, ["restore".as_ref(), backup.as_os_str()], 0);
    assert_eq!(run(&restored, ["export"], 9), exported);
}
