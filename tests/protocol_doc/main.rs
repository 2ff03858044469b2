//! `docs/protocol.md` must be true: its examples are bytes this crate reads and writes, and its
//! tables agree with the registry and the limits.
//!
//! When an example is out of date the test prints the right text;
//! `UPDATE_PROTOCOL_DOC=1 cargo test --test protocol_doc` writes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod examples;
mod story;
mod tables;
mod text_format;

use std::{fs, path::PathBuf};

use bytes::BytesMut;
use prost::Message as _;
use roamd::{
    limits::SERVER_FRAME_BYTES_MAX,
    wire::{FrameDecoder, proto},
};

const BEGIN: &str = "<!-- examples: written by tests/protocol_doc -->";
const END: &str = "<!-- end of examples -->";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md")
}

fn document() -> String {
    fs::read_to_string(path()).unwrap()
}

/// Who writes a frame, and so which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

impl From {
    const fn message(self) -> &'static str {
        match self {
            Self::Client => "ClientFrame",
            Self::Server => "ServerFrame",
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn the_examples_are_what_the_code_writes() {
    let mut right = String::new();
    for example in examples::all() {
        let message = example.from.message();
        let (_, text) = open(&example.bytes, example.from);
        right += &format!("\n### {}\n\n", example.title);
        if !example.about.is_empty() {
            right += &format!("{}\n\n", example.about);
        }
        let hex = hex(&example.bytes);
        right += &format!("```hex {message}\n{hex}\n```\n\n```text\n{text}```\n");
    }
    let document = document();
    let (before, rest) = document.split_once(BEGIN).expect("the examples begin");
    let (written, after) = rest.split_once(END).expect("the examples end");
    if written.trim() == right.trim() {
        return;
    }
    if std::env::var_os("UPDATE_PROTOCOL_DOC").is_some() {
        fs::write(path(), format!("{before}{BEGIN}\n{right}\n{END}{after}")).unwrap();
        return;
    }
    panic!("docs/protocol.md should have these examples:\n{right}");
}

#[test]
fn every_hex_block_decodes_to_its_text_and_encodes_again() {
    let document = document();
    let mut blocks = 0;
    for block in document.split("```hex ").skip(1) {
        let (hex, rest) = block.split_once("```").unwrap();
        let (kind, hex) = hex.split_once('\n').unwrap();
        let text = rest.split_once("```text\n").unwrap().1.split_once("```").unwrap().0;
        let from = match kind {
            "ClientFrame" => From::Client,
            "ServerFrame" => From::Server,
            other => panic!("a block of {other}"),
        };
        let bytes = unhex(hex);
        let (body, rendered) = open(&bytes, from);
        assert_eq!(rendered, text);
        let again = match from {
            From::Client => proto::ClientFrame::decode(&body[..]).unwrap().encode_to_vec(),
            From::Server => proto::ServerFrame::decode(&body[..]).unwrap().encode_to_vec(),
        };
        // Generated types drop what they do not know, so those bytes cannot come back.
        if !text_format::has_unknown(from.message(), &body) {
            assert_eq!(again, body, "{text}");
        }
        blocks += 1;
    }
    assert!(blocks >= 12, "{blocks}");
}

/// Every frame and every entry of the protocol is shown once.
#[test]
fn everything_has_an_example() {
    let mut shown = String::new();
    for example in examples::all() {
        shown += &open(&example.bytes, example.from).1;
    }
    for (message, depth) in [("ClientFrame", 0), ("ServerFrame", 0), ("Entry", 2)] {
        for name in text_format::cases(message) {
            let line = format!("{}{name} {{\n", "  ".repeat(depth));
            assert!(
                shown.contains(&format!("\n{line}")) || shown.starts_with(&line),
                "no example of {message}.{name}"
            );
        }
    }
}

/// The body of the one frame in `bytes`, and its text.
fn open(bytes: &[u8], from: From) -> (Vec<u8>, String) {
    let mut stream = BytesMut::from(bytes);
    let body = FrameDecoder::new(SERVER_FRAME_BYTES_MAX).next_frame(&mut stream).unwrap().unwrap();
    assert!(stream.is_empty(), "more than one frame");
    (body.to_vec(), text_format::render(from.message(), &body))
}
