//! Everything that can be asked of a data set, and what it answers.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use roamd::{
    engine::{Caller, Command, Engine, Now, read},
    id::{ConversationId, DeviceId, SessionId},
    reply::Reply,
    request::{Direction, Request},
    seq::{HistorySeq, InboxSeq, MutationSeq},
    store::{Reader, Store, StoreConfig},
    time::Timestamp,
};

use crate::{
    scenario::{group, user},
    world::{CROWD, limits},
};

/// What is said to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// In pieces; a hole says that it is one.
    Answer(Vec<String>),
    Refused,
}

pub type Answers = BTreeMap<String, Said>;

const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];

fn conversations() -> Vec<ConversationId> {
    let direct = |a, b| ConversationId::direct(&user(a), &user(b));
    let mut all: Vec<_> = ["team", "open", "some", "crowd", "few"].map(group).into();
    all.extend([
        direct("alice", "bob"),
        direct("dave", "dave"),
        direct("u1", "u2"),
        direct("u0", "u5"),
    ]);
    all
}

/// Opens the directory and asks everything; none = it did not open.
pub fn of(config: &StoreConfig) -> Option<Answers> {
    let (store, writer) = Store::open(config).ok()?;
    let now = now();
    let reader = store.reader();
    let Ok(mut engine) = Engine::new(writer, store.epoch(), limits(), now) else { return None };
    let mut answers = Answers::new();
    for who in USERS.into_iter().chain(CROWD) {
        for (what, request) in questions() {
            let said = ask(&mut engine, &reader, who, request);
            answers.insert(format!("{who} {what}"), said);
        }
        for id in conversations() {
            answers.insert(format!("{who} history {id}"), history(&mut engine, &reader, who, &id));
        }
    }
    Some(answers)
}

fn now() -> Now {
    let wall = Timestamp::from_millis(1_800_000_000_000).plus(Duration::from_secs(10_000));
    Now { wall, mono: Instant::now() }
}

fn questions() -> Vec<(String, Request)> {
    let mut all = vec![
        ("conversations".into(), list()),
        ("devices".into(), Request::ListDevices),
        ("unread".into(), Request::GetUnread { conversations: Vec::new(), explain: true }),
        ("inbox".into(), Request::SyncPull { after: InboxSeq::ZERO, limit: 1000 }),
    ];
    for id in conversations() {
        let conversation = id.clone();
        let page_token = Bytes::new();
        all.push((
            format!("members {id}"),
            Request::ListMembers { conversation: conversation.clone(), page_token, limit: 500 },
        ));
        let after = MutationSeq::ZERO;
        all.push((
            format!("changes {id}"),
            Request::FetchMutations { conversation: conversation.clone(), after, limit: 100 },
        ));
        let conversations = vec![conversation];
        all.push((format!("unread {id}"), Request::GetUnread { conversations, explain: true }));
    }
    all
}

fn list() -> Request {
    Request::ListConversations {
        since: Timestamp::default(),
        snapshot: None,
        page_token: Bytes::new(),
        limit: 100,
    }
}

fn reply(engine: &mut Engine, reader: &Reader, who: &str, request: Request) -> Option<Reply> {
    let caller = Caller {
        user: user(who),
        device: DeviceId::new("examiner").unwrap(),
        session: SessionId::new(1),
        admin: false,
    };
    let answer = engine.apply(now(), &caller, &Command::Request(request)).ok()?;
    read::complete(reader, &caller.user, 1000, answer).ok()?
}

fn ask(engine: &mut Engine, reader: &Reader, who: &str, request: Request) -> Said {
    match reply(engine, reader, who, request) {
        None | Some(Reply::Refused(_)) => Said::Refused,
        Some(Reply::ConversationPage { conversations, .. }) => {
            let mut all: Vec<String> = conversations
                .into_iter()
                .map(|mut view| {
                    // What was last said stands in the history.
                    view.last_message = None;
                    format!("{view:?}")
                })
                .collect();
            all.sort();
            Said::Answer(all)
        }
        Some(Reply::Pulled(batch)) => {
            Said::Answer(batch.entries.iter().map(|entry| format!("{entry:?}")).collect())
        }
        Some(Reply::MutationPage { mutations, .. }) => {
            Said::Answer(mutations.iter().map(|mutation| format!("{mutation:?}")).collect())
        }
        Some(other) => Said::Answer(vec![format!("{other:?}")]),
    }
}

/// All that the user may see, page by page.
fn history(engine: &mut Engine, reader: &Reader, who: &str, id: &ConversationId) -> Said {
    let mut all = Vec::new();
    let mut after = HistorySeq::ZERO;
    loop {
        let request = Request::FetchHistory {
            conversation: id.clone(),
            direction: Direction::Newer(after),
            limit: 50,
            max_bytes: 1 << 20,
        };
        let Some(Reply::HistoryPage { messages, .. }) = reply(engine, reader, who, request) else {
            return Said::Refused;
        };
        let Some(last) = messages.last() else { return Said::Answer(all) };
        after = last.seq;
        all.extend(messages.iter().map(|message| format!("{}: {message:?}", message.seq)));
    }
}

/// Whether this piece says of itself that something is missing there.
pub fn is_hole(piece: &str) -> bool {
    piece.contains("message: None") || piece.contains("Hole {")
}

impl Said {
    /// Whether this is true when `truth` is: as it is, or refused, or with holes that say so.
    pub fn is_true(&self, truth: &Self) -> bool {
        match (self, truth) {
            (Self::Refused, _) => true,
            (Self::Answer(pieces), Self::Answer(whole)) => {
                pieces.len() == whole.len()
                    && pieces
                        .iter()
                        .zip(whole)
                        .all(|(piece, whole)| piece == whole || is_hole(piece))
            }
            (Self::Answer(_), Self::Refused) => false,
        }
    }
}

/// As lines, and back.
pub fn write(answers: &Answers, path: &Path) {
    let mut text = String::new();
    for (question, said) in answers {
        text += &format!("? {question}\n");
        match said {
            Said::Refused => text += "refused\n",
            Said::Answer(pieces) => {
                for piece in pieces {
                    text += &format!("= {}\n", piece.escape_default());
                }
            }
        }
    }
    std::fs::write(path, text).unwrap();
}

pub fn read_back(path: &Path) -> Answers {
    let text = std::fs::read_to_string(path).unwrap();
    let mut answers = Answers::new();
    let mut question = String::new();
    for line in text.lines() {
        if let Some(asked) = line.strip_prefix("? ") {
            question = asked.to_owned();
            answers.insert(question.clone(), Said::Answer(Vec::new()));
        } else if line == "refused" {
            answers.insert(question.clone(), Said::Refused);
        } else if let (Some(piece), Some(Said::Answer(pieces))) =
            (line.strip_prefix("= "), answers.get_mut(&question))
        {
            pieces.push(piece.to_owned());
        }
    }
    answers
}

/// As they come back from [`read_back`].
pub fn escaped(answers: &Answers) -> Answers {
    let escape = |said: &Said| match said {
        Said::Refused => Said::Refused,
        Said::Answer(pieces) => {
            Said::Answer(pieces.iter().map(|piece| piece.escape_default().to_string()).collect())
        }
    };
    answers.iter().map(|(question, said)| (question.clone(), escape(said))).collect()
}
