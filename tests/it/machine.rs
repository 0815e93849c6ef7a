//! The plan, the simulated machine and the visor of the simulation's tests, and what must hold at the end of a run.

use std::collections::BTreeMap;
use std::time::Duration;
use visor::check::{Artifact, DesiredHook, DesiredNode, DesiredUpgrade};
use visor::engine::{Advance, Run, create};
use visor::host::sim::{Conduct, Sim};
use visor::host::{Clock, HostError};
use visor::journal::Outcome;
use visor::model::{
    ArchiveFormat, ArchiveSpec, ArtifactSpec, BackupSpec, ChainSpec, DataSpec, Digest, HealthSpec,
    HookPhase, HookSpec, Launch, LogPolicy, NodeSpec, OnFailure, ProcessSpec, Release,
    RestartPolicy, StopPolicy, Trigger,
};
use visor::plan::{Phase, Plan, compile_upgrade};
use visor::step::Silent;

pub(crate) fn artifact() -> ArtifactSpec {
    ArtifactSpec {
        name: "v2".parse().unwrap(),
        version: None,
        sources: vec!["/nowhere".into()],
        digest: Digest::sha256(&"0".repeat(64)).unwrap(),
        size_limit: 1,
    }
}

pub(crate) fn plan(backup: bool, hooks: bool, once: bool, on_failure: OnFailure) -> Plan {
    let node = node(backup, hooks, once, on_failure);
    compile_upgrade(&node, &node.upgrades[0], &artifact(), &Release::Genesis).unwrap()
}

/// A node that is to be upgraded at height 50.
pub(crate) fn node(backup: bool, hooks: bool, once: bool, on_failure: OnFailure) -> DesiredNode {
    let hook = |phase: HookPhase| DesiredHook {
        spec: HookSpec {
            name: phase.as_str().parse().unwrap(),
            phase,
            run: vec!["/bin/true".into()],
            env: BTreeMap::new(),
            timeout: Duration::from_secs(1),
            retries: 0,
            retry_delay: Duration::ZERO,
            once,
        },
        rehearse: true,
    };
    use HookPhase::{OnFailure as Failed, PostUpgrade, PreStop, PreUpgrade, Prepare};
    let mut node = DesiredNode {
        spec: NodeSpec {
            name: "demo".parse().unwrap(),
            home: "/home".into(),
            root: "/home/visor".into(),
            data: DataSpec {
                path: "/home/data".into(),
                exclude: vec![],
                keep: vec!["signer".into()],
                immutable: vec![],
                append: vec![],
            },
            launch: Launch {
                binary: "demod".into(),
                args: vec![],
                env: BTreeMap::new(),
                process: ProcessSpec::default(),
            },
            stop: StopPolicy {
                grace: Duration::from_secs(1),
                dump: Duration::ZERO,
                kill: true,
            },
            restart: RestartPolicy::after(Duration::from_secs(1)),
            logs: LogPolicy::default(),
            chain: ChainSpec::Evm {
                rpc: "http://127.0.0.1:1".into(),
                max_head_age: Duration::from_secs(10),
            },
        },
        root_given: true,
        genesis: None,
        upgrades: vec![],
        rehearse: true,
        control_group: None,
        place: String::new(),
    };
    let upgrade = DesiredUpgrade {
        name: "v2".parse().unwrap(),
        trigger: Trigger::Height(50),
        artifact: Artifact {
            name: "v2".parse().unwrap(),
            files: vec![(None, artifact())],
        },
        backup: backup.then(|| BackupSpec {
            archive: Some(ArchiveSpec {
                format: ArchiveFormat::TarZst,
                level: 3,
                to: None,
                recipients: vec![
                    "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj".into(),
                ],
            }),
            ..BackupSpec::named("b")
        }),
        hooks: if hooks {
            [Prepare, PreStop, PreUpgrade, PostUpgrade, Failed]
                .map(hook)
                .to_vec()
        } else {
            vec![]
        },
        health: HealthSpec {
            within: Duration::from_secs(3),
            blocks: 3,
            alive: Duration::ZERO,
        },
        on_failure,
        batch: None,
        place: "x.toml:1".into(),
        trigger_place: "x.toml:2".into(),
    };
    node.upgrades.push(upgrade);
    node
}

pub(crate) fn machine(conduct: Conduct) -> Sim {
    Sim::new(Release::Upgrade("v2".parse().unwrap()), conduct, 60)
}

/// How a visor ended on the simulated machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Cut,
    Failed(String),
    Closed(Outcome),
    Stuck(String),
}

/// One visor: opens the run if there is none, recovers it otherwise, and goes as far as it can.
pub(crate) fn visor(sim: &Sim, plan: &Plan) -> End {
    let run = || -> Result<End, visor::engine::EngineError> {
        let id = match sim.runs().first() {
            Some(id) => *id,
            None => create(sim, plan)?,
        };
        let mut run = Run::recover(sim, id)?;
        for _ in 0..200 {
            match run.advance(&mut Silent)? {
                Advance::Closed(outcome, _) => return Ok(End::Closed(outcome)),
                Advance::Stuck(at) => return Ok(End::Stuck(at.reason)),
                Advance::Waiting(_) => sim.pause(Duration::from_millis(100))?,
                Advance::Interrupted => unreachable!("nobody interrupts the simulation"),
            }
        }
        panic!("the run waits for ever");
    };
    match run() {
        Ok(end) => end,
        Err(visor::engine::EngineError::Host(HostError::Cut)) => End::Cut,
        Err(other) => End::Failed(other.to_string()),
    }
}

/// What must hold once a run has ended, whatever happened on the way.
pub(crate) fn check_whole(sim: &Sim, end: &End, what: &str) {
    let world = sim.0.borrow();
    assert_eq!(world.breaches, Vec::<String>::new(), "{what}");
    let (data, current) = (world.data, world.current.clone());
    let new = world.new_release.clone();
    drop(world);
    let (alive, release) = sim.alive();
    assert!(alive <= 1, "{what}: {alive} processes");
    assert_eq!(data.signed, sim.signed_max(), "{what}: signer state");
    match end {
        End::Closed(Outcome::Committed) => {
            assert_eq!(
                (current, alive, release),
                (Some(new.clone()), 1, Some(new)),
                "{what}: the new release is whole"
            );
            assert!(data.written_by_new, "{what}");
        }
        End::Closed(Outcome::RolledBack | Outcome::Abandoned | Outcome::Cancelled) => {
            let old = Some(Release::Genesis);
            assert_eq!(
                (current, alive, release),
                (old.clone(), 1, old),
                "{what}: the old release is whole"
            );
            assert!(
                !data.written_by_new && !data.hooked && data.blocks >= 60,
                "{what}: data are as before: {data:?}"
            );
        }
        End::Stuck(reason) => assert!(!reason.is_empty(), "{what}"),
        other => panic!("{what}: ended as {other:?}"),
    }
}

/// The journal of a roll-back on the simulated machine, for the kept examples.
pub(crate) fn journal_of_a_roll_back(plan: &Plan) -> Vec<u8> {
    let sim = machine(Conduct::Silent);
    visor(&sim, plan);
    sim.journal_bytes(sim.runs()[0])
}

/// The records a run of this plan writes when nothing goes wrong.
pub(crate) fn n_records(plan: &Plan) -> usize {
    let n = |phase| plan.phase(phase).count();
    let opened_intent_closed = 3;
    // The intent ends the pre-copy, and is all that the chain's gate leaves.
    let precopy = plan
        .steps
        .iter()
        .filter(|s| s.kind.word() == "precopy")
        .count();
    let chain = plan
        .steps
        .iter()
        .filter(|s| s.kind.word() == "chain-safe")
        .count();
    let before = 2 * (n(Phase::Prepare) + n(Phase::Gate)) - precopy - 2 * chain;
    before + n(Phase::Critical) + 2 * (n(Phase::Confirm) + n(Phase::After)) + opened_intent_closed
}
