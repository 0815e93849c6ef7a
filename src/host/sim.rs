//! A deterministic machine, process and chain in memory, for what cannot be enumerated on a real one.
//!
//! Every call with an effect is numbered. A run can be cut at any of them: before the effect, in one of its
//! intermediate states, or after it, by the death of visor or by a power loss. The world goes on from there, and another
//! visor recovers. The world itself watches the invariants that must hold at every instant (one process at most, signer
//! state never lowered, no unprepared work while the node is down) and writes down each breach.

mod calls;

use super::traits::{Attempt, HostError, SealState};
use crate::model::{GenId, HookPhase, Release, RunId, StartId, UnixMs};
use crate::plan::{Denied, Overrides, StepId};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Where a call is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Before,
    /// In the n-th intermediate state of this call; for an append, after n bytes.
    Mid(usize),
    After,
}

/// What happens to everything but visor at the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Only visor dies.
    Visor,
    /// All processes die, and what was not synced is gone.
    Power,
}

/// How the new release behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    Good,
    ExitsAtOnce,
    /// Lives and never answers.
    Silent,
    /// Answers, and its head stands still.
    StandsStill,
    /// Never answers and does not end on TERM.
    IgnoresTerm,
}

/// One numbered call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    pub name: &'static str,
    /// How many intermediate states it has.
    pub mids: usize,
}

/// The contents of a data directory, as far as the invariants care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    pub inode: u64,
    pub blocks: u64,
    pub written_by_new: bool,
    pub hooked: bool,
    /// The signer's watermark.
    pub signed: u64,
}

#[derive(Debug, Clone)]
struct Process {
    start: StartId,
    release: Release,
    alive: bool,
    /// When its start record appears; `None`: never.
    recorded_at: Option<UnixMs>,
    boot: u32,
    exit: Option<String>,
    ends_at: Option<UnixMs>,
    ignores_term: bool,
}

#[derive(Debug, Clone, Default)]
struct Generation {
    data: Option<Data>,
    baseline: bool,
    state: Option<SealState>,
    aside: bool,
    /// It stays aside whatever happens.
    settled: bool,
    looks: u32,
}

/// All of the simulated machine.
#[derive(Debug)]
pub struct World {
    pub now: UnixMs,
    ids: u64,
    boot: u32,
    pub ops: Vec<Op>,
    pub cut: Option<(usize, Cut)>,
    /// The numbered call whose effect is applied twice.
    pub twice: Option<usize>,
    /// Calls that fail: name, and whether for ever or once.
    pub faults: Vec<(&'static str, bool)>,
    dead: bool,
    journals: BTreeMap<RunId, (Vec<u8>, Vec<u8>, usize)>,
    pub denied: Vec<Denied>,
    pub overrides: Overrides,
    staged: Vec<Release>,
    cached: Vec<Release>,
    pub current: Option<Release>,
    processes: Vec<Process>,
    pub data: Data,
    generations: BTreeMap<GenId, Generation>,
    attempts: BTreeMap<(RunId, StepId), Attempt>,
    /// A hook that outlived its visor, and when it will write.
    survivor: Option<(StepId, UnixMs, HookPhase)>,
    pub new_release: Release,
    pub conduct: Conduct,
    head: u64,
    signed_max: u64,
    /// Breaches of what must hold at every instant.
    pub breaches: Vec<String>,
}

pub struct Sim(pub RefCell<World>);

type Result<T> = std::result::Result<T, HostError>;

const BLOCK_MS: u64 = 100;

impl Sim {
    /// A machine on which the genesis release runs, with `head` blocks.
    pub fn new(new_release: Release, conduct: Conduct, head: u64) -> Self {
        let mut world = World {
            now: 1_790_000_000_000,
            ids: 0,
            boot: 1,
            ops: vec![],
            cut: None,
            twice: None,
            faults: vec![],
            dead: false,
            journals: BTreeMap::new(),
            denied: vec![],
            overrides: Overrides::default(),
            staged: vec![Release::Genesis],
            cached: vec![],
            current: Some(Release::Genesis),
            processes: vec![],
            data: Data {
                inode: 100,
                blocks: head,
                written_by_new: false,
                hooked: false,
                signed: head,
            },
            generations: BTreeMap::new(),
            attempts: BTreeMap::new(),
            survivor: None,
            new_release,
            conduct,
            head,
            signed_max: head,
            breaches: vec![],
        };
        let start = StartId(world.ulid());
        world.spawn(start, Some(world.now));
        Self(RefCell::new(world))
    }

    /// Another visor begins after a cut.
    pub fn reboot(&self, loss: Loss) {
        let mut w = self.0.borrow_mut();
        w.dead = false;
        w.cut = None;
        w.twice = None;
        w.ops.clear();
        if loss == Loss::Power {
            w.boot += 1;
            w.survivor = None;
            let now = w.now;
            for p in w.processes.iter_mut().filter(|p| p.alive) {
                p.alive = false;
                p.exit = None;
                p.recorded_at = p.recorded_at.filter(|at| *at <= now);
            }
            // Process records need no sync: a power loss takes the process too.
            for (_, journal, synced) in w.journals.values_mut() {
                journal.truncate(*synced);
            }
            for generation in w.generations.values_mut().filter(|g| !g.settled) {
                generation.aside = false;
            }
        }
    }

    /// The runs whose directory exists.
    pub fn runs(&self) -> Vec<RunId> {
        self.0.borrow().journals.keys().copied().collect()
    }

    pub fn journal_bytes(&self, run: RunId) -> Vec<u8> {
        self.0
            .borrow()
            .journals
            .get(&run)
            .map(|j| j.1.clone())
            .unwrap_or_default()
    }

    /// Processes alive now, and the release of the first.
    pub fn alive(&self) -> (usize, Option<Release>) {
        let w = self.0.borrow();
        let mut alive = w.processes.iter().filter(|p| p.alive);
        let first = alive.next().map(|p| p.release.clone());
        (usize::from(first.is_some()) + alive.count(), first)
    }

    pub fn signed_max(&self) -> u64 {
        self.0.borrow().signed_max
    }

    pub fn has_failed_data(&self) -> bool {
        self.0.borrow().generations.values().any(|g| g.aside)
    }

    fn look<T>(&self, f: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let mut w = self.0.borrow_mut();
        if w.dead {
            Err(HostError::Cut)
        } else {
            f(&mut w)
        }
    }

    /// One numbered call: `effect` gets the intermediate state in which it must stop, or none.
    fn op<T>(
        &self,
        name: &'static str,
        mids: usize,
        effect: impl Fn(&mut World, Option<usize>) -> Result<T>,
    ) -> Result<T> {
        let mut w = self.0.borrow_mut();
        if w.dead {
            return Err(HostError::Cut);
        }
        let index = w.ops.len();
        w.ops.push(Op { name, mids });
        if let Some(at) = w.faults.iter().position(|f| f.0 == name) {
            if !w.faults[at].1 {
                w.faults.remove(at);
            }
            return Err(HostError::Failed(format!("{name} was made to fail")));
        }
        match w.cut {
            Some((at, cut)) if at == index => {
                match cut {
                    Cut::Before => {}
                    Cut::Mid(mid) => drop(effect(&mut w, Some(mid))),
                    Cut::After => drop(effect(&mut w, None)),
                }
                w.dead = true;
                Err(HostError::Cut)
            }
            _ => {
                let first = effect(&mut w, None);
                if w.twice == Some(index) {
                    effect(&mut w, None)
                } else {
                    first
                }
            }
        }
    }
}

impl World {
    fn ulid(&mut self) -> ulid::Ulid {
        self.ids += 1;
        ulid::Ulid::from_parts(self.now, u128::from(self.ids))
    }

    fn locked(&self) -> bool {
        self.processes.iter().any(|p| p.alive)
    }

    fn breach(&mut self, text: String) {
        self.breaches.push(text);
    }

    fn is_new(&self, release: &Release) -> bool {
        *release == self.new_release
    }

    fn spawn(&mut self, start: StartId, recorded_at: Option<UnixMs>) {
        if self.locked() {
            self.breach("a second process was started".into());
        }
        if self.survivor.is_some() {
            self.breach("the node was started beside a hook that still runs".into());
        }
        if self.data.signed < self.signed_max {
            self.breach(format!(
                "signer state went back to {} from {}",
                self.data.signed, self.signed_max
            ));
        }
        let release = self.current.clone().unwrap_or(Release::Genesis);
        if !self.staged.contains(&release) {
            self.breach(format!("{release} was started and is not staged"));
        }
        let new = self.is_new(&release);
        if new {
            self.data.written_by_new = true;
        } else if self.data.written_by_new || self.data.hooked {
            self.breach("the old release was started on data of the new one".into());
        }
        let exits = new && self.conduct == Conduct::ExitsAtOnce;
        self.processes.push(Process {
            start,
            release,
            alive: true,
            recorded_at,
            boot: self.boot,
            exit: None,
            ends_at: exits.then_some(self.now + 10),
            ignores_term: new && self.conduct == Conduct::IgnoresTerm,
        });
    }

    fn pass(&mut self, time: u64) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + BLOCK_MS.min(10)).min(end);
            let now = self.now;
            if let Some((step, at, phase)) = self.survivor.clone()
                && at <= now
            {
                if phase == HookPhase::PreUpgrade {
                    self.data.hooked = true;
                    if self.locked() {
                        self.breach(format!("hook {step} wrote beside a living node"));
                    }
                }
                self.survivor = None;
            }
            for p in &mut self.processes {
                if p.alive && p.ends_at.is_some_and(|at| at <= now) {
                    p.alive = false;
                    p.exit = Some("exit status 0".into());
                }
            }
            let release = self
                .processes
                .iter()
                .find(|p| p.alive)
                .map(|p| p.release.clone());
            if let Some(release) = release
                && now.is_multiple_of(BLOCK_MS)
            {
                let moves = !self.is_new(&release) || self.conduct == Conduct::Good;
                if moves {
                    self.head += 1;
                    self.data.blocks += 1;
                    self.data.signed += 1;
                    self.signed_max = self.signed_max.max(self.data.signed);
                }
            }
        }
    }

    fn answering(&self) -> bool {
        self.processes.iter().any(|p| {
            p.alive
                && (!self.is_new(&p.release)
                    || matches!(self.conduct, Conduct::Good | Conduct::StandsStill))
        })
    }

    fn generation(&mut self, id: GenId) -> &mut Generation {
        self.generations.entry(id).or_default()
    }
}
