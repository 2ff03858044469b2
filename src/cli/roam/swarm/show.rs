//! What `roam swarm` prints: a table for people, the whole record for programs.

use serde_json::{Value, json};

use super::Failure;
use crate::{
    cli::{
        exit::Exit,
        output::{Fields, Output, print},
    },
    swarm::{
        judge::Slo,
        record::{Latency, Objective, Record, SEND_TO_ACK, SEND_TO_DELIVERY},
        scenario::{BUILT_IN, Scenario},
    },
};

/// The scenarios that are built in.
pub(super) fn scenarios(output: Output) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for built_in in BUILT_IN {
        let scenario = Scenario::find(built_in.name)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string(), ""))?;
        let seconds = (scenario.warm_up + scenario.duration).as_secs();
        rows.push(vec![
            ("name", Value::from(built_in.name)),
            ("users", scenario.users.into()),
            ("devices", (scenario.users * scenario.devices).into()),
            ("rate", scenario.rate.into()),
            ("seconds", seconds.into()),
            ("description", scenario.description.into()),
        ]);
    }
    output.list(&rows);
    Ok(())
}

/// The text of one.
pub(super) fn scenario(name: &str) -> Result<(), Failure> {
    let built_in = BUILT_IN.iter().find(|it| it.name == name).ok_or_else(|| {
        let text = format!("no scenario {name:?} is built in");
        Failure::new(Exit::Usage, text, "see `roam swarm scenarios`")
    })?;
    print(built_in.text);
    Ok(())
}

/// What came of a run.
pub(super) fn record(record: &Record, output: Output) {
    if !output.is_table() {
        // A value of numbers and texts is always JSON.
        let value = serde_json::to_value(record).unwrap_or_default();
        return print(&format!("{value}\n"));
    }
    let count = |name: &str| record.counts.get(name).copied().unwrap_or(0);
    let seconds = record.measured_seconds.max(f64::MIN_POSITIVE);
    let rate = |name: &str| format!("{:.1}", count(name) as f64 / seconds);
    print(&format!(
        "{} (seed {}): {} devices, {} conversations, {:.0} s\n\n",
        record.scenario.name,
        record.seed,
        count("devices"),
        count("conversations"),
        record.measured_seconds,
    ));
    output.item(&vec![
        ("sends_due_per_second", Value::from(rate("sends due"))),
        ("sends_acked_per_second", rate("sends acked").into()),
        ("deliveries_per_second", rate("deliveries").into()),
        ("requests_refused", count("requests refused").into()),
        ("sends_shed", count("sends shed").into()),
        ("reconnects", count("reconnects").into()),
        ("devices_compared", count("devices compared").into()),
    ]);
    print("\n");
    let rows: Vec<_> = record.latencies.iter().map(|(name, it)| latency(name, it)).collect();
    output.list(&rows);
    if !record.objectives.is_empty() {
        print("\n");
        output.list(&record.objectives.iter().map(objective).collect::<Vec<_>>());
    }
    print("\n");
    if record.is_clean() {
        print("every guarantee was kept\n");
    }
    record.violations.iter().for_each(|it| print(&format!("violated: {it}\n")));
}

fn latency(name: &str, latency: &Latency) -> Fields {
    let ms = |us: u64| Value::from((us as f64 / 10.0).round() / 100.0);
    vec![
        ("latency_ms", Value::from(name)),
        ("count", latency.count.into()),
        ("p50", ms(latency.p50_us)),
        ("p90", ms(latency.p90_us)),
        ("p99", ms(latency.p99_us)),
        ("p999", ms(latency.p999_us)),
        ("max", ms(latency.max_us)),
    ]
}

fn objective(objective: &Objective) -> Fields {
    let round = |it: f64| Value::from((it * 100.0).round() / 100.0);
    vec![
        ("objective", Value::from(objective.name.as_str())),
        ("limit", round(objective.limit)),
        ("measured", objective.measured.map_or(Value::Null, round)),
        ("unit", objective.unit.as_str().into()),
        ("met", objective.met.into()),
    ]
}

/// One step of a search for the capacity: a line at once for people, a row for later for programs.
pub(super) fn step(record: &Record, rate: f64, held: bool, output: Output, rows: &mut Vec<Fields>) {
    let p99 = |name: &str| {
        let latency = record.latencies.get(name);
        latency.map_or(Value::Null, |it| (it.p99_us as f64 / 1000.0).into())
    };
    let count = |name: &str| record.counts.get(name).copied().unwrap_or(0);
    let seconds = record.measured_seconds.max(f64::MIN_POSITIVE);
    let row = vec![
        ("rate", Value::from(rate.round())),
        ("acked_per_second", (count("sends acked") as f64 / seconds).round().into()),
        ("ack_p99_ms", p99(SEND_TO_ACK)),
        ("delivery_p99_ms", p99(SEND_TO_DELIVERY)),
        ("refused", count("requests refused").into()),
        ("held", held.into()),
    ];
    if output.is_table() {
        let cells: Vec<_> = row.iter().map(|(name, value)| format!("{name} {value}")).collect();
        eprintln!("{}", cells.join("  ").replace('_', " "));
    }
    rows.push(row);
}

/// The end of the search.
pub(super) fn capacity(rows: &[Fields], held: Option<f64>, slo: &Slo, output: Output) {
    if !output.is_table() {
        let steps: Vec<_> = rows.iter().map(fields).collect();
        return print(&format!(
            "{}\n",
            json!({"slo": slo.to_string(), "held": held, "steps": steps})
        ));
    }
    output.list(rows);
    print(&match held {
        Some(rate) => format!("\n{rate:.0} messages per second held {slo}\n"),
        None => format!("\nno rate held {slo}\n"),
    });
}

fn fields(row: &Fields) -> Value {
    row.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}
