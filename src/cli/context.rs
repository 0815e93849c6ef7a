//! What commands about one node share: its wish, its host, its locks.

use super::args::Global;
use super::error::CliError;
use crate::agent::Wish;
use crate::check::DesiredNode;
use crate::durable::read_bounded;
use crate::host::{Ambient, Baton, RealHost, Say, Wake, wall_clock};
use crate::store::{Layout, LockError, Owner, StateLock};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// One node of a set.
pub(super) struct Context {
    pub(super) wish: Wish,
    pub(super) layout: Layout,
}

impl Context {
    pub(super) fn open(global: &Global) -> Result<Self, CliError> {
        let wish = Wish::read(&set_dir(global), global.node.as_deref())?;
        let layout = Layout::new(&wish.node.spec.root);
        Ok(Self { wish, layout })
    }

    /// The same for commands that must work whatever is wrong elsewhere in the set.
    pub(super) fn open_node(global: &Global) -> Result<Self, CliError> {
        let (wish, complaint) = Wish::read_node(&set_dir(global), global.node.as_deref())?;
        if let Some(complaint) = complaint {
            super::out::line(&format!(
                "visor: {}; see `visor plan check`",
                complaint.describe()
            ));
        }
        let layout = Layout::new(&wish.node.spec.root);
        Ok(Self { wish, layout })
    }

    pub(super) fn node(&self) -> &DesiredNode {
        &self.wish.node
    }

    /// For looking only.
    pub(super) fn host(&self) -> RealHost {
        RealHost::new(&self.wish.node.spec, ambient(), Baton::default())
    }

    /// The same for a command whose deeds are written down as its own.
    pub(super) fn host_of(&self, command: &str) -> RealHost {
        let ambient = Ambient {
            actor: actor(command),
            ..ambient()
        };
        RealHost::new(&self.wish.node.spec, ambient, Baton::default())
    }

    /// The state lock, with what an earlier visor left made safe.
    pub(super) fn lock(&self, command: &str) -> Result<StateLock, CliError> {
        let lock = StateLock::acquire(&self.layout, command, wall_clock())?;
        self.host().take_over()?;
        Ok(lock)
    }

    /// The same, or who holds it.
    pub(super) fn try_lock(
        &self,
        command: &str,
    ) -> Result<Result<StateLock, Option<Owner>>, CliError> {
        match self.lock(command) {
            Err(CliError::Lock(LockError::Held(owner))) => Ok(Err(owner)),
            Err(other) => Err(other),
            Ok(lock) => Ok(Ok(lock)),
        }
    }
}

/// `--manifests`, else `./manifests`, else `.`.
pub(super) fn set_dir(global: &Global) -> PathBuf {
    match &global.manifests {
        Some(dir) => dir.clone(),
        None if Path::new("manifests").is_dir() => PathBuf::from("manifests"),
        None => PathBuf::from("."),
    }
}

/// What visor hands on of its own environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read for the node and its hooks"
)]
pub(super) fn ambient() -> Ambient {
    let mut env = BTreeMap::new();
    for key in ["PATH", "HOME", "LANG", "TZ"] {
        if let Ok(value) = std::env::var(key) {
            env.insert(key.to_owned(), value);
        }
    }
    if let Ok(exe) = std::env::current_exe() {
        env.insert("VISOR_EXE".to_owned(), exe.display().to_string());
    }
    Ambient {
        env,
        say: Say(Arc::new(|text| super::out::line(&format!("visor: {text}")))),
        ..Ambient::default()
    }
}

/// The same for a command that may open runs, with TERM and INT setting its interrupt.
pub(super) fn ambient_with_signals(command: &str) -> Result<Ambient, CliError> {
    let ambient = Ambient {
        actor: actor(command),
        starts_node: true,
        ..ambient()
    };
    let failed = |e| CliError::Machine(format!("signals cannot be caught: {e}"));
    let wake = Wake::new().map_err(failed)?;
    for signal in [SIGTERM, SIGINT] {
        set_at(signal, &ambient.stop)?;
        set_at(signal, &ambient.interrupt)?;
        // The last of them: who is woken finds the others set.
        let bell = wake.bell().map_err(failed)?;
        signal_hook::low_level::pipe::register(signal, bell).map_err(failed)?;
    }
    Ok(Ambient {
        wake: Some(Arc::new(wake)),
        ..ambient
    })
}

/// The same for `visor run`, which HUP and USR1 speak to as well.
pub(super) fn ambient_of_run() -> Result<Ambient, CliError> {
    let ambient = ambient_with_signals("run")?;
    set_at(SIGHUP, &ambient.reload)?;
    set_at(SIGUSR1, &ambient.leave)?;
    Ok(ambient)
}

fn set_at(signal: i32, flag: &Arc<AtomicBool>) -> Result<(), CliError> {
    let set = signal_hook::flag::register(signal, Arc::clone(flag));
    set.map(|_| ())
        .map_err(|e| CliError::Machine(format!("signals cannot be caught: {e}")))
}

/// A file that a person named: a device or a FIFO would never end.
pub(super) fn named_file(path: &Path, most: u64, help: &str) -> Result<Vec<u8>, CliError> {
    let none = |why: &str| CliError::usage(format!("{} {why}", path.display()), help.to_owned());
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(none("is no file"));
    }
    read_bounded(path, most)?.ok_or_else(|| none("is not there"))
}

fn actor(command: &str) -> String {
    format!("visor {command}, {}", person())
}

/// Who is at the terminal.
#[expect(
    clippy::disallowed_methods,
    reason = "the name is for records that people read"
)]
pub(super) fn person() -> String {
    let uid = rustix::process::getuid().as_raw();
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    name.map_or_else(
        |_| format!("uid {uid}"),
        |name| format!("{name} (uid {uid})"),
    )
}

/// Names of cosmovisor's and wemixvisor's variables that are set.
#[expect(
    clippy::disallowed_methods,
    reason = "they are shown, so that nobody wonders why they have no effect"
)]
pub(super) fn peers_variables() -> Vec<String> {
    let mut names: Vec<String> = std::env::vars_os()
        .filter_map(|(k, _)| k.into_string().ok())
        .filter(|k| k.starts_with("DAEMON_"))
        .collect();
    names.sort();
    names
}
