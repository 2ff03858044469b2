//! Every request with every rule for its arguments: what breaks a rule gets its code, and the detail
//! begins with the field's name. What stands exactly at a limit is taken.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use roamd::{
    limits,
    refusal::ErrorCode::{self, ContentTooLarge, InvalidArgument, TooManyItems},
    request::{NoticeTo, PreferencesChange, Request},
    wire::{
        self,
        proto::{self, client_frame::Body, send::To, send_notice},
    },
};

use crate::hostile::requests::{bytes, id, ids, message_ref, preferences, right};

const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

fn encoded(body: &Body) -> Bytes {
    let frame = proto::ClientFrame { req_id: 1, ack_seq: 0, body: Some(body.clone()) };
    frame.encode_to_vec().into()
}

fn request(body: Body) -> Request {
    wire::decode_client(encoded(&body)).unwrap().request
}

/// The numbers of `ClientFrame.body`.
fn bodies() -> BTreeSet<u32> {
    let set = FileDescriptorSet::decode(DESCRIPTOR).unwrap();
    let messages = &set.file[0].message_type;
    let frame = messages.iter().find(|message| message.name() == "ClientFrame").unwrap();
    let body = |field: &&prost_types::FieldDescriptorProto| field.oneof_index.is_some();
    frame.field.iter().filter(body).map(|field| field.number() as u32).collect()
}

/// The number of the only body in a frame whose other field is `req_id = 1`.
fn number(body: &Body) -> u32 {
    let mut frame = encoded(body).slice(2..);
    (prost::encoding::decode_varint(&mut frame).unwrap() >> 3) as u32
}

#[test]
fn every_request_is_taken_at_its_limits() {
    let right = right();
    let covered: BTreeSet<_> = right.iter().map(number).collect();
    assert_eq!(covered, bodies());
    for body in right {
        let text: String = format!("{body:?}").chars().take(100).collect();
        match wire::decode_client(encoded(&body)) {
            Ok(incoming) => assert_ne!(incoming.request, Request::Unknown, "{text}"),
            Err(refused) => panic!("{}: {text}", refused.refusal),
        }
    }
}

/// What an empty request of each kind is answered: the first rule it breaks.
#[test]
fn every_empty_request_has_its_answer() {
    let taken = [5, 6, 7, 32, 33, 34, 35, 38, 53, 56];
    for number in bodies() {
        let mut frame = vec![0x08, 1];
        prost::encoding::bytes::encode(number, &Vec::new(), &mut frame);
        match wire::decode_client(frame.into()) {
            Ok(_) => assert!(taken.contains(&number), "{number} is taken"),
            Err(refused) => {
                assert!(!taken.contains(&number), "{number} is refused: {}", refused.refusal);
                assert_eq!(refused.refusal.code, InvalidArgument, "{number}");
                assert_eq!(refused.refusal.fatal, number == 3, "{number}");
            }
        }
    }
}

/// A change of a right request that breaks one rule: the field that the detail names, and the code.
struct Wrong(&'static str, ErrorCode, Body);

/// Applies one change to a clone of a right request.
macro_rules! wrong {
    ($all:ident, $name:literal, $code:expr, $kind:ident { $($field:ident : $value:expr),* }) => {
        for body in right() {
            if let Body::$kind(mut changed) = body {
                $(changed.$field = $value;)*
                $all.push(Wrong($name, $code, Body::$kind(changed)));
            }
        }
    };
}

/// Ids that break the rule for ids.
fn bad_ids() -> Vec<String> {
    ["", "a b", "a\n", "a\0", "\u{200b}", "\u{202e}x", "\u{7f}"]
        .into_iter()
        .map(ToOwned::to_owned)
        .chain(["x".repeat(65), "ä".repeat(33)])
        .collect()
}

/// Every field that holds the id of a conversation, user or device.
fn wrong_ids() -> Vec<Wrong> {
    let mut all = Vec::new();
    for bad in bad_ids() {
        macro_rules! conversation {
            ($($kind:ident),*) => {$(
                wrong!(all, "conversation_id", InvalidArgument,
                    $kind { conversation_id: bad.clone() });
            )*};
        }
        conversation!(
            Recall,
            Edit,
            DeleteForMe,
            DeleteForAll,
            MarkRead,
            MarkUnread,
            ClearConversation,
            FetchHistory,
            FetchMutations,
            ListMembers,
            GetReaders,
            AddMembers,
            RemoveMembers,
            LeaveGroup,
            DisbandGroup,
            SetRole,
            SetTitle,
            SendEphemeral
        );
        let with = |id: &String| vec!["fine".to_owned(), id.clone()];
        wrong!(all, "peer", InvalidArgument, Send { to: Some(To::Peer(bad.clone())) });
        wrong!(
            all,
            "conversation_id",
            InvalidArgument,
            Send { to: Some(To::ConversationId(bad.clone())) }
        );
        wrong!(all, "mentions", InvalidArgument, Send { mentions: with(&bad) });
        wrong!(
            all,
            "conversation_id",
            InvalidArgument,
            SetPreferences {
                preferences: Some(proto::Preferences {
                    conversation_id: bad.clone(),
                    ..preferences()
                })
            }
        );
        wrong!(
            all,
            "conversation_id",
            InvalidArgument,
            FetchMessages {
                refs: vec![
                    message_ref(),
                    proto::MessageRef { conversation_id: bad.clone(), ..message_ref() }
                ]
            }
        );
        wrong!(
            all,
            "conversation_id",
            InvalidArgument,
            GetConversations { conversation_ids: with(&bad) }
        );
        wrong!(all, "conversation_id", InvalidArgument, GetUnread { conversation_ids: with(&bad) });
        wrong!(all, "user_ids", InvalidArgument, CreateGroup { user_ids: with(&bad) });
        wrong!(all, "user_ids", InvalidArgument, AddMembers { user_ids: with(&bad) });
        wrong!(all, "user_ids", InvalidArgument, RemoveMembers { user_ids: with(&bad) });
        wrong!(all, "user_id", InvalidArgument, SetRole { user_id: bad.clone() });
        wrong!(all, "user_ids", InvalidArgument, SubscribePresence { user_ids: with(&bad) });
        wrong!(all, "device_id", InvalidArgument, KickDevice { device_id: bad.clone() });
        wrong!(all, "device_id", InvalidArgument, RevokeDevice { device_id: bad.clone() });
        wrong!(all, "device_id", InvalidArgument, Hello { device_id: bad.clone() });
        wrong!(
            all,
            "conversation_id",
            InvalidArgument,
            Hello {
                conversation_cursors: vec![proto::ConversationCursor {
                    conversation_id: bad.clone(),
                    ..Default::default()
                }]
            }
        );
        wrong!(
            all,
            "user_id",
            InvalidArgument,
            SendNotice { to: Some(send_notice::To::UserId(bad.clone())) }
        );
        wrong!(
            all,
            "conversation_id",
            InvalidArgument,
            SendNotice { to: Some(send_notice::To::ConversationId(bad.clone())) }
        );
        if !bad.is_empty() {
            // Empty leaves the choice to the server.
            wrong!(
                all,
                "conversation_id",
                InvalidArgument,
                CreateGroup { conversation_id: bad.clone() }
            );
        }
    }
    for form in [format!("d.{}", "0".repeat(26)), format!("g.{}", "0".repeat(13))] {
        wrong!(
            all,
            "conversation_id",
            InvalidArgument,
            CreateGroup { conversation_id: form.clone() }
        );
    }
    all
}

fn wrong_numbers() -> Vec<Wrong> {
    let mut all = Vec::new();
    wrong!(all, "protocol_min", InvalidArgument, Hello { protocol_min: 0 });
    wrong!(all, "protocol_max", InvalidArgument, Hello { protocol_min: 2 });
    wrong!(all, "features", InvalidArgument, Hello { features: vec![1, 0] });
    wrong!(all, "position", InvalidArgument, Resume { position: None });
    wrong!(all, "client_message_id", InvalidArgument, Send { client_message_id: 0 });
    wrong!(all, "client_message_id", InvalidArgument, CancelSend { client_message_id: 0 });
    wrong!(all, "client_request_id", InvalidArgument, CreateGroup { client_request_id: 0 });
    wrong!(all, "client_request_id", InvalidArgument, SendNotice { client_request_id: 0 });
    wrong!(all, "history_seq", InvalidArgument, Recall { history_seq: 0 });
    wrong!(all, "history_seq", InvalidArgument, Edit { history_seq: 0 });
    wrong!(all, "history_seq", InvalidArgument, DeleteForAll { history_seq: 0 });
    wrong!(all, "history_seq", InvalidArgument, GetReaders { history_seq: 0 });
    wrong!(all, "history_seq", InvalidArgument, DeleteForMe { history_seqs: vec![1, 0] });
    wrong!(all, "limit", InvalidArgument, FetchHistory { limit: 201 });
    wrong!(all, "limit", InvalidArgument, FetchMutations { limit: 201 });
    wrong!(all, "limit", InvalidArgument, ListConversations { limit: 201 });
    wrong!(all, "limit", InvalidArgument, ListMembers { limit: 1001 });
    wrong!(all, "limit", InvalidArgument, GetReaders { limit: 1001 });
    wrong!(all, "limit", InvalidArgument, SyncPull { limit: u32::MAX });
    for unknown in [0, -1, 4, 99, i32::MAX] {
        wrong!(all, "direction", InvalidArgument, FetchHistory { direction: unknown });
        wrong!(all, "role", InvalidArgument, SetRole { role: unknown });
        wrong!(all, "state", InvalidArgument, SetPresence { state: unknown });
    }
    // Nobody says of itself that it is not there.
    wrong!(all, "state", InvalidArgument, SetPresence { state: 1 });
    wrong!(all, "history_policy", InvalidArgument, CreateGroup { history_policy: 4 });
    wrong!(all, "history_last_n", InvalidArgument, CreateGroup { history_last_n: 0 });
    wrong!(all, "history_last_n", InvalidArgument, CreateGroup { history_policy: 1 });
    wrong!(all, "history_last_n", InvalidArgument, CreateGroup { history_policy: 3 });
    all
}

fn wrong_texts() -> Vec<Wrong> {
    let mut all = Vec::new();
    for bad in ["t".repeat(128), "ä".repeat(64), "a\nb".into(), "\u{7f}".into(), "\0".into()] {
        wrong!(all, "content_type", InvalidArgument, Send { content_type: bad.clone() });
        wrong!(all, "content_type", InvalidArgument, Edit { content_type: bad.clone() });
        wrong!(all, "content_type", InvalidArgument, SendEphemeral { content_type: bad.clone() });
        wrong!(all, "content_type", InvalidArgument, SendNotice { content_type: bad.clone() });
        wrong!(all, "platform", InvalidArgument, Hello { platform: bad.clone() });
        wrong!(all, "provider", InvalidArgument, RegisterPush { provider: bad.clone() });
    }
    for bad in ["t".repeat(257), "a\nb".into(), "\u{1b}[2J".into()] {
        wrong!(all, "title", InvalidArgument, CreateGroup { title: bad.clone() });
        wrong!(all, "title", InvalidArgument, SetTitle { title: bad.clone() });
    }
    for bad in ["t".repeat(2049), "a\nb".into()] {
        wrong!(all, "token", InvalidArgument, RegisterPush { token: bad.clone() });
    }
    all
}

fn wrong_lists() -> Vec<Wrong> {
    let mut all = Vec::new();
    wrong!(all, "user_ids", InvalidArgument, AddMembers { user_ids: vec![] });
    wrong!(all, "user_ids", InvalidArgument, RemoveMembers { user_ids: vec![] });
    wrong!(all, "user_ids", InvalidArgument, SubscribePresence { user_ids: vec![] });
    wrong!(all, "history_seqs", InvalidArgument, DeleteForMe { history_seqs: vec![] });
    wrong!(all, "user_ids", TooManyItems, AddMembers { user_ids: ids(1001) });
    wrong!(all, "user_ids", TooManyItems, RemoveMembers { user_ids: ids(1001) });
    wrong!(all, "user_ids", TooManyItems, CreateGroup { user_ids: ids(1001) });
    wrong!(all, "user_ids", TooManyItems, SubscribePresence { user_ids: ids(201) });
    wrong!(all, "mentions", TooManyItems, Send { mentions: ids(65) });
    wrong!(all, "history_seqs", TooManyItems, DeleteForMe { history_seqs: (1..=101).collect() });
    wrong!(all, "refs", TooManyItems, FetchMessages { refs: vec![message_ref(); 201] });
    wrong!(all, "conversation_ids", TooManyItems, GetConversations { conversation_ids: ids(201) });
    wrong!(all, "conversation_ids", TooManyItems, GetUnread { conversation_ids: ids(1001) });
    wrong!(
        all,
        "conversation_cursors",
        TooManyItems,
        Hello {
            conversation_cursors: vec![
                proto::ConversationCursor {
                    conversation_id: "c".into(),
                    ..Default::default()
                };
                65
            ]
        }
    );
    all
}

fn wrong_rest() -> Vec<Wrong> {
    let mut all = Vec::new();
    wrong!(all, "to", InvalidArgument, Send { to: None });
    wrong!(all, "to", InvalidArgument, SendNotice { to: None });
    wrong!(
        all,
        "everyone",
        InvalidArgument,
        SendNotice { to: Some(send_notice::To::Everyone(false)) }
    );
    wrong!(all, "preferences", InvalidArgument, SetPreferences { preferences: None });
    wrong!(
        all,
        "draft",
        InvalidArgument,
        SetPreferences {
            preferences: Some(proto::Preferences { draft: Some(bytes(2049)), ..preferences() })
        }
    );
    wrong!(all, "content", ContentTooLarge, SendEphemeral { content: bytes(1025) });
    all
}

#[test]
fn every_rule_has_its_code_and_names_its_field() {
    let mut all = wrong_ids();
    all.extend(wrong_numbers());
    all.extend(wrong_texts());
    all.extend(wrong_lists());
    all.extend(wrong_rest());
    assert!(all.len() > 350, "{}", all.len());
    for Wrong(field, code, body) in all {
        let opening = matches!(body, Body::Hello(_));
        let refused = match wire::decode_client(encoded(&body)) {
            Ok(_) => panic!("{field} ({code:?}) of {}", number(&body)),
            Err(refused) => refused,
        };
        let refusal = refused.refusal;
        assert_eq!((refused.req_id, refusal.code, refusal.fatal), (1, code, opening), "{refusal}");
        let named =
            refusal.detail.strip_prefix(field).is_some_and(|rest| rest.starts_with([' ', 's']));
        assert!(named, "{field}: {}", refusal.detail);
        assert!(refusal.detail.len() < 100, "{}", refusal.detail);
    }
}

#[test]
fn requests_keep_what_they_carry() {
    let wanted = proto::Preferences { muted: Some(false), ..preferences() };
    let set = Body::SetPreferences(proto::SetPreferences { preferences: Some(wanted) });
    let Request::SetPreferences { change, .. } = request(set) else { panic!() };
    let draft = Some(bytes(limits::DRAFT_BYTES_MAX));
    let right = PreferencesChange { pinned: None, muted: Some(false), hidden: None, draft };
    assert_eq!(change, right);

    // In order and each once, however they were named.
    let hide = proto::DeleteForMe { conversation_id: id(), history_seqs: vec![9, 2, 9, 5] };
    let Request::DeleteForMe { seqs, .. } = request(Body::DeleteForMe(hide)) else { panic!() };
    assert_eq!(seqs.iter().map(|seq| seq.number()).collect::<Vec<_>>(), [2, 5, 9]);

    let edit = |base_revision| {
        let edit = proto::Edit {
            conversation_id: id(),
            history_seq: 7,
            content_type: "text/plain".into(),
            content: bytes(3),
            base_revision,
        };
        let Request::Edit { seq, content, base_revision, .. } = request(Body::Edit(edit)) else {
            panic!()
        };
        assert_eq!((seq.number(), content), (7, bytes(3)));
        base_revision
    };
    // The revision 0 of a message that was never edited is not the same as no revision.
    assert_eq!((edit(None), edit(Some(0)), edit(Some(4))), (None, Some(0), Some(4)));

    let notice = |to| {
        let notice = proto::SendNotice {
            to: Some(to),
            client_request_id: 1,
            content_type: String::new(),
            content: Bytes::new(),
        };
        let Request::SendNotice { to, .. } = request(Body::SendNotice(notice)) else { panic!() };
        to
    };
    assert!(matches!(notice(send_notice::To::UserId("bob".into())), NoticeTo::User(_)));
    let team = send_notice::To::ConversationId("team".into());
    assert!(matches!(notice(team), NoticeTo::Conversation(_)));
    assert_eq!(notice(send_notice::To::Everyone(true)), NoticeTo::Everyone);

    let hello = proto::Hello {
        conversation_cursors: vec![proto::ConversationCursor {
            conversation_id: "team".into(),
            history_seq: 5,
            mutation_seq: 6,
            version: 7,
        }],
        background: true,
        ..crate::hostile::hello()
    };
    let Request::Hello(hello) = request(Body::Hello(hello)) else { panic!() };
    let cursor = &hello.cursors[0];
    let numbers = (cursor.history.number(), cursor.mutation.number(), cursor.version);
    assert_eq!((numbers, hello.background), ((5, 6, 7), true));

    let refs = proto::FetchMessages {
        refs: vec![message_ref(), proto::MessageRef { history_seq: 0, ..message_ref() }],
    };
    let Request::FetchMessages { refs } = request(Body::FetchMessages(refs)) else { panic!() };
    assert_eq!(refs.iter().map(|(_, seq)| seq.number()).collect::<Vec<_>>(), [1, 0]);
    let mutations = proto::FetchMutations { conversation_id: id(), ..Default::default() };
    let mutations = request(Body::FetchMutations(mutations));
    assert!(matches!(mutations, Request::FetchMutations { limit: 50, .. }));
    let readers = proto::GetReaders { conversation_id: id(), history_seq: 1, ..Default::default() };
    let readers = request(Body::GetReaders(readers));
    assert!(matches!(readers, Request::GetReaders { limit: 200, .. }));
}
