//! Panics of an implementation, as failures of the run that meets them.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::implementation::{
    BuildRequest, Description, Failure, Implementation, StateRequest, StepRequest, StepResponse,
};

thread_local! {
    /// Whether this thread is inside an implementation.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Where and why it panicked last.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// An implementation whose panics are crashes. The next `build` replaces what one leaves behind.
pub(crate) struct Guarded(pub(crate) Box<dyn Implementation>);

impl Implementation for Guarded {
    fn describe(&self) -> &Description {
        self.0.describe()
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        guarded(|| self.0.build(request))
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        guarded(|| self.0.set_state(request))
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        guarded(|| self.0.step(request))
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        guarded(|| self.0.finalize())
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    keep_messages();
    let outside = INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(outside);
    result.unwrap_or_else(|payload| {
        let stderr = LAST.take().unwrap_or_else(|| message(payload.as_ref()));
        Err(Failure::Crash { status: "a panic".to_owned(), stderr })
    })
}

/// Inside an implementation a panic is reported with its run instead of on standard error.
fn keep_messages() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if INSIDE.get() {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                LAST.set(Some(format!("{place}: {}", message(info.payload()))));
            } else {
                previous(info);
            }
        }));
    });
}

/// What `panic!` was given, where it was text.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_crash_with_its_place() {
        let result = guarded(|| -> Result<(), Failure> { panic!("row {} of 3", 4) });
        let text = result.unwrap_err().to_string();
        assert!(text.starts_with("crashed with a panic: "), "got {text}");
        assert!(text.contains("panics.rs:") && text.ends_with(": row 4 of 3"), "got {text}");
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
        assert!(!INSIDE.get());
    }
}
