//! Properties of graphs, sets and differences, over random ones.

use crate::check::set;
use crate::env::is_full;
use crate::plants::HEX;
use petgraph::graph::DiGraph;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;
use visor::check::{DesiredNode, check};
use visor::model::{Name, Release, Trigger, UnixMs};
use visor::plan::{
    AppliedUpgrade, Approval, ChainFacts, Denied, Diff, Fact, Liveness, MeasuredOutage, Observed,
    Overrides, Phase, Plan, Standing, Standings, StepKind, diff, diff_text, order,
};

fn config() -> ProptestConfig {
    let full = is_full();
    ProptestConfig {
        cases: if full { 20_000 } else { 300 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// An order puts every edge forward; where there is none, the circle that is named is one.
    #[test]
    fn graphs_are_ordered_or_their_circle_is_named(
        n in 1_usize..40,
        raw in prop::collection::vec((0_usize..40, 0_usize..40), 0..90),
    ) {
        let edges: Vec<(usize, usize)> = raw.iter().map(|(a, b)| (a % n, b % n)).collect();
        let names: Vec<String> = (0..n).map(|i| format!("s{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut graph = DiGraph::<(), ()>::new();
        let nodes: Vec<_> = (0..n).map(|_| graph.add_node(())).collect();
        for (from, to) in &edges {
            graph.add_edge(nodes[*from], nodes[*to], ());
        }
        let has_order = petgraph::algo::toposort(&graph, None).is_ok();
        match order(&names, &edges) {
            Ok(order) => {
                prop_assert!(has_order);
                let place: BTreeMap<usize, usize> = order.iter().zip(0..).map(|(s, i)| (*s, i)).collect();
                prop_assert_eq!(place.len(), n);
                prop_assert!(edges.iter().all(|(from, to)| place[from] < place[to]));
            }
            Err(circle) => {
                prop_assert!(!has_order);
                let steps: Vec<usize> = circle.0.iter().map(|s| s[1..].parse().unwrap()).collect();
                prop_assert!(steps.len() > 1 && steps.first() == steps.last());
                prop_assert!(steps.windows(2).all(|w| edges.contains(&(w[0], w[1]))));
            }
        }
    }

    /// What a difference says of a machine, whatever that machine is like.
    #[test]
    fn differences_hold_together(wish in wish(), machine in machine()) {
        let text = wish.manifest();
        let set = set(&[("m.toml", &text)]);
        let checked = check(&set);
        let desired = checked.desired;
        prop_assert!(desired.is_some(), "{:?}\n{}", checked.findings, text);
        let node = desired.unwrap().nodes.remove(0);
        let observed = machine.observed(&node);
        let d = diff(&node, &observed, "linux/amd64");
        prop_assert_eq!(&d, &diff(&node, &observed, "linux/amd64"));
        holds(&node, &observed, &d)?;
    }
}

fn holds(node: &DesiredNode, observed: &Observed, d: &Diff) -> Result<(), TestCaseError> {
    let text = diff_text(d);
    prop_assert!(text.lines().all(|l| l.chars().count() <= 80), "{}", text);
    let changed: Vec<&Name> = d
        .changes
        .iter()
        .filter_map(|c| c.upgrade.as_ref())
        .collect();
    prop_assert!(changed.len() <= 1, "{}", text);
    let scheduled: BTreeSet<&Name> = d.scheduled.iter().map(|s| &s.upgrade).collect();
    let blocked: BTreeSet<&Name> = d
        .blocked
        .iter()
        .filter_map(|b| b.upgrade.as_ref())
        .collect();
    let has_release = matches!(observed.current, Fact::Known(Some(_)));
    let standings = Standings::new(node, observed, "linux/amd64");
    for upgrade in &node.upgrades {
        let name = &upgrade.name;
        let is_changed = changed.contains(&name);
        prop_assert!(
            !(is_changed && scheduled.contains(name)),
            "{} twice\n{}",
            name,
            text
        );
        let stands = standings.of(upgrade);
        let is_shown = is_changed || scheduled.contains(name) || blocked.contains(name);
        if has_release {
            // Every wish that is open is somewhere, and none that is not.
            let is_open = matches!(stands, Standing::Open | Standing::Failed);
            prop_assert_eq!(is_shown, is_open, "{} is {:?}\n{}", name, stands, text);
        }
        if !is_changed {
            continue;
        }
        prop_assert_eq!(stands, Standing::Open);
        prop_assert!(observed.overrides.hold.is_none() && observed.overrides.stop.is_none());
        match (&upgrade.trigger, &observed.chain.head) {
            (Trigger::Height(want), Fact::Known(head)) => prop_assert!(head >= want),
            (Trigger::Height(_), Fact::Unknown(_)) => prop_assert!(false, "unknown is closed"),
            (Trigger::Manual, _) => {
                let mut approvals = observed.overrides.approvals.iter();
                prop_assert!(approvals.any(|a| a.upgrade == *name));
            }
        }
        for before in upgrade.batch.iter().flat_map(|b| b.before()) {
            let before = node.upgrades.iter().find(|u| u.name == *before).unwrap();
            let before = standings.of(before);
            prop_assert!(matches!(before, Standing::Applied | Standing::Passed));
        }
    }
    if let Some(plan) = &d.next {
        plan_holds(plan)?;
    }
    Ok(())
}

/// Design, I3 and section 5: what may stand in the critical section, and that nothing waits for what comes after it.
fn plan_holds(plan: &Plan) -> Result<(), TestCaseError> {
    prop_assert_eq!(&Plan::read(&plan.to_bytes()).unwrap(), plan);
    for steps in [&plan.steps, &plan.undo] {
        let mut seen = BTreeSet::new();
        for step in steps {
            prop_assert!(
                step.after.iter().all(|id| seen.contains(id)),
                "{}",
                step.name
            );
            prop_assert!(seen.insert(step.id.clone()), "{} twice", step.name);
        }
    }
    let phases: Vec<Phase> = plan.steps.iter().map(|s| s.phase).collect();
    prop_assert!(phases.is_sorted());
    for step in plan.phase(Phase::Critical) {
        let fits = match &step.kind {
            StepKind::Stop { .. }
            | StepKind::Seal { .. }
            | StepKind::Switch { .. }
            | StepKind::Start => true,
            StepKind::Hook(hook) => hook.phase.as_str() == "pre-upgrade",
            _ => false,
        };
        prop_assert!(fits, "{} is in the outage", step.name);
    }
    Ok(())
}

/// A random set of one node.
#[derive(Debug, Clone)]
struct Wish {
    /// Height in thousands (0: by hand), backup, hooks, hold.
    upgrades: Vec<(u64, bool, bool, bool)>,
    in_batch: bool,
}

fn wish() -> impl Strategy<Value = Wish> {
    let upgrade = (0_u64..8, any::<bool>(), any::<bool>(), any::<bool>());
    (prop::collection::vec(upgrade, 0..6), any::<bool>())
        .prop_map(|(upgrades, in_batch)| Wish { upgrades, in_batch })
}

impl Wish {
    fn manifest(&self) -> String {
        let mut text = format!(
            "visor = 1\n[node.demo]\nbinary = \"b\"\nhome = \"/home\"\ndata = {{ path = \"d\" }}\nchain = {{ kind = \"evm\", rpc = \"http://127.0.0.1:1\" }}\ngenesis = \"g\"\n[artifact.g]\n[[artifact.g.file]]\nurls = [\"https://x.example/g\"]\nsha256 = \"{HEX}\"\n[hook.h]\nrun = [\"/bin/true\"]\n"
        );
        let mut members: Vec<(u64, String)> = Vec::new();
        for (i, (height, backup, hooks, hold)) in self.upgrades.iter().enumerate() {
            // No two heights meet.
            let height = height * 1_000 + i as u64 * 10;
            let trigger = if height < 1_000 {
                "{ manual = true }".to_owned()
            } else {
                format!("{{ height = {height} }}")
            };
            let _ = write!(
                text,
                "[upgrade.u{i}]\ntrigger = {trigger}\nartifact = \"g\"\n"
            );
            if !backup {
                text.push_str("backup = \"none\"\n");
            }
            if *hooks {
                text.push_str("hooks = { pre-stop = [\"h\"], pre-upgrade = [\"h\"], post-upgrade = [\"h\"] }\n");
            }
            if *hold {
                text.push_str("on-failure = \"hold\"\n");
            }
            members.push((height, format!("\"u{i}\"")));
        }
        members.sort();
        if self.in_batch && !members.is_empty() {
            let names: Vec<&str> = members.iter().map(|(_, n)| n.as_str()).collect();
            let _ = writeln!(text, "[batch.b]\nupgrades = [{}]", names.join(", "));
        }
        text
    }
}

/// A random machine.
#[derive(Debug, Clone)]
struct Machine {
    current: Option<usize>,
    /// No `current`: 0; one that names nothing: 1; else a release.
    link: u8,
    running: u8,
    head: Option<u64>,
    applied: Vec<usize>,
    denied: Vec<usize>,
    approved: Vec<usize>,
    held: bool,
    stopped: bool,
    problem: bool,
    measured: bool,
}

fn machine() -> impl Strategy<Value = Machine> {
    let some = || prop::collection::vec(0_usize..6, 0..3);
    let flags = (
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
        any::<bool>(),
    );
    let what = (
        prop::option::of(0_usize..6),
        0_u8..8,
        0_u8..3,
        prop::option::of(0_u64..9_000),
    );
    (what, some(), some(), some(), flags).prop_map(
        |((current, link, running, head), applied, denied, approved, flags)| Machine {
            current,
            link,
            running,
            head,
            applied,
            denied,
            approved,
            held: flags.0 && flags.1,
            stopped: flags.1 && flags.2,
            problem: flags.2,
            measured: flags.3,
        },
    )
}

impl Machine {
    fn observed(&self, node: &DesiredNode) -> Observed {
        const AT: UnixMs = 1_795_000_000_000;
        let upgrade = |i: &usize| node.upgrades.get(*i).map(|u| u.name.clone());
        // The digests are those that a run would have written: a plan says them.
        let digest = |name: &Name| {
            let at = node.upgrades.iter().find(|u| u.name == *name).unwrap();
            let file = at.artifact.file("linux/amd64").unwrap();
            let plan = visor::plan::compile_upgrade(node, at, file, &Release::Genesis).unwrap();
            match plan.action {
                visor::plan::Action::Upgrade { digest, .. } => digest,
                visor::plan::Action::Install { .. } => String::new(),
            }
        };
        Observed {
            current: match self.link {
                0 => Fact::Known(None),
                1 => Fact::Unknown("it names nothing".into()),
                _ => Fact::Known(Some(
                    self.current
                        .as_ref()
                        .and_then(upgrade)
                        .map_or(Release::Genesis, Release::Upgrade),
                )),
            },
            node: match self.running {
                0 => Liveness::Running { pid: 7, since: AT },
                1 => Liveness::Stopped { exit: None },
                _ => Liveness::Unclear {
                    why: "the lock is held".into(),
                },
            },
            chain: ChainFacts {
                head: self
                    .head
                    .map_or_else(|| Fact::Unknown("it does not answer".into()), Fact::Known),
                syncing: self
                    .head
                    .map_or_else(|| Fact::Unknown(String::new()), |_| Fact::Known(false)),
                head_age: self.head.map_or_else(
                    || Fact::Unknown(String::new()),
                    |_| Fact::Known(Duration::from_secs(1)),
                ),
            },
            data_empty: self.link == 0,
            data_problem: self.problem.then(|| "it is a mount point".into()),
            start_problem: (self.problem && self.measured).then(|| "no such user".into()),
            slow_backup: None,
            copy: None,
            last_release: None,
            reached: None,
            applied: self
                .applied
                .iter()
                .filter_map(upgrade)
                .map(|name| AppliedUpgrade {
                    digest: digest(&name),
                    name,
                    at: AT,
                })
                .collect(),
            denied: self
                .denied
                .iter()
                .filter_map(upgrade)
                .map(|name| Denied {
                    digest: digest(&name),
                    upgrade: name,
                    reason: "it ended".into(),
                    at: AT,
                    run: "01M87ZCV2CN4DMYX327DRST8YZ".parse().unwrap(),
                })
                .collect(),
            overrides: Overrides {
                hold: self.held.then(|| visor::plan::Hold {
                    reason: "a night".into(),
                    by: "me".into(),
                    at: AT,
                    until: None,
                }),
                stop: self.stopped.then(|| visor::plan::StopOverride {
                    reason: "a day".into(),
                    by: "me".into(),
                    at: AT,
                }),
                approvals: self
                    .approved
                    .iter()
                    .filter_map(upgrade)
                    .map(|upgrade| Approval {
                        upgrade,
                        by: "me".into(),
                        at: AT,
                    })
                    .collect(),
                ..Overrides::default()
            },
            open_run: None,
            foreign: None,
            launch_differs: false,
            last_abandoned: None,
            hook_files: vec![],
            last_outage: self.measured.then(|| MeasuredOutage {
                upgrade: "u0".parse().unwrap(),
                at: AT,
                stop_ms: 53,
                between_ms: 10,
                start_ms: 62,
            }),
        }
    }
}
