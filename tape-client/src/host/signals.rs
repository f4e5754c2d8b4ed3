//! The signals that tell a process to stop.

use std::io;

/// Listens for SIGTERM and SIGINT. Once it is let go or dropped, they end the process, as they do by default.
#[cfg(unix)]
pub(super) struct Signals {
    /// A byte for each signal.
    told: tokio::net::UnixStream,
    handlers: Vec<signal_hook::SigId>,
    caught: Option<default::Caught>,
}

#[cfg(unix)]
impl Signals {
    /// Signals are listened for from this call on.
    pub(super) fn listen() -> io::Result<Self> {
        use std::os::unix::net::UnixStream;
        // First, so that what a signal does by default is decided before this hears of it, and may let go.
        let caught = default::Caught::new()?;
        let (told, tell) = UnixStream::pair()?;
        told.set_nonblocking(true)?;
        let mut signals = Self {
            told: tokio::net::UnixStream::from_std(told)?,
            handlers: Vec::new(),
            caught: Some(caught),
        };
        for signal in default::SIGNALS {
            let tell = tell.try_clone()?;
            signals
                .handlers
                .push(signal_hook::low_level::pipe::register(signal, tell)?);
        }
        Ok(signals)
    }

    /// The next signal.
    pub(super) async fn next(&mut self) {
        while self.told.readable().await.is_ok() {
            match self.told.try_read(&mut [0]) {
                Ok(1) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
        // Nothing comes any more: the runtime is shutting down.
        std::future::pending().await
    }

    /// From now on, the signals end the process, unless others listen here.
    pub(super) fn let_go(&mut self) {
        self.caught = None;
    }
}

#[cfg(unix)]
impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            signal_hook::low_level::unregister(handler);
        }
    }
}

/// What signals do by default. A signal that was ever handled keeps its handler for as long as the process lasts: without this, it would
/// do nothing once the last listener is gone.
#[cfg(unix)]
mod default {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag::register_conditional_default;
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    /// Those that tell a process to stop.
    pub(super) const SIGNALS: [i32; 2] = [SIGTERM, SIGINT];

    static HANDLED: Mutex<Handled> = Mutex::new(Handled {
        listeners: 0,
        ends: None,
    });

    struct Handled {
        /// Those who listen now.
        listeners: usize,
        /// Whether a signal ends the process; none before it was ever listened for.
        ends: Option<Arc<AtomicBool>>,
    }

    /// While one of these lives, signals do not end the process.
    pub(super) struct Caught(());

    impl Caught {
        pub(super) fn new() -> io::Result<Self> {
            let mut handled = handled();
            if handled.ends.is_none() {
                let ends = Arc::new(AtomicBool::new(false));
                for signal in SIGNALS {
                    register_conditional_default(signal, Arc::clone(&ends))?;
                }
                handled.ends = Some(ends);
            }
            handled.listeners += 1;
            handled.tell();
            Ok(Self(()))
        }
    }

    impl Drop for Caught {
        fn drop(&mut self) {
            let mut handled = handled();
            handled.listeners -= 1;
            handled.tell();
        }
    }

    impl Handled {
        fn tell(&self) {
            if let Some(ends) = &self.ends {
                ends.store(self.listeners == 0, Ordering::SeqCst);
            }
        }
    }

    fn handled() -> MutexGuard<'static, Handled> {
        HANDLED.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens for ctrl-c.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    /// The next ctrl-c.
    pub(super) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }

    pub(super) fn let_go(&mut self) {}
}
