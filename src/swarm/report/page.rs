//! The report as one HTML page that needs nothing else: no script, no file, no connection.

use super::{
    charts,
    text::{html, number},
    verdict::{self, Verdict},
};
use crate::swarm::record::Record;

const STYLE: &str = include_str!("page.css");

/// The page of a run.
#[must_use]
pub fn write(record: &Record) -> String {
    let name = html(&record.scenario.name);
    let verdict = Verdict::of(record);
    let class = match verdict {
        Verdict::Passed => "good",
        Verdict::Missed | Verdict::Violated => "bad",
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{name} · roam swarm</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<p class=\"program\">roam swarm</p>\n<h1>{name} <span class=\"badge {class}\">{}</span></h1>\n",
        html(&verdict.text(record))
    );
    if !record.scenario.description.is_empty() {
        page.push_str(&format!("<p class=\"lead\">{}</p>\n", html(&record.scenario.description)));
    }
    page.push_str(&format!(
        "<p class=\"run\">{}</p>\n</header>\n<main>\n",
        html(&verdict::run(record))
    ));
    page.push_str(&violations(record));
    page.push_str("<div class=\"tiles\">\n");
    for [name, figure, more] in verdict::headline(record) {
        let (name, figure, more) = (html(&name), html(&figure), html(&more));
        page.push_str(&format!(
            "<div><span>{name}</span><b>{figure}</b><span>{more}</span></div>\n"
        ));
    }
    page.push_str("</div>\n");
    page.push_str(&section("Objectives", &verdict::OBJECTIVE_HEADS, &verdict::objectives(record)));
    page.push_str(&section("Latencies", &verdict::LATENCY_HEADS, &verdict::latencies(record)));
    page.push_str("<section>\n<h2>Course of the run</h2>\n<div class=\"charts\">\n");
    page.extend(charts::all(record));
    page.push_str(
        "</div>\n<p class=\"note\">Shaded: warm-up and the wait at the end, which are not measured. \
         A line with a band around it: the mean, the least and the greatest of several seconds. \
         Point at a chart for its values.</p>\n</section>\n<div class=\"sides\">\n",
    );
    let counts =
        record.counts.iter().map(|(name, count)| vec![name.clone(), number(*count as f64)]);
    page.push_str(&section("Counts", &["", ""], &counts.collect::<Vec<_>>()));
    let environment = verdict::environment(record).into_iter().map(|row| row.to_vec());
    page.push_str(&section("Environment", &["", ""], &environment.collect::<Vec<_>>()));
    page.push_str("</div>\n");
    if !record.scenario.text.is_empty() {
        page.push_str(&format!(
            "<details>\n<summary>The scenario as it was run</summary>\n<pre>{}</pre>\n</details>\n",
            html(&record.scenario.text)
        ));
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn violations(record: &Record) -> String {
    if record.violations.is_empty() {
        return String::new();
    }
    let items = record.violations.iter().map(|text| format!("<li>{}</li>\n", html(text)));
    format!(
        "<section class=\"violations\">\n<h2>Broken guarantees</h2>\n<ul>\n{}</ul>\n</section>\n",
        items.collect::<String>()
    )
}

fn section(title: &str, heads: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("<section>\n<h2>{title}</h2>\n<div class=\"wide\"><table>\n");
    if heads.iter().any(|head| !head.is_empty()) {
        let heads = heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", html(head)));
        text.push_str(&format!("<thead><tr>{}</tr></thead>\n", heads.collect::<String>()));
    }
    text.push_str("<tbody>\n");
    for row in rows {
        text.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            text.push_str(&match (at, cell.as_str()) {
                (0, name) => format!("<th scope=\"row\">{}</th>", html(name)),
                (_, "met") => "<td class=\"good\">✓ met</td>".to_owned(),
                (_, "missed") => "<td class=\"bad\">✗ missed</td>".to_owned(),
                (_, cell) => format!("<td>{}</td>", html(cell)),
            });
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody>\n</table></div>\n</section>\n");
    text
}
