//! What a command gives to the machine's side: environment, signals, and where to speak.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What visor takes from its own surroundings, read once by the program's start.
#[derive(Debug, Clone, Default)]
pub struct Ambient {
    /// The allow-listed variables `PATH HOME LANG TZ`, and `VISOR_EXE`, the path of visor itself.
    pub env: BTreeMap<String, String>,
    /// Set when visor is told to end.
    pub interrupt: Arc<AtomicBool>,
    /// Set with it when the node is to end too, as TERM and INT ask.
    pub stop: Arc<AtomicBool>,
    /// Set when visor is to end and the node to stay, as USR1 asks.
    pub leave: Arc<AtomicBool>,
    /// Set when the manifests are to be read again and the outcome said, as HUP asks.
    pub reload: Arc<AtomicBool>,
    /// The same for the supervisor.
    pub reload_keeper: Arc<AtomicBool>,
    /// The command, and who gave it.
    pub actor: String,
    pub say: Say,
    pub signs: Signs,
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
