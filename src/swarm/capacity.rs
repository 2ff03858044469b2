//! The highest rate that holds an objective: doubled until it fails, then halved in between.
//!
//! Free of input and output: it says which rate to try next, and is told how that went.

/// Most runs of one search.
pub const STEPS_MAX: u32 = 24;

/// A search for the highest rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    held: Option<f64>,
    missed: Option<f64>,
    next: f64,
    most: f64,
    /// The search ends when both bounds are so near, in parts of the lower one.
    precision: f64,
    steps: u32,
}

impl Search {
    /// Starts at a rate, and never tries more than `most`.
    #[must_use]
    pub fn new(first: f64, most: f64, precision: f64) -> Self {
        Self { held: None, missed: None, next: first.min(most), most, precision, steps: 0 }
    }

    /// The rate to try; none = the search is over.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        let near = match (self.held, self.missed) {
            (Some(held), Some(missed)) => missed - held <= held * self.precision,
            (Some(held), None) => held >= self.most,
            // Even next to nothing is too much.
            (None, Some(missed)) => missed < 1.0,
            (None, None) => false,
        };
        (!near && self.steps < STEPS_MAX).then_some(self.next)
    }

    /// How the rate went that was to be tried.
    pub fn tried(&mut self, held: bool) {
        self.steps += 1;
        let side = if held { &mut self.held } else { &mut self.missed };
        *side = Some(self.next);
        self.next = match (self.held, self.missed) {
            (Some(held), Some(missed)) => (held + missed) / 2.0,
            (Some(held), None) => (held * 2.0).min(self.most),
            (None, Some(missed)) => missed / 4.0,
            (None, None) => self.next,
        };
    }

    /// The highest rate that held.
    #[must_use]
    pub fn held(&self) -> Option<f64> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(first: f64, most: f64, capacity: f64) -> (Option<f64>, u32) {
        let mut search = Search::new(first, most, 0.1);
        while let Some(rate) = search.next() {
            assert!(rate <= most);
            search.tried(rate <= capacity);
        }
        (search.held(), search.steps)
    }

    #[test]
    fn finds_the_highest_rate_within_the_precision() {
        for (first, capacity) in [(100.0, 1730.0), (5000.0, 1730.0), (1.0, 1.0), (64.0, 1e5)] {
            let (held, steps) = search(first, 1e6, capacity);
            let held = held.unwrap();
            assert!(held <= capacity && held * 1.1 >= capacity * 0.99, "{held} of {capacity}");
            assert!(steps <= STEPS_MAX);
        }
    }

    #[test]
    fn ends_at_the_bounds() {
        assert_eq!(search(100.0, 400.0, 1e9), (Some(400.0), 3));
        assert_eq!(search(100.0, 400.0, 0.0).0, None);
        assert!(search(1e6, 1e9, 0.0).1 <= STEPS_MAX);
    }
}
