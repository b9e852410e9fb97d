//! The terminal as a console needs it: each key as it is pressed, and as it was when the console is left, on whatever way.

use std::{
    io::{self, IsTerminal, Stdin},
    sync::{Mutex, Once, PoisonError},
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// How the terminal was, while it is another's. A panic has to find it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static ON_PANIC: Once = Once::new();

/// The terminal given over; it is given back on drop, and before a panic is told.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Takes it, if stdin is one.
    pub(crate) fn take() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        ON_PANIC.call_once(|| {
            let told = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                told(panic);
            }));
        });
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        set(&stdin, &raw).then_some(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        set(&io::stdin(), &before);
    }
}

fn set(stdin: &Stdin, how: &Termios) -> bool {
    // What was typed and not read yet stays.
    tcsetattr(stdin, OptionalActions::Drain, how).is_ok()
}
