//! The report as Markdown, to paste where people talk.

use std::fmt::Write;

use super::{
    text::{markdown, number},
    verdict::{self, Verdict},
};
use crate::swarm::record::Record;

/// All figures of a run, without charts.
#[must_use]
pub fn write(record: &Record) -> String {
    let verdict = Verdict::of(record);
    let mut text = format!("# {}: {}\n\n", markdown(&record.scenario.name), verdict.text(record));
    if !record.scenario.description.is_empty() {
        let _ = writeln!(text, "{}\n", markdown(&record.scenario.description));
    }
    let _ = writeln!(text, "{}\n", verdict::run(record));
    if !record.violations.is_empty() {
        text.push_str("## Broken guarantees\n\n");
        for violation in &record.violations {
            let _ = writeln!(text, "- {}", markdown(violation));
        }
        text.push('\n');
    }
    let rows = verdict::headline(record).into_iter().map(|tile| tile.to_vec()).collect::<Vec<_>>();
    text.push_str(&table(&["figure", "", ""], &rows, 1));
    text.push_str(&section("Objectives", &verdict::OBJECTIVE_HEADS, &verdict::objectives(record)));
    text.push_str(&section("Latencies", &verdict::LATENCY_HEADS, &verdict::latencies(record)));
    let counts =
        record.counts.iter().map(|(name, count)| vec![name.clone(), number(*count as f64)]);
    text.push_str(&section("Counts", &["count", ""], &counts.collect::<Vec<_>>()));
    let environment = verdict::environment(record).into_iter().map(|row| row.to_vec());
    text.push_str(&section("Environment", &["", ""], &environment.collect::<Vec<_>>()));
    text
}

fn section(title: &str, heads: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        String::new()
    } else {
        format!("\n## {title}\n\n{}", table(heads, rows, 1))
    }
}

/// The columns after the first `left` are aligned to the right.
fn table(heads: &[&str], rows: &[Vec<String>], left: usize) -> String {
    let mut text = format!("| {} |\n|", heads.join(" | "));
    for at in 0..heads.len() {
        text.push_str(if at < left { "---|" } else { "--:|" });
    }
    text.push('\n');
    for row in rows {
        let cells: Vec<_> = row.iter().map(|cell| markdown(cell)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}
