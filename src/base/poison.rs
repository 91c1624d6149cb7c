//! The one-way switch after a failed sync. The kernel may have thrown the pages away and report
//! success next time, so nothing is tried again: what waited gets a fault, nothing more is accepted,
//! and recovery reads what is there.

use std::sync::{Arc, OnceLock};

/// A switch that many threads watch and any of them may throw, once, for good.
#[derive(Debug, Clone, Default)]
pub struct Poison {
    reason: Arc<OnceLock<String>>,
}

impl Poison {
    /// A switch that has not been thrown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Throws the switch. Only the first reason is kept: what follows is its consequence.
    /// Returns whether this call threw it.
    pub fn throw(&self, reason: impl Into<String>) -> bool {
        self.reason.set(reason.into()).is_ok()
    }

    /// Throws the switch, for `reason`, if this thread panics while the guard lives: nobody waits for
    /// a thread to end, so its panic would be noticed by what it leaves undone.
    pub fn on_panic(&self, reason: &'static str) -> OnPanic {
        OnPanic { poison: self.clone(), reason }
    }

    /// Why the switch was thrown, or `None` while all is well.
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Whether the switch was thrown.
    pub fn is_thrown(&self) -> bool {
        self.reason.get().is_some()
    }
}

/// Throws a [`Poison`] when it is dropped by a panic; see [`Poison::on_panic`].
#[derive(Debug)]
#[must_use = "it watches for as long as it lives"]
pub struct OnPanic {
    poison: Poison,
    reason: &'static str,
}

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.poison.throw(self.reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let poison = Poison::new();
        assert!(!poison.is_thrown());
        assert!(poison.throw("fdatasync: EIO"));
        assert!(!poison.clone().throw("a consequence"));
        assert_eq!(poison.reason(), Some("fdatasync: EIO"));
    }

    #[test]
    fn a_guard_throws_on_a_panic_only() {
        let poison = Poison::new();
        drop(poison.on_panic("it panicked"));
        assert!(!poison.is_thrown());
        let guarded = poison.clone();
        let thread = crate::base::thread::Thread::spawn("panics", move || {
            let _guard = guarded.on_panic("it panicked");
            panic!("as the test wants");
        });
        assert!(thread.unwrap().join().is_err());
        assert_eq!(poison.reason(), Some("it panicked"));
    }
}
