//! The targets of speed, each beside what was found.

use std::collections::HashMap;

use crate::figures::{Figure, short};

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

struct Target {
    says: &'static str,
    scenario: &'static str,
    figure: &'static str,
    bound: Bound,
    unit: &'static str,
}

const fn least(
    says: &'static str,
    scenario: &'static str,
    figure: &'static str,
    bound: f64,
) -> Target {
    Target { says, scenario, figure, bound: Bound::AtLeast(bound), unit: "/s" }
}

const fn most(
    says: &'static str,
    scenario: &'static str,
    figure: &'static str,
    bound: f64,
    unit: &'static str,
) -> Target {
    Target { says, scenario, figure, bound: Bound::AtMost(bound), unit }
}

const ALL: &[Target] = &[
    least("100 pairs, 32 in flight each", "100-pairs-x32", "messages/s", 100_000.0),
    Target {
        says: "... beside Redis with fsync always",
        scenario: "100-pairs-x32",
        figure: "rate / Redis",
        bound: Bound::AtLeast(1.2),
        unit: "x",
    },
    least("100 pairs, one in flight each", "100-pairs-x1", "messages/s", 40_000.0),
    most("one pair: p50", "one-pair", "p50 / fdatasync", 1.6, "x fdatasync"),
    least("store for 200 offline users", "store-offline", "messages/s", 150_000.0),
    least("spread over 100,000 users", "spread-cold", "messages/s", 20_000.0),
    most("catch-up of 1,000, one device: p50", "catch-up-one", "p50", 1.5, "ms"),
    least("catch-up of 1,000, 200 devices: entries", "catch-up-200", "entries/s", 650_000.0),
    most("history page of 50: worst p50", "history-page", "worst p50", 120.0, "us"),
    least("group of 200 online: deliveries", "group-200", "deliveries/s", 500_000.0),
    least("group of 10,000, 1,000 online: deliveries", "group-10000", "deliveries/s", 500_000.0),
    most(
        "... cost at 10,000 / at 1,000 members",
        "group-10000",
        "cost at 10,000 / at 1,000 members",
        1.1,
        "x",
    ),
    most("idle session", "idle", "resident / session", 3.0, "KiB"),
    least("connects", "connects", "connects/s", 15_000.0),
    most("disk / byte of message at rest", "at-rest", "bytes on disk / byte of content", 2.5, "x"),
    most("open again", "at-rest", "open again", 3.0, "s"),
    most(
        "doubling users: send",
        "growth",
        "send to any user, users in the store: change per doubling",
        10.0,
        "%",
    ),
    most(
        "doubling conversations: connect",
        "growth",
        "connect, conversations of the user: change per doubling",
        10.0,
        "%",
    ),
    most(
        "doubling a history: page",
        "growth",
        "page anywhere, messages in the conversation: change per doubling",
        10.0,
        "%",
    ),
];

/// Whether a target rests on this scenario.
pub fn need(scenario: &str) -> bool {
    ALL.iter().any(|target| target.scenario == scenario)
}

/// The table, for a document.
pub fn print(found: &HashMap<&str, Vec<Figure>>) {
    println!("\n| target | bound | found (least, greatest) | |\n|---|---|---|---|");
    for Target { says, scenario, figure, bound, unit } in ALL {
        let Some(figure) =
            found.get(scenario).and_then(|all| all.iter().find(|one| one.name == *figure))
        else {
            println!("| {says} | | not measured | |");
            continue;
        };
        let value = figure.median();
        let (sign, bound, met, off) = match *bound {
            Bound::AtLeast(bound) => (">=", bound, value >= bound, value / bound),
            Bound::AtMost(bound) => ("<=", bound, value <= bound, value / bound),
        };
        let verdict = if met { "met".to_owned() } else { format!("MISSED: {off:.2} of it") };
        println!(
            "| {says} | {sign} {} {unit} | {} {} | {verdict} |",
            short(bound),
            short(value),
            figure.spread()
        );
    }
}
