//! systemd, when it keeps visor: readiness, status lines and the watchdog; and the unit that `visor init --systemd` writes.

use super::args::Global;
use super::context::{Context, set_dir};
use super::error::{CliError, Exit};
use super::out;
use super::report::Lines;
use crate::agent::Live;
use crate::backup::{Whole, survey};
use crate::check::DesiredNode;
use crate::durable::parent;
use crate::host::Signs;
use crate::step::{Notice, Report};
use crate::store::Layout;
use sd_notify::NotifyState;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The service manager at the other end of `NOTIFY_SOCKET`; nothing where there is none.
pub(super) struct Systemd {
    /// How often it wants to hear that visor is alive.
    watchdog: Option<Duration>,
    heard: Mutex<Option<Instant>>,
    status: Mutex<String>,
}

impl Systemd {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            watchdog: sd_notify::watchdog_enabled(),
            heard: Mutex::new(None),
            status: Mutex::default(),
        })
    }

    /// A manager that does not listen is no reason to stop the node.
    fn tell(states: &[NotifyState<'_>]) {
        let _ = sd_notify::notify(states);
    }

    pub(super) fn signs(self: &Arc<Self>) -> Signs {
        let own = Arc::clone(self);
        Signs {
            ready: Arc::new(|| Self::tell(&[NotifyState::Ready])),
            alive: Arc::new(move || own.alive()),
            ending: Arc::new(|| Self::tell(&[NotifyState::Stopping])),
        }
    }

    /// Three times within what the watchdog allows.
    fn alive(&self) {
        let Some(every) = self.watchdog.map(|w| w / 3) else {
            return;
        };
        let Ok(mut heard) = self.heard.lock() else {
            return;
        };
        if heard.is_none_or(|at| at.elapsed() >= every) {
            Self::tell(&[NotifyState::Watchdog]);
            *heard = Some(Instant::now());
        }
    }

    fn status(&self, text: &str) {
        let Ok(mut last) = self.status.lock() else {
            return;
        };
        let text = text.lines().next().unwrap_or_default();
        if *last != text {
            Self::tell(&[NotifyState::Status(text)]);
            text.clone_into(&mut last);
        }
    }
}

/// Steps as they happen, for the terminal and for `systemctl status`.
pub(super) struct Announced {
    pub(super) lines: Lines,
    pub(super) systemd: Arc<Systemd>,
    pub(super) live: Arc<Live>,
}

impl Report for Announced {
    fn notice(&mut self, notice: Notice<'_>) {
        match &notice {
            Notice::Looks => {}
            Notice::Began(step) => self.systemd.status(&step.name),
            Notice::Progress(step, text) => self.systemd.status(&format!("{}: {text}", step.name)),
            Notice::Ended(step, ..) => self.systemd.status(&format!("{} is done", step.name)),
            Notice::Failed(step, error) => {
                self.systemd
                    .status(&format!("{} failed: {error}", step.name));
            }
            Notice::Waiting(why) => {
                if let Some(first) = why.first() {
                    self.systemd.status(&format!("waiting: {first}"));
                }
            }
            Notice::Undo { cause, .. } => self.systemd.status(&format!("rolling back: {cause}")),
            Notice::Stuck { step, reason } => {
                let text = format!("stuck at {}, a person is needed: {reason}", step.name);
                self.systemd.status(&text);
            }
            Notice::Refused { why, .. } => self.systemd.status(why),
            Notice::Warn(text) => self.systemd.status(text),
        }
        self.live.notice(&notice);
        self.lines.notice(notice);
    }
}

/// Writes the unit for a node of a set into a directory; it replaces and installs nothing.
pub(super) fn init_unit(global: &Global, dir: &Path) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let node = cx.node();
    let set = set_dir(global);
    let set = std::fs::canonicalize(&set)
        .map_err(|e| CliError::Machine(format!("{}: {e}", set.display())))?;
    let visor = std::env::current_exe().map_err(|e| CliError::Machine(format!("visor: {e}")))?;
    let unit = unit(node, &visor, &set)?;
    let name = format!("visor-{}.service", node.spec.name);
    let path = dir.join(&name);
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(CliError::usage(
                format!("{} is there already", path.display()),
                "Name another directory; `visor init` replaces nothing.",
            ));
        }
        other => other.map_err(|e| CliError::Machine(format!("{}: {e}", path.display())))?,
    };
    file.write_all(unit.as_bytes())
        .map_err(|e| CliError::Machine(format!("{}: {e}", path.display())))?;
    out::line(&format!(
        "visor: wrote {}\n  Read it, then install it:\n    install -m 644 {} /etc/systemd/system/\n    systemctl daemon-reload\n    systemctl enable --now {name}\n  A new visor takes over without touching the node:\n    systemctl kill --kill-whom=main --signal=USR1 {name}",
        path.display(),
        path.display(),
    ));
    Ok(Exit::Done)
}

/// Longer than the node may take to end, and than visor needs beside.
const STOP_MARGIN: Duration = Duration::from_secs(90);

/// In the place of what parts a service from the rest of the system.
const OF_A_DATASET: &str = "# The data are a ZFS dataset: visor mounts clones of it, which the whole system has to see. So there is no ProtectSystem=, PrivateTmp= or any other
# line that gives a service mounts of its own.";

fn unit(node: &DesiredNode, visor: &Path, set: &Path) -> Result<String, CliError> {
    let spec = &node.spec;
    // What is named beside each other becomes mounts of their own, and nothing is exchanged between two mounts: data and the copies
    // below the root have to be under one name.
    let above = |path: &Path, other: &Path| {
        let common = path.ancestors().find(|a| other.starts_with(a));
        common.unwrap_or(Path::new("/")).to_owned()
    };
    let writes = above(&above(&spec.home, &spec.root), &spec.data.path);
    // Of the whole system nothing is protected then, but what it boots from.
    let (protect_system, writes) = if writes == Path::new("/") {
        ("full", String::new())
    } else {
        let mut lines = format!("ReadWritePaths={}\n", word(&writes)?);
        // What links in the data lead to is exchanged beside itself.
        let facts = survey(&Layout::new(&spec.root).generations(), &spec.data);
        for root in facts.roots.iter().filter(|r| !r.dir.starts_with(&writes)) {
            lines += &format!("ReadWritePaths={}\n", word(parent(&root.dir))?);
        }
        ("strict", lines)
    };
    let is_below_home = |p: &&Path| {
        ["/home", "/root", "/run/user"]
            .iter()
            .any(|h| p.starts_with(h))
    };
    let paths: [&Path; 5] = [&spec.home, &spec.root, &spec.data.path, set, visor];
    let protect_home = if paths.iter().any(is_below_home) {
        "no"
    } else {
        "yes"
    };
    let private_tmp = if paths
        .iter()
        .any(|p| p.starts_with("/tmp") || p.starts_with("/var/tmp"))
    {
        "no"
    } else {
        "yes"
    };
    let stop = spec.stop.grace + spec.stop.dump + STOP_MARGIN;
    let (protection, mounts) = if Whole::at(&spec.data.path) == Some(Whole::Dataset) {
        (OF_A_DATASET.to_owned(), " CAP_SYS_ADMIN")
    } else {
        (
            format!(
                r#"ProtectSystem={protect_system}
{writes}ProtectHome={protect_home}
PrivateTmp={private_tmp}
PrivateDevices=yes
ProtectClock=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
SystemCallFilter=@system-service @chown @setuid
SystemCallErrorNumber=EPERM"#
            ),
            "",
        )
    };
    Ok(format!(
        r#"# Written by `visor init --systemd` for node {name}. Edit it as you like: nothing writes it again.
[Unit]
Description=visor, keeper of node {name}
Wants=network-online.target
After=network-online.target
# visor has a limit of its own for a node that crashes; visor itself is always started again.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={visor} run --manifests {set} --node {name}
# Reads the manifests at once; `systemctl status` says what came of it.
ExecReload=/bin/kill -HUP $MAINPID

# Only visor is told to end, and it ends the node. When visor dies or is replaced the node lives, and the next visor takes it over.
KillMode=process
# The node's grace, its dump, and what visor needs beside.
TimeoutStopSec={stop}
# A node may take hours to catch up; visor says what it waits for.
TimeoutStartSec=infinity
WatchdogSec=60
# A visor that hangs is ended soon: it is its node that may need time.
TimeoutAbortSec=10
Restart=always
RestartSec=1
# 6: a person is needed. 64: the command is wrong, or names a node that the set does not have.
RestartPreventExitStatus=6 64
# A node that the kernel kills for want of memory is visor's matter.
OOMPolicy=continue
# The node gets a control group of its own (systemd 251), with the limits of `process.cgroup` (254, for DelegateSubgroup). With an older
# one set limits in this unit.
Delegate=yes
DelegateSubgroup=visor
LimitNOFILE=1048576

# What neither visor nor a node needs. Take a line out if yours does.
UMask=0077
NoNewPrivileges=yes
{protection}
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
LockPersonality=yes
SystemCallArchitectures=native
# For `process` in the manifest (another user, priorities, limits), to back up what belongs to that user with all its modes, and to see
# who else works on the data (SYS_PTRACE).
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SYS_NICE CAP_SYS_PTRACE CAP_SYS_RESOURCE{mounts}

[Install]
WantedBy=multi-user.target
"#,
        name = spec.name,
        visor = word(visor)?,
        set = word(set)?,
        stop = stop.as_secs(),
    ))
}

/// A path as a word of a unit.
fn word(path: &Path) -> Result<String, CliError> {
    let text = path.to_str().filter(|t| !t.chars().any(char::is_control));
    let text = text.ok_or_else(|| {
        CliError::usage(
            format!("{} cannot stand in a unit", path.display()),
            "Use a path of plain characters.",
        )
    })?;
    let text = text.replace('%', "%%").replace('$', "$$");
    if text.contains([' ', '"', '\'', '\\', ';']) {
        return Ok(format!(
            "\"{}\"",
            text.replace('\\', "\\\\").replace('"', "\\\"")
        ));
    }
    Ok(text)
}
