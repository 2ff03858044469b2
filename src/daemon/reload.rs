//! What can change while the daemon runs: keys, limits, the certificate.
//!
//! A connection takes keys and limits with it when it is accepted. After a change every connection is
//! told: who has not said Hello goes on with the new ones, who has ends if its key is gone. It is told
//! behind the change, so that no Hello is checked with old keys and missed.

use std::{fmt, sync::Arc};

use super::{Certificate, Shared};
use crate::{auth::KeyRing, limits::Limits, session::SessionContext};

/// Changes what a running daemon goes by. Cheap to clone.
#[derive(Clone)]
pub struct Reloader(Arc<Shared>);

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

impl Reloader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Tokens of these keys are accepted from now on, and no others. Sessions whose token was signed
    /// with a key that is gone end (GoAway REVOKED).
    pub fn keys(&self, keys: KeyRing) {
        self.change(|context| context.with(keys, context.limits.clone()));
    }

    /// These limits hold from now on, but for [`Limits::FIXED`]. Sessions keep what they were told.
    pub fn limits(&self, limits: Limits) {
        let mut in_force = limits;
        self.change(|context| {
            in_force = context.limits.reload(in_force.clone());
            context.with(context.keys.clone(), in_force.clone())
        });
        self.0.submitter.limit(in_force);
    }

    /// Shown from the next handshake on. False = there is no TLS.
    pub fn certificate(&self, certificate: Certificate) -> bool {
        match &self.0.shown {
            Some(shown) => {
                shown.replace(certificate);
                true
            }
            None => false,
        }
    }

    fn change(&self, change: impl FnOnce(&SessionContext) -> SessionContext) {
        {
            let mut context = self.0.context.write();
            *context = Arc::new(change(&context));
        }
        self.0.admission.lock().feeds().for_each(|feed| feed.reload());
    }
}
