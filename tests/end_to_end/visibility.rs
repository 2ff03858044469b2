//! Who sees what: every request of the protocol and every push, walked as everybody who must not see.
//!
//! Each message of the scene has a content that occurs nowhere else. A viewer makes every request
//! there is about every message, in every way, and everything that came over its connection is then
//! searched for contents that are not for it. Whoever has nothing to do with a conversation must get,
//! word for word, the answers of a conversation that does not exist.

use std::collections::BTreeSet;

use roamd::wire::proto::{
    self, CreateGroup, Direction, MessageRef, client_frame::Body, server_frame::Body as Said,
};

use crate::{
    expect,
    support::{Client, Daemon, conversation, peer, text},
};

/// Occurs in every content that somebody must not see.
const SECRET: &str = "secret-";

fn names(users: &[&str]) -> Vec<String> {
    users.iter().map(|user| (*user).to_owned()).collect()
}

/// Every request that only reads something of a conversation or could give something of it away.
fn reads(id: &str, rows: u64) -> Vec<Body> {
    let conversation_id = || id.to_owned();
    let mut all = vec![
        Body::ListConversations(proto::ListConversations { limit: 200, ..Default::default() }),
        Body::ListConversations(proto::ListConversations {
            snapshot_token: vec![0; 8].into(),
            limit: 200,
            ..Default::default()
        }),
        Body::GetConversations(proto::GetConversations {
            conversation_ids: vec![conversation_id()],
        }),
        Body::GetUnread(proto::GetUnread::default()),
        Body::GetUnread(proto::GetUnread {
            conversation_ids: vec![conversation_id()],
            explain: true,
        }),
        Body::ListMembers(proto::ListMembers {
            conversation_id: conversation_id(),
            ..Default::default()
        }),
        Body::SyncPull(proto::SyncPull { after_seq: 0, limit: 1000 }),
        Body::SubscribePresence(proto::SubscribePresence {
            user_ids: names(&["alice", "bob", "nobody"]),
            unsubscribe: false,
        }),
        Body::FetchMessages(proto::FetchMessages {
            refs: (0..=rows + 1)
                .map(|history_seq| MessageRef { conversation_id: conversation_id(), history_seq })
                .collect(),
        }),
    ];
    for after_mutation_seq in [0, 1, 2] {
        all.push(Body::FetchMutations(proto::FetchMutations {
            conversation_id: conversation_id(),
            after_mutation_seq,
            limit: 0,
        }));
    }
    for anchor_seq in 0..=rows + 1 {
        for direction in [Direction::Newest, Direction::Older, Direction::Newer] {
            all.push(Body::FetchHistory(proto::FetchHistory {
                conversation_id: conversation_id(),
                direction: direction.into(),
                anchor_seq,
                ..Default::default()
            }));
        }
        if anchor_seq > 0 {
            all.push(Body::GetReaders(proto::GetReaders {
                conversation_id: conversation_id(),
                history_seq: anchor_seq,
                ..Default::default()
            }));
        }
    }
    all
}

/// Every request that changes something of one message or of the conversation.
fn changes(id: &str, seq: u64) -> Vec<Body> {
    let conversation_id = id.to_owned();
    let user_ids = names(&["mallory"]);
    vec![
        text(conversation(id), 900, "let me in"),
        Body::Recall(proto::Recall { conversation_id: id.into(), history_seq: seq }),
        Body::Edit(proto::Edit {
            conversation_id: id.into(),
            history_seq: seq,
            content_type: "text/plain".into(),
            content: "edited".into(),
            base_revision: None,
        }),
        Body::DeleteForMe(proto::DeleteForMe {
            conversation_id: id.into(),
            history_seqs: vec![seq],
        }),
        Body::DeleteForAll(proto::DeleteForAll { conversation_id: id.into(), history_seq: seq }),
        Body::MarkRead(proto::MarkRead {
            conversation_id: id.into(),
            read_seq: seq,
            peer_visible: true,
        }),
        Body::MarkUnread(proto::MarkUnread { conversation_id: id.into() }),
        Body::ClearConversation(proto::ClearConversation {
            conversation_id: id.into(),
            to_seq: seq,
        }),
        Body::SetPreferences(proto::SetPreferences {
            preferences: Some(proto::Preferences {
                conversation_id: id.into(),
                pinned: Some(true),
                ..Default::default()
            }),
        }),
        Body::AddMembers(proto::AddMembers {
            conversation_id: id.into(),
            user_ids: user_ids.clone(),
        }),
        Body::RemoveMembers(proto::RemoveMembers { conversation_id: id.into(), user_ids }),
        Body::LeaveGroup(proto::LeaveGroup { conversation_id: id.into() }),
        Body::DisbandGroup(proto::DisbandGroup { conversation_id: id.into() }),
        Body::SetRole(proto::SetRole {
            conversation_id: id.into(),
            user_id: "mallory".into(),
            role: proto::Role::Owner.into(),
        }),
        Body::SetTitle(proto::SetTitle { conversation_id: id.into(), title: "mine".into() }),
        Body::SendEphemeral(proto::SendEphemeral {
            conversation_id,
            content_type: "typing".into(),
            content: "…".into(),
        }),
    ]
}

/// The contents that occur in a text.
fn secrets(heard: &str) -> BTreeSet<&str> {
    let ends = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    heard
        .match_indices(SECRET)
        .map(|(at, _)| {
            let rest = &heard[at..];
            &rest[..rest.find(ends).unwrap_or(rest.len())]
        })
        .collect()
}

/// The scene: what was written, in this order, in a group whose members see from their join on.
///
/// ```text
/// 1 first      bob, dan and erin are there
/// 2 recalled   recalled later, after everybody had it
/// 3 edited     has another content later, when dan has left
/// - dan is removed, erin leaves, the group gets another title
/// 4 away       neither sees this
/// - erin comes back, carol joins
/// 5 last       all but dan
/// ```
struct Scene {
    daemon: Daemon,
    alice: Client,
    id: String,
}

const CONTENTS: [&str; 5] =
    ["secret-first", "secret-recalled", "secret-draft", "secret-away", "secret-last"];
const EDITED: &str = "secret-edited";
const TITLE: &str = "secret-title";
const RENAMED: &str = "secret-renamed";
const ROWS: u64 = 5;

impl Scene {
    fn play(fanout_members: &str) -> Self {
        let daemon = Daemon::with(&[("limits.fanout_members", fanout_members)]);
        let mut alice = daemon.login("alice", "phone");
        for user in ["bob", "carol", "dan", "erin", "mallory"] {
            daemon.login(user, "phone").bye();
        }
        let create = CreateGroup {
            client_request_id: 1,
            title: TITLE.into(),
            user_ids: names(&["bob", "dan", "erin"]),
            ..Default::default()
        };
        let id = expect!(GroupCreated, alice.call(Body::CreateGroup(create))).conversation_id;
        let send = |alice: &mut Client, row: usize| {
            alice.send(conversation(&id), 10 + row as u64, CONTENTS[row]);
        };
        (0..3).for_each(|row| send(&mut alice, row));
        expect!(
            MemberItems,
            alice.call(Body::RemoveMembers(proto::RemoveMembers {
                conversation_id: id.clone(),
                user_ids: names(&["dan"]),
            }))
        );
        let mut erin = daemon.login("erin", "phone");
        let leave = proto::LeaveGroup { conversation_id: id.clone() };
        expect!(Done, erin.call(Body::LeaveGroup(leave)));
        let title = proto::SetTitle { conversation_id: id.clone(), title: RENAMED.into() };
        expect!(Done, alice.call(Body::SetTitle(title)));
        send(&mut alice, 3);
        expect!(
            MemberItems,
            alice.call(Body::AddMembers(proto::AddMembers {
                conversation_id: id.clone(),
                user_ids: names(&["erin", "carol"]),
            }))
        );
        let recall = proto::Recall { conversation_id: id.clone(), history_seq: 2 };
        expect!(Done, alice.call(Body::Recall(recall)));
        let edit = proto::Edit {
            conversation_id: id.clone(),
            history_seq: 3,
            content_type: "text/plain".into(),
            content: EDITED.into(),
            base_revision: Some(0),
        };
        expect!(Done, alice.call(Body::Edit(edit)));
        send(&mut alice, 4);
        Self { daemon, alice, id }
    }

    /// Everything a user's new device can get hold of, as text: all reads, then a live session while
    /// something more happens, then whatever the changes that are refused or not say.
    fn everything(&mut self, user: &str) -> String {
        let mut client = self.daemon.open(self.daemon.greeting(user, "other"));
        client.record();
        let too_long = client.too_long();
        client.adopt(&too_long);
        client.caught_up();
        for body in reads(&self.id, ROWS) {
            client.call(body);
        }
        for seq in 1..=ROWS {
            // A harmless one each, so that the scene stays what it is.
            let read = proto::MarkRead {
                conversation_id: self.id.clone(),
                read_seq: seq,
                peer_visible: true,
            };
            client.call(Body::MarkRead(read));
        }
        // A device that has been away since the first entry streams what is kept.
        let at = proto::Position { epoch: client.welcome.epoch, seq: 0 };
        let mut streamed = self.daemon.resume(user, "third", at);
        streamed.record();
        streamed.caught_up();
        streamed.settle();
        client.settle();
        client.heard() + &streamed.heard()
    }

    #[track_caller]
    fn must_see(&mut self, user: &str, allowed: &[&str]) {
        let heard = self.everything(user);
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert_eq!(secrets(&heard), allowed, "what {user} could get hold of");
    }
}

#[test]
fn nobody_gets_hold_of_what_is_not_for_them() {
    // Through inboxes, and as a large group that never had an inbox entry.
    for fanout_members in ["100", "2"] {
        let mut scene = Scene::play(fanout_members);
        let (first, away, last) = (CONTENTS[0], CONTENTS[3], CONTENTS[4]);
        // There all the time; a recalled content is for nobody, an edited one replaces the draft.
        scene.must_see("bob", &[TITLE, RENAMED, first, EDITED, away, last]);
        // Not yet a member then.
        scene.must_see("carol", &[RENAMED, last]);
        // An ex-member: the draft it had, and never what the message or the title became.
        scene.must_see("dan", &[TITLE, first, CONTENTS[2]]);
        // Two stays: the gap between them stays closed, edits of what it sees are shown again.
        scene.must_see("erin", &[TITLE, RENAMED, first, EDITED, last]);
        scene.must_see("mallory", &[]);
    }
}

#[test]
fn a_live_session_is_told_nothing_after_its_user_has_gone() {
    for fanout_members in ["100", "2"] {
        let mut scene = Scene::play(fanout_members);
        let mut live: Vec<(&str, Client)> = ["dan", "mallory", "carol"]
            .map(|user| (user, scene.daemon.login(user, "live")))
            .into_iter()
            .collect();
        for (_, client) in &mut live {
            client.record();
        }
        scene.alice.send(conversation(&scene.id), 50, "secret-live");
        let typing = proto::SendEphemeral {
            conversation_id: scene.id.clone(),
            content_type: "typing".into(),
            content: "secret-typing".into(),
        };
        expect!(Done, scene.alice.call(Body::SendEphemeral(typing)));
        let edit = proto::Edit {
            conversation_id: scene.id.clone(),
            history_seq: 1,
            content_type: "text/plain".into(),
            content: "secret-later".into(),
            base_revision: None,
        };
        expect!(Done, scene.alice.call(Body::Edit(edit)));
        let title =
            proto::SetTitle { conversation_id: scene.id.clone(), title: "secret-new-title".into() };
        expect!(Done, scene.alice.call(Body::SetTitle(title)));
        // Carol, a member since row 5, hears of row 6 and of nothing older.
        live[2].1.wait_heard("secret-live");
        for (user, client) in &mut live {
            client.settle();
            let heard = client.heard();
            let mut told = secrets(&heard);
            if *user == "carol" {
                told.retain(|secret| *secret == "secret-later");
            }
            assert!(told.is_empty(), "{user} heard {told:?}");
        }
    }
}

#[test]
fn what_is_not_there_and_what_is_forbidden_look_the_same() {
    let scene = Scene::play("100");
    let mut mallory = scene.daemon.login("mallory", "phone");
    let missing = "g.0000000000zzz";
    assert_eq!(missing.len(), scene.id.len());
    let mut compare = |there: Body, not_there: Body| {
        let wanted = format!("{there:?}");
        let [mut a, b] = [there, not_there].map(|body| mallory.call(body));
        if let (Said::Error(a), Said::Error(b)) = (&mut a, &b) {
            assert_eq!(a.code, b.code, "{wanted}");
        }
        assert_eq!(format!("{a:?}"), format!("{b:?}"), "{wanted}");
    };
    for (there, not_there) in reads(&scene.id, ROWS).into_iter().zip(reads(missing, ROWS)) {
        compare(there, not_there);
    }
    for seq in 1..=ROWS {
        for (there, not_there) in changes(&scene.id, seq).into_iter().zip(changes(missing, seq)) {
            compare(there, not_there);
        }
    }
}

#[test]
fn a_member_cannot_change_what_it_cannot_see() {
    let scene = Scene::play("100");
    let mut carol = scene.daemon.login("carol", "phone");
    // Rows before her time look like rows that are not there; only what names a message is asked.
    for make in [1, 2, 4] {
        let [hidden, missing] = [2, 4000].map(|seq| {
            let body = changes(&scene.id, seq).swap_remove(make);
            carol.call(body)
        });
        assert_eq!(format!("{hidden:?}"), format!("{missing:?}"));
        assert!(matches!(hidden, Said::Error(_)), "{hidden:?}");
    }
    let mut direct = scene.daemon.login("dan", "phone");
    direct.send(peer("erin"), 1, "between us");
}
