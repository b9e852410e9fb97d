//! How much memory one input may take. More than that ends the program, which the fuzzer reports as a crash.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `work` with at most so many bytes more than are in use now.
pub(crate) fn within(bytes: usize, work: impl FnOnce()) {
    assert_eq!(ALLOCATOR.set_limit(ALLOCATOR.allocated() + bytes), Ok(()), "the limit is above what is in use");
    work();
    assert_eq!(ALLOCATOR.set_limit(usize::MAX), Ok(()));
}
