//! What a command gives to the machine's side: environment, signals, and where to speak.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What visor takes from its own surroundings, read once by the program's start.
#[derive(Debug, Clone, Default)]
pub struct Ambient {
    /// The allow-listed variables `PATH HOME LANG TZ`, and `VISOR_EXE`, the path of visor itself.
    pub env: BTreeMap<String, String>,
    /// Set when visor is told to end.
    pub interrupt: Arc<AtomicBool>,
    /// Rung with it.
    pub wake: Option<Arc<Wake>>,
    /// Set with it when the node is to end too, as TERM and INT ask.
    pub stop: Arc<AtomicBool>,
    /// Set when visor is to end and the node to stay, as USR1 asks.
    pub leave: Arc<AtomicBool>,
    /// Set when the manifests are to be read again and the outcome said, as HUP asks.
    pub reload: Arc<AtomicBool>,
    /// The node would be started by this process: the control group that it is in counts.
    pub starts_node: bool,
    /// Someone wants to know how large a copy would be, which takes a look at every file.
    pub surveys: bool,
    /// The command, and who gave it.
    pub actor: String,
    pub say: Say,
    pub signs: Signs,
}

impl Ambient {
    /// Tells everything that works with this to end, and wakes it.
    pub fn interrupt_all(&self) {
        self.interrupt.store(true, Ordering::Relaxed);
        if let Some(wake) = &self.wake {
            wake.ring();
        }
    }
}

/// Ends every wait at once, and for good: a pipe that is written into and never read.
#[derive(Debug)]
pub struct Wake {
    heard: UnixStream,
    bell: UnixStream,
}

impl Wake {
    pub fn new() -> io::Result<Self> {
        let (heard, bell) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok(Self { heard, bell })
    }

    /// An end for a signal handler to write into.
    pub fn bell(&self) -> io::Result<UnixStream> {
        self.bell.try_clone()
    }

    fn ring(&self) {
        // One that is full has been heard.
        let _ = (&self.bell).write(&[0]);
    }

    /// Waits for this time, or until the bell has rung.
    pub(super) fn wait(&self, time: Duration) {
        let timeout = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.heard, PollFlags::IN)];
        // A signal that interrupts the wait is looked at by the caller.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

/// Where visor says what it waits for while it does one thing.
#[derive(Clone)]
pub struct Say(pub Arc<dyn Fn(&str) + Send + Sync>);

impl Default for Say {
    fn default() -> Self {
        Self(Arc::new(|_| {}))
    }
}

impl std::fmt::Debug for Say {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Say")
    }
}

/// Signs of life, for whoever keeps visor itself.
#[derive(Clone)]
pub struct Signs {
    /// The node is as it should be.
    pub ready: Arc<dyn Fn() + Send + Sync>,
    /// Whoever holds this is not stuck. Called often.
    pub alive: Arc<dyn Fn() + Send + Sync>,
    /// Visor goes.
    pub ending: Arc<dyn Fn() + Send + Sync>,
}

impl Default for Signs {
    fn default() -> Self {
        Self {
            ready: Arc::new(|| {}),
            alive: Arc::new(|| {}),
            ending: Arc::new(|| {}),
        }
    }
}

impl std::fmt::Debug for Signs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signs")
    }
}
