//! Figures of one scenario: gathered over rounds, printed as median (least, greatest).

/// What one round of a scenario has found.
#[derive(Default)]
pub struct Outcome {
    figures: Vec<(String, f64, &'static str)>,
}

impl Outcome {
    pub fn add(&mut self, name: &str, value: f64, unit: &'static str) {
        self.figures.push((name.to_owned(), value, unit));
    }

    pub fn append(&mut self, other: Self) {
        self.figures.extend(other.figures);
    }
}

/// One figure over all rounds.
pub struct Figure {
    pub name: String,
    unit: &'static str,
    values: Vec<f64>,
}

impl Figure {
    pub fn median(&self) -> f64 {
        // Sorted when gathered.
        self.values[self.values.len() / 2]
    }

    /// `(least, greatest)`, when there are several.
    pub fn spread(&self) -> String {
        match (self.values.first(), self.values.last()) {
            (Some(least), Some(most)) if self.values.len() > 1 => {
                format!("({}, {})", short(*least), short(*most))
            }
            _ => String::new(),
        }
    }
}

/// The figures of several rounds, each over all of them, in the order they first came.
pub fn gather(rounds: Vec<Outcome>) -> Vec<Figure> {
    let mut all: Vec<Figure> = Vec::new();
    for (name, value, unit) in rounds.into_iter().flat_map(|round| round.figures) {
        match all.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => all.push(Figure { name, unit, values: vec![value] }),
        }
    }
    all.iter_mut().for_each(|figure| figure.values.sort_by(f64::total_cmp));
    all
}

/// A number with as many digits as say something.
pub fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && digit.is_ascii_digit() && (digits.len() - index) % 3 == 0 {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub fn print(figures: &[Figure]) {
    for figure in figures {
        let Figure { name, unit, .. } = figure;
        let (median, spread) = (short(figure.median()), figure.spread());
        println!("  {name:<44} {median:>12} {unit:<5} {spread}");
    }
}
