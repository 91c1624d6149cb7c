//! Threads that are named, owned and joined.

use std::io;
use std::thread::JoinHandle;

/// A running thread. Whoever holds it must [`Thread::join`] it: a thread that nobody joins can
/// outlive what it works on.
#[derive(Debug)]
#[must_use = "a thread that is not joined can outlive what it works on"]
pub struct Thread {
    name: String,
    handle: JoinHandle<()>,
}

impl Thread {
    /// Starts `run` on a thread called `name` (15 bytes of it show in `top`).
    ///
    /// # Errors
    ///
    /// When the system has no thread to give; nothing was started.
    pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { name: name.to_owned(), handle })
    }

    /// Waits until the thread has ended.
    ///
    /// # Errors
    ///
    /// [`Panicked`] when it ended by a panic, whose message is on standard error already.
    pub fn join(self) -> Result<(), Panicked> {
        self.handle.join().map_err(|_panic| Panicked { thread: self.name })
    }

    /// Whether the thread has ended, by returning or by a panic.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

/// A thread ended by a panic.
#[derive(Debug, thiserror::Error)]
#[error("thread {thread} panicked")]
pub struct Panicked {
    /// The thread's name.
    pub thread: String,
}
