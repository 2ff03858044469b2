//! Reading a damaged directory in a process of its own: an engine in trouble may loop or take all memory.

use std::{
    collections::BTreeMap,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use roamd::{inspect, store::Store};

use crate::{
    answers::{self, Answers, Said},
    world::config,
};

const DIR: &str = "DAMAGE_CHILD";
const TRUTH: &str = "DAMAGE_TRUTH";
const REPAIRED: &str = "DAMAGE_REPAIRED";
/// Longer than any honest answer takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a damaged directory answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything is true and a verification finds nothing.
    Whole,
    /// Did not open.
    Refused,
    /// Some answers are refusals or holes.
    Told,
    /// A verification finds what is wrong; every answer is true, a refusal or a hole.
    Found,
    /// An answer is wrong, and only a verification says so.
    FoundOnly,
    /// The last flushes are missing, as if they had never been: nothing on the disk can tell these apart.
    TornTail,
    /// After a repair: sound, and what is answered is true or a hole.
    Repaired,
    /// An answer is wrong and nothing says so.
    Silent,
}

const ALL: [Outcome; 8] = [
    Outcome::Whole,
    Outcome::Refused,
    Outcome::Told,
    Outcome::Found,
    Outcome::FoundOnly,
    Outcome::TornTail,
    Outcome::Repaired,
    Outcome::Silent,
];

#[test]
fn child() {
    let (Ok(dir), Ok(truth)) = (std::env::var(DIR), std::env::var(TRUTH)) else { return };
    let (dir, truth) = (Path::new(&dir), Path::new(&truth));
    let outcome = match std::env::var(REPAIRED).as_deref() {
        Ok(how) => examine_repaired(dir, truth, how),
        Err(_) => examine(dir, truth),
    };
    println!("outcome: {outcome:?}");
}

/// What was true before each of the last flushes, as far as the parent has asked.
fn ends(truth: &Path) -> Vec<Answers> {
    let path = |following: usize| truth.with_extension(format!("before-{following}"));
    (1..).map(path).take_while(|path| path.exists()).map(|path| answers::read_back(&path)).collect()
}

fn differences<'a>(
    found: &'a Answers,
    truth: &'a Answers,
) -> impl Iterator<Item = (&'a String, &'a Said, &'a Said)> {
    truth.iter().filter_map(|(question, truth)| {
        let found = found.get(question)?;
        (!found.is_true(truth)).then_some((question, found, truth))
    })
}

fn say(question: &str, found: &Said, truth: &Said) {
    println!("{question}\n  is    {truth:?}\n  found {found:?}");
}

fn examine(dir: &Path, truth: &Path) -> Outcome {
    let sound = {
        let Ok((store, writer)) = Store::open(&config(dir)) else { return Outcome::Refused };
        let report = inspect::verify(&store, &mut |_| ());
        report.findings.iter().take(20).for_each(|finding| println!("{finding}"));
        let sound = report.is_sound();
        drop((store, writer));
        sound
    };
    let Some(found) = answers::of(&config(dir)) else { return Outcome::Refused };
    let found = answers::escaped(&found);
    let whole = answers::read_back(truth);
    if found == whole && sound {
        return Outcome::Whole;
    }
    let mut wrong = false;
    for (question, found, truth) in differences(&found, &whole) {
        say(question, found, truth);
        wrong = true;
    }
    if !wrong {
        return if sound { Outcome::Told } else { Outcome::Found };
    }
    let is_torn = |torn: &Answers| differences(&found, torn).next().is_none();
    if sound && ends(truth).iter().any(is_torn) {
        return Outcome::TornTail;
    }
    if sound { Outcome::Silent } else { Outcome::FoundOnly }
}

/// What a repair may change although it is not lost: who starts over has no cursor and no inbox.
fn starts_over(question: &str) -> bool {
    question.contains(" inbox") || question.contains(" devices")
}

/// `how`: what the repair said is lost. Nothing: `all`. Commits, or what it does not know: `older`, so
/// what was done to messages since may be as if it had not been; otherwise `part`.
fn examine_repaired(dir: &Path, truth: &Path, how: &str) -> Outcome {
    {
        let (store, writer) = Store::open(&config(dir)).unwrap();
        let report = inspect::verify(&store, &mut |_| ());
        assert!(report.is_sound(), "{:#?}", report.findings);
        drop((store, writer));
    }
    let found = answers::escaped(&answers::of(&config(dir)).expect("it opens"));
    let whole = answers::read_back(truth);
    // Without the end of the journal it is what it was before.
    let mut torn = ends(truth);
    if how == "all" {
        let is_it = |truth: &Answers| {
            let mut asked = truth.iter().filter(|(question, _)| !starts_over(question));
            asked.all(|(question, truth)| plain(&found[question]) == plain(truth))
        };
        torn.retain(is_it);
        if !torn.is_empty() {
            return Outcome::Repaired;
        }
    }
    let mut silent = false;
    for (question, truth) in &whole {
        if starts_over(question) {
            continue;
        }
        let found = &found[question];
        let of_history = question.contains(" history");
        let wrong = match how {
            "all" => plain(found) != plain(truth),
            // Something is lost, and it was told what. Of what is there nothing may be another thing.
            "part" => of_history && !is_part(found, truth),
            _ => of_history && !names_the_same(found, &whole, question),
        };
        if wrong {
            say(question, found, truth);
            silent = true;
        }
    }
    if silent { Outcome::Silent } else { Outcome::Repaired }
}

/// Without the position in the inbox, which a repair may move on.
fn plain(said: &Said) -> Said {
    match said {
        Said::Refused => Said::Refused,
        Said::Answer(pieces) => Said::Answer(
            pieces
                .iter()
                .map(|piece| match piece.split_once("position: InboxSeq(") {
                    Some((before, rest)) => {
                        format!("{before}{}", rest.split_once(')').map_or("", |(_, rest)| rest))
                    }
                    None => piece.clone(),
                })
                .collect(),
        ),
    }
}

/// Whether every message is the one that was in its place, or a hole.
fn is_part(found: &Said, truth: &Said) -> bool {
    let (Said::Answer(found), Said::Answer(truth)) = (found, truth) else { return true };
    found.iter().all(|piece| answers::is_hole(piece) || truth.contains(piece))
}

/// Whether every message is one that is known to have been in its place, changed or not.
fn names_the_same(found: &Said, whole: &Answers, question: &str) -> bool {
    let id = |piece: &str| {
        let rest = piece.split_once("id: MessageId(")?.1;
        Some((piece.split_once(':')?.0.to_owned(), rest.split_once(')')?.0.to_owned()))
    };
    let of = question.split_once(" history").map_or("", |(_, of)| of);
    let same = whole.iter().filter(|(question, _)| question.ends_with(of));
    let pieces = same.filter_map(|(_, said)| match said {
        Said::Answer(pieces) => Some(pieces),
        Said::Refused => None,
    });
    let known: BTreeMap<_, _> = pieces.flatten().filter_map(|piece| id(piece)).collect();
    let Said::Answer(found) = found else { return true };
    found.iter().filter_map(|piece| id(piece)).all(|(seq, id)| {
        // What nobody may see any more is in no answer of the truth.
        known.get(&seq).is_none_or(|known| *known == id)
    })
}

/// Lets a child examine a directory. `repaired`: after a repair, and how (see [`examine_repaired`]).
pub fn ask(dir: &Path, truth: &Path, repaired: Option<&str>) -> Result<(Outcome, String), String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child::child", "--nocapture"])
        .env(DIR, dir)
        .env(TRUTH, truth)
        .env("RUST_BACKTRACE", "0");
    if let Some(how) = repaired {
        command.env(REPAIRED, how);
    }
    let (status, text) = run(&mut command)?;
    for outcome in ALL {
        if status == Some(0) && text.contains(&format!("outcome: {outcome:?}\n")) {
            return Ok((outcome, text));
        }
    }
    Err(format!("{status:?}: {text}"))
}

/// Runs a program; its status and all that it says.
pub fn run(command: &mut Command) -> Result<(Option<i32>, String), String> {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (done, output) = mpsc::channel();
    let complaints = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = err.read_to_string(&mut text);
        text
    });
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = out.read_to_string(&mut text);
        text += &complaints.join().unwrap();
        let _ = done.send(text);
    });
    let Ok(text) = output.recv_timeout(PATIENCE) else {
        child.kill().unwrap();
        child.wait().unwrap();
        return Err("no answer".into());
    };
    Ok((child.wait().unwrap().code(), text))
}
