//! Just enough of Rust's grammar to ask what a file names: tokens, paths, and what is only for tests.

use std::{fs, path::Path};

/// A source file as tokens.
pub struct Source {
    /// From the package's root, with `/`.
    pub path: String,
    pub text: String,
    /// Without comments; literals are left out.
    pub tokens: Vec<Token>,
    /// `tokens` without items behind `#[cfg(test)]`; empty when the whole file is behind one.
    pub product: Vec<Token>,
}

/// A word or a mark of one character, except `::`, with its line from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let tokens = tokens(text);
        let product = without_tests(&tokens).0;
        Self { path: path.to_owned(), text: text.to_owned(), tokens, product }
    }

    /// All `.rs` files of a folder in the package, sorted by path.
    pub fn all(root: &Path, folder: &str) -> Vec<Self> {
        let mut paths = Vec::new();
        walk(&root.join(folder), &mut paths);
        let mut all: Vec<_> = paths
            .iter()
            .map(|path| {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                Self::new(&name, &fs::read_to_string(path).unwrap())
            })
            .collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        let only_tests: Vec<_> = all.iter().flat_map(Self::files_only_for_tests).collect();
        for source in &mut all {
            let within = |start: &String| {
                source.path == format!("{start}.rs")
                    || source.path.starts_with(&format!("{start}/"))
            };
            if only_tests.iter().any(within) {
                source.product.clear();
            }
        }
        all
    }

    /// The module of the crate that the file belongs to: `inbox` for `src/inbox/page.rs`; none for
    /// `src/lib.rs`; `bin` for a binary.
    pub fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first)).filter(|name| *name != "lib")
    }

    /// How many modules lie between the crate's root and this file's content.
    fn depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inside.split('/').filter(|part| !matches!(*part, "lib" | "mod" | "main")).count()
    }

    /// Paths without suffix of the files declared by `#[cfg(test)] mod name;`.
    fn files_only_for_tests(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let folder = ["/mod", "/lib", "/main"].iter().find_map(|end| stem.strip_suffix(end));
        let folder = folder.unwrap_or(stem);
        without_tests(&self.tokens).1.iter().map(|name| format!("{folder}/{name}")).collect()
    }

    /// Every path that starts at the crate's root, as its segments without the root, with its line.
    /// `super::` is resolved; groups are spread out.
    pub fn paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        // For each open brace, whether it is the body of a module.
        let mut braces = Vec::new();
        let root = if self.module() == Some("bin") { "roamd" } else { "crate" };
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            let word = |ahead: usize| self.tokens.get(at + ahead).map_or("", |t| t.text.as_str());
            match word(0) {
                "{" => braces.push(at >= 2 && self.tokens[at - 2].text == "mod"),
                "}" => {
                    braces.pop();
                }
                start if start == root && word(1) == "::" => {
                    spread(&self.tokens, at + 2, &mut Vec::new(), &mut |path| {
                        found.push((token.line, path));
                    });
                }
                "super" if word(1) == "::" => {
                    let up = 1 + (1..).take_while(|n| word(2 * n) == "super").count();
                    let depth = self.depth() + braces.iter().filter(|module| **module).count();
                    if up >= depth {
                        spread(&self.tokens, at + 2 * up, &mut Vec::new(), &mut |path| {
                            found.push((token.line, path));
                        });
                    }
                    at += 2 * (up - 1);
                }
                _ => {}
            }
            at += 1;
        }
        found
    }
}

/// Lines at which this sequence of tokens stands.
pub fn lines_with(tokens: &[Token], sequence: &[&str]) -> Vec<usize> {
    let same = |window: &&[Token]| window.iter().zip(sequence).all(|(t, s)| t.text == *s);
    tokens.windows(sequence.len()).filter(same).map(|window| window[0].line).collect()
}

/// The parts of an identifier in lower case: `userId_next` is user, id, next.
pub fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut lower_before = false;
    for c in identifier.chars() {
        if c == '_' || (c.is_uppercase() && lower_before) {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().unwrap().extend(c.to_lowercase());
        }
        lower_before = c.is_lowercase() || c.is_numeric();
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn walk(folder: &Path, paths: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, paths);
        } else if path.extension().is_some_and(|end| end == "rs") {
            paths.push(path);
        }
    }
}

/// Calls `found` with every path of a use tree; tells where it ends.
fn spread(
    tokens: &[Token],
    mut at: usize,
    prefix: &mut Vec<String>,
    found: &mut impl FnMut(Vec<String>),
) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let before = prefix.len();
    loop {
        match word(at) {
            "{" => {
                at += 1;
                while !matches!(word(at), "}" | "") {
                    at = spread(tokens, at, prefix, found);
                    // Behind a tree stands a comma, the group's end, or `as name`.
                    while !matches!(word(at), "," | "}" | "") {
                        at += 1;
                    }
                    at += usize::from(word(at) == ",");
                }
                prefix.truncate(before);
                return at + 1;
            }
            segment if is_word(segment) || segment == "*" => {
                prefix.push(segment.to_owned());
                at += 1;
                if word(at) == "::" {
                    at += 1;
                    continue;
                }
            }
            _ => {}
        }
        found(prefix.clone());
        prefix.truncate(before);
        return at;
    }
}

/// The tokens without items behind `#[cfg(test)]`, and the names of `mod name;` among those items.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut names) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let here = &tokens[at..];
        if here.len() > marker.len() && here.iter().zip(marker).all(|(t, m)| t.text == m) {
            let start = at + marker.len();
            at = end_of_item(tokens, start);
            if let Some(mod_at) = (start..at).find(|i| tokens[*i].text == "mod")
                && tokens.get(mod_at + 2).is_some_and(|t| t.text == ";")
            {
                names.push(tokens[mod_at + 1].text.clone());
            }
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    (kept, names)
}

/// Where the item, field or statement that starts here ends; attributes before it belong to it.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    const ITEMS: [&str; 15] = [
        "pub",
        "mod",
        "fn",
        "impl",
        "use",
        "struct",
        "enum",
        "const",
        "static",
        "type",
        "trait",
        "macro_rules",
        "unsafe",
        "async",
        "extern",
    ];
    while tokens.get(at).is_some_and(|t| t.text == "#") {
        at = end_of_group(tokens, at + 1);
    }
    // Between the `<` and `>` of an item stand commas that end nothing.
    let item = tokens.get(at).is_some_and(|t| ITEMS.contains(&t.text.as_str()));
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" => return at + 1,
            "," if !item => return at + 1,
            "}" => return at,
            "{" => {
                at = end_of_group(tokens, at);
                let more = tokens.get(at).is_some_and(|t| t.text == ";" || t.text == ",");
                return at + usize::from(more && !item);
            }
            "(" | "[" => at = end_of_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// The token behind the bracket that closes the one here.
fn end_of_group(tokens: &[Token], mut at: usize) -> usize {
    let mut open = 0;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => open += 1,
            ")" | "]" | "}" => open -= 1,
            _ => {}
        }
        at += 1;
        if open == 0 {
            break;
        }
    }
    at
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut at, mut counted, mut line) = (0, 0, 1);
    let mut out = Vec::new();
    while at < chars.len() {
        line += chars[counted..at].iter().filter(|c| **c == '\n').count();
        counted = at;
        let start = at;
        match (get(at), get(at + 1)) {
            ('/', '/') => {
                while at < chars.len() && get(at) != '\n' {
                    at += 1;
                }
            }
            ('/', '*') => {
                let mut open = 0;
                while at < chars.len() {
                    match (get(at), get(at + 1)) {
                        ('/', '*') => (open, at) = (open + 1, at + 2),
                        ('*', '/') => (open, at) = (open - 1, at + 2),
                        _ => at += 1,
                    }
                    if open == 0 {
                        break;
                    }
                }
            }
            ('"', _) => at = end_of_quote(&chars, at),
            // A character, unless it is a lifetime.
            ('\'', '\\') => at = end_of_quote(&chars, at),
            ('\'', _) => at += if get(at + 2) == '\'' { 3 } else { 1 },
            (c, _) if in_word(c) => {
                while in_word(get(at)) {
                    at += 1;
                }
                let word: String = chars[start..at].iter().collect();
                let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
                if matches!(word.as_str(), "r" | "br" | "cr") && get(at + hashes) == '"' {
                    at = end_of_raw(&chars, at + hashes + 1, hashes);
                } else if is_word(&word) {
                    out.push(Token { text: word, line });
                }
            }
            (':', ':') => {
                out.push(Token { text: "::".to_owned(), line });
                at += 2;
            }
            (c, _) => {
                if !c.is_whitespace() {
                    out.push(Token { text: c.to_string(), line });
                }
                at += 1;
            }
        }
    }
    out
}

/// Behind the quote that closes the one here.
fn end_of_quote(chars: &[char], mut at: usize) -> usize {
    let quote = chars[at];
    at += 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn end_of_raw(chars: &[char], mut at: usize, hashes: usize) -> usize {
    while at < chars.len() {
        let closes = chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
        if chars[at] == '"' && closes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}
