//! Devices, and who is there.

use super::*;

fn there(state: PresenceState, seconds: u64) -> DevicePresence {
    DevicePresence { user: user("alice"), device: device("laptop"), state, since: at(seconds) }
}

pub fn all() -> Vec<Example> {
    vec![
        client(
            "SubscribePresence",
            "",
            31,
            0,
            Body::SubscribePresence(proto::SubscribePresence {
                user_ids: vec!["alice".into(), "carol".into()],
                unsubscribe: false,
            }),
        ),
        server(
            "PresenceSnapshot",
            "Alice's laptop is there. No device of carol has a session: she is offline.",
            31,
            &Reply::PresenceSnapshot(vec![there(PresenceState::Online, 0)]),
        ),
        server(
            "PresencePush",
            "",
            0,
            &Reply::PresencePush(vec![there(PresenceState::Offline, 70)]),
        ),
        client(
            "SetPresence",
            "Bob's app goes to the background.",
            32,
            0,
            Body::SetPresence(proto::SetPresence {
                state: proto::PresenceState::Background.into(),
            }),
        ),
        client(
            "SendEphemeral",
            "Bob is typing.",
            33,
            0,
            Body::SendEphemeral(proto::SendEphemeral {
                conversation_id: direct().to_string(),
                content_type: "typing".into(),
                content: Bytes::new(),
            }),
        ),
        server(
            "EphemeralPush",
            "Alice is typing.",
            0,
            &Reply::EphemeralPush(Arc::new(Ephemeral {
                conversation: direct(),
                sender: user("alice"),
                device: device("laptop"),
                content_type: "typing".into(),
                content: Bytes::new(),
            })),
        ),
        client("ListDevices", "", 34, 0, Body::ListDevices(proto::ListDevices {})),
        server(
            "DevicePage",
            "",
            34,
            &Reply::DevicePage(vec![DeviceView {
                device: device("phone"),
                platform: "ios 19".into(),
                state: PresenceState::Background,
                first_seen: at(0),
                last_seen: at(71),
                cursor: InboxSeq::new(5063),
                push_registered: true,
            }]),
        ),
        client(
            "KickDevice",
            "",
            35,
            0,
            Body::KickDevice(proto::KickDevice { device_id: "tablet".into() }),
        ),
        client(
            "RevokeDevice",
            "",
            36,
            0,
            Body::RevokeDevice(proto::RevokeDevice { device_id: "tablet".into() }),
        ),
        client(
            "RegisterPush",
            "",
            37,
            0,
            Body::RegisterPush(proto::RegisterPush {
                provider: "apns".into(),
                token: "5f3a".into(),
            }),
        ),
    ]
}
