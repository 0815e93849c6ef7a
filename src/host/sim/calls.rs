//! The host's traits on the simulated machine.

use super::super::traits::{
    Attempt, Backups, Chains, Clock, HookCall, HookEnd, Hooks, HostError, Journals, NodeState,
    Nodes, Precopy, Releases, Requests, SealReport, SealState, StartEvidence, StopReport,
    VerifyReport,
};
use super::{BLOCK_MS, Data, Process, Result, Sim};
use crate::model::{
    ArtifactSpec, BackupSpec, ChainSpec, GenId, HookPhase, HookSpec, Launch, Release, RunId,
    StartId, StopPolicy, UnixMs,
};
use crate::plan::{ChainFacts, Denied, Fact, Overrides, StepId, StopOverride};
use std::time::Duration;

impl Clock for Sim {
    fn now(&self) -> UnixMs {
        self.0.borrow().now
    }

    fn ticks(&self) -> u64 {
        self.0.borrow().now
    }

    fn pause(&self, time: Duration) -> Result<()> {
        self.look(|w| {
            w.pass(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            Ok(())
        })
    }

    fn new_ulid(&self) -> ulid::Ulid {
        self.0.borrow_mut().ulid()
    }
}

impl Journals for Sim {
    fn actor(&self) -> String {
        "the simulation".into()
    }

    fn create(&self, run: RunId, plan: &[u8]) -> Result<()> {
        self.op("create", 0, |w, _| {
            w.journals.insert(run, (plan.to_vec(), vec![], 0));
            Ok(())
        })
    }

    fn read(&self, run: RunId) -> Result<(Vec<u8>, Vec<u8>)> {
        self.look(|w| {
            let found = w
                .journals
                .get(&run)
                .ok_or_else(|| HostError::Failed("no such run".into()))?;
            Ok((found.0.clone(), found.1.clone()))
        })
    }

    fn truncate(&self, run: RunId, len: u64) -> Result<()> {
        self.op("truncate", 0, |w, _| {
            if let Some(j) = w.journals.get_mut(&run) {
                j.1.truncate(usize::try_from(len).unwrap_or(usize::MAX));
                j.2 = j.2.min(j.1.len());
            }
            Ok(())
        })
    }

    fn append(&self, run: RunId, line: &[u8], sync: bool) -> Result<()> {
        self.op("append", line.len(), |w, mid| {
            let j = w
                .journals
                .get_mut(&run)
                .ok_or_else(|| HostError::Failed("no such run".into()))?;
            match mid {
                // What a torn write leaves may have reached the disk or not; here it has.
                Some(n) if n + 1 < line.len() => {
                    j.1.extend_from_slice(&line[..=n]);
                    j.2 = j.1.len();
                }
                // Whole, and not synced yet.
                Some(_) => j.1.extend_from_slice(line),
                None => {
                    j.1.extend_from_slice(line);
                    if sync {
                        j.2 = j.1.len();
                    }
                }
            }
            Ok(())
        })
    }

    fn drop_ballast(&self, _: RunId) -> Result<()> {
        self.op("drop-ballast", 0, |_, _| Ok(()))
    }

    fn deny(&self, entry: &Denied) -> Result<()> {
        self.op("deny", 0, |w, _| {
            w.denied.retain(|d| d.digest != entry.digest);
            w.denied.push(entry.clone());
            Ok(())
        })
    }
}

impl Requests for Sim {
    fn overrides(&self) -> Result<Overrides> {
        self.look(|w| Ok(w.overrides.clone()))
    }

    fn settle(&self, run: RunId, upgrade: Option<&str>) -> Result<()> {
        self.op("settle", 0, |w, _| {
            w.overrides
                .approvals
                .retain(|a| Some(a.upgrade.as_str()) != upgrade);
            w.overrides.abort = w.overrides.abort.filter(|r| *r != run);
            Ok(())
        })
    }

    fn keep_stopped(&self, reason: &str) -> Result<()> {
        self.op("keep-stopped", 0, |w, _| {
            let (reason, by) = (reason.to_owned(), "visor".to_owned());
            w.overrides.stop = Some(StopOverride {
                reason,
                by,
                at: w.now,
            });
            Ok(())
        })
    }
}

impl Releases for Sim {
    fn fetch(&self, _: &ArtifactSpec, release: &Release, _: &str) -> Result<u64> {
        self.op("fetch", 0, |w, _| {
            w.cached.push(release.clone());
            Ok(1)
        })
    }

    fn stage(&self, _: &ArtifactSpec, release: &Release, _: &str) -> Result<()> {
        self.op("stage", 0, |w, _| {
            if !w.cached.contains(release) {
                return Err(HostError::Failed("not fetched".into()));
            }
            w.staged.push(release.clone());
            Ok(())
        })
    }

    fn current(&self) -> Result<Option<Release>> {
        self.look(|w| Ok(w.current.clone()))
    }

    fn switch(&self, to: &Release) -> Result<()> {
        self.op("switch", 0, |w, _| {
            if w.locked() {
                w.breach("`current` was switched under a living node".into());
            }
            w.current = Some(to.clone());
            Ok(())
        })
    }
}

impl Nodes for Sim {
    fn claim_node(&self) {}

    fn release_node(&self) {}

    fn node(&self) -> Result<NodeState> {
        self.look(|w| {
            let now = w.now;
            let recorded = |p: &&Process| p.recorded_at.is_some_and(|at| at <= now);
            if let Some(p) = w.processes.iter().filter(recorded).find(|p| p.alive) {
                return Ok(NodeState::Running {
                    start: p.start,
                    pid: 7,
                    since: 0,
                });
            }
            if w.locked() {
                return Ok(NodeState::Unclear {
                    why: "node.lock is held by a process that left no record".into(),
                });
            }
            let last = w.processes.iter().rfind(recorded);
            Ok(NodeState::Gone {
                last: last.map(|p| p.start),
                exit: last.and_then(|p| p.exit.clone()),
                code: None,
            })
        })
    }

    fn start_evidence(&self, start: StartId) -> Result<StartEvidence> {
        self.look(|w| {
            let found = w
                .processes
                .iter()
                .find(|p| p.start == start && p.recorded_at.is_some_and(|at| at <= w.now));
            Ok(match found {
                None => StartEvidence::None,
                Some(p) if p.alive => StartEvidence::Alive,
                Some(p) => StartEvidence::Dead {
                    exit: p.exit.clone(),
                    this_boot: p.boot == w.boot,
                },
            })
        })
    }

    fn start(&self, start: StartId, _: &Launch) -> Result<()> {
        self.op("start", 4, |w, mid| {
            if w.locked() {
                return Err(HostError::Failed("node.lock is held".into()));
            }
            let now = w.now;
            match mid {
                None => w.spawn(start, Some(now)),
                // The shim goes on alone, and the record comes later.
                Some(0) => w.spawn(start, Some(now + 200)),
                // A process holds the lock and never leaves a record.
                Some(1) => w.spawn(start, None),
                // The shim died before its fork: no trace.
                Some(2) => {}
                // Recorded, and dead at once.
                Some(_) => {
                    w.spawn(start, Some(now));
                    let p = w.processes.last_mut().expect("just spawned");
                    p.alive = false;
                    p.exit = Some("exit status 1".into());
                }
            }
            Ok(())
        })
    }

    fn stop(&self, policy: &StopPolicy) -> Result<Option<StopReport>> {
        self.op("stop", 1, |w, mid| {
            let now = w.now;
            let Some(p) = w.processes.iter_mut().find(|p| p.alive) else {
                return Ok(Some(StopReport {
                    term_at: None,
                    exit_at: now,
                    exit: None,
                    killed: false,
                }));
            };
            let ignores = p.ignores_term;
            if !ignores {
                p.ends_at = Some(now + 300);
            }
            if mid.is_some() {
                return Ok(None);
            }
            if ignores {
                w.pass(u64::try_from(policy.grace.as_millis()).unwrap_or(u64::MAX));
                if !policy.kill {
                    return Ok(None);
                }
                let now = w.now;
                if let Some(p) = w.processes.iter_mut().find(|p| p.alive) {
                    p.ends_at = Some(now);
                }
                w.pass(10);
            } else {
                w.pass(310);
            }
            Ok(Some(StopReport {
                term_at: Some(now),
                exit_at: w.now,
                exit: Some("exit status 0".into()),
                killed: ignores,
            }))
        })
    }
}

impl Backups for Sim {
    fn precopy_start(&self, generation: GenId, _: &BackupSpec) -> Result<()> {
        self.op("precopy-start", 0, |w, _| {
            let inode = 200 + w.ids;
            w.ids += 1;
            let data = w.data;
            let g = w.generation(generation);
            g.data.get_or_insert(Data { inode, ..data });
            Ok(())
        })
    }

    fn precopy(&self, generation: GenId) -> Result<Precopy> {
        self.look(|w| {
            let g = w.generation(generation);
            g.looks += 1;
            if g.looks < 2 {
                return Ok(Precopy::Filling {
                    bytes: 1,
                    of: None,
                    ms: 0,
                });
            }
            g.baseline = true;
            Ok(Precopy::Ready {
                rounds: g.looks,
                bytes: 1,
            })
        })
    }

    fn precopy_end(&self, generation: GenId) -> Result<()> {
        self.op("precopy-end", 0, |w, _| {
            w.generation(generation).baseline |= w.generation(generation).looks > 0;
            Ok(())
        })
    }

    fn precopy_cut(&self, generation: GenId) -> Result<()> {
        self.op("precopy-cut", 0, |w, _| {
            let g = w.generation(generation);
            (g.baseline, g.looks) = (true, 2);
            Ok(())
        })
    }

    fn seal(&self, generation: GenId, _: &BackupSpec) -> Result<SealReport> {
        self.op("seal", 2, |w, mid| {
            if w.locked() {
                w.breach("data were sealed under a living node".into());
            }
            let live = w.data;
            let g = w.generation(generation);
            let baseline = g.baseline;
            let inode = g.data.map_or(0, |d| d.inode);
            g.data = Some(Data { inode, ..live });
            if mid.is_none() {
                g.state = Some(SealState::Sealed);
            }
            if !baseline {
                w.breach("a full copy was made while the node was down".into());
            }
            Ok(SealReport {
                files: 1,
                bytes: 1,
                total_files: 1,
                syncs: 1,
                passed_over: 0,
            })
        })
    }

    fn seal_state(&self, generation: GenId) -> Result<SealState> {
        self.look(|w| Ok(w.generation(generation).state.unwrap_or(SealState::None)))
    }

    fn seal_holds(&self, generation: GenId) -> Result<bool> {
        self.look(|w| {
            let live = w.data;
            Ok(w.generation(generation).data.is_some_and(|d| {
                Data {
                    inode: live.inode,
                    ..d
                } == live
            }))
        })
    }

    fn unseal(&self, generation: GenId) -> Result<()> {
        self.op("unseal", 0, |w, _| {
            w.generation(generation).state = None;
            Ok(())
        })
    }

    fn inodes(&self, generation: GenId) -> Result<(Option<u64>, Option<u64>)> {
        self.look(|w| {
            Ok((
                Some(w.data.inode),
                w.generation(generation).data.map(|d| d.inode),
            ))
        })
    }

    fn consume(&self, generation: GenId) -> Result<()> {
        self.op("consume", 0, |w, _| {
            if w.locked() {
                w.breach("a restore began under a living node".into());
            }
            w.generation(generation).state = Some(SealState::Consumed);
            Ok(())
        })
    }

    fn carry_keep(&self, generation: GenId) -> Result<()> {
        self.op("carry-keep", 1, |w, mid| {
            let signed = w.data.signed;
            if w.generation(generation).aside {
                w.breach("carried over into what was set aside".into());
            }
            if mid.is_none()
                && let Some(d) = &mut w.generation(generation).data
            {
                d.signed = signed;
            }
            Ok(())
        })
    }

    fn exchange(&self, generation: GenId) -> Result<()> {
        self.op("exchange", 0, |w, _| {
            if w.locked() {
                w.breach("data were exchanged under a living node".into());
            }
            let live = w.data;
            if w.generation(generation).aside {
                w.breach("data that were set aside were exchanged".into());
            }
            let g = w.generation(generation);
            if let Some(sealed) = g.data.replace(live) {
                w.data = sealed;
            }
            Ok(())
        })
    }

    fn set_aside(&self, generation: GenId) -> Result<()> {
        self.op("set-aside", 0, |w, _| {
            w.generation(generation).aside = true;
            Ok(())
        })
    }

    fn settle_aside(&self, generation: GenId) -> Result<()> {
        self.op("settle-aside", 0, |w, _| {
            let generation = w.generation(generation);
            (generation.aside, generation.settled) = (true, true);
            Ok(())
        })
    }

    fn is_aside(&self, generation: GenId) -> Result<bool> {
        self.look(|w| Ok(w.generation(generation).aside))
    }

    fn verify(&self, _: GenId, _: &BackupSpec) -> Result<VerifyReport> {
        self.op("verify", 0, |_, _| Ok(VerifyReport::default()))
    }

    fn archive(&self, _: GenId, _: &BackupSpec) -> Result<Option<(std::path::PathBuf, u64)>> {
        self.op("archive", 0, |_, _| Ok(None))
    }

    fn prune(&self, _: &BackupSpec, _: GenId) -> Result<u32> {
        self.op("prune", 0, |_, _| Ok(0))
    }

    fn discard(&self, generation: GenId) -> Result<()> {
        self.op("discard", 0, |w, _| {
            w.generations.remove(&generation);
            Ok(())
        })
    }
}

impl Hooks for Sim {
    fn run_hook(&self, hook: &HookSpec, call: &HookCall) -> Result<HookEnd> {
        let name = match hook.phase {
            HookPhase::Prepare => "hook:prepare",
            HookPhase::PreStop => "hook:pre-stop",
            HookPhase::PreUpgrade => "hook:pre-upgrade",
            HookPhase::PostUpgrade => "hook:post-upgrade",
            HookPhase::OnFailure => "hook:on-failure",
        };
        let key = (call.run, call.step.clone());
        let ended = self.op(name, 2, |w, mid| {
            let now = w.now;
            let mut attempt = Attempt {
                number: call.attempt,
                ok: None,
            };
            match mid {
                Some(0) => w.survivor = Some((call.step.clone(), now + 500, hook.phase)),
                _ => {
                    if hook.phase == HookPhase::PreUpgrade {
                        w.data.hooked = true;
                        if w.locked() {
                            w.breach("a pre-upgrade hook ran beside a living node".into());
                        }
                    }
                    attempt.ok = mid.is_none().then_some(true);
                }
            }
            w.attempts.insert(key.clone(), attempt);
            Ok(())
        });
        match ended {
            Ok(()) => Ok(HookEnd::Ok),
            Err(HostError::Failed(what)) => self.look(|w| {
                // A failed attempt is recorded, and may have written before it failed.
                w.attempts.insert(
                    key.clone(),
                    Attempt {
                        number: call.attempt,
                        ok: Some(false),
                    },
                );
                w.data.hooked |= hook.phase == HookPhase::PreUpgrade;
                Ok(HookEnd::Failed {
                    what: what.clone(),
                    output: String::new(),
                })
            }),
            Err(other) => Err(other),
        }
    }

    fn attempt(&self, run: RunId, step: &StepId) -> Result<Option<Attempt>> {
        self.look(|w| Ok(w.attempts.get(&(run, step.clone())).cloned()))
    }

    fn reap_hook(&self, _: RunId, _: &StepId) -> Result<()> {
        self.op("reap-hook", 0, |w, _| {
            w.survivor = None;
            Ok(())
        })
    }
}

impl Chains for Sim {
    fn chain(&self, _: &ChainSpec) -> ChainFacts {
        let w = self.0.borrow();
        if !w.answering() {
            return ChainFacts::unknown("no answer");
        }
        ChainFacts {
            head: Fact::Known(w.head),
            syncing: Fact::Known(false),
            head_age: Fact::Known(Duration::from_millis(w.now % BLOCK_MS)),
        }
    }
}
