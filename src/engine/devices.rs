//! A user's devices: the list, ending a session, revoking.

use super::{Answer, Caller, Engine, Now, Stop, off};
use crate::id::DeviceId;

impl Engine {
    pub(super) fn list_devices(&mut self, _caller: &Caller) -> Result<Answer, Stop> {
        Err(off("list_devices"))
    }

    pub(super) fn kick_device(
        &mut self,
        _caller: &Caller,
        _device: &DeviceId,
    ) -> Result<Answer, Stop> {
        Err(off("kick_device"))
    }

    pub(super) fn revoke_device(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _device: &DeviceId,
    ) -> Result<Answer, Stop> {
        Err(off("revoke_device"))
    }
}
