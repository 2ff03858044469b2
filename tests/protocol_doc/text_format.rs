//! Protobuf's text format from bytes and the descriptor, as `protoc --decode` prints it: a second
//! reader of the wire that knows nothing of the generated types.

use std::fmt::Write;

use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type,
};

const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// The text of one message of package `roamd.v1`.
pub fn render(message: &str, bytes: &[u8]) -> String {
    let mut printer = Printer { set: set(), out: String::new(), unknown: 0 };
    printer.message(message, bytes, 0);
    printer.out
}

/// Whether any field in `bytes` is not in the descriptor.
pub fn has_unknown(message: &str, bytes: &[u8]) -> bool {
    let mut printer = Printer { set: set(), out: String::new(), unknown: 0 };
    printer.message(message, bytes, 0);
    printer.unknown > 0
}

/// The names of what a message of package `roamd.v1` is one of.
pub fn cases(message: &str) -> Vec<String> {
    let printer = Printer { set: set(), out: String::new(), unknown: 0 };
    let fields = printer.find(message).field.into_iter();
    fields.filter(|field| field.oneof_index.is_some()).map(|field| field.name().into()).collect()
}

fn set() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTOR).unwrap()
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Printer {
    set: FileDescriptorSet,
    out: String,
    unknown: usize,
}

impl Printer {
    fn message(&mut self, name: &str, mut bytes: &[u8], depth: usize) {
        let descriptor = self.find(name);
        while !bytes.is_empty() {
            let (number, value) = read(&mut bytes);
            match descriptor.field.iter().find(|field| field.number() as u32 == number) {
                Some(field) => self.field(field, value, depth),
                None => {
                    self.unknown += 1;
                    match value {
                        Value::Number(value) => self.line(depth, &format!("{number}: {value}")),
                        Value::Bytes(value) => {
                            self.line(depth, &format!("{number}: {}", quoted(value)));
                        }
                    }
                }
            }
        }
    }

    fn field(&mut self, field: &FieldDescriptorProto, value: Value<'_>, depth: usize) {
        let name = field.name();
        let type_name = field.type_name().trim_start_matches(".roamd.v1.");
        match (field.r#type(), value) {
            (Type::Message, Value::Bytes(inner)) => {
                self.line(depth, &format!("{name} {{"));
                self.message(type_name, inner, depth + 1);
                self.line(depth, "}");
            }
            (Type::String | Type::Bytes, Value::Bytes(text)) => {
                self.line(depth, &format!("{name}: {}", quoted(text)));
            }
            // A list of numbers, packed into one field.
            (_, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let value = Value::Number(varint(&mut packed));
                    self.field(field, value, depth);
                }
            }
            (Type::Enum, Value::Number(value)) => {
                let values = self.set.file[0].enum_type.iter().find(|e| e.name() == type_name);
                let values = &values.unwrap().value;
                let text = values.iter().find(|v| i64::from(v.number()) == value as i64);
                let text = text.map_or(value.to_string(), |v| v.name().to_owned());
                self.line(depth, &format!("{name}: {text}"));
            }
            (Type::Bool, Value::Number(value)) => {
                self.line(depth, &format!("{name}: {}", value != 0));
            }
            (_, Value::Number(value)) => self.line(depth, &format!("{name}: {value}")),
        }
    }

    fn line(&mut self, depth: usize, text: &str) {
        writeln!(self.out, "{}{text}", "  ".repeat(depth)).unwrap();
    }

    fn find(&self, name: &str) -> DescriptorProto {
        let messages = &self.set.file[0].message_type;
        messages.iter().find(|message| message.name() == name).unwrap().clone()
    }
}

fn read<'a>(bytes: &mut &'a [u8]) -> (u32, Value<'a>) {
    let key = varint(bytes);
    let value = match key & 7 {
        0 => Value::Number(varint(bytes)),
        1 => Value::Number(u64::from_le_bytes(take(bytes, 8).try_into().unwrap())),
        2 => {
            let len = varint(bytes) as usize;
            Value::Bytes(take(bytes, len))
        }
        other => panic!("wire type {other}"),
    };
    ((key >> 3) as u32, value)
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint without an end")
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(len);
    *bytes = rest;
    taken
}

fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' => out += "\\\"",
            b'\\' => out += "\\\\",
            b'\n' => out += "\\n",
            0x20..=0x7e => out.push(byte.into()),
            _ => write!(out, "\\{byte:03o}").unwrap(),
        }
    }
    out + "\""
}
