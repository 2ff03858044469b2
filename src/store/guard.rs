//! A fence around the engine of the trees: its panics become errors.
//!
//! sled 0.34.7 panics on some damaged files instead of returning an error. A caller must get a
//! typed answer, so every call goes through [`guarded`]. It works only where panics unwind; in a
//! program built with `panic = "abort"` such damage ends the process.

use std::{
    cell::Cell,
    ops::Deref,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

use super::error::StoreError;

thread_local! {
    /// Calls of this thread that are fenced now, one within the other.
    static FENCED: Cell<u32> = const { Cell::new(0) };
}

/// Leaves the fence however the call ends.
struct Inside;

impl Inside {
    fn enter() -> Self {
        FENCED.with(|fenced| fenced.set(fenced.get() + 1));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        FENCED.with(|fenced| fenced.set(fenced.get() - 1));
    }
}

/// A panic behind the fence is an error with its reason; that it was one, and where in the engine, is
/// for nobody but who looks for it. The engine's own threads are behind it as well.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let fenced = FENCED.try_with(|fenced| fenced.get() > 0).unwrap_or_default();
            let thread = std::thread::current();
            if fenced || thread.name().is_some_and(|name| name.starts_with("sled-io")) {
                tracing::debug!(%panic, "the engine of the trees");
            } else {
                loud(panic);
            }
        }));
    });
}

/// Runs `call`; a panic in it is damage of the data directory.
///
/// What `call` leaves half done must not matter: reads have no effect, and a write that fails in
/// whatever way fails the store.
pub(super) fn guarded<T>(
    what: &str,
    call: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    keep_quiet();
    let fenced = move || {
        let _inside = Inside::enter();
        call()
    };
    let outcome = catch_unwind(AssertUnwindSafe(fenced));
    if let Ok(Err(StoreError::Trees(sled::Error::Corruption { .. }))) = outcome {
        // One page concerns who needs it, not everybody.
        return Err(StoreError::Damaged(format!("{what} came upon a page that does not check")));
    }
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("it gave no reason");
        Err(StoreError::Damaged(format!("{what} was stopped by a panic: {text}")))
    })
}

/// What panics when it is dropped as well: sled syncs its file at the end and panics when it cannot, as
/// on a disk that is full or gone. What had to be durable is so before, or its error was returned.
#[derive(Debug)]
pub(super) struct Fenced<T>(Option<T>);

impl<T> Fenced<T> {
    pub(super) fn new(it: T) -> Self {
        Self(Some(it))
    }
}

impl<T> Deref for Fenced<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T> Drop for Fenced<T> {
    fn drop(&mut self) {
        let it = self.0.take();
        let closed = guarded("closing the trees", move || {
            drop(it);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::debug!(%error, "what was being closed anyway");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_reason() {
        let reason = |error: Result<(), StoreError>| error.unwrap_err().to_string();
        let panics = |text: &'static str| reason(guarded("a read", || std::panic::panic_any(text)));
        assert!(panics("page 7").contains("a read was stopped by a panic: page 7"));
        let text = String::from("page 8");
        let other = guarded("a read", || std::panic::panic_any(text));
        assert!(reason(other).contains("page 8"));
        assert_eq!(guarded("a read", || Ok(3)).ok(), Some(3));
    }

    /// Cause: a start that was refused because of the disk dropped the trees, which panicked: status
    /// 101 and a backtrace instead of the reason. Found by injected errors (tests/faults/inject.rs).
    #[test]
    fn a_panic_at_the_end_stays_behind_the_fence() {
        struct Last;
        impl Drop for Last {
            fn drop(&mut self) {
                std::panic::panic_any("no space");
            }
        }
        drop(Fenced::new(Last));
    }
}
