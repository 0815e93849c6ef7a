//! The states that `visor status` shows: one table of words, meanings and advice, and which of them hold. Pure.

use super::status::Status;
use crate::model::UnixMs;
use crate::plan::{Fact, Liveness, Overrides};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! states {
    ($($name:ident = $word:literal, $meaning:literal, $advice:literal;)*) => {
        /// A state of a node, of its visor, or of an upgrade. Several can hold at once.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum State {
            $(#[doc = $meaning] $name,)*
        }

        impl State {
            /// All, the more urgent first.
            pub const ALL: &[State] = &[$(State::$name,)*];

            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do about it.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

states! {
    Stuck = "stuck",
        "A run met something that visor may not guess, and waits for a person. Nothing is lost, and at most one node lives.",
        "Read the reason that `visor status` shows. Find out what is true of the step it names, then say it: `visor resolve done`, `not-done`, `roll-back` or `give-up`.";
    Unclear = "unclear",
        "Somebody holds the node's lock, but no process that visor has a record of lives. Perhaps the node is about to start, perhaps its record was removed.",
        "Wait some seconds. If it stays, look for the process that has `state/node.lock` open (`fuser`), and end it if it is not wanted. Nothing is started meanwhile.";
    Foreign = "foreign",
        "A process that visor did not start works on the node's data. Nothing is started beside it.",
        "If it is an old service, disable and stop it; visor starts the node once it is gone. If it should stay, `visor stop` keeps visor's hands off.";
    RollingBack = "rolling-back",
        "An upgrade failed, and visor brings the old release back.",
        "Nothing. `visor status --watch` shows how it goes on; afterwards the node is on the old release, or the run is stuck.";
    Upgrading = "upgrading",
        "An upgrade has the node in its hands: it is being stopped, switched, started, or proves itself.",
        "Nothing. `visor reconcile --abort` rolls it back, if that is wanted, as long as it is not committed.";
    Stopping = "stopping",
        "An operator asked for a stop, and the node has not ended yet.",
        "Wait for the grace that its `stop` gives. If it lives on after that, its log says what it does; KILL follows only where the manifest says `kill = true`.";
    Left = "left",
        "The node ended by itself, and its `restart` says that it is not started again.",
        "Read why, and the last lines of its log. When the cause is gone, `visor start`.";
    Stopped = "stopped",
        "An operator stopped the node.",
        "Ask the one who is named, or read the reason; `visor start` ends it.";
    StartRefused = "start-refused",
        "This machine would not have the node started: no process, no file descriptor, no such user, no program. It is tried again with growing pauses.",
        "Read the reason. It goes on by itself once the cause is gone; `visor stop` and then `visor start` try at once.";
    MachineRefuses = "machine-refuses",
        "This machine would not do what visor's work needs: no disk, no file descriptor, a directory that is gone. It is tried again every half a minute at the latest, and a run goes on from where it was.",
        "Read the reason. It goes on by itself once the cause is gone. If the node is down in an upgrade and cannot wait, `visor reconcile --abort` turns back.";
    Restarting = "restarting",
        "The node ended by itself and is started again after a pause.",
        "Read how it ended, and its log: `visor logs`. After `restart.max` ends it is left.";
    NoRelease = "no-release",
        "There is no release to start yet.",
        "With a `genesis` in the manifest and no data visor installs it. For data that exist, say which release they belong to: `visor start --release NAME`.";
    Down = "down",
        "The node does not run, and should.",
        "If no visor works on it, start `visor run` (or its service). If one does, it starts the node within a second, or says why not.";
    Silent = "silent",
        "The node runs, but its RPC gives no answer.",
        "After a start that is normal for a while. If it lasts, look at the node's log (`visor logs -f`) and at the address that `chain.rpc` names. Upgrades wait.";
    Syncing = "syncing",
        "The node runs and catches up with its chain.",
        "Wait. Upgrades at a height are carried out when it gets there; gates that need a fresh head stay closed.";
    OldHead = "old-head",
        "The node runs, but its last block is older than `chain.max-head-age`.",
        "Look whether the chain has halted or the node has lost its peers. The chain's gate stays closed.";
    Healthy = "healthy",
        "The node runs, and its chain answers as it should.",
        "Nothing.";
    Running = "running",
        "The node runs. It has no chain that visor could ask.",
        "Nothing.";
    Unkept = "unkept",
        "The node runs, but no visor keeps it: if it ends, nobody starts it again.",
        "Start `visor run`, or its service; it takes the node over without touching it.";
    SetRefused = "set-refused",
        "The manifests as they are now have a mistake. visor goes on with those it read before.",
        "`visor plan check` shows every mistake with its place. Once it passes, visor takes the set up by itself.";
    UpgradeFailed = "upgrade-failed",
        "An upgrade failed and was rolled back. It is not tried again as it is.",
        "`visor history show last` says at which step and why. Change the upgrade, or say `visor upgrade retry NAME`.";
    UpgradeBlocked = "upgrade-blocked",
        "An upgrade is due, or near, and something is in its way.",
        "`visor status` shows what, and what to do about it.";
    BackupBad = "backup-bad",
        "The contents of a copy are not those of the data that it was made of, or have changed since. It is never restored.",
        "`visor backup verify ID` names the files. Make another one (`visor backup create`), look at the disk, and remove the bad one: `visor backup remove ID`.";
    Preparing = "preparing",
        "A run is under way and the node still serves: it fetches, copies, or waits for its trigger.",
        "Nothing. `visor reconcile --abort` cancels it; `visor hold` keeps it from going on.";
    Finishing = "finishing",
        "An upgrade is committed and the node serves; what comes after it is being done.",
        "Nothing. Whatever fails now rolls nothing back.";
    Held = "held",
        "An operator lets no upgrade begin.",
        "Ask the one who is named, or read the reason; `visor release-hold` ends it.";
}

impl State {
    /// True while a run has work in hand that it does not leave before it is done.
    pub fn is_work(self) -> bool {
        matches!(self, Self::RollingBack | Self::Upgrading | Self::Finishing)
    }
}

/// A state that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Standing {
    pub state: State,
    /// In milliseconds since 1970, where that is known.
    pub since: Option<UnixMs>,
    /// What is particular about it.
    pub detail: Option<String>,
}

/// The states that hold, the most urgent first; never none.
pub(super) fn standings(s: &Status, overrides: &Overrides, head_is_old: bool) -> Vec<Standing> {
    let mut all: Vec<Standing> = Vec::new();
    let mut add = |state, since: Option<UnixMs>, detail: Option<String>| {
        all.push(Standing {
            state,
            since,
            detail,
        });
    };
    let is_running = matches!(s.process, Liveness::Running { .. });
    let mut explained = false;
    if let Some(run) = &s.run {
        let what = Some(run.what.clone());
        let since = Some(run.stage_since);
        match run.stage.as_str() {
            "stuck" => {
                let at = run.stuck_at.as_deref().unwrap_or("a step");
                let why = run.reason.as_deref().unwrap_or("no reason is on record");
                add(State::Stuck, since, Some(format!("at {at}: {why}")));
            }
            "rolling back" => add(State::RollingBack, since, what),
            "critical section" | "confirming" => add(State::Upgrading, since, what),
            "after commit" => add(State::Finishing, since, what),
            _ => add(State::Preparing, since, what),
        }
        explained = matches!(
            run.stage.as_str(),
            "stuck" | "rolling back" | "critical section" | "confirming"
        );
    }
    if let Some(look) = s.now.as_ref().and_then(|n| n.next_look.as_ref()) {
        add(State::MachineRefuses, None, Some(look.why.clone()));
    }
    let next = s.now.as_ref().and_then(|n| n.next_start.as_ref());
    let stop = overrides.stop.as_ref();
    let by = stop.map(|stop| format!("by {}: {}", stop.by, stop.reason));
    match &s.process {
        Liveness::Unclear { why } => add(State::Unclear, None, Some(why.clone())),
        Liveness::Running { .. } if stop.is_some() => {
            add(State::Stopping, stop.map(|o| o.at), by);
        }
        Liveness::Stopped { .. } => match (&s.foreign, stop, next) {
            (Some(who), ..) => add(State::Foreign, None, Some(who.clone())),
            (None, Some(stop), _) if stop.by == "visor" => {
                add(State::Left, Some(stop.at), Some(stop.reason.clone()));
            }
            (None, Some(stop), _) => add(State::Stopped, Some(stop.at), by),
            (None, None, Some(next)) if next.refused => {
                add(State::StartRefused, None, Some(next.why.clone()));
            }
            (None, None, Some(next)) => add(State::Restarting, None, Some(next.why.clone())),
            (None, None, None) if explained => {}
            (None, None, None) if s.current.is_none() => add(State::NoRelease, None, None),
            (None, None, None) => add(State::Down, None, None),
        },
        Liveness::Running { since, .. } => match &s.chain {
            None => add(State::Running, Some(*since), None),
            Some(chain) => match (&chain.head, &chain.syncing) {
                (Fact::Unknown(why), _) => add(State::Silent, None, Some(why.clone())),
                (_, Fact::Known(true)) => add(State::Syncing, None, None),
                _ if head_is_old => add(State::OldHead, None, None),
                _ => add(State::Healthy, Some(*since), None),
            },
        },
    }
    if is_running && s.visor.as_ref().is_none_or(|o| o.command != "run") {
        add(State::Unkept, None, None);
    }
    if let Some(problem) = s.now.as_ref().and_then(|n| n.set_problem.as_ref()) {
        add(
            State::SetRefused,
            Some(problem.since),
            Some(problem.what.clone()),
        );
    }
    for bad in &s.bad_backups {
        add(State::BackupBad, None, Some(bad.clone()));
    }
    for failed in &s.failed {
        let detail = format!("{}: {}", failed.upgrade, failed.reason);
        add(State::UpgradeFailed, Some(failed.at), Some(detail));
    }
    // What is stuck or failed is said already, and that a node which does not answer has no height needs no word.
    let known = |b: &crate::plan::Remark| {
        s.failed
            .iter()
            .any(|f| Some(&f.upgrade) == b.upgrade.as_ref())
    };
    let blocked = s.diff.blocked.iter();
    let answers = is_running && !matches!(&s.chain, Some(c) if c.head.known().is_none());
    for b in blocked.filter(|b| answers && b.upgrade.is_some() && !known(b)) {
        add(State::UpgradeBlocked, None, Some(b.what.clone()));
    }
    if let Some(hold) = &overrides.hold {
        let detail = format!("by {}: {}", hold.by, hold.reason);
        add(State::Held, Some(hold.at), Some(detail));
    }
    all.sort_by_key(|s| State::ALL.iter().position(|known| *known == s.state));
    all
}

/// The page of the book for whoever is on call.
pub fn night_shift_page() -> String {
    let mut text = String::from(
        "# The night shift\n\nThe first line of `visor status` names the states that hold, the most urgent first. `visor explain STATE` prints what stands \
         here. `visor status --watch` follows them.\n\n| state | what it means | what to do |\n|---|---|---|\n",
    );
    for state in State::ALL {
        text.push_str(&format!(
            "| `{}` | {} | {} |\n",
            state.word(),
            state.meaning(),
            state.advice()
        ));
    }
    text
}
