//! Protobuf fields, counted or written: one description of a message serves both.
//!
//! A message is described as [`Fields`] and run against a [`Sink`]: [`Count`] adds up its length, the
//! buffer takes its bytes. So a length can never disagree with what follows it.

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// The fields of one protobuf message, in the order of their numbers.
pub(super) trait Fields {
    /// Runs every field that has a value past `sink`.
    fn run(&self, sink: &mut impl Sink);

    /// Encoded length without key and prefix.
    fn len(&self) -> usize {
        let mut count = Count(0);
        self.run(&mut count);
        count.0
    }
}

/// Takes fields. Values at their default are left out, as proto3 wants it.
pub(super) trait Sink {
    fn number(&mut self, field: u32, value: u64);
    fn bytes(&mut self, field: u32, value: &[u8]);
    /// An element of a list or `oneof`, written even when it is empty.
    fn nested(&mut self, field: u32, value: &impl Fields);
    /// A text in a list, written even when it is empty.
    fn element(&mut self, field: u32, value: &str);

    fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    fn flag(&mut self, field: u32, value: bool) {
        self.number(field, value.into());
    }

    /// A flag with presence: written even when it is false.
    fn present(&mut self, field: u32, value: bool);

    /// Bytes with presence: written even when there are none.
    fn present_bytes(&mut self, field: u32, value: &[u8]);

    /// A list of numbers in one field.
    fn packed(&mut self, field: u32, values: impl Iterator<Item = u64> + Clone);
}

pub(super) struct Count(pub(super) usize);

impl Count {
    fn delimited(&mut self, field: u32, len: usize) {
        self.0 += key_len(field) + encoded_len_varint(len as u64) + len;
    }
}

impl Sink for Count {
    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.0 += key_len(field) + encoded_len_varint(value);
        }
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.delimited(field, value.len());
        }
    }

    fn nested(&mut self, field: u32, value: &impl Fields) {
        self.delimited(field, value.len());
    }

    fn element(&mut self, field: u32, value: &str) {
        self.delimited(field, value.len());
    }

    fn present(&mut self, field: u32, _value: bool) {
        self.0 += key_len(field) + 1;
    }

    fn present_bytes(&mut self, field: u32, value: &[u8]) {
        self.delimited(field, value.len());
    }

    fn packed(&mut self, field: u32, values: impl Iterator<Item = u64> + Clone) {
        let len: usize = values.map(encoded_len_varint).sum();
        if len > 0 {
            self.delimited(field, len);
        }
    }
}

impl Sink for BytesMut {
    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            encode_key(field, WireType::Varint, self);
            encode_varint(value, self);
        }
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            write_delimited(field, value, self);
        }
    }

    fn nested(&mut self, field: u32, value: &impl Fields) {
        encode_key(field, WireType::LengthDelimited, self);
        encode_varint(value.len() as u64, self);
        value.run(self);
    }

    fn element(&mut self, field: u32, value: &str) {
        write_delimited(field, value.as_bytes(), self);
    }

    fn present(&mut self, field: u32, value: bool) {
        encode_key(field, WireType::Varint, self);
        encode_varint(value.into(), self);
    }

    fn present_bytes(&mut self, field: u32, value: &[u8]) {
        write_delimited(field, value, self);
    }

    fn packed(&mut self, field: u32, values: impl Iterator<Item = u64> + Clone) {
        let len: usize = values.clone().map(encoded_len_varint).sum();
        if len > 0 {
            encode_key(field, WireType::LengthDelimited, self);
            encode_varint(len as u64, self);
            values.for_each(|value| encode_varint(value, self));
        }
    }
}

fn write_delimited(field: u32, value: &[u8], out: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.put_slice(value);
}
