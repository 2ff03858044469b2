//! The growth of costs as a picture: how often the cost of the smallest size each larger one costs, so
//! that operations of different cost share one axis. Flat is what is wanted.

use std::fmt::Write as _;

use crate::figures::{Figure, short};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 50.0;
/// Right of it stand the names.
const RIGHT: f64 = 420.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 330.0;
/// Least room between two names.
const LINE: f64 = 17.0;
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#7a5c00"];
/// What a doubling may add.
const BOUND: f64 = 1.1;

/// Costs of one operation, from the smallest size on.
struct Series<'a> {
    name: &'a str,
    costs: Vec<f64>,
}

/// The figures of growth as SVG; none when there are none.
pub fn draw(figures: &[Figure]) -> Option<String> {
    let mut all: Vec<Series<'_>> = Vec::new();
    for figure in figures {
        let Some((name, size)) = figure.name.rsplit_once(": ") else { continue };
        if !size.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.costs.push(figure.median()),
            None => all.push(Series { name, costs: vec![figure.median()] }),
        }
    }
    all.retain(|series| series.costs.len() > 1);
    let doublings = all.iter().map(|series| series.costs.len() - 1).max()?;
    let grown = |series: &Series<'_>| -> Vec<f64> {
        series.costs.iter().map(|cost| cost / series.costs[0]).collect()
    };
    let most = all.iter().flat_map(grown).fold(2.0, f64::max).ceil();
    let x = |doubling: usize| LEFT + (RIGHT - LEFT) * doubling as f64 / doublings as f64;
    let y = |times: f64| BOTTOM - (BOTTOM - TOP) * times / most;
    let line = |values: &[f64]| -> String {
        let point = |(at, value): (usize, &f64)| format!("{:.1},{:.1}", x(at), y(*value));
        values.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">Cost of one operation, in times of its cost at \
         the smallest size</text>\n"
    );
    for doubling in 0..=doublings {
        let at = x(doubling);
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} x</text>",
            BOTTOM + 18.0,
            1 << doubling
        );
    }
    let step = (most / 5.0).ceil().max(1.0);
    let mut times = 0.0;
    while times <= most {
        let at = y(times);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{times}</text>",
            LEFT - 8.0,
            at + 4.0
        );
        times += step;
    }
    let bound: Vec<f64> = (0..=doublings).map(|doubling| BOUND.powi(doubling as i32)).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#888\" stroke-dasharray=\"4 4\"/>\
         <text x=\"{LEFT}\" y=\"{:.1}\">size; dashed: 10 % for each doubling</text>",
        line(&bound),
        BOTTOM + 38.0
    );
    all.sort_by(|one, other| {
        let last = |series: &Series<'_>| grown(series).last().copied().unwrap_or_default();
        last(other).total_cmp(&last(one))
    });
    let mut free = TOP - LINE;
    for (series, colour) in all.iter().zip(COLOURS.iter().cycle()) {
        let values = grown(series);
        let last = values.last().copied().unwrap_or_default();
        free = y(last).max(free + LINE);
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{} x: {}</text>",
            line(&values),
            RIGHT + 24.0,
            free + 4.0,
            short(last),
            series.name
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}
