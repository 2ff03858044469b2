//! `docs/storage.md` names everything that stands on disk.

use std::{collections::BTreeSet, fs, path::Path};

use roamd::store::{
    FORMAT_VERSION, RECORD_BYTES_MAX, ROW_BYTES_MAX, Store,
    catalogue::{LogKind, MESSAGE_IDS, Table},
};

use crate::{
    place::{Place, quiet},
    scenario::everything,
};

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/storage.md")).unwrap()
}

/// The names in back-ticks that begin a table row or a heading.
fn described(text: &str) -> BTreeSet<&str> {
    let begins = |line: &'static str| move |text: &&str| text.starts_with(line);
    let lines = text.lines().filter(|line| begins("| `")(line) || begins("#")(line));
    lines.filter_map(|line| line.split('`').nth(1)).collect()
}

#[test]
fn every_tree_and_table_is_described_with_its_number() {
    let text = document();
    let described = described(&text);
    for kind in LogKind::ALL {
        assert!(described.contains(kind.tree()), "{}", kind.tree());
        let row = format!("| `{}` | {} |", kind.tree(), kind as u8);
        assert!(text.contains(&row), "no {row:?}");
        assert!(text.contains(&format!("#### `{}`", kind.tree())), "entry of {}", kind.tree());
    }
    for table in Table::ALL {
        let row = format!("| `{}` | {} |", table.tree(), table as u8);
        assert!(text.contains(&row), "no {row:?}");
    }
    for own in ["bounds", "pieces", "meta"] {
        assert!(described.contains(own), "{own}");
    }
    assert!(text.contains(&format!("Format version {FORMAT_VERSION}.")));
    assert!(text.contains(&format!("at most {ROW_BYTES_MAX}")));
    assert!(text.contains(&format!("| record of a log | {} MiB |", RECORD_BYTES_MAX >> 20)));
    assert!(text.contains(std::str::from_utf8(MESSAGE_IDS).unwrap()));
}

/// The trees and files that a store really makes.
#[test]
fn every_file_and_tree_on_disk_is_described() {
    let place = Place::new();
    let (store, writer) = Store::open(&quiet(place.dir())).unwrap();
    let writer = everything(&store, writer);
    store.close(writer).unwrap();
    let text = document();
    for entry in fs::read_dir(place.dir()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let folder = if entry.file_type().unwrap().is_dir() { "/" } else { "" };
        assert!(text.contains(&format!("| `{name}{folder}` |")), "{name}{folder}");
    }
    let described = described(&text);
    let db = sled::open(place.dir().join("trees")).unwrap();
    for tree in db.tree_names() {
        let name = std::str::from_utf8(&tree).unwrap();
        assert!(described.contains(name) || name == "__sled__default", "{name}");
    }
}
