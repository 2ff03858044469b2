//! One device of a replay: goes online and offline; what it has stored outlives its sessions.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    copy::{Copy, Storage},
    follower::Follower,
    world::World,
};
use crate::{
    client::{Client, ClientConfig, ClientError, Requests},
    id::UserId,
};

/// A device, between and during its sessions.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) user: usize,
    pub(super) name: String,
    pub(super) storage: Arc<Mutex<Storage>>,
    online: Option<Online>,
}

#[derive(Debug)]
struct Online {
    requests: Requests,
    stop: oneshot::Sender<End>,
    task: JoinHandle<()>,
}

/// How a device goes offline.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Ack, Bye.
    Proper,
    /// The connection is just gone.
    Sudden,
}

impl Device {
    pub(super) fn new(user: usize, name: String, channels: usize) -> Self {
        let storage = Storage { channels: vec![Copy::default(); channels], ..Storage::default() };
        Self { user, name, storage: Arc::new(Mutex::new(storage)), online: None }
    }

    pub(super) fn requests(&self) -> Option<&Requests> {
        self.online.as_ref().map(|online| &online.requests)
    }

    /// Connects and starts to follow the inbox.
    pub(super) async fn connect(
        &mut self,
        world: &Arc<World>,
        id: &UserId,
        token: String,
    ) -> Result<(), ClientError> {
        if self.online.is_some() {
            return Ok(());
        }
        let mut config = ClientConfig::new(world.address.to_string(), token, self.name.as_str());
        if let Some(position) = self.storage.lock().position {
            config = config.resume(position);
        }
        config.platform = "replay".into();
        let since = Instant::now();
        let client = Client::start(config);
        let requests = client.requests();
        let (stop, stopped) = oneshot::channel();
        let follower = Follower {
            world: Arc::clone(world),
            user: id.as_str().to_owned(),
            since,
            name: format!("{id}/{}", self.name),
            storage: Arc::clone(&self.storage),
            live: false,
        };
        let task = tokio::spawn(follower.follow(client, stopped));
        self.online = Some(Online { requests, stop, task });
        Ok(())
    }

    /// Goes offline, and returns when it is.
    pub(super) async fn disconnect(&mut self, end: End) {
        if let Some(online) = self.online.take() {
            let _ = online.stop.send(end);
            let _ = online.task.await;
        }
    }
}
