//! Groups: who is in them, with which rights, under which title.

use super::Requests;
use crate::{
    client::error::ClientError,
    wire::{proto, proto::client_frame::Body, proto::server_frame::Body as Said},
};

impl Requests {
    /// Makes a group; a `client_request_id` of 0 stands for the next number of this device.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn create_group(
        &self,
        create: proto::CreateGroup,
    ) -> Result<proto::GroupCreated, ClientError> {
        match self.request(Body::CreateGroup(create)).await? {
            Said::GroupCreated(created) => Ok(created),
            _ => Err(ClientError::UnexpectedReply("CreateGroup")),
        }
    }

    /// Adds users to a group; one outcome for each, in order.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn add_members(
        &self,
        conversation: impl Into<String>,
        user_ids: Vec<String>,
    ) -> Result<proto::MemberItems, ClientError> {
        let conversation_id = conversation.into();
        let add = proto::AddMembers { conversation_id, user_ids };
        self.members_changed(Body::AddMembers(add)).await
    }

    /// Removes users from a group; one outcome for each, in order.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn remove_members(
        &self,
        conversation: impl Into<String>,
        user_ids: Vec<String>,
    ) -> Result<proto::MemberItems, ClientError> {
        let conversation_id = conversation.into();
        let remove = proto::RemoveMembers { conversation_id, user_ids };
        self.members_changed(Body::RemoveMembers(remove)).await
    }

    async fn members_changed(&self, body: Body) -> Result<proto::MemberItems, ClientError> {
        match self.request(body).await? {
            Said::MemberItems(items) => Ok(items),
            _ => Err(ClientError::UnexpectedReply("a change of members")),
        }
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn leave(&self, conversation: impl Into<String>) -> Result<proto::Done, ClientError> {
        let leave = proto::LeaveGroup { conversation_id: conversation.into() };
        self.done(Body::LeaveGroup(leave), "LeaveGroup").await
    }

    /// Closes a group for good: nobody can send to it or change it, everybody can still read it. Only
    /// the owner may.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn disband(
        &self,
        conversation: impl Into<String>,
    ) -> Result<proto::Done, ClientError> {
        let disband = proto::DisbandGroup { conversation_id: conversation.into() };
        self.done(Body::DisbandGroup(disband), "DisbandGroup").await
    }

    /// Gives a member a role; only the owner may. Making somebody else owner hands the group over: the
    /// caller becomes an admin.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn set_role(
        &self,
        conversation: impl Into<String>,
        user: impl Into<String>,
        role: proto::Role,
    ) -> Result<proto::Done, ClientError> {
        let conversation_id = conversation.into();
        let set = proto::SetRole { conversation_id, user_id: user.into(), role: role.into() };
        self.done(Body::SetRole(set), "SetRole").await
    }

    /// Gives a group another title; owner and admins may.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn set_title(
        &self,
        conversation: impl Into<String>,
        title: impl Into<String>,
    ) -> Result<proto::Done, ClientError> {
        let conversation_id = conversation.into();
        let set = proto::SetTitle { conversation_id, title: title.into() };
        self.done(Body::SetTitle(set), "SetTitle").await
    }
}
