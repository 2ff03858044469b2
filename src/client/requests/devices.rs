//! Presence and devices: who is there, and which devices this user has.

use super::Requests;
use crate::{
    client::error::ClientError,
    wire::{proto, proto::client_frame::Body, proto::server_frame::Body as Said},
};

impl Requests {
    /// Tells whether the application is in the background. What was dealt with is acked at once, and
    /// later sessions of this client begin in the same state.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn set_background(&self, background: bool) -> Result<proto::Done, ClientError> {
        let state = match background {
            true => proto::PresenceState::Background,
            false => proto::PresenceState::Online,
        };
        self.shared.set_background(super::super::now(), background);
        let set = proto::SetPresence { state: state.into() };
        self.done(Body::SetPresence(set), "SetPresence").await
    }

    /// The devices of these users that are there now; whoever has none is not. From then on changes
    /// come as [`crate::client::Event::Presence`], as long as the session lives: subscribe again after
    /// each [`crate::client::Event::Connected`]. At most 200 users.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn subscribe_presence(
        &self,
        user_ids: Vec<String>,
    ) -> Result<Vec<proto::DevicePresence>, ClientError> {
        let subscribe = proto::SubscribePresence { user_ids, unsubscribe: false };
        match self.request(Body::SubscribePresence(subscribe)).await? {
            Said::PresenceSnapshot(snapshot) => Ok(snapshot.devices),
            _ => Err(ClientError::UnexpectedReply("SubscribePresence")),
        }
    }

    /// No more changes of these users.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn unsubscribe_presence(&self, user_ids: Vec<String>) -> Result<(), ClientError> {
        let subscribe = proto::SubscribePresence { user_ids, unsubscribe: true };
        match self.request(Body::SubscribePresence(subscribe)).await? {
            Said::PresenceSnapshot(_) | Said::Done(_) => Ok(()),
            _ => Err(ClientError::UnexpectedReply("SubscribePresence")),
        }
    }

    /// The devices of this user.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn devices(&self) -> Result<Vec<proto::Device>, ClientError> {
        match self.request(Body::ListDevices(proto::ListDevices {})).await? {
            Said::DevicePage(page) => Ok(page.devices),
            _ => Err(ClientError::UnexpectedReply("ListDevices")),
        }
    }

    /// Ends the session of another device of this user; it may come back.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn kick_device(&self, device: impl Into<String>) -> Result<proto::Done, ClientError> {
        let kick = proto::KickDevice { device_id: device.into() };
        self.done(Body::KickDevice(kick), "KickDevice").await
    }

    /// Locks a device of this user out: its tokens made until now are good for nothing more, and the
    /// server forgets it.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn revoke_device(
        &self,
        device: impl Into<String>,
    ) -> Result<proto::Done, ClientError> {
        let revoke = proto::RevokeDevice { device_id: device.into() };
        self.done(Body::RevokeDevice(revoke), "RevokeDevice").await
    }

    /// Tells where the operator's push hook may reach this device; an empty token = nowhere.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn register_push(
        &self,
        provider: impl Into<String>,
        token: impl Into<String>,
    ) -> Result<proto::Done, ClientError> {
        let register = proto::RegisterPush { provider: provider.into(), token: token.into() };
        self.done(Body::RegisterPush(register), "RegisterPush").await
    }
}
