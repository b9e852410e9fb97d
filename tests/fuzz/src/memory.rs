//! How much memory one input may take. More than that ends the program, which the fuzzer reports as a crash.

use std::{alloc::System, panic, sync::Once};

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `work` with at most so many bytes more than are in use now.
pub(crate) fn within(bytes: usize, work: impl FnOnce()) {
    static UNLIMITED_PANICS: Once = Once::new();
    UNLIMITED_PANICS.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A backtrace takes megabytes; without them it would hang in the middle of being told.
            let _ = ALLOCATOR.set_limit(usize::MAX);
            hook(info);
        }));
    });
    assert_eq!(ALLOCATOR.set_limit(ALLOCATOR.allocated() + bytes), Ok(()), "the limit is above what is in use");
    work();
    assert_eq!(ALLOCATOR.set_limit(usize::MAX), Ok(()));
}
