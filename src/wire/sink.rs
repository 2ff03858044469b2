//! Protobuf fields, counted or written: one description of a message serves both.
//!
//! A message is described as [`Fields`] and run against a [`Sink`]: [`Count`] adds up its length, and keeps the
//! lengths of what is nested in it; [`Write`] takes its bytes, and finds those lengths where it comes by, in
//! the same order. So a length can never disagree with what follows it, and each is counted once.

use std::{mem, slice};

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// The fields of one protobuf message, in the order of their numbers.
pub(super) trait Fields {
    /// Runs every field that has a value past `sink`.
    fn run(&self, sink: &mut impl Sink);

    /// Encoded length without key and prefix.
    fn len(&self) -> usize {
        let mut count = Count::default();
        self.run(&mut count);
        count.len
    }

    /// Appends them behind their length.
    fn write_delimited(&self, out: &mut BytesMut) {
        let mut count = Count { nested: Some(Vec::new()), ..Count::default() };
        self.run(&mut count);
        let Count { len, nested } = count;
        let nested = nested.unwrap_or_default();
        let start = out.len();
        out.resize(start + encoded_len_varint(len as u64) + len, 0);
        let (_, mut rest) = out.split_at_mut(start);
        encode_varint(len as u64, &mut rest);
        self.run(&mut Write { out: rest, nested: nested.iter() });
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

/// Adds up lengths.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) len: usize,
    /// Those of what is nested, in the order in which it begins; none = not wanted.
    nested: Option<Vec<usize>>,
}

impl Count {
    fn delimited(&mut self, field: u32, len: usize) {
        self.len += key_len(field) + encoded_len_varint(len as u64) + len;
    }
}

impl Sink for Count {
    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.len += key_len(field) + encoded_len_varint(value);
        }
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.delimited(field, value.len());
        }
    }

    fn nested(&mut self, field: u32, value: &impl Fields) {
        let at = self.nested.as_mut().map(|nested| {
            nested.push(0);
            nested.len() - 1
        });
        let before = mem::take(&mut self.len);
        value.run(self);
        let len = mem::replace(&mut self.len, before);
        if let (Some(nested), Some(at)) = (&mut self.nested, at)
            && let Some(place) = nested.get_mut(at)
        {
            *place = len;
        }
        self.delimited(field, len);
    }

    fn element(&mut self, field: u32, value: &str) {
        self.delimited(field, value.len());
    }

    fn present(&mut self, field: u32, _value: bool) {
        self.len += key_len(field) + 1;
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

/// Takes the bytes.
pub(super) struct Write<'a> {
    /// As long as was counted.
    out: &'a mut [u8],
    nested: slice::Iter<'a, usize>,
}

impl Write<'_> {
    fn key(&mut self, field: u32, form: WireType) {
        encode_key(field, form, &mut self.out);
    }

    fn varint(&mut self, value: u64) {
        encode_varint(value, &mut self.out);
    }

    fn delimited(&mut self, field: u32, value: &[u8]) {
        self.key(field, WireType::LengthDelimited);
        self.varint(value.len() as u64);
        self.out.put_slice(value);
    }
}

impl Sink for Write<'_> {
    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.key(field, WireType::Varint);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.delimited(field, value);
        }
    }

    fn nested(&mut self, field: u32, value: &impl Fields) {
        self.key(field, WireType::LengthDelimited);
        let len = self.nested.next().copied().unwrap_or_default();
        self.varint(len as u64);
        value.run(self);
    }

    fn element(&mut self, field: u32, value: &str) {
        self.delimited(field, value.as_bytes());
    }

    fn present(&mut self, field: u32, value: bool) {
        self.key(field, WireType::Varint);
        self.varint(value.into());
    }

    fn present_bytes(&mut self, field: u32, value: &[u8]) {
        self.delimited(field, value);
    }

    fn packed(&mut self, field: u32, values: impl Iterator<Item = u64> + Clone) {
        let len: usize = values.clone().map(encoded_len_varint).sum();
        if len > 0 {
            self.key(field, WireType::LengthDelimited);
            self.varint(len as u64);
            values.for_each(|value| self.varint(value));
        }
    }
}
