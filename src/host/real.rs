//! The real machine: the capability modules behind the host's traits, for one node.

use super::ambient::Ambient;
use super::clock::wall_clock;
use super::traits::{
    Attempt, Backups, Chains, Clock, HookCall, HookEnd, Hooks, HostError, Journals, NodeState,
    Nodes, Precopy, Releases, Requests, SealReport, SealState, StartEvidence, StopReport,
    VerifyReport,
};
use crate::backup::{self, Final, GenPaths, GenRecord, Precopier};
use crate::chain::EvmClient;
use crate::hook;
use crate::model::{
    ArtifactSpec, BackupSpec, ChainSpec, CopyFacts, DataSpec, GenId, HookSpec, Launch, LogPolicy,
    NodeSpec, ProcessSpec, Release, RunId, StartId, StopPolicy, UnixMs,
};
use crate::node::{self, Rotated, StopError, Stopper};
use crate::plan::{ChainFacts, Denied, Overrides, StepId, StopOverride};
use crate::process::{Holder, lock_holder};
use crate::release;
use crate::store::{
    JournalDir, Layout, OverrideChange, edit_deny, edit_overrides, overrides_stamp, read_overrides,
};
use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// Who may start and stop the node: the supervisor, or the engine while it claims it.
#[derive(Debug, Clone, Default)]
pub struct Baton(Arc<(Mutex<bool>, Condvar)>);

impl Baton {
    /// Runs `act` unless the engine has claimed the node; the engine waits until it is over.
    pub fn unless_claimed<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let claimed = self.0.0.lock().ok()?;
        if *claimed { None } else { Some(act()) }
    }

    fn set(&self, value: bool) {
        if let Ok(mut claimed) = self.0.0.lock() {
            *claimed = value;
        }
        self.0.1.notify_all();
    }
}

/// One node of this machine.
pub struct RealHost {
    pub layout: Layout,
    /// The node as the run in hand, or the last wish, says it is.
    node: RefCell<NodeSpec>,
    began: Instant,
    ambient: Ambient,
    baton: Baton,
    journals: RefCell<JournalDir>,
    stopper: Stopper,
    evm: EvmClient,
    precopier: RefCell<Option<Precopier>>,
    /// What the last final pass remembers, until the upgrade is through.
    remembered: RefCell<Option<(GenId, backup::Remembered)>>,
    last_head: Cell<Option<u64>>,
    /// The last start, once nothing of it was found.
    gone: Cell<Option<StartId>>,
}

type Result<T> = std::result::Result<T, HostError>;

fn failed<E: std::error::Error>(error: E) -> HostError {
    HostError::from_error(&error)
}

impl RealHost {
    pub fn new(node: &NodeSpec, ambient: Ambient, baton: Baton) -> Self {
        let layout = Layout::new(&node.root);
        Self {
            journals: RefCell::new(JournalDir::new(&layout)),
            layout,
            node: RefCell::new(node.clone()),
            began: Instant::now(),
            ambient,
            baton,
            stopper: Stopper::default(),
            evm: EvmClient::default(),
            precopier: RefCell::new(None),
            remembered: RefCell::new(None),
            last_head: Cell::new(None),
            gone: Cell::new(None),
        }
    }

    /// From now on works on the node as this says: a run goes on with its plan's, whatever the manifests say meanwhile.
    pub fn adopt(&self, node: &NodeSpec) {
        self.node.replace(node.clone());
    }

    fn data(&self) -> DataSpec {
        self.node.borrow().data.clone()
    }

    pub fn interrupted(&self) -> bool {
        (self.ambient.signs.alive)();
        self.ambient.interrupt.load(Ordering::Relaxed)
    }

    /// True once for each time that the manifests were asked to be read again.
    pub fn reload_asked(&self) -> bool {
        self.ambient.reload.swap(false, Ordering::Relaxed)
    }

    /// Marks how far the node's log has come, and cuts a piece out of it when that is due.
    pub fn keep_log(&self, policy: &LogPolicy) -> Result<()> {
        node::mark(&self.layout, self.now()).map_err(failed)?;
        loop {
            let interrupted = || self.interrupted();
            match node::rotate(&self.layout, policy, self.now(), &interrupted).map_err(failed)? {
                // What is left may be a piece too.
                Rotated::Cut(_) if !self.interrupted() => {}
                Rotated::NotDue | Rotated::Cut(_) => return Ok(()),
                Rotated::NoHoles => {
                    return Err(HostError::Failed(format!(
                        "the file system of {} frees no part of a file; it grows",
                        self.layout.log().display()
                    )));
                }
            }
        }
    }

    /// True while `reload_asked` would say so.
    pub fn reload_waits(&self) -> bool {
        self.ambient.reload.load(Ordering::Relaxed)
    }

    /// What changes when an operator asks for something.
    pub fn request_stamp(&self) -> Option<(u64, SystemTime)> {
        overrides_stamp(&self.layout)
    }

    /// The last head that the chain was seen to have.
    pub fn last_head(&self) -> Option<u64> {
        self.last_head.get()
    }

    /// A process of somebody else's that works on the node's data. Only asked for while no node of visor's lives.
    pub fn foreign_holder(&self) -> Result<Option<Holder>> {
        let data = self.data().path;
        lock_holder(&data).map_err(|e| HostError::Failed(format!("/proc/locks: {e}")))
    }

    /// Why this machine would not have the node started, as far as it can be known before.
    pub fn start_problem(&self, process: &ProcessSpec) -> Option<String> {
        node::start_problem(process, self.ambient.starts_node)
    }

    /// Ends what a node that crashed left behind; see `Stopper::sweep`.
    pub fn sweep(&self, policy: &StopPolicy) -> Result<bool> {
        self.stopper.sweep(&self.layout, policy).map_err(failed)
    }

    /// Notes that nothing is left of a start.
    pub fn mark_gone(&self, start: StartId) -> Result<()> {
        node::mark_gone(&self.layout, start).map_err(failed)
    }

    /// All runs on record, oldest first.
    pub fn runs(&self) -> Result<Vec<RunId>> {
        self.journals.borrow().runs().map_err(failed)
    }

    /// What a visor does that has just become the only one: fences starts that never happened, sweeps what was never begun.
    pub fn take_over(&self) -> Result<()> {
        node::fence(&self.layout).map_err(failed)?;
        self.journals.borrow().sweep().map_err(failed)
    }

    fn paths(&self, generation: GenId) -> GenPaths {
        GenPaths::new(&self.layout, generation)
    }

    /// What a copy of the data would be; its size only where `Ambient::surveys` says so, for that takes a look at every file.
    pub fn copy_facts(&self) -> Option<CopyFacts> {
        let (generations, data) = (self.layout.generations(), self.data());
        if !data.path.is_dir() {
            return None;
        }
        if self.ambient.surveys {
            return Some(backup::survey(&generations, &data));
        }
        Some(backup::glance(&generations, &data))
    }

    /// Why stamps prove nothing on the data's file system, so that contents must be compared.
    pub fn stamps_unreliable(&self) -> Option<String> {
        backup::stamps_unreliable(&self.data().path)
    }
}

impl Clock for RealHost {
    fn now(&self) -> UnixMs {
        wall_clock()
    }

    fn ticks(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn pause(&self, time: Duration) -> Result<()> {
        let began = std::time::Instant::now();
        loop {
            if self.interrupted() {
                return Err(HostError::Interrupted);
            }
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            match &self.ambient.wake {
                Some(wake) => wake.wait(left),
                None => std::thread::sleep(left.min(Duration::from_millis(50))),
            }
        }
    }

    fn new_ulid(&self) -> ulid::Ulid {
        ulid::Ulid::generate()
    }
}

impl Journals for RealHost {
    fn create(&self, run: RunId, plan: &[u8]) -> Result<()> {
        self.journals.borrow().create(run, plan).map_err(failed)
    }

    fn read(&self, run: RunId) -> Result<(Vec<u8>, Vec<u8>)> {
        self.journals.borrow().read(run).map_err(failed)
    }

    fn actor(&self) -> String {
        self.ambient.actor.clone()
    }

    fn truncate(&self, run: RunId, len: u64) -> Result<()> {
        self.journals
            .borrow_mut()
            .truncate(run, len)
            .map_err(failed)
    }

    fn append(&self, run: RunId, line: &[u8], sync: bool) -> Result<()> {
        self.journals
            .borrow_mut()
            .append(run, line, sync)
            .map_err(failed)
    }

    fn drop_ballast(&self, run: RunId) -> Result<()> {
        self.journals.borrow().drop_ballast(run).map_err(failed)
    }

    fn deny(&self, entry: &Denied) -> Result<()> {
        edit_deny(&self.layout, |denied| {
            denied.retain(|d| d.upgrade != entry.upgrade);
            denied.push(entry.clone());
        })
        .map_err(failed)
    }
}

impl Requests for RealHost {
    fn overrides(&self) -> Result<Overrides> {
        read_overrides(&self.layout, self.now()).map_err(failed)
    }

    fn settle(&self, run: RunId, upgrade: Option<&str>) -> Result<()> {
        self.remembered.take();
        let overrides = self.overrides()?;
        let approved = |name: &str| {
            overrides
                .approvals
                .iter()
                .any(|a| a.upgrade.as_str() == name)
        };
        let resolved = overrides.resolution.as_ref().is_some_and(|r| r.run == run);
        if overrides.abort != Some(run) && !resolved && !upgrade.is_some_and(approved) {
            return Ok(());
        }
        let change = OverrideChange::new(self.now(), "visor", format!("run {run} is over"));
        edit_overrides(&self.layout, change, |now| {
            now.approvals
                .retain(|a| Some(a.upgrade.as_str()) != upgrade);
            now.abort = now.abort.filter(|r| *r != run);
            now.resolution = now.resolution.take().filter(|r| r.run != run);
        })
        .map_err(failed)
    }

    fn keep_stopped(&self, reason: &str) -> Result<()> {
        let stop = StopOverride {
            reason: reason.to_owned(),
            by: "visor".to_owned(),
            at: self.now(),
        };
        let change = OverrideChange::new(self.now(), "visor", format!("stop: {reason}"));
        edit_overrides(&self.layout, change, |now| {
            now.stop.get_or_insert(stop);
        })
        .map_err(failed)
    }
}

impl Releases for RealHost {
    fn fetch(&self, artifact: &ArtifactSpec, release: &Release, binary: &str) -> Result<u64> {
        match release::fetch(&self.layout, artifact, release, binary, &|| {
            self.interrupted()
        }) {
            Err(release::FetchError::Interrupted) => Err(HostError::Interrupted),
            other => other.map_err(failed),
        }
    }

    fn stage(&self, artifact: &ArtifactSpec, release: &Release, binary: &str) -> Result<()> {
        release::stage(&self.layout, artifact, release, binary).map_err(failed)
    }

    fn current(&self) -> Result<Option<Release>> {
        release::read_current(&self.layout).map_err(failed)
    }

    fn switch(&self, to: &Release) -> Result<()> {
        release::switch(&self.layout, to).map_err(failed)
    }
}

impl Nodes for RealHost {
    fn claim_node(&self) {
        self.baton.set(true);
    }

    fn release_node(&self) {
        self.baton.set(false);
    }

    fn node(&self) -> Result<NodeState> {
        let state = node::node_state(&self.layout, self.gone.get()).map_err(failed)?;
        if let NodeState::Gone { last, .. } = &state {
            self.gone.set(*last);
        }
        Ok(state)
    }

    fn start_evidence(&self, start: StartId) -> Result<StartEvidence> {
        node::start_evidence(&self.layout, start).map_err(failed)
    }

    fn start(&self, start: StartId, launch: &Launch) -> Result<()> {
        let (node, env) = (self.node.borrow(), &self.ambient.env);
        if let Some(why) = backup::start_refusal(&self.layout, &node.data) {
            return Err(HostError::Refused(why));
        }
        node::start(&self.layout, &node, launch, start, env).map_err(|error| {
            match failed(error) {
                HostError::Failed(text) => HostError::Refused(text),
                other => other,
            }
        })?;
        // Now no node waits for it. Without the mark those who come later look for what is gone.
        if let Some(gone) = self.gone.get() {
            let _ = node::mark_gone(&self.layout, gone);
        }
        let _ = backup::remember_dataset(&self.layout, &node.data.path);
        Ok(())
    }

    fn stop(&self, policy: &StopPolicy) -> Result<Option<StopReport>> {
        match self
            .stopper
            .stop(&self.layout, policy, &|| self.interrupted(), &|text| {
                (self.ambient.say.0)(text);
            }) {
            Err(StopError::Interrupted) => Err(HostError::Interrupted),
            other => other.map_err(failed),
        }
    }
}

impl Backups for RealHost {
    fn precopy_start(&self, generation: GenId, backup: &BackupSpec) -> Result<()> {
        let mut slot = self.precopier.borrow_mut();
        if slot
            .as_ref()
            .is_some_and(|p| p.generation == generation && !p.has_ended())
        {
            return Ok(());
        }
        *slot = None;
        let before = backup::good_generations(&self.layout)
            .into_iter()
            .rfind(|g| *g != generation)
            .map(|g| self.paths(g));
        let label = backup.label.as_deref().unwrap_or(&backup.name);
        let release = self.current()?.map(|r| r.to_string());
        let record = GenRecord::new(
            &self.node.borrow().name.to_string(),
            label,
            release,
            self.now(),
        );
        let precopier = Precopier::start(
            &self.paths(generation),
            &record,
            &self.data(),
            backup,
            before.as_ref(),
        );
        *slot = Some(precopier.map_err(failed)?);
        Ok(())
    }

    fn precopy(&self, generation: GenId) -> Result<Precopy> {
        let slot = self.precopier.borrow();
        match slot.as_ref().filter(|p| p.generation == generation) {
            Some(precopier) => Ok(precopier.state()),
            None => Err(HostError::Failed(format!(
                "no pre-copy of generation {generation} runs"
            ))),
        }
    }

    fn precopy_end(&self, generation: GenId) -> Result<()> {
        let mut slot = self.precopier.borrow_mut();
        match slot.as_mut().filter(|p| p.generation == generation) {
            Some(precopier) => match precopier.end(&|| self.interrupted()) {
                Err(backup::BackupError::Interrupted) => Err(HostError::Interrupted),
                other => other.map_err(failed),
            },
            None => Ok(()),
        }
    }

    fn precopy_cut(&self, generation: GenId) -> Result<()> {
        let mut slot = self.precopier.borrow_mut();
        let precopier = slot.as_mut().filter(|p| p.generation == generation);
        precopier.map_or(Ok(()), Precopier::cut).map_err(failed)
    }

    fn seal(&self, generation: GenId, _: &BackupSpec) -> Result<SealReport> {
        let precopier = self.precopier.take().filter(|p| p.generation == generation);
        let ready = precopier.and_then(Precopier::into_ready);
        let look = Final {
            compare: self.stamps_unreliable().is_some(),
            live: false,
            height: self.last_head(),
        };
        let paths = self.paths(generation);
        let sealed = backup::seal(&paths, &self.data(), ready, look);
        let (report, remembered) = sealed.map_err(failed)?;
        *self.remembered.borrow_mut() = remembered.map(|all| (generation, all));
        Ok(report)
    }

    fn seal_state(&self, generation: GenId) -> Result<SealState> {
        Ok(backup::seal_state(&self.paths(generation)))
    }

    fn seal_holds(&self, generation: GenId) -> Result<bool> {
        backup::seal_holds(&self.paths(generation), &self.data()).map_err(failed)
    }

    fn unseal(&self, generation: GenId) -> Result<()> {
        backup::unseal(&self.paths(generation)).map_err(failed)
    }

    fn inodes(&self, generation: GenId) -> Result<(Option<u64>, Option<u64>)> {
        Ok(backup::inodes(&self.paths(generation), &self.data()))
    }

    fn consume(&self, generation: GenId) -> Result<()> {
        backup::consume(&self.paths(generation), &self.data()).map_err(failed)
    }

    fn carry_keep(&self, generation: GenId) -> Result<()> {
        let known = self.remembered.take().filter(|(of, _)| *of == generation);
        let known = known.as_ref().map(|(_, all)| all);
        backup::carry_keep(&self.paths(generation), &self.data(), known).map_err(failed)
    }

    fn exchange(&self, generation: GenId) -> Result<()> {
        backup::exchange(&self.paths(generation), &self.data()).map_err(failed)
    }

    fn set_aside(&self, generation: GenId) -> Result<()> {
        backup::set_aside(&self.paths(generation)).map_err(failed)
    }

    fn settle_aside(&self, generation: GenId) -> Result<()> {
        backup::settle_aside(&self.paths(generation)).map_err(failed)
    }

    fn is_aside(&self, generation: GenId) -> Result<bool> {
        Ok(backup::is_aside(&self.paths(generation)))
    }

    fn verify(&self, generation: GenId, backup: &BackupSpec) -> Result<VerifyReport> {
        let paths = self.paths(generation);
        // Where stamps prove nothing, nothing is known to be unchanged.
        let live = self.stamps_unreliable().is_none();
        let say = |text: &str| (self.ambient.say.0)(text);
        let found = backup::verify_apart(&paths, live, backup.rate, &|| self.interrupted(), &say);
        match found {
            Err(backup::BackupError::Interrupted) => Err(HostError::Interrupted),
            other => other
                .map(|v| VerifyReport {
                    files: v.files,
                    bytes: v.bytes,
                    proved: v.proved,
                    bad: v.bad,
                })
                .map_err(failed),
        }
    }

    fn archive(
        &self,
        generation: GenId,
        backup: &BackupSpec,
    ) -> Result<Option<(std::path::PathBuf, u64)>> {
        let say = |text: &str| (self.ambient.say.0)(text);
        let interrupted = || self.interrupted();
        let node = self.node.borrow().name.to_string();
        match backup::archive(&self.layout, &node, generation, backup, &interrupted, &say) {
            Err(backup::BackupError::Interrupted) => Err(HostError::Interrupted),
            other => other.map_err(failed),
        }
    }

    fn prune(&self, spec: &BackupSpec, generation: GenId) -> Result<u32> {
        let node = self.node.borrow().name.to_string();
        backup::prune(&self.layout, &node, spec, generation, self.now()).map_err(failed)
    }

    fn discard(&self, generation: GenId) -> Result<()> {
        *self.precopier.borrow_mut() = None;
        backup::discard(&self.layout, generation).map_err(failed)
    }
}

impl Hooks for RealHost {
    fn run_hook(&self, spec: &HookSpec, call: &HookCall) -> Result<HookEnd> {
        let record = self.journals.borrow().hook_record(call.run, &call.step.0);
        let mut env = self.ambient.env.clone();
        env.extend(spec.env.clone());
        env.extend(call.vars.clone());
        let home = self.node.borrow().home.clone();
        match hook::run(&record, spec, call.attempt, &env, &home, &|| {
            self.interrupted()
        }) {
            Err(hook::HookError::Interrupted) => Err(HostError::Interrupted),
            other => other.map_err(failed),
        }
    }

    fn attempt(&self, run: RunId, step: &StepId) -> Result<Option<Attempt>> {
        hook::read_attempt(&self.journals.borrow().hook_record(run, &step.0)).map_err(failed)
    }

    fn reap_hook(&self, run: RunId, step: &StepId) -> Result<()> {
        hook::reap(&self.journals.borrow().hook_record(run, &step.0)).map_err(failed)
    }
}

impl RealHost {
    /// The measured block time; an error says why there is none.
    pub fn block_time(&self, chain: &ChainSpec) -> std::result::Result<Duration, String> {
        match chain {
            ChainSpec::None => Err("the manifest names no chain".into()),
            ChainSpec::Evm { rpc, .. } => self.evm.block_time(rpc),
        }
    }
}

impl Chains for RealHost {
    fn chain(&self, chain: &ChainSpec) -> ChainFacts {
        match chain {
            ChainSpec::None => ChainFacts::unknown("the manifest names no chain"),
            ChainSpec::Evm { rpc, .. } => {
                let facts = self.evm.look(rpc, wall_clock);
                self.last_head.set(facts.head.known().copied());
                facts
            }
        }
    }
}
