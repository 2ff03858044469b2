//! "Did you mean": the known key that looks most like an unknown one.

use super::section::SECTIONS;

/// The known `section.key` (or section) nearest to what was written, when one is near enough.
pub(super) fn nearest(section: &str, key: Option<&str>) -> Option<String> {
    let Some(key) = key else {
        return closest(section, SECTIONS.iter().map(|s| s.name.to_owned()));
    };
    let all = || SECTIONS.iter().flat_map(|s| s.settings.iter().map(move |k| (s.name, k.name)));
    let full = |(section, key): (&str, &str)| format!("{section}.{key}");

    let here = all().filter(|(s, _)| *s == section).map(|(_, k)| k.to_owned());
    let elsewhere = || all().find(|(_, k)| *k == key).map(full);
    let anywhere = || closest(&full((section, key)), all().map(full));
    elsewhere().or_else(|| closest(key, here).map(|k| full((section, &k)))).or_else(anywhere)
}

/// The candidate with the fewest edits, when they are at most half of what was written.
fn closest(written: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let (edits, candidate) = candidates.map(|c| (distance(written, &c), c)).min()?;
    (edits <= written.chars().count() / 2).then_some(candidate)
}

/// Levenshtein's distance: characters to insert, delete or replace.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (above, a) in from.chars().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        let (first, rest) = match row.split_first_mut() {
            Some(parts) => parts,
            None => return 0,
        };
        *first = left;
        for (cell, b) in rest.iter_mut().zip(to.chars()) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *cell;
            *cell = replaced.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (from, to, edits) in
            [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("kitten", "sitting", 3), ("a", "a", 0)]
        {
            assert_eq!(distance(from, to), edits, "{from} {to}");
        }
    }

    #[test]
    fn finds_typos_and_wrong_sections() {
        let near = |section, key| nearest(section, Some(key));
        assert_eq!(near("listen", "adress").as_deref(), Some("listen.address"));
        assert_eq!(near("limits", "inbox_entires").as_deref(), Some("limits.inbox_entries"));
        assert_eq!(near("store", "cache_size").as_deref(), Some("store.cache_bytes"));
        assert_eq!(near("store", "dir").as_deref(), Some("data.dir"));
        assert_eq!(near("limit", "inbox_aeg").as_deref(), Some("limits.inbox_age"));
        assert_eq!(near("log", "zzzzzzzzzzzzzzzz"), None);
        assert_eq!(nearest("limit", None).as_deref(), Some("limits"));
        assert_eq!(nearest("quantum", None), None);
    }
}
