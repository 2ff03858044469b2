//! The rules of the house, as tests: layers, who may name what, names, sizes, documents.
//!
//! Each rule is a function from sources to complaints. One test applies it to this package, where
//! there must be none; another shows it a small offence, so that a rule cannot go blind unnoticed.
//! When a rule is in the way of better code, change the rule here and say why in `docs/decisions/`.

#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

mod source;

use std::{collections::BTreeSet, fs, path::Path};

use source::{Source, lines_with, parts};

/// The layers, innermost first. A module may use the layers before its own.
const LEVELS: &[&[&str]] = &[
    &["id", "seq", "time", "message", "request", "reply", "refusal", "limits", "planted"],
    &["wire", "ack", "store", "auth", "config"],
    &["inbox", "history", "conversation", "sent", "notice", "presence", "push"],
    &["archive", "engine", "inspect", "repair"],
    &["session"],
    &["clock", "daemon", "metrics", "client", "cli", "replay", "swarm"],
    &["bin"],
];
/// Levels whose modules may also use each other: the vocabulary and the shell.
const PEERS: [usize; 2] = [0, SHELL];
/// The level with clocks, tasks and sockets.
const SHELL: usize = 5;
/// What a module must not use although its level would allow it.
const FORBIDDEN: &[(&str, &[&str])] = &[("client", &["store", "engine", "daemon"])];
/// The modules that may name generated protobuf types.
const SPEAK_PROTOBUF: &[&str] = &["wire", "client", "cli", "replay", "swarm"];
/// The only file with `unsafe`.
const UNSAFE: &str = "src/store/fsync.rs";
/// What reads a clock, starts a task or waits.
const SHELL_ONLY: &[&[&str]] = &[
    &["SystemTime", "::", "now"],
    &["Instant", "::", "now"],
    &[".", "elapsed"],
    &["tokio", "::", "spawn"],
    &["task", "::", "spawn"],
    &["thread", "::", "sleep"],
    &["await"],
];
/// Rooms that would hold anything.
const ROOMS: &[&str] = &[
    "util", "utils", "helper", "helpers", "common", "core", "types", "handlers", "services", "dao",
    "models", "manager",
];
/// Words of the "never" column that mean nothing else in a program. (Thread, channel, queue, event,
/// link, offset and the like do, so they are left to the reader.)
const WORDS: &[&str] = &[
    "uid",
    "chatroom",
    "participant",
    "subscriber",
    "msg",
    "mailbox",
    "packet",
    "cmd",
    "diffusion",
];
/// Identifiers of other people's crates that contain such a word, and where they may stand (the
/// beginning of the path).
const FOREIGN: &[(&str, &str)] = &[("src", "tracing_subscriber"), ("src/daemon/control.rs", "uid")];
/// Most lines of a file in `src`.
const LINES_MAX: usize = 600;
/// Files that were longer when the rule came; they may only shrink, and leave the list at the limit.
const LONG: &[(&str, usize)] = &[];
/// Most lines of `ARCHITECTURE.md`.
const ARCHITECTURE_LINES_MAX: usize = 200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Applies a rule to every file of the package.
#[track_caller]
fn keep(rule: impl Fn(&Source) -> Vec<String>) {
    let all = Source::all(root(), "src");
    assert!(all.len() > 5, "sources not found");
    none(all.iter().flat_map(rule).collect());
}

#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// How many complaints a rule has about a file of this text.
fn count(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Source::new(path, text)).len()
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&module))
}

fn layers(source: &Source) -> Vec<String> {
    let Some(module) = source.module() else { return Vec::new() };
    let at = &source.path;
    let Some(own) = level(module) else {
        return vec![format!("{at}: module {module} has no level in tests/house/main.rs")];
    };
    let forbidden = FORBIDDEN.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, f)| *f);
    let judge = |(line, path): (usize, Vec<String>)| {
        let used = path.first()?;
        let why = match level(used) {
            _ if used == module => return None,
            None => "which has no level in tests/house/main.rs",
            Some(_) if forbidden.contains(&used.as_str()) => "which it must never know",
            Some(other) if other == own && !PEERS.contains(&own) => "of its own level",
            Some(other) if other > own => "of an outer level",
            Some(_) => return None,
        };
        Some(format!("{at}:{line}: {module} uses {used}, {why}"))
    };
    let complaints: BTreeSet<_> = source.paths().into_iter().filter_map(judge).collect();
    complaints.into_iter().collect()
}

#[test]
fn layers_are_kept() {
    keep(layers);
}

#[test]
fn layers_can_fail() {
    let bad = |path, text| count(layers, path, text);
    assert_eq!(bad("src/inbox/mod.rs", "use crate::{store::Store, id::{UserId, DeviceId}};"), 0);
    assert_eq!(
        bad("src/inbox/mod.rs", "use crate::{\n    id::UserId,\n    history::Row as R };"),
        1
    );
    assert_eq!(bad("src/inbox/mod.rs", "use crate::history::Row;"), 1);
    assert_eq!(bad("src/inbox/page.rs", "fn f() { super::super::unread::count() }"), 1);
    assert_eq!(bad("src/inbox/page.rs", "mod deep { use super::super::unread::Row; }"), 0);
    assert_eq!(bad("src/inbox.rs", "mod deep { use super::super::unread::Row; }"), 1);
    assert_eq!(bad("src/inbox/mod.rs", "use super::history;"), 1);
    assert_eq!(bad("src/inbox/mod.rs", "use self::page::Page; mod page { use super::Row; }"), 0);
    assert_eq!(bad("src/store/mod.rs", "fn f() -> crate::engine::Engine { }"), 1);
    assert_eq!(bad("src/engine/mod.rs", "use crate::session::Session;"), 1);
    assert_eq!(bad("src/wire/mod.rs", "use crate::ack::DelayedAck;"), 1);
    assert_eq!(bad("src/cli/mod.rs", "use crate::{client::Client, daemon::Daemon};"), 0);
    assert_eq!(bad("src/client/mod.rs", "use crate::{clock, store::Store, engine, daemon};"), 3);
    assert_eq!(bad("src/unheard_of.rs", ""), 1);
    assert_eq!(bad("src/engine/mod.rs", "use crate::Anything;"), 1);
    assert_eq!(bad("src/bin/roamd.rs", "fn main() { roamd::cli::run() }"), 0);
    assert_eq!(bad("src/bin/roamd.rs", "fn main() { roamd::unheard_of::run() }"), 1);
    assert_eq!(bad("src/lib.rs", "pub use crate::engine::Engine;"), 0);
    let hidden = "// crate::engine\n/* /* crate::engine */ crate::engine */\n\
                  const A: &str = \"crate::engine\"; const B: &str = r#\"\" crate::engine\"#;\n\
                  fn f<'a>(c: char) -> bool { c == '\"' || c == '\\'' } // crate::engine";
    assert_eq!(bad("src/store/mod.rs", hidden), 0);
    assert_eq!(bad("src/store/mod.rs", &format!("{hidden}\nuse crate::engine;")), 1);
}

fn engine_name(source: &Source) -> Vec<String> {
    if source.module() == Some("store") {
        return Vec::new();
    }
    let lines = lines_with(&source.tokens, &["sled"]);
    lines.iter().map(|line| format!("{}:{line}: only store/ names sled", source.path)).collect()
}

#[test]
fn only_the_store_names_its_engine() {
    keep(engine_name);
}

#[test]
fn engine_name_can_fail() {
    assert_eq!(count(engine_name, "src/inbox/mod.rs", "fn f(tree: &sled::Tree) {}"), 1);
    assert_eq!(count(engine_name, "src/inbox/mod.rs", "// sled\nfn isled() -> \"sled\" {}"), 0);
    assert_eq!(count(engine_name, "src/store/tree.rs", "use sled::Tree;"), 0);
}

/// The path of the module that includes the generated types; none = they are not there yet.
fn generated(all: &[Source]) -> Option<Vec<String>> {
    let source = all.iter().find(|s| s.path != "src/lib.rs" && s.text.contains("\"OUT_DIR\""))?;
    let inside = source.path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut path: Vec<_> = inside.split('/').map(str::to_owned).filter(|p| p != "mod").collect();
    // Modules of the file that are open where the types are included.
    let end = source.tokens.iter().position(|t| t.text == "include").unwrap_or(0);
    let mut open: Vec<Option<String>> = Vec::new();
    for (at, token) in source.tokens[..end].iter().enumerate() {
        match token.text.as_str() {
            "{" => open.push(
                (at >= 2 && source.tokens[at - 2].text == "mod")
                    .then(|| source.tokens[at - 1].text.clone()),
            ),
            "}" => {
                open.pop();
            }
            _ => {}
        }
    }
    path.extend(open.into_iter().flatten());
    Some(path)
}

fn protobuf(source: &Source, generated: &[String]) -> Vec<String> {
    let module = source.module().unwrap_or_default();
    let complain = |line: &usize, what: &str| format!("{}:{line}: {what}", source.path);
    if generated.len() == 1 {
        return vec!["the generated types need a module of their own inside wire/".to_owned()];
    }
    if SPEAK_PROTOBUF.contains(&module) {
        return Vec::new();
    }
    let mut complaints: Vec<_> = lines_with(&source.tokens, &["prost"])
        .iter()
        .map(|line| complain(line, "only wire/ and clients name prost"))
        .collect();
    for (line, path) in source.paths() {
        if !generated.is_empty() && path.starts_with(generated) {
            complaints.push(complain(&line, "only wire/ and clients name generated types"));
        }
    }
    complaints
}

#[test]
fn generated_types_stay_at_the_edge() {
    let all = Source::all(root(), "src");
    let generated = generated(&all).unwrap_or_default();
    assert!(generated.first().is_none_or(|module| module == "wire"), "{generated:?}");
    none(all.iter().flat_map(|source| protobuf(source, &generated)).collect());
}

#[test]
fn generated_types_can_be_misused() {
    let include = "include!(concat!(env!(\"OUT_DIR\"), \"/roamd.v1.rs\"));";
    let path = |at, text: &str| generated(&[Source::new(at, text)]);
    let proto = vec!["wire".to_owned(), "proto".to_owned()];
    assert_eq!(path("src/wire/proto.rs", include), Some(proto.clone()));
    let inline = format!("mod other {{ fn f() {{}} }} pub mod proto {{ {include} }}");
    assert_eq!(path("src/wire/mod.rs", &inline), Some(proto.clone()));
    assert_eq!(path("src/wire/mod.rs", ""), None);

    let bad = |at, text| count(|s| protobuf(s, &proto), at, text);
    assert_eq!(bad("src/engine/mod.rs", "use crate::wire::proto::ClientFrame;"), 1);
    assert_eq!(bad("src/daemon/mod.rs", "use crate::wire::{Codec, proto};"), 1);
    assert_eq!(bad("src/daemon/mod.rs", "use crate::wire::{Codec, frame};"), 0);
    assert_eq!(bad("src/store/mod.rs", "use prost::Message;"), 1);
    assert_eq!(bad("src/swarm/mod.rs", "use crate::wire::proto::ClientFrame;"), 0);
    assert_eq!(count(|s| protobuf(s, &["wire".to_owned()]), "src/wire/mod.rs", ""), 1);
}

fn pure(source: &Source) -> Vec<String> {
    let inner = source.module().and_then(level).is_some_and(|level| level < SHELL);
    let offences = SHELL_ONLY.iter().flat_map(|sequence| {
        let lines = lines_with(&source.product, sequence);
        lines.into_iter().map(|line| (line, sequence.concat()))
    });
    let say = |(line, what)| format!("{}:{line}: {what} below the shell", source.path);
    if inner { offences.map(say).collect() } else { Vec::new() }
}

#[test]
fn below_the_shell_nothing_reads_a_clock_or_waits() {
    keep(pure);
}

#[test]
fn purity_can_fail() {
    let bad = |text| count(pure, "src/session/mod.rs", text);
    assert_eq!(bad("fn f() { std::time::Instant::now(); SystemTime::now(); }"), 2);
    assert_eq!(bad("fn f(start: Instant) -> Duration { start.elapsed() }"), 1);
    assert_eq!(bad("async fn f() { tokio::spawn(g().await); }"), 2);
    assert_eq!(bad("#[cfg(test)]\n#[allow(x)]\nmod tests { fn f() { Instant::now(); } }"), 0);
    assert_eq!(bad("#[cfg(test)]\nfn f<A, B>(a: [A; 2]) { Instant::now(); }"), 0);
    assert_eq!(bad("#[cfg(test)]\nuse x;\nfn f() { Instant::now(); }"), 1);
    assert_eq!(bad("#[cfg(test)]\nmod tests { }\nfn f() { Instant::now(); }"), 1);
    assert_eq!(bad("struct A { #[cfg(test)] a: u8, b: [u8; 1] } fn f() { Instant::now(); }"), 1);
    assert_eq!(bad("// Instant::now\nfn awaited(now: Instant) {}"), 0);
    assert_eq!(count(pure, "src/daemon/mod.rs", "fn f() { Instant::now(); }"), 0);

    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("src/session/mod.rs", "#[cfg(test)]\nmod tests;\nmod testing;");
    write("src/session/tests.rs", "fn f() { Instant::now(); }");
    write("src/session/tests/more.rs", "fn f() { Instant::now(); }");
    write("src/session/testing.rs", "fn f() { Instant::now(); }");
    let complaints: Vec<_> = Source::all(folder.path(), "src").iter().flat_map(pure).collect();
    assert_eq!(complaints, ["src/session/testing.rs:1: Instant::now below the shell"]);
}

fn safe(source: &Source) -> Vec<String> {
    if source.path == UNSAFE {
        return Vec::new();
    }
    let lines = lines_with(&source.tokens, &["unsafe"]);
    lines.iter().map(|line| format!("{}:{line}: unsafe outside {UNSAFE}", source.path)).collect()
}

#[test]
fn unsafe_has_one_room() {
    keep(safe);
}

#[test]
fn unsafe_can_be_found() {
    assert_eq!(count(safe, "src/store/mod.rs", "fn f() { unsafe { g() } }"), 1);
    assert_eq!(count(safe, "src/store/mod.rs", "#![deny(unsafe_code)] // unsafe"), 0);
    assert_eq!(count(safe, UNSAFE, "unsafe extern \"C\" {}"), 0);
}

fn names(source: &Source) -> Vec<String> {
    let at = &source.path;
    let stems = source.path.trim_end_matches(".rs").split('/').map(str::to_owned);
    let inline = source.tokens.windows(2).filter(|pair| pair[0].text == "mod");
    let rooms = stems.chain(inline.map(|pair| pair[1].text.clone()));
    let rooms: BTreeSet<_> = rooms.filter(|room| ROOMS.contains(&room.as_str())).collect();
    let mut complaints: Vec<_> =
        rooms.iter().map(|room| format!("{at}: {room} is no name for a room")).collect();
    let foreign =
        |text: &str| FOREIGN.iter().any(|(place, name)| at.starts_with(place) && *name == text);
    for token in source.tokens.iter().filter(|token| !foreign(&token.text)) {
        for word in parts(&token.text).iter().filter(|part| WORDS.contains(&part.as_str())) {
            complaints.push(format!(
                "{at}:{}: {} says {word}, which has another word here (docs: one word per thing)",
                token.line, token.text
            ));
        }
    }
    complaints
}

#[test]
fn one_word_per_thing() {
    keep(names);
}

#[test]
fn names_can_fail() {
    assert_eq!(count(names, "src/store/util.rs", ""), 1);
    assert_eq!(count(names, "src/store/helpers/mod.rs", ""), 1);
    assert_eq!(count(names, "src/store/mod.rs", "mod common { } mod core;"), 2);
    assert_eq!(count(names, "src/store/mod.rs", "struct Msg; fn send_msg(lastMsgId: u8) {}"), 3);
    assert_eq!(count(names, "src/store/mod.rs", "use core::fmt; struct Message; // msg"), 0);
    assert_eq!(count(names, "src/cli/mod.rs", "use tracing_subscriber::fmt; let liquid = 1;"), 0);
    assert_eq!(count(names, "src/daemon/control.rs", "peer.uid()"), 0);
    assert_eq!(count(names, "src/daemon/mod.rs", "peer.uid()"), 1);
}

fn size(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let allowed = LONG.iter().find(|(path, _)| *path == source.path);
    let say = |what| vec![format!("{}: {lines} lines, {what}", source.path)];
    match allowed {
        Some((_, most)) if lines > *most => say("and was to shrink"),
        Some(_) if lines <= LINES_MAX => say("so it can leave the list of long files"),
        None if lines > LINES_MAX => say("which is more than one room holds"),
        _ => Vec::new(),
    }
}

#[test]
fn rooms_are_small() {
    keep(size);
}

#[test]
fn size_can_fail() {
    let lines = |count: usize| "\n".repeat(count);
    assert_eq!(count(size, "src/store/mod.rs", &lines(LINES_MAX)), 0);
    assert_eq!(count(size, "src/store/mod.rs", &lines(LINES_MAX + 1)), 1);
    for (path, most) in LONG {
        assert_eq!(count(size, path, &lines(*most)), 0);
        assert_eq!(count(size, path, &lines(*most + 1)), 1);
        assert_eq!(count(size, path, &lines(LINES_MAX)), 1);
    }
}

fn heads(source: &Source) -> Vec<String> {
    let has_head = source.text.starts_with("//!");
    if has_head { Vec::new() } else { vec![format!("{}: no head comment (//!)", source.path)] }
}

#[test]
fn every_file_has_a_head() {
    keep(heads);
}

#[test]
fn heads_can_be_missed() {
    assert_eq!(count(heads, "src/a.rs", "//! Does a.\n"), 0);
    assert_eq!(count(heads, "src/a.rs", "use b;\n//! Does a.\n"), 1);
}

/// Constants without a doc comment right above them.
fn undocumented(source: &Source) -> Vec<String> {
    let mut documented = false;
    let mut complaints = Vec::new();
    for line in source.text.lines() {
        if line.starts_with("pub const ") && !documented {
            complaints.push(format!("{}: no documentation: {line}", source.path));
        }
        documented = line.starts_with("///") && line.len() > 4;
    }
    complaints
}

#[test]
fn every_limit_is_documented() {
    let all = Source::all(root(), "src");
    let limits = all.iter().find(|source| source.path == "src/limits.rs").unwrap();
    assert!(limits.text.contains("pub const "));
    none(undocumented(limits));
}

#[test]
fn limits_can_lack_documentation() {
    let text = "/// Most.\npub const A: u8 = 1;\npub const B: u8 = 2;\n///\npub const C: u8 = 3;\n";
    assert_eq!(count(undocumented, "src/limits.rs", text), 2);
}

/// The first and only page somebody reads must stay one that can be read.
fn architecture(text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let too_long = lines > ARCHITECTURE_LINES_MAX;
    too_long.then(|| format!("ARCHITECTURE.md: {lines} lines")).into_iter().collect()
}

#[test]
fn architecture_is_short() {
    none(
        fs::read_to_string(root().join("ARCHITECTURE.md")).map_or(Vec::new(), |t| architecture(&t)),
    );
}

#[test]
fn architecture_can_be_too_long() {
    assert_eq!(architecture(&"\n".repeat(ARCHITECTURE_LINES_MAX)).len(), 0);
    assert_eq!(architecture(&"\n".repeat(ARCHITECTURE_LINES_MAX + 1)).len(), 1);
}
