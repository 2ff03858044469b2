//! What each body begins with.

use std::{fs, path::PathBuf};

use prost::Message as _;
use roamd::{
    conversation::{Conversation, Hidden, Member, Membership, Preference},
    history::{self, Change, Mutated, Mutation},
    id::{ClientMessageId, ConversationId, DeviceId, MessageId, UserId},
    inbox::{self, Device, Revocation},
    message::{
        ConversationKind, Draft, Entry, EntryKind, HistoryPolicy, Message, MessageFlags,
        MutationRef, Role,
    },
    sent::{Remembered, Sent},
    seq::{HistorySeq, InboxSeq, MutationSeq},
    time::Timestamp,
    wire::proto,
};

use crate::hostile;

fn folder(body: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(body)
}

/// What is in the tree for the body, and what it begins with.
pub fn of(body: &str) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = first(body).into_iter().map(|(_, input)| input).collect();
    if let Ok(files) = fs::read_dir(folder(body)) {
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        all.extend(paths.into_iter().map(|path| fs::read(path).unwrap()));
    }
    all
}

/// Writes what the bodies begin with to where cargo-fuzz looks for it.
#[test]
fn corpus() {
    if std::env::var_os("FUZZ_CORPUS").is_none() {
        return;
    }
    for body in &crate::bodies::ALL {
        fs::create_dir_all(folder(body.name)).unwrap();
        for (name, input) in first(body.name) {
            fs::write(folder(body.name).join(name), input).unwrap();
        }
    }
}

/// Named inputs.
fn first(body: &str) -> Vec<(String, Vec<u8>)> {
    match body {
        "frame_stream" => {
            let whole: Vec<u8> = examples("ClientFrame").concat();
            let mut all = numbered("example", examples("ClientFrame"));
            all.push(("story".into(), whole));
            let hostile = hostile::cases().into_iter().map(|case| case.bytes);
            all.extend(numbered("hostile", hostile.filter(|bytes| bytes.len() < 4096)));
            all.into_iter().map(|(name, input)| (name, [&[3], &input[..]].concat())).collect()
        }
        "decode_client" => {
            let mut all = numbered("example", examples("ClientFrame").into_iter().map(body_of));
            let right = hostile::requests::right().into_iter().map(|body| {
                proto::ClientFrame { req_id: 7, ack_seq: 1, body: Some(body) }.encode_to_vec()
            });
            all.extend(numbered("right", right.filter(|bytes| bytes.len() < 4096)));
            all
        }
        "decode_server" => numbered("example", examples("ServerFrame").into_iter().map(body_of)),
        "session" => sessions(),
        "records" => records(),
        "text" => texts(),
        other => panic!("no body {other}"),
    }
}

fn numbered(name: &str, inputs: impl IntoIterator<Item = Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    let named = |(at, input)| (format!("{name}-{at:02}"), input);
    inputs.into_iter().enumerate().map(named).collect()
}

/// The frames shown in the protocol's document, length included.
fn examples(kind: &str) -> Vec<Vec<u8>> {
    let document = include_str!("../../docs/protocol.md");
    let begin = format!("```hex {kind}\n");
    let blocks = document.split(&begin).skip(1);
    let unhex = |block: &str| {
        let hex = block.split_once("```").unwrap().0;
        hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    };
    blocks.map(unhex).collect()
}

/// A frame without its length.
fn body_of(frame: Vec<u8>) -> Vec<u8> {
    let mut input = &frame[..];
    prost::encoding::decode_varint(&mut input).unwrap();
    input.to_vec()
}

fn sessions() -> Vec<(String, Vec<u8>)> {
    // Hello under the number 1, resuming after 4; attached; the head; caught up.
    let live = [1, 4, 1, 0, 0, 10, 0, 2, 10, 0, 3];
    let too_long = [1, 0, 1, 0, 0, 10, 0, 4, 6, 9, 2, 0, 0, 10, 0, 3, 7, 20];
    let streaming = [7, 30, 1, 9, 5, 9, 0, 0, 0, 7, 30, 1, 30];
    let large = [15, 2, 9, 1, 15, 0, 4, 1, 3, 15, 7, 9, 9];
    let requests = [3, 0, 5, 0, 0, 3, 1, 6, 0, 0, 10, 0, 9, 4, 3, 8, 0, 0, 10, 0, 1];
    let end = [14, 200, 17, 0];
    let stories: [&[&[u8]]; 7] = [
        &[&live],
        &[&too_long],
        &[&live, &streaming],
        &[&live, &large, &streaming],
        &[&live, &requests, &end],
        &[&[0, 2, 8, 1, 18]],
        &[&live, &streaming, &[19, 10, 0, 6], &requests],
    ];
    numbered("story", stories.iter().map(|pieces| pieces.concat()))
}

fn records() -> Vec<(String, Vec<u8>)> {
    let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
    let device = DeviceId::new("phone").unwrap();
    let conversation = ConversationId::direct(&alice, &bob);
    let time = Timestamp::from_millis(1_700_000_000_000);
    let message = Message {
        id: MessageId::new(9),
        sender: alice.clone(),
        device,
        client_id: ClientMessageId::new(300),
        time,
        ordinal: 7,
        draft: Draft {
            created_at: time,
            content_type: "text/plain".into(),
            content: "hello".into(),
            reply_to: HistorySeq::new(2),
            mentions: vec![bob.clone(); 3],
            flags: MessageFlags::default(),
        },
    };
    let told = MutationRef {
        conversation: conversation.clone(),
        seq: HistorySeq::new(5),
        mutation: MutationSeq::new(3),
        by: bob.clone(),
    };
    let entry = |kind| inbox::encode(&Entry { time, kind });
    let mutation = |change| {
        let (seq, previous) = (HistorySeq::new(5), MutationSeq::new(2));
        Mutation { seq, previous, time, by: alice.clone(), change }.encode()
    };
    let edited = Change::Edited {
        revision: 2,
        content_type: "text/plain".into(),
        content: "hello, bob".into(),
    };
    let sent = Sent {
        client_id: ClientMessageId::new(300),
        payload_hash: 5,
        time,
        conversation: conversation.clone(),
        seq: HistorySeq::new(5),
        id: MessageId::new(9),
        inbox_seq: InboxSeq::new(4),
    };
    let mut own = Membership::join(Role::Owner, HistoryPolicy::Full, HistorySeq::new(4), 4, time);
    own.leave(HistorySeq::new(9), 8, MutationSeq::new(1), &"title".into());
    own.rejoin(Role::Member, HistoryPolicy::SinceJoin, HistorySeq::new(20), 18, time);
    let row = Conversation {
        version: 3,
        kind: ConversationKind::Group,
        title: "team".into(),
        created: time,
        creator: alice.clone(),
        policy: HistoryPolicy::LastN(5),
        member_count: 2,
        large: false,
        disbanded: false,
    };
    let member = Member { role: Role::Admin, joined_seq: HistorySeq::new(4), joined: time };
    let cursor = InboxSeq::new(7);
    let of_device = Device { cursor, first_seen: time, last_seen: time, platform: "ios".into() };
    let mutated = Mutated { mutation: MutationSeq::new(3), gone: true, counted: true };
    let message_entry =
        EntryKind::Message { conversation: conversation.clone(), seq: HistorySeq::new(5) };
    let hidden = EntryKind::Hidden {
        conversation: conversation.clone(),
        seqs: vec![HistorySeq::new(5), HistorySeq::new(6)],
    };
    let forms: Vec<(u8, bytes::Bytes)> = vec![
        (0, history::encode(&message)),
        (1, entry(message_entry)),
        (1, entry(EntryKind::Recalled(told.clone()))),
        (1, entry(EntryKind::Edited(told))),
        (1, entry(hidden)),
        (2, Remembered::Accepted(sent).encode()),
        (2, Remembered::UsedUp { client_id: ClientMessageId::new(9), time }.encode()),
        (3, mutation(Change::Recalled)),
        (3, mutation(edited)),
        (5, row.encode()),
        (6, own.encode()),
        (7, member.encode()),
        (8, of_device.encode()),
        (9, mutated.encode()),
        (10, Hidden { counted: true }.encode()),
        (10, Revocation { time }.encode()),
        (11, Preference::default().encode()),
        // As `docs/storage.md` writes them.
        (4, bytes::Bytes::from_static(b"\x01\x03\x04root\x05\x0atext/plain\x05hello")),
        (12, bytes::Bytes::from_static(b"\x01\x01\x05\x04apns\x05token")),
        (13, bytes::Bytes::from_static(b"\x01\x03\x01\x07\x05\x04\x09\x09\x00\x03\x02")),
        (14, bytes::Bytes::from_static(b"\x01\x05\x09\x03\x04\x05alice")),
        (15, bytes::Bytes::from_static(b"\x01key.key.\x01\x05hello\x00\x02hi")),
        (
            15,
            bytes::Bytes::from_static(b"\x01\x00\x05hello\x02\x01a\x01\x01b\x07\x02\x01\x01k\x01r"),
        ),
        (15, bytes::Bytes::from_static(b"\x03\x01\x01k\x04\x01\x01k\x05")),
        (
            15,
            bytes::Bytes::from_static(
                b"roamd data directory\nformat 2\nepoch 7\napplied 9\nchecksum 00000000\n",
            ),
        ),
        (15, bytes::Bytes::from_static(b"segment-00000000000000ff")),
    ];
    numbered("form", forms.into_iter().map(|(form, bytes)| [&[form], &bytes[..]].concat()))
}

fn texts() -> Vec<(String, Vec<u8>)> {
    let texts = [
        "[listen]\naddress = \"127.0.0.1:7100\"\n",
        "[limits]\ninbox_entries = 50\ninbox_age = \"7d\"\nmulti_login = \"one\"\n",
        "[store]\nmemory_bytes = 67108864\ncheckpoint_interval = \"5s\"\n[log]\nlevel = \"debug\"\n",
        "[limts]\ninbox_entires = 1\n",
        "d1h30m",
        "d250ms",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MX0.AAAA",
        ".aeyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.",
    ];
    numbered("text", texts.map(|text| text.as_bytes().to_vec()))
}
