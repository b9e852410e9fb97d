//! In which order a host said things. One question at a time is what a host asks; but one that it gave up, on a connection that
//! it left, can arrive after what it said later. Pure.

/// When a host said something, by its own reckoning: greater is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Order {
    session: u64,
    counter: u64,
}

impl Order {
    /// By the how-manieth session since the client worker's start, and the number of the message in it.
    #[must_use]
    pub const fn new(session: u64, counter: u64) -> Self {
        Self { session, counter }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_in_a_later_session_is_later_whatever_its_number() {
        assert!(Order::new(1, 900) < Order::new(2, 0) && Order::new(2, 0) < Order::new(2, 1));
        assert!(Order::default() < Order::new(1, 0));
    }
}
