//! A fence around the engine of the trees: its panics become errors.
//!
//! sled 0.34.7 panics on some damaged files instead of returning an error. A caller must get a
//! typed answer, so every call goes through [`guarded`]. It works only where panics unwind; in a
//! program built with `panic = "abort"` such damage ends the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::StoreError;

/// Runs `call`; a panic in it is damage of the data directory.
///
/// What `call` leaves half done must not matter: reads have no effect, and a write that fails in
/// whatever way fails the store.
pub(super) fn guarded<T>(
    what: &str,
    call: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("it gave no reason");
        Err(StoreError::Damaged(format!("{what} was stopped by a panic: {text}")))
    })
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
}
