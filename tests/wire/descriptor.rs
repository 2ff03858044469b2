//! Guards the wire against breaking: whatever a released client relies on must stay.
//!
//! `proto/roamd/v1/v1.desc.bin` is the protocol as it was promised. Everything in it must still be
//! there with the same number, type, label and name. Additions are fine: refresh the file with
//! `UPDATE_DESCRIPTOR=1 cargo test --test wire descriptor`, and look at what was added.

use std::{collections::BTreeMap, fs, path::Path};

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

const BUILT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
const REFRESH: &str = "refresh it with UPDATE_DESCRIPTOR=1 cargo test --test wire descriptor";

/// Everything a client relies on: a path such as `field roamd.v1.Send 3` and what it is.
fn promises(set: &FileDescriptorSet) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            add_message(file.package(), message, &mut all);
        }
        for values in &file.enum_type {
            add_enum(file.package(), values, &mut all);
        }
    }
    all
}

fn add_message(parent: &str, message: &DescriptorProto, all: &mut BTreeMap<String, String>) {
    let name = format!("{parent}.{}", message.name());
    all.insert(format!("message {name}"), String::new());
    for field in &message.field {
        // A proto3 `optional` has a oneof of its own, whose index says nothing.
        let oneof = match (field.proto3_optional(), field.oneof_index) {
            (false, Some(index)) => message.oneof_decl[index as usize].name(),
            _ => "",
        };
        let promise = format!(
            "{} {:?} {} {:?} optional={} oneof={oneof}",
            field.name(),
            field.r#type(),
            field.type_name(),
            field.label(),
            field.proto3_optional(),
        );
        all.insert(format!("field {name} {}", field.number()), promise);
    }
    for inner in &message.nested_type {
        add_message(&name, inner, all);
    }
    for inner in &message.enum_type {
        add_enum(&name, inner, all);
    }
}

fn add_enum(parent: &str, values: &EnumDescriptorProto, all: &mut BTreeMap<String, String>) {
    let name = format!("{parent}.{}", values.name());
    for value in &values.value {
        all.insert(format!("value {name} {}", value.number()), value.name().to_owned());
    }
}

/// What was promised and is no longer so.
fn broken(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let now = promises(new);
    promises(old)
        .into_iter()
        .filter(|(path, promise)| now.get(path) != Some(promise))
        .map(|(path, promise)| format!("{path}: was {promise:?}, is {:?}", now.get(&path)))
        .collect()
}

fn built() -> FileDescriptorSet {
    let mut set = FileDescriptorSet::decode(BUILT).unwrap();
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set
}

#[test]
fn nothing_that_was_promised_has_changed() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/roamd/v1/v1.desc.bin");
    let new = built();
    let old = fs::read(&golden).map(|bytes| FileDescriptorSet::decode(&bytes[..]).unwrap());
    let old = old.unwrap_or_default();
    let broken = broken(&old, &new);
    assert!(broken.is_empty(), "this breaks released clients:\n{}", broken.join("\n"));
    if old == new {
        return;
    }
    if std::env::var_os("UPDATE_DESCRIPTOR").is_some() {
        fs::write(&golden, new.encode_to_vec()).unwrap();
        return;
    }
    let before = promises(&old);
    let added: Vec<_> =
        promises(&new).into_keys().filter(|key| !before.contains_key(key)).collect();
    panic!("the golden descriptor lacks what was added; {REFRESH}\n{}", added.join("\n"));
}

#[test]
fn the_guard_sees_every_kind_of_break() {
    let old = built();
    let message = |set: &mut FileDescriptorSet, name: &str| {
        set.file[0].message_type.iter().position(|m| m.name() == name).unwrap()
    };
    let check = |change: &dyn Fn(&mut FileDescriptorSet)| {
        let mut new = old.clone();
        change(&mut new);
        assert!(!broken(&old, &new).is_empty());
        assert!(broken(&old, &old).is_empty());
    };
    check(&|set| {
        let at = message(set, "Send");
        set.file[0].message_type[at].field.remove(2);
    });
    check(&|set| {
        let at = message(set, "Send");
        set.file[0].message_type[at].field[2].number = Some(99);
    });
    check(&|set| {
        let at = message(set, "Send");
        set.file[0].message_type[at].field[2].name = Some("other".into());
    });
    check(&|set| {
        let at = message(set, "Send");
        set.file[0].message_type[at].field[2]
            .set_type(prost_types::field_descriptor_proto::Type::Fixed64);
    });
    check(&|set| {
        let at = message(set, "Send");
        set.file[0].message_type[at].field[0].oneof_index = None;
    });
    check(&|set| {
        let at = message(set, "GoAway");
        set.file[0].message_type.remove(at);
    });
    check(&|set| {
        set.file[0].enum_type[0].value.pop();
    });
}
