//! The push hook's outbox: which device is to be told of what, and what was.

use std::sync::Arc;

use super::{Answer, Caller, Engine, Now, Stop, off};

impl Engine {
    pub(super) fn register_push(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _provider: &Arc<str>,
        _token: &Arc<str>,
    ) -> Result<Answer, Stop> {
        Err(off("register_push"))
    }
}
