//! Which charts a run has, and what is drawn in them.

use super::{
    chart::{Chart, Line, bars},
    text::{Unit, clock, number},
    ticks::Axis,
    verdict::in_order,
};
use crate::swarm::record::{Record, Sample, Timed};

/// Deliveries so many times above the sends get a chart of their own.
const APART: f64 = 4.0;
/// Values that differ by this factor are shown on an axis of even factors.
const WIDE: f64 = 20.0;
/// Points between one nine and the next.
const PER_NINE: i32 = 20;
/// Colours of what there is several times of.
const COLOURS: usize = 6;

/// All of them, one HTML element each.
#[must_use]
pub fn all(record: &Record) -> Vec<String> {
    let mut charts = throughput(record);
    charts.push(percentiles(record));
    charts.push(latency(record));
    charts.push(cpu(record));
    charts.push(memory(record));
    charts.push(ack_batches(record));
    charts.push(in_flight(record));
    charts.extend(trouble(record));
    charts
}

/// A line through a figure of every sample.
fn line<T: Into<Option<f64>>>(
    record: &Record,
    (name, colour): (&str, usize),
    value: impl Fn(&Timed<'_>) -> T,
) -> Line {
    let points =
        record.timed().map(|timed| (timed.sample.at_ms as f64 / 1000.0, value(&timed).into()));
    Line { name: name.to_owned(), colour, is_dashed: false, points: points.collect() }
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value)
}

/// A chart over the time of the run.
fn over_time(record: &Record, title: &str, y_name: &str, unit: Unit, lines: Vec<Line>) -> Chart {
    let end = record.series.last().map_or(0.0, |sample| sample.at_ms as f64 / 1000.0);
    let (from, to) = (record.warm_up_seconds, record.warm_up_seconds + record.measured_seconds);
    let shades = vec![(0.0, from.min(end)), (to.min(end), end)];
    // One sample stands in the middle, not on the edge.
    let end = if record.series.len() == 1 { end * 2.0 } else { end };
    let most = values(&lines).fold(0.0, f64::max);
    Chart {
        title: title.to_owned(),
        x: Axis::time(0.0, end, 8),
        x_name: "since the start".to_owned(),
        show_x: clock,
        y: Axis::linear(unit, most, 5),
        y_name: y_name.to_owned(),
        unit,
        lines,
        shades,
    }
}

fn throughput(record: &Record) -> Vec<String> {
    let mut offered = line(record, ("offered", 3), |it| it.rate(it.sample.offered));
    offered.is_dashed = true;
    let acked = line(record, ("acked", 0), |it| it.rate(it.sample.acked));
    let delivered = line(record, ("delivered", 1), |it| it.rate(it.sample.delivered));
    let most = |lines: &[Line]| values(lines).fold(0.0, f64::max);
    let draw = |title, lines| over_time(record, title, "messages", Unit::PerSecond, lines).draw();
    let (sends, deliveries) = (vec![acked, offered], vec![delivered]);
    if most(&deliveries) > APART * most(&sends) {
        vec![draw("Sends", sends), draw("Deliveries to live devices", deliveries)]
    } else {
        vec![draw("Throughput", [sends, deliveries].concat())]
    }
}

fn percentiles(record: &Record) -> String {
    let mut lines = Vec::new();
    for (at, (name, latency)) in in_order(record).into_iter().enumerate() {
        let histogram = latency.histogram();
        let count = histogram.len();
        if count == 0 {
            continue;
        }
        let steps = (0..).map(|n| 10f64.powf(f64::from(n) / f64::from(PER_NINE)));
        let steps =
            steps.take_while(|inverse| *inverse < count as f64).chain([count.max(1) as f64]);
        let at_step = |inverse: f64| {
            let value = match inverse {
                _ if inverse >= count as f64 => histogram.max(),
                _ => histogram.value_at_quantile(1.0 - 1.0 / inverse),
            };
            (inverse, Some(value.max(1) as f64))
        };
        let points = steps.map(at_step).collect();
        lines.push(Line { name: name.to_owned(), colour: at % COLOURS, is_dashed: false, points });
    }
    let most_values = lines.iter().filter_map(|line| line.points.last()).map(|(x, _)| *x);
    Chart {
        title: "Latency by percentile".to_owned(),
        x: Axis::nines(most_values.fold(0.0, f64::max) as u64),
        x_name: String::new(),
        show_x: |inverse| format!("{} %", nines(inverse)),
        y: duration_axis(&lines),
        y_name: "latency".to_owned(),
        unit: Unit::Micros,
        lines,
        shades: Vec::new(),
    }
    .draw()
}

/// The part before the last `1 / inverse`, in per cent, with as many nines as it has.
fn nines(inverse: f64) -> String {
    let rest = 100.0 / inverse.max(1.0);
    let decimals = (1.0 - rest.log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{:.decimals$}", 100.0 - rest);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn duration_axis(lines: &[Line]) -> Axis {
    let (least, most) = values(lines).fold((f64::MAX, 0.0), |(least, most): (f64, f64), value| {
        (least.min(value.max(1.0)), most.max(value))
    });
    match most / least {
        factor if factor >= WIDE => Axis::log(Unit::Micros, least, most),
        _ => Axis::linear(Unit::Micros, most, 5),
    }
}

fn latency(record: &Record) -> String {
    let of = |value: Option<u64>| value.map(|us| us as f64);
    let lines = vec![
        line(record, ("99th percentile", 2), |it| of(it.sample.send_to_ack_p99_us)),
        line(record, ("median", 0), |it| of(it.sample.send_to_ack_p50_us)),
    ];
    let y = duration_axis(&lines);
    let chart = over_time(record, "Send to ack over time", "latency", Unit::Micros, lines);
    Chart { y, ..chart }.draw()
}

fn cpu(record: &Record) -> String {
    let of = |it: &Timed<'_>, cpu_us: Option<u64>| cpu_us.map(|us| it.rate(us) / 1e6);
    let lines = vec![
        line(record, ("daemon", 0), |it| of(it, it.sample.server_cpu_us)),
        line(record, ("swarm", 1), |it| of(it, it.sample.swarm_cpu_us)),
    ];
    over_time(record, "Processor time", "busy", Unit::Processors, lines).draw()
}

fn memory(record: &Record) -> String {
    let of = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    let lines = vec![
        line(record, ("daemon", 0), |it| of(it.sample.server_rss_bytes)),
        line(record, ("swarm", 1), |it| of(it.sample.swarm_rss_bytes)),
    ];
    over_time(record, "Memory", "resident", Unit::Bytes, lines).draw()
}

fn in_flight(record: &Record) -> String {
    let lines = vec![line(record, ("sends without an answer", 4), |it| it.sample.in_flight as f64)];
    over_time(record, "In flight", "sends", Unit::Count, lines).draw()
}

/// Errors and reconnects, if there were any.
fn trouble(record: &Record) -> Option<String> {
    let any = |count: fn(&Sample) -> u64| record.series.iter().any(|sample| count(sample) > 0);
    if !any(|it| it.errors) && !any(|it| it.reconnects) {
        return None;
    }
    let lines = vec![
        line(record, ("errors", 2), |it| it.rate(it.sample.errors)),
        line(record, ("reconnects", 5), |it| it.rate(it.sample.reconnects)),
    ];
    Some(over_time(record, "Errors and reconnects", "", Unit::PerSecond, lines).draw())
}

fn ack_batches(record: &Record) -> String {
    let parts = batch_parts(record.ack_batches.iter().map(|(entries, times)| (*entries, *times)));
    bars("Entries covered by one ack of a device", "entries", "of all acks", &parts)
}

/// Acks by the number of entries they cover: 1, 2, 3–4, 5–8, ... and the part of each.
fn batch_parts(batches: impl Iterator<Item = (u64, u64)>) -> Vec<(String, f64)> {
    // Group n holds what is above 2^(n-1) and at most 2^n.
    let mut groups: Vec<f64> = Vec::new();
    for (entries, times) in batches {
        let group =
            entries.max(1).checked_next_power_of_two().map_or(64, u64::trailing_zeros) as usize;
        groups.resize(groups.len().max(group + 1), 0.0);
        if let Some(sum) = groups.get_mut(group) {
            *sum += times as f64;
        }
    }
    let all: f64 = groups.iter().sum();
    if all <= 0.0 {
        return Vec::new();
    }
    let name = |group: usize| match 2f64.powi(group as i32) {
        high if group < 2 => number(high),
        high => format!("{}–{}", number(high / 2.0 + 1.0), number(high)),
    };
    groups.iter().enumerate().map(|(group, sum)| (name(group), sum / all)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_grouped_by_powers_of_two() {
        let parts = batch_parts([(1, 5), (2, 1), (4, 2), (9, 2)].into_iter());
        let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["1", "2", "3–4", "5–8", "9–16"]);
        let sizes: Vec<_> = parts.iter().map(|(_, part)| *part).collect();
        assert_eq!(sizes, [0.5, 0.1, 0.2, 0.0, 0.2]);
        assert!(batch_parts([].into_iter()).is_empty());
        assert!(batch_parts([(3, 0)].into_iter()).is_empty());
        assert_eq!(batch_parts([(u64::MAX, 1)].into_iter()).len(), 65);
    }

    #[test]
    fn a_percentile_has_as_many_nines_as_it_needs() {
        let shown: Vec<_> = [1.0, 2.0, 10.0, 100.0, 1000.0, 1e6].into_iter().map(nines).collect();
        assert_eq!(shown, ["0", "50", "90", "99", "99.9", "99.9999"]);
    }
}
