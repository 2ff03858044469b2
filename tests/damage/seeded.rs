//! The seeded damages.

use std::{collections::BTreeMap, path::Path, process::Command};

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    answers,
    child::{Outcome, ask, run},
    damages::damage,
    place::copy,
    world::{build, config},
};

/// In a test run.
const ROUNDS: u64 = 8;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// `roamd store ...` on a directory; its status and what it says.
fn store(dir: &Path, command: &[&str]) -> Result<(i32, String), String> {
    let mut roamd = Command::new(env!("CARGO_BIN_EXE_roamd"));
    roamd.arg("store").args(command).arg("--data").arg(dir).env("RUST_BACKTRACE", "0");
    roamd.env("ROAMD_LIMITS__FANOUT_MEMBERS", "6").env("ROAMD_STORE__SEGMENT_BYTES", "65536");
    let (status, text) = run(&mut roamd)?;
    let status = status.ok_or_else(|| format!("killed: {text}"))?;
    if text.contains("panicked") || text.contains("stack backtrace") {
        return Err(format!("a panic is shown: {text}"));
    }
    Ok((status, text))
}

/// What one damage came to.
struct Seen {
    outcome: Outcome,
    /// Status of the repair.
    status: i32,
}

fn one(seed: u64, whole: &Path, truth: &Path) -> Result<(String, Seen), String> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    copy(whole, &dir);
    let what = damage(&mut StdRng::seed_from_u64(seed), &dir);
    let failed = |step: &str, error: String| format!("{what}\n{step}: {error}");
    // The examination opens the directory, and whatever opens it may write.
    let examined = folder.path().join("examined");
    copy(&dir, &examined);
    let (outcome, said) = ask(&examined, truth, None).map_err(|e| failed("examined", e))?;
    if outcome == Outcome::Silent {
        return Err(failed("silent", said));
    }
    let (status, text) = store(&dir, &["repair"]).map_err(|e| failed("repair", e))?;
    if status != 0 && status != 7 {
        return Err(failed("repair", format!("status {status}: {text}")));
    }
    if !matches!(outcome, Outcome::Whole | Outcome::TornTail) && text.starts_with("sound") {
        return Err(failed("repair", format!("{outcome:?}, and the repair says: {text}")));
    }
    let (verified, found) = store(&dir, &["verify"]).map_err(|e| failed("verify", e))?;
    if verified != 0 {
        return Err(failed("verify after repair", format!("status {verified}: {found}\n{text}")));
    }
    let unknown = ["trees", "commits", "keys", "journal"];
    let how = match status {
        0 => "all",
        _ if unknown.iter().any(|what| text.contains(&format!("lost: {what}"))) => "older",
        _ => "part",
    };
    match ask(&dir, truth, Some(how)).map_err(|e| failed("after repair", e))? {
        (Outcome::Repaired, _) => Ok((what, Seen { outcome, status })),
        (_, said) => Err(failed("after repair", format!("{said}\n{text}"))),
    }
}

#[test]
fn seeded_damages_are_never_silent_and_are_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("data");
    let truth = folder.path().join("truth");
    let (seed, rounds) = (number("DAMAGE_SEED", 0), number("DAMAGE_ROUNDS", ROUNDS));
    // When the journal loses its end, what was before it is the truth.
    let ends = if rounds > ROUNDS { usize::MAX } else { 1 };
    let mut truths = vec![(whole.clone(), truth.clone())];
    build(&whole, |following| {
        if following <= ends {
            let before = folder.path().join(format!("before-{following}"));
            copy(&whole, &before);
            truths.push((before, truth.with_extension(format!("before-{following}"))));
        }
    });
    for (dir, path) in truths {
        let asked = folder.path().join("asked");
        copy(&dir, &asked);
        answers::write(&answers::of(&config(&asked)).expect("it opens"), &path);
        std::fs::remove_dir_all(asked).unwrap();
    }
    let asked = folder.path().join("asked");
    copy(&whole, &asked);
    assert_eq!(ask(&asked, &truth, None).unwrap().0, Outcome::Whole);
    let (status, text) = store(&asked, &["repair"]).unwrap();
    assert_eq!((status, text.starts_with("sound")), (0, true), "{text}");

    let mut outcomes = BTreeMap::<(Outcome, i32), u64>::new();
    let mut wrong = Vec::new();
    for seed in seed..seed + rounds {
        match one(seed, &whole, &truth) {
            Ok((what, Seen { outcome, status })) => {
                println!("{seed}: {what}: {outcome:?}, repair {status}");
                *outcomes.entry((outcome, status)).or_default() += 1;
            }
            Err(error) => {
                println!("{seed}: WRONG: {error}");
                wrong.push(format!("DAMAGE_SEED={seed} {error}"));
            }
        }
    }
    println!("{rounds} damages from seed {seed}: {outcomes:?} (0: nothing lost, 7: told what)");
    let shown: Vec<_> =
        wrong.iter().take(5).map(|w| w.chars().take(3000).collect::<String>()).collect();
    assert!(wrong.is_empty(), "{} of {rounds}:\n{}", wrong.len(), shown.join("\n\n"));
}
