//! Reports of records that may be anything: what is asserted are properties, not bytes.

use std::path::Path;

use super::*;
use crate::swarm::record::{
    CONNECT_TO_CAUGHT_UP, Latency, Objective, SEND_TO_DELIVERY, Sample, Scenario,
};

fn latency(values: impl Iterator<Item = u64>) -> Latency {
    let mut histogram = Latency::recorder();
    values.for_each(|us| histogram.record(us).unwrap());
    Latency::of(&histogram)
}

/// A run with so many samples, one each second, and something of everything.
fn record(samples: u64) -> Record {
    let scenario = Scenario {
        name: "chat".into(),
        description: "People talk.".into(),
        text: "users = 20\n".into(),
    };
    let mut record = Record::new(scenario, 7, 1_700_000_000_000);
    record.warm_up_seconds = 2.0;
    record.measured_seconds = samples as f64 - 3.0;
    record.environment.kernel = "Linux 6.1".into();
    let sample = |n: u64| Sample {
        at_ms: n * 1000,
        offered: 100,
        sent: 100,
        acked: 90 + n % 7,
        delivered: 300 + n % 11,
        in_flight: n % 5,
        send_to_ack_p50_us: (!n.is_multiple_of(9)).then_some(800 + n % 13),
        send_to_ack_p99_us: (!n.is_multiple_of(9)).then_some(4000 + n % 1700),
        server_cpu_us: Some(200_000 + n % 1000),
        server_rss_bytes: Some(50 << 20),
        ..Sample::default()
    };
    record.series = (1..=samples).map(sample).collect();
    record.latencies.insert(SEND_TO_ACK.into(), latency((1..3000).map(|n| n * 7)));
    record.latencies.insert(SEND_TO_DELIVERY.into(), latency((1..3000).map(|n| n * 11)));
    record.latencies.insert(CONNECT_TO_CAUGHT_UP.into(), latency((1..30).map(|n| n * 1100)));
    record.ack_batches = [(1, 50), (2, 20), (100, 3)].into();
    record.counts.insert("snapshots".into(), 12_345);
    record.objectives = vec![
        Objective::at_most("send-to-ack p99", "ms", 50.0, Some(20.8)),
        Objective::at_least("acked", "/s", 120.0, Some(93.0)),
    ];
    record
}

/// Tags that are open at the end, and that were closed without being open.
fn unbalanced(page: &str) -> Vec<String> {
    const ALONE: [&str; 4] = ["meta", "rect", "line", "circle"];
    let mut open: Vec<&str> = Vec::new();
    let mut wrong = Vec::new();
    for tag in page.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match tag {
            _ if tag.starts_with('!') || tag.ends_with('/') || ALONE.contains(&name) => {}
            _ if tag.starts_with('/') => match open.pop() {
                Some(last) if last == name => {}
                other => wrong.push(format!("{other:?} closed by {tag}")),
            },
            _ => open.push(name),
        }
    }
    wrong.extend(open.iter().map(|name| format!("{name} is open")));
    wrong
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("deep/report");
    for record in [record(60), Record::new(Scenario::default(), 1, 0)] {
        write(&record, &place).unwrap();
        assert_eq!(read(&place).unwrap(), record);
        assert_eq!(read(&place.join("report.json")).unwrap(), record);
    }
    let left: Vec<_> = fs::read_dir(place.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing else is left: {left:?}");
}

#[test]
fn a_report_has_all_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("report");
    write(&record(60), &place).unwrap();
    let text = |name: &str| fs::read_to_string(place.join(name)).unwrap();
    assert!(text("environment.json").contains("Linux 6.1"));
    assert!(text("latency.hgrm").contains("Total count    =         2999]"));
    assert!(text("latency-send-to-delivery.hgrm").contains("1/(1-Percentile)"));
    let (page, summary) = (text("index.html"), text("summary.md"));
    for figure in ["20.8 ms", "120/s", "12,345", "Linux 6.1", "1 objective missed", "93/s"] {
        assert!(page.contains(figure), "{figure}");
        assert!(summary.contains(figure), "{figure} in {summary}");
    }
    for chart in ["Throughput", "Latency by percentile", "Send to ack over time", "Processor time"]
    {
        assert!(page.contains(chart), "{chart}");
    }
    // Nothing in the page leads anywhere.
    for way in ["http:", "https:", "src=", "href", "<script", "url(", "@import"] {
        assert!(!page.contains(way), "{way}");
    }
}

#[test]
fn any_number_of_samples_makes_a_page() {
    for samples in [0, 1, 2, 3, 59, 3600, 100_000] {
        let page = page::write(&record(samples));
        assert_eq!(unbalanced(&page), Vec::<String>::new(), "{samples}");
        assert!(page.len() < 1_000_000, "{samples}: {}", page.len());
        assert!(!page.contains("NaN") && !page.contains("inf"), "{samples}");
    }
    assert_eq!(unbalanced(&page::write(&Record::default())), Vec::<String>::new());
    assert!(summary::write(&Record::default()).contains("no guarantee broken"));
}

#[test]
fn texts_of_others_stay_texts() {
    const EVIL: &str = "</pre></title><script>alert('x')</script><img src=x onerror=\"y\">|\n# h";
    let mut record = record(10);
    record.scenario = Scenario { name: EVIL.into(), description: EVIL.into(), text: EVIL.into() };
    let some = record.latencies[SEND_TO_ACK].clone();
    record.latencies.insert(EVIL.into(), some.clone());
    record.latencies.insert("../../outside".into(), some);
    record.counts.insert(EVIL.into(), 1);
    record.violations.push(EVIL.into());
    record.objectives.push(Objective::at_most(EVIL, EVIL, 1.0, None));
    for text in [
        &mut record.environment.cpu_model,
        &mut record.environment.roamd_version,
        &mut record.environment.filesystem,
        &mut record.environment.profile,
    ] {
        EVIL.clone_into(text);
    }
    let page = page::write(&record);
    assert_eq!(unbalanced(&page), Vec::<String>::new());
    for tag in ["<script", "<img", "</pre></title>"] {
        assert!(!page.contains(tag), "{tag}");
    }
    let summary = summary::write(&record);
    assert!(!summary.contains("<script") && !summary.contains("\n# h"), "{summary}");
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    let rows = summary.lines().filter(|line| line.contains("alert") && line.starts_with('|'));
    for row in rows {
        assert!([3, 5, 11].contains(&columns(row)), "{row}");
    }

    let folder = tempfile::tempdir().unwrap();
    write(&record, &folder.path().join("report")).unwrap();
    let all: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(all.len(), 1, "nothing outside of the report: {all:?}");
}

#[test]
fn only_reports_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("report");
    let taken = |place: &Path| matches!(write(&record(5), place), Err(ReportError::Taken(_)));

    fs::create_dir(&place).unwrap();
    write(&record(5), &place).unwrap();
    write(&record(6), &place).unwrap();
    assert_eq!(read(&place).unwrap().series.len(), 6);

    fs::write(place.join("notes.txt"), "mine").unwrap();
    assert!(check(&place).is_err() && taken(&place));
    assert_eq!(fs::read_to_string(place.join("notes.txt")).unwrap(), "mine");
    assert_eq!(read(&place).unwrap().series.len(), 6);

    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("index.html"), "somebody's page").unwrap();
    assert!(taken(&other), "a page without a record is somebody else's");
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    assert!(taken(&file) && taken(Path::new("..")) && taken(Path::new("/")));
    assert_eq!(fs::read_to_string(&file).unwrap(), "text");
}

#[test]
fn what_is_no_record_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    assert!(matches!(read(&path), Err(ReportError::Io { .. })));
    fs::write(&path, "{\"version\": 1}").unwrap();
    assert!(matches!(read(&path), Err(ReportError::Malformed { .. })));
    fs::write(&path, "{\"version\": 99, \"new\": true}").unwrap();
    assert!(matches!(read(folder.path()), Err(ReportError::Version { version: 99, .. })));
}
