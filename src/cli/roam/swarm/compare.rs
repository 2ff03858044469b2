//! `roam swarm compare`: two reports side by side.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        exit::Exit,
        output::{Fields, Output, harmless},
        roam::failure::Failure,
    },
    swarm::{
        compare::{Comparison, Figure},
        report::{self, ReportError, text::number},
    },
};

const EXPLANATION: &str = "\
Examples:
  roam swarm run chat --report before
  roam swarm run chat --report after
  roam swarm compare before after
  roam swarm compare before after --fail-if-worse 10%

RATIO is B through A, and NOISE is where it is with a probability of 99 %. VERDICT is `better` or `WORSE` if
the difference is more than noise: if the ratio is 5 % or more from 1, and 1 is outside of NOISE. `same`
says that it may be noise, `unknown` that nobody can tell (runs under 10 seconds, too few values for this
percentile), `-` that the figure is not judged.

The noise is that within the two runs. Where each second has a value (rates, CPU, p50 and p99 of
send-to-ack), seconds are drawn 2,000 times in blocks of 5 and the ratio is taken of what was drawn. For
the other percentiles it is the order of the values, where 5 that follow each other count as one. What
differs from day to day is in neither: before you believe a small difference, run both again.

Exit status: 0, or 8 with --fail-if-worse when the rate of acks or any p99 is worse by more than that
(noise or not), or B has no such figure any more.";

/// Compare two reports.
#[derive(Debug, Args)]
#[command(after_help = EXPLANATION)]
pub struct CompareArgs {
    /// The directory of a report, or its report.json.
    #[arg(value_name = "A")]
    first: PathBuf,
    /// Another one.
    #[arg(value_name = "B")]
    second: PathBuf,
    /// End with status 8 if the rate of acks or any p99 of B is worse by more than this.
    #[arg(long, value_name = "PERCENT", value_parser = part)]
    fail_if_worse: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// A report cannot be read.
pub fn run(args: &CompareArgs, output: Output) -> Result<Exit, Failure> {
    let (first, second) = (report::read(&args.first), report::read(&args.second));
    let comparison = Comparison::of(&first.map_err(failure)?, &second.map_err(failure)?);
    for doubt in &comparison.doubts {
        eprintln!("roam: careful: {}", harmless(doubt));
    }
    let row = if output.is_table() { for_people } else { for_programs };
    output.list(&comparison.figures.iter().map(row).collect::<Vec<_>>());
    let Some(part) = args.fail_if_worse else { return Ok(Exit::Ok) };
    let worse =
        comparison.figures.iter().filter(|figure| figure.is_key && figure.is_worse_by(part));
    let worse: Vec<_> = worse.map(|figure| harmless(&figure.name)).collect();
    if worse.is_empty() {
        return Ok(Exit::Ok);
    }
    eprintln!("roam: worse by more than {} %: {}", number(part * 100.0), worse.join(", "));
    Ok(Exit::Missed)
}

fn for_people(figure: &Figure) -> Fields {
    let show = |value: Option<f64>| value.map_or(Value::Null, |it| figure.unit.show(it).into());
    let ratio = figure.ratio().map(|ratio| format!("{ratio:.2}"));
    let interval = figure.interval.map(|it| format!("{:.2} to {:.2}", it.low, it.high));
    vec![
        ("figure", figure.name.as_str().into()),
        ("a", show(figure.a)),
        ("b", show(figure.b)),
        ("ratio", ratio.into()),
        ("noise", interval.into()),
        ("verdict", figure.difference.text().into()),
    ]
}

fn for_programs(figure: &Figure) -> Fields {
    vec![
        ("figure", figure.name.as_str().into()),
        ("unit", figure.unit.name().into()),
        ("a", json!(figure.a)),
        ("b", json!(figure.b)),
        ("ratio", json!(figure.ratio())),
        ("ratio_low", json!(figure.interval.map(|it| it.low))),
        ("ratio_high", json!(figure.interval.map(|it| it.high))),
        ("verdict", figure.difference.name().into()),
    ]
}

/// Percent as a part of one.
fn part(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end().parse::<f64>();
    let percent = number.ok().filter(|percent| percent.is_finite() && *percent >= 0.0);
    percent.map(|percent| percent / 100.0).ok_or_else(|| "expected percent, such as 10%".to_owned())
}

fn failure(error: ReportError) -> Failure {
    let hint = match error {
        ReportError::Version { .. } => "the roam that wrote it can read it",
        _ => "`roam swarm run SCENARIO --report DIR` writes a report",
    };
    Failure::new(Exit::Failed, error.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_are_parts() {
        assert_eq!(part("10%"), Ok(0.1));
        assert_eq!(part("2.5 %"), Ok(0.025));
        assert_eq!(part("0"), Ok(0.0));
        for wrong in ["", "%", "-1%", "ten", "inf", "NaN"] {
            assert!(part(wrong).is_err(), "{wrong}");
        }
    }
}
