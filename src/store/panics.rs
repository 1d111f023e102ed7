//! [`catch_panic`]: a panic within redb becomes an error. [`CatchDrop`]: the same for the close of a database.
//!
//! redb verifies a page's checksum in an integrity check, and not when a transaction reads the page. Content of a
//! damaged page may then violate an assertion of redb: the documentation of `Builder::set_check_integrity_on_open` says
//! that an open "may panic".

use std::any::Any;
use std::cell::Cell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use parking_lot::Once;

thread_local! {
    /// Whether [`catch_panic`] runs on this thread.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `operation`; returns the message of a panic as an error, and prints nothing.
///
/// The values that `operation` changes may be inconsistent after a panic: the caller drops them.
pub(crate) fn catch_panic<T>(operation: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = take_hook();
        set_hook(Box::new(move |panic| {
            if !CATCHING.get() {
                default(panic);
            }
        }));
    });
    let outer = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(operation));
    CATCHING.set(outer);
    result.map_err(|payload| read_message(&*payload))
}

/// A value whose drop may panic; the panic is logged.
#[derive(Debug)]
pub(crate) struct CatchDrop<T>(Option<T>);

impl<T> CatchDrop<T> {
    /// Wraps the value.
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for CatchDrop<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("the value exists until the drop")
    }
}

impl<T> Drop for CatchDrop<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        if let Err(panic) = catch_panic(|| drop(value)) {
            tracing::error!(error = panic, "cannot close a database");
        }
    }
}

/// The message of a panic. `panic!` creates a `&str` or a `String`.
fn read_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    message.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert_eq!(catch_panic(|| 7), Ok(7));
        assert_eq!(catch_panic(|| panic!("page {}", 3)), Err::<(), _>("page 3".to_owned()));
        assert_eq!(catch_panic(|| panic!("fixed")), Err::<(), _>("fixed".to_owned()));
        assert!(!CATCHING.get());
    }
}
