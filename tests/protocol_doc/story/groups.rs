//! A group and its members.

use super::*;

fn membership(
    action: MembershipAction,
    by: &str,
    users: &[&str],
    role: Option<Role>,
) -> MembershipChange {
    MembershipChange {
        conversation: lunch(),
        action,
        by: user(by),
        users: users.iter().map(|name| user(name)).collect(),
        user_count: users.len() as u32,
        member_count: 3,
        at: HistorySeq::new(12),
        role,
        title: "late lunch".into(),
    }
}

pub fn all() -> Vec<Example> {
    let conversation_id = || lunch().to_string();
    let users = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    vec![
        client(
            "CreateGroup",
            "A new member sees the last 20 messages from before it joined.",
            22,
            0,
            Body::CreateGroup(proto::CreateGroup {
                client_request_id: 9,
                conversation_id: String::new(),
                title: "lunch".into(),
                user_ids: users(&["alice", "carol"]),
                history_policy: proto::HistoryPolicy::LastN.into(),
                history_last_n: 20,
            }),
        ),
        server(
            "GroupCreated",
            "",
            22,
            &Reply::GroupCreated {
                conversation: lunch(),
                member_count: 3,
                inbox_seq: InboxSeq::new(5058),
                duplicate: false,
            },
        ),
        client(
            "AddMembers",
            "",
            23,
            0,
            Body::AddMembers(proto::AddMembers {
                conversation_id: conversation_id(),
                user_ids: users(&["dave", "alice"]),
            }),
        ),
        server(
            "MemberItems",
            "Dave is in now; alice was already.",
            23,
            &Reply::MemberItems {
                outcomes: vec![MemberOutcome::Changed, MemberOutcome::Unchanged],
                member_count: 4,
                inbox_seq: InboxSeq::new(5059),
            },
        ),
        client(
            "RemoveMembers",
            "",
            24,
            0,
            Body::RemoveMembers(proto::RemoveMembers {
                conversation_id: conversation_id(),
                user_ids: users(&["dave"]),
            }),
        ),
        client(
            "SetRole",
            "",
            25,
            0,
            Body::SetRole(proto::SetRole {
                conversation_id: conversation_id(),
                user_id: "carol".into(),
                role: proto::Role::Admin.into(),
            }),
        ),
        client(
            "SetTitle",
            "",
            26,
            0,
            Body::SetTitle(proto::SetTitle {
                conversation_id: conversation_id(),
                title: "late lunch".into(),
            }),
        ),
        client(
            "DisbandGroup",
            "",
            27,
            0,
            Body::DisbandGroup(proto::DisbandGroup { conversation_id: conversation_id() }),
        ),
        client(
            "LeaveGroup",
            "",
            28,
            0,
            Body::LeaveGroup(proto::LeaveGroup { conversation_id: conversation_id() }),
        ),
        server(
            "SyncBatch: a role, a title, the end of a group",
            "",
            0,
            &batch(
                5060,
                vec![
                    EntryView::Membership {
                        time: at(60),
                        change: membership(
                            MembershipAction::Role,
                            "bob",
                            &["carol"],
                            Some(Role::Admin),
                        ),
                    },
                    EntryView::Membership {
                        time: at(61),
                        change: membership(MembershipAction::Title, "carol", &[], None),
                    },
                    EntryView::Membership {
                        time: at(62),
                        change: membership(MembershipAction::Disbanded, "bob", &[], None),
                    },
                ],
            ),
        ),
        client(
            "ListMembers",
            "",
            29,
            0,
            Body::ListMembers(proto::ListMembers {
                conversation_id: conversation_id(),
                page_token: Bytes::new(),
                limit: 1,
            }),
        ),
        server(
            "MemberPage",
            "There are more: `complete` is not set, and the next request carries the token.",
            29,
            &Reply::MemberPage {
                members: vec![MemberView {
                    user: user("alice"),
                    role: Role::Member,
                    joined_seq: HistorySeq::new(1),
                    joined: at(55),
                }],
                next_page_token: Bytes::from_static(b"alice"),
                member_count: 3,
                version: 6,
            },
        ),
        client(
            "GetReaders",
            "",
            30,
            0,
            Body::GetReaders(proto::GetReaders {
                conversation_id: conversation_id(),
                history_seq: 12,
                page_token: Bytes::new(),
                limit: 0,
            }),
        ),
        server(
            "ReaderPage",
            "",
            30,
            &Reply::ReaderPage {
                users: vec![user("alice"), user("carol")],
                reader_count: 2,
                next_page_token: Bytes::new(),
            },
        ),
    ]
}
