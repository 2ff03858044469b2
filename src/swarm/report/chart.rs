//! Charts as SVG, without a script: lines over a common axis, with a value to read at every column.

use std::fmt::Write;

use super::{
    text::{Unit, html},
    ticks::Axis,
};

/// Size of a drawing in its own units, which are pixels where there is room.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 270.0;
/// The plot inside of it.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 624.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 226.0;
/// Width of what one step of a line stands for, at least.
const PLACE: f64 = 2.0;
/// Columns that show their values when pointed at.
const COLUMNS_MAX: usize = 140;
/// Letters that fit beside the name of the axis.
const LETTERS_MAX: usize = 72;

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Number of its colour.
    pub colour: usize,
    /// Whether it is dashed: what was asked for, not what came.
    pub is_dashed: bool,
    /// From left to right; `None` interrupts the line.
    pub points: Vec<(f64, Option<f64>)>,
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Its name.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// What stands there.
    pub x_name: String,
    /// The words for a place there.
    pub show_x: fn(f64) -> String,
    /// Vertical axis.
    pub y: Axis,
    /// What stands there.
    pub y_name: String,
    /// Unit of the values.
    pub unit: Unit,
    /// The lines. Those without a value are not named.
    pub lines: Vec<Line>,
    /// Parts of the horizontal axis that do not count.
    pub shades: Vec<(f64, f64)>,
}

impl Chart {
    /// The chart as a `figure` element.
    #[must_use]
    pub fn draw(&self) -> String {
        let has_value = |line: &&Line| line.points.iter().any(|(_, value)| value.is_some());
        let lines: Vec<_> = self.lines.iter().filter(has_value).collect();
        if lines.is_empty() {
            return empty(&self.title);
        }
        let names: Vec<_> = lines.iter().map(|line| line.name.as_str()).collect();
        let keys = lines.iter().map(|line| {
            let dashed = if line.is_dashed { " dashed" } else { "" };
            format!("<span class=\"key c{}{dashed}\">{}</span>", line.colour, html(&line.name))
        });
        let mut svg = String::new();
        for (from, to) in &self.shades {
            let (from, to) = (self.across(*from), self.across(*to));
            let (width, height) = (to - from, BOTTOM - TOP);
            if width > 0.5 {
                let _ = write!(
                    svg,
                    "<rect class=\"shade\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>"
                );
            }
        }
        svg.push_str(&grid(&self.y, &axis_name(&self.y_name, &self.y.unit)));
        for (value, text) in &self.x.marks {
            svg.push_str(&mark_below(self.across(*value), text));
        }
        svg.push_str(&name_below(&axis_name(&self.x_name, &self.x.unit)));
        for line in &lines {
            svg.push_str(&self.path(line));
        }
        svg.push_str(&self.columns(&lines));
        figure(&self.title, &keys.collect::<String>(), &names.join(", "), &svg)
    }

    fn across(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (RIGHT - LEFT)
    }

    fn down(&self, value: f64) -> f64 {
        BOTTOM - self.y.place(value) * (BOTTOM - TOP)
    }

    /// The line. Where there are more points than can be seen it goes through the mean of each place,
    /// and a band shows the least and the greatest there, so that no peak is lost.
    fn path(&self, line: &Line) -> String {
        let places = line.points.iter().map(|(x, y)| (self.across(*x), y.map(|y| self.down(y))));
        let places: Vec<_> = places.collect();
        let is_dense = places.len() as f64 > (RIGHT - LEFT) / PLACE * 2.0;
        let same =
            |a: &(f64, _), b: &(f64, _)| is_dense && (a.0 / PLACE).floor() == (b.0 / PLACE).floor();
        // A place without any value interrupts the line.
        let places: Vec<_> = places.chunk_by(same).map(Place::of).collect();
        let (mut path, mut band, mut dots) = (String::new(), String::new(), String::new());
        for part in places.split(|place| place.is_none()) {
            let part: Vec<_> = part.iter().flatten().collect();
            if let [Place { x, mean, .. }] = part[..] {
                let _ = write!(dots, "<circle cx=\"{x:.1}\" cy=\"{mean:.1}\" r=\"3\"/>");
                continue;
            }
            for (at, place) in part.iter().enumerate() {
                let step = if at == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{step}{:.1} {:.1}", place.x, place.mean);
            }
            if is_dense {
                let there = part.iter().map(|place| (place.x, place.top));
                let back = part.iter().rev().map(|place| (place.x, place.bottom));
                for (at, (x, y)) in there.chain(back).enumerate() {
                    let _ = write!(band, "{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' });
                }
            }
        }
        if !band.is_empty() {
            band = format!("<path class=\"band\" d=\"{band}\"/>");
        }
        let dashed = if line.is_dashed { " dashed" } else { "" };
        format!("<g class=\"line c{}{dashed}\">{band}<path d=\"{path}\"/>{dots}</g>", line.colour)
    }

    /// What is shown where the pointer is.
    fn columns(&self, lines: &[&Line]) -> String {
        let longest = lines.iter().max_by_key(|line| line.points.len());
        let xs: Vec<_> =
            longest.into_iter().flat_map(|line| &line.points).map(|(x, _)| *x).collect();
        let groups: Vec<_> = xs.chunks(xs.len().div_ceil(COLUMNS_MAX).max(1)).collect();
        let middle = |group: &[f64]| {
            let ends = group.first().zip(group.last());
            ends.map_or(LEFT, |(first, last)| (self.across(*first) + self.across(*last)) / 2.0)
        };
        let middles: Vec<_> = groups.iter().map(|group| middle(group)).collect();
        let mut svg = String::new();
        for (at, (group, x)) in groups.iter().zip(&middles).enumerate() {
            let before = at.checked_sub(1).and_then(|at| middles.get(at));
            let from = before.map_or(LEFT, |before| (before + x) / 2.0);
            let to = middles.get(at + 1).map_or(RIGHT, |after| (x + after) / 2.0);
            let _ = write!(
                svg,
                "<g class=\"column\"><rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"/>\
                 <g class=\"tip\"><line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>{}</g></g>",
                (to - from).max(0.1),
                BOTTOM - TOP,
                self.tip(lines, group, *x)
            );
        }
        svg
    }

    fn tip(&self, lines: &[&Line], group: &[f64], x: f64) -> String {
        let Some((first, last)) = group.first().zip(group.last()) else { return String::new() };
        let (mut dots, mut values) = (String::new(), Vec::new());
        for line in lines {
            let start = line.points.partition_point(|(x, _)| x < first);
            let inside = line.points[start..].iter().take_while(|(x, _)| x <= last);
            let greatest = inside.filter_map(|(_, value)| *value).reduce(f64::max);
            let Some(value) = greatest else { continue };
            let _ = write!(
                dots,
                "<circle class=\"c{}\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                line.colour,
                self.down(value)
            );
            values.push((line, self.unit.show(value)));
        }
        let place = match group {
            [x] => (self.show_x)(*x),
            _ => format!("most in {} to {}", (self.show_x)(*first), (self.show_x)(*last)),
        };
        let letters = values.iter().map(|(line, value)| line.name.len() + value.len() + 4);
        let is_short = place.len() + letters.sum::<usize>() <= LETTERS_MAX;
        let mut text = html(&place);
        for (line, value) in values {
            let name = if is_short { format!("{} ", html(&line.name)) } else { String::new() };
            let _ = write!(
                text,
                "<tspan class=\"c{}\" dx=\"7\">●</tspan> {name}{}",
                line.colour,
                html(&value)
            );
        }
        format!("{dots}<text x=\"{RIGHT}\" y=\"16\" text-anchor=\"end\">{text}</text>")
    }
}

/// What a line is like around one place, in units of the drawing: `top` is above `bottom`.
struct Place {
    x: f64,
    mean: f64,
    top: f64,
    bottom: f64,
}

impl Place {
    /// Of the points there; none = none of them has a value.
    fn of(points: &[(f64, Option<f64>)]) -> Option<Self> {
        let values = || points.iter().filter_map(|(x, y)| Some((*x, (*y)?)));
        let count = values().count() as f64;
        let (xs, ys) = values().fold((0.0, 0.0), |(xs, ys), (x, y)| (xs + x, ys + y));
        let top = values().map(|(_, y)| y).reduce(f64::min)?;
        let bottom = values().map(|(_, y)| y).reduce(f64::max)?;
        Some(Self { x: xs / count, mean: ys / count, top, bottom })
    }
}

/// Bars beside each other: each a name and a part of all, which together are one.
#[must_use]
pub fn bars(title: &str, x_name: &str, y_name: &str, parts: &[(String, f64)]) -> String {
    if parts.is_empty() {
        return empty(title);
    }
    let most = parts.iter().map(|(_, part)| *part).fold(0.0, f64::max);
    let y = Axis::linear(Unit::Part, most, 5);
    let mut svg = grid(&y, &axis_name(y_name, &y.unit));
    let width = ((RIGHT - LEFT) / parts.len() as f64).min(120.0);
    for (at, (name, part)) in parts.iter().enumerate() {
        let height = y.place(*part) * (BOTTOM - TOP);
        let (left, middle) = (LEFT + width * at as f64, LEFT + width * (at as f64 + 0.5));
        let _ = write!(
            svg,
            "<g class=\"bar\"><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></g>",
            left + width * 0.12,
            BOTTOM - height,
            width * 0.76,
            BOTTOM - height - 5.0,
            html(&Unit::Part.show((part * 1000.0).round() / 1000.0))
        );
        svg.push_str(&mark_below(middle, name));
    }
    svg.push_str(&name_below(x_name));
    figure(title, "", y_name, &svg)
}

fn grid(y: &Axis, name: &str) -> String {
    let mut svg = String::new();
    for (value, text) in &y.marks {
        let at = BOTTOM - y.place(*value) * (BOTTOM - TOP);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"mark\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            html(text)
        );
    }
    let _ = write!(svg, "<text class=\"name\" x=\"4\" y=\"16\">{}</text>", html(name));
    svg
}

fn mark_below(x: f64, text: &str) -> String {
    format!(
        "<line class=\"tick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BOTTOM}\" y2=\"{}\"/>\
         <text class=\"mark\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        BOTTOM + 4.0,
        BOTTOM + 18.0,
        html(text)
    )
}

fn name_below(name: &str) -> String {
    format!(
        "<text class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 36.0,
        html(name)
    )
}

fn axis_name(name: &str, unit: &str) -> String {
    match (name, unit) {
        (name, "") => name.to_owned(),
        ("", unit) => unit.to_owned(),
        (name, unit) => format!("{name}, {unit}"),
    }
}

fn figure(title: &str, keys: &str, what: &str, svg: &str) -> String {
    let title = html(title);
    format!(
        "<figure><figcaption><b>{title}</b><span>{keys}</span></figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}: {}\">{svg}</svg></figure>\n",
        html(what)
    )
}

fn empty(title: &str) -> String {
    let title = html(title);
    format!(
        "<figure><figcaption><b>{title}</b></figcaption><p class=\"none\">not measured</p></figure>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, Option<f64>)>) -> Chart {
        let most = points.iter().map(|(x, _)| *x).fold(0.0, f64::max);
        Chart {
            title: "<Title>".into(),
            x: Axis::time(0.0, most, 6),
            x_name: "time".into(),
            show_x: |x| format!("{x} s"),
            y: Axis::linear(Unit::Count, 100.0, 5),
            y_name: "things".into(),
            unit: Unit::Count,
            lines: vec![Line { name: "a&b".into(), colour: 0, is_dashed: false, points }],
            shades: vec![(0.0, 1.0)],
        }
    }

    /// The places of all steps of all paths.
    fn steps(svg: &str) -> Vec<(f64, f64)> {
        let paths = svg.split(" d=\"").skip(1).filter_map(|rest| rest.split('"').next());
        let steps = paths.flat_map(|path| path.split(['M', 'L']).filter(|step| !step.is_empty()));
        let place = |step: &str| {
            let (x, y) = step.split_once(' ').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        steps.map(place).collect()
    }

    #[test]
    fn nothing_and_one_point_are_shown() {
        assert!(chart(vec![]).draw().contains("not measured"));
        assert!(chart(vec![(1.0, None)]).draw().contains("not measured"));
        let one = chart(vec![(1.0, Some(50.0))]).draw();
        assert!(one.contains("<circle cx=") && steps(&one).is_empty(), "{one}");
        let gap = chart(vec![(1.0, Some(1.0)), (2.0, Some(2.0)), (3.0, None), (4.0, Some(4.0))]);
        let gap = gap.draw();
        assert_eq!((steps(&gap).len(), gap.matches("<circle cx=").count()), (2, 1));
    }

    #[test]
    fn a_hundred_thousand_points_are_drawn_small_and_no_peak_is_lost() {
        let point = |n: u32| (f64::from(n), Some(if n == 77_777 { 100.0 } else { 10.0 }));
        let svg = chart((0..100_000).map(point).collect()).draw();
        assert!(svg.len() < 150_000, "{}", svg.len());
        let steps = steps(&svg);
        assert!(steps.len() < 1000, "{}", steps.len());
        assert!(steps.iter().any(|(_, y)| *y == TOP), "the peak");
    }

    #[test]
    fn all_is_inside_of_the_plot_and_escaped() {
        let svg = chart(vec![(0.0, Some(-5.0)), (1.0, Some(1e9)), (2.0, Some(f64::NAN))]).draw();
        for (x, y) in steps(&svg) {
            assert!((LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y), "{x} {y}");
        }
        assert!(svg.contains("&lt;Title&gt;") && svg.contains("a&amp;b"));
        assert!(!svg.contains("<Title>") && !svg.contains("a&b"));
        let svg = bars("<i>", "<b>", "<u>", &[("<s>".into(), 0.25), ("b".into(), 0.75)]);
        assert!(!["<i>", "<b><i", "<u>", "<s>"].iter().any(|tag| svg.contains(tag)), "{svg}");
        assert!(svg.contains("75 %"));
    }
}
