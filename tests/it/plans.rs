//! Plans and their records: pure, stable, explained; examples of every format that visor has written are read.

use crate::machine;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use visor::journal::{Outcome, Stage, decode, next_status};
use visor::model::{CopyFacts, Method, OnFailure, Release, Rung, Trigger};
use visor::plan::{
    ChainFacts, ChangeKind, Fact, Liveness, MeasuredOutage, Observed, OpenRun, Overrides, Plan,
    PlanError, diff, diff_text, plan_tree,
};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

#[test]
fn a_plan_is_a_pure_function_of_its_inputs() {
    let make = || machine::plan(true, true, false, OnFailure::RollBack);
    assert_eq!(make().to_bytes(), make().to_bytes());
    assert_ne!(
        make().digest,
        machine::plan(true, true, true, OnFailure::RollBack).digest
    );
    let ids: std::collections::BTreeSet<String> = make()
        .steps
        .iter()
        .chain(&make().undo)
        .map(|s| s.id.to_string())
        .collect();
    assert_eq!(ids.len(), make().steps.len() + make().undo.len());
}

#[test]
fn the_tree_of_a_plan() {
    let plan = machine::plan(true, true, false, OnFailure::RollBack);
    insta::assert_snapshot!(plan_tree(&plan).replace(&plan.digest[..16], "DIGEST"), @r"
    demo · upgrade v2 from genesis
    ├─ prepare  node runs
    │  ├─ fetch                      v2 (1 source)
    │  ├─ stage                      to upgrades/v2/bin
    │  ├─ prepare                    /bin/true
    │  └─ precopy                    backup b
    ├─ gate  node runs
    │  ├─ trigger                    height 50
    │  ├─ pre-stop/pre-stop          /bin/true
    │  └─ chain-safe                 in sync, fresh head
    ├─ critical  OUTAGE
    │  ├─ stop                       TERM, 1s, then QUIT and KILL
    │  ├─ seal                       backup b
    │  ├─ pre-upgrade/pre-upgrade    /bin/true
    │  ├─ switch                     current → upgrades/v2
    │  └─ start                      the new release
    ├─ confirm  node runs
    │  ├─ health                     within 3s, 3 blocks
    │  └─ commit                     from here on nothing is rolled back
    ├─ after  node runs
    │  ├─ post-upgrade/post-upgrade  /bin/true
    │  ├─ verify                     backup b
    │  ├─ archive                    tar.zst.age to backups/archive
    │  └─ prune                      keep the last 3
    └─ undo  from any step before commit
       ├─ stop-new                   TERM, 1s, then QUIT and KILL
       ├─ consume                    the sealed copy is used up
       ├─ carry-keep                 signer state and keep paths
       ├─ exchange                   sealed data for failed data
       ├─ set-aside                  failed data to failed/
       ├─ switch-back                current → genesis
       ├─ start-old                  the old release
       ├─ health-old                 within 3s, 3 blocks
       └─ on-failure/on-failure      /bin/true
    digest DIGEST
    ");
}

/// What a person reads before an upgrade: what, why, what comes first, the outage, what is not undone, what the roll-back does.
#[test]
fn the_words_of_a_difference() {
    let node = machine::node(true, true, false, OnFailure::RollBack);
    let d = diff(&node, &observed(), "linux/amd64");
    insta::assert_snapshot!(diff_text(&d), @r"
    node demo · genesis · running, head 50

    changes
      + upgrade from genesis to v2
          why       head 50 ≥ 50 (height 50)  (x.toml:2)
                    the current release is genesis  (x.toml:1)
          first     artifact v2 fetched and verified · hook prepare (prepare) · a
                    copy of the data, while the node runs · hook pre-stop (pre-stop)
                    · the chain in sync, its head fresh
          copy      reflink: each file shares its blocks with the copy; 1.0 GiB of
                    the disk stay free
                    not snapshot: the data are no subvolume
                    if it is not ready in time, the upgrade waits
          outage    about 2.3 s, measured by v1, 2026-09-21T14:13:20.000Z:
                    - the node's own stop, about 420 ms, at most 1.0 s
                    - the copy of what changes in the last moments, about 15 ms
                    - hook pre-upgrade, at most 1.0 s
                    - the node's own start, about 1.9 s, at most 3.0 s
          for good  hooks prepare (prepare), pre-stop (pre-stop), pre-upgrade
                    (pre-upgrade), post-upgrade (post-upgrade): what they do is not
                    undone
                    commit: from here on nothing is rolled back
                    prune: copies that the policy no longer keeps are gone
          if bad    to genesis, with the data of the moment of the stop: data and
                    copy change names; what the new release wrote is kept in failed/
    ");
}

/// A node of the genesis at height 50, whose last upgrade was measured.
fn observed() -> Observed {
    let rung = |method, refusal: Option<&str>| Rung {
        method,
        refusal: refusal.map(str::to_owned),
    };
    Observed {
        current: Fact::Known(Some(Release::Genesis)),
        node: Liveness::Running { pid: 1, since: 0 },
        chain: ChainFacts {
            head: Fact::Known(50),
            syncing: Fact::Known(false),
            head_age: Fact::Known(Duration::from_secs(1)),
        },
        data_empty: false,
        data_problem: None,
        slow_backup: None,
        copy: Some(CopyFacts {
            ladder: vec![
                rung(Method::Snapshot, Some("the data are no subvolume")),
                rung(Method::Reflink, None),
                rung(Method::LinkCopy, None),
                rung(Method::Copy, None),
            ],
            bytes: Some(2 << 40),
            mutable_bytes: Some(3 << 30),
            roots: vec![],
            problem: None,
            age: true,
        }),
        last_release: Some(Release::Genesis),
        applied: vec![],
        reached: None,
        denied: vec![],
        overrides: Overrides::default(),
        open_run: None,
        foreign: None,
        start_problem: None,
        launch_differs: false,
        last_abandoned: None,
        hook_files: vec![],
        last_outage: Some(MeasuredOutage {
            upgrade: "v1".parse().unwrap(),
            at: 1_790_000_000_000,
            stop_ms: 420,
            between_ms: 15,
            start_ms: 1_900,
        }),
    }
}

/// A run that waits hides nothing: what is scheduled is, what is due is told whole, and no other is begun.
#[test]
fn a_run_that_waits_hides_nothing() {
    let mut node = machine::node(true, true, false, OnFailure::RollBack);
    let mut later = node.upgrades[0].clone();
    later.name = "v3".parse().unwrap();
    later.trigger = Trigger::Height(90);
    node.upgrades.push(later);
    let run = "01M87ZCV2CN4DMYX327DRST8YZ";
    let at = |head: u64, waits: bool| {
        let mut observed = observed();
        observed.chain.head = Fact::Known(head);
        observed.open_run = Some(OpenRun {
            run: run.parse().unwrap(),
            what: "upgrade v2".into(),
            upgrade: Some("v2".parse().unwrap()),
            stage: "preparing".into(),
            waits,
            stuck: None,
        });
        diff(&node, &observed, "linux/amd64")
    };
    let early = at(40, true);
    assert_eq!((early.changes.len(), early.scheduled.len()), (0, 2));
    let note = early.scheduled[0].note.as_deref().unwrap();
    assert_eq!(note, format!("run {run} is at work on it: preparing"));
    let due = at(50, true);
    assert_eq!((due.changes.len(), due.scheduled.len()), (1, 1));
    let change = &due.changes[0];
    assert_eq!(change.kind, ChangeKind::Resume);
    assert!(change.what.contains(run) && change.what.contains("from genesis to v2"));
    assert_eq!(change.risk.outage.parts.len(), 4);
    let midst = at(50, false);
    assert_eq!((midst.changes.len(), midst.scheduled.len()), (1, 0));
    assert!([early, due, midst].iter().all(|d| d.next.is_none()));
}

#[test]
fn a_plan_that_holds_says_so() {
    let plan = machine::plan(true, false, false, OnFailure::Hold);
    let tree = plan_tree(&plan);
    assert!(
        tree.contains("undo  when a person says so: the new release is held if it is bad"),
        "{tree}"
    );
}

/// What the table says cannot be undone, the difference tells people.
#[test]
fn what_is_not_undone_is_said() {
    let plan = machine::plan(true, true, false, OnFailure::RollBack);
    for step in &plan.steps {
        let undo = visor::step::row(&step.kind).undo;
        let is_for_good = undo == "irreversible" || undo.starts_with("none: hooks");
        assert_eq!(
            step.kind.irreversible().is_some(),
            is_for_good,
            "{}",
            step.name
        );
    }
}

#[test]
fn edited_newer_and_unknown_plans_are_refused() {
    let plan = machine::plan(true, false, false, OnFailure::RollBack);
    let text = String::from_utf8(plan.to_bytes()).unwrap();
    assert!(Plan::read(text.as_bytes()).is_ok());
    let refused = |text: String| Plan::read(text.as_bytes()).unwrap_err();
    assert!(matches!(
        refused(text.replace("\"height\":50", "\"height\":51")),
        PlanError::Digest { .. }
    ));
    assert!(matches!(
        refused(text.replacen("\"version\":1", "\"version\":2", 1)),
        PlanError::Version { found: 2 }
    ));
    assert!(matches!(
        refused(text.replace("\"commit\"", "\"celebrate\"")),
        PlanError::Unreadable(_)
    ));
    let first = plan.steps[0].id.to_string();
    let last = plan.steps.last().unwrap().id.to_string();
    let circle = text.replacen("\"after\":[]", &format!("\"after\":[\"{last}\"]"), 1);
    assert!(circle.contains(&first));
    let mut edited: Plan = serde_json::from_str(&circle).unwrap();
    edited = Plan::new(edited.node, edited.action, edited.steps, edited.undo).map_or_else(
        |error| {
            assert!(
                error.to_string().contains("prepare/fetch → prepare/stage"),
                "{error}"
            );
            plan.clone()
        },
        |_| panic!("a circle was taken for a plan"),
    );
    assert_eq!(edited.digest, plan.digest);
}

/// The kept example of format 1: written once, read for ever. `VISOR_UPDATE=1` writes it where there is none.
#[test]
fn a_run_of_format_1_is_read() {
    let (plan_path, journal_path) = (data("run.v1/plan.json"), data("run.v1/journal.jsonl"));
    if std::env::var_os("VISOR_UPDATE").is_some() && !plan_path.exists() {
        let plan = machine::plan(true, true, false, OnFailure::RollBack);
        fs::create_dir_all(plan_path.parent().unwrap()).unwrap();
        fs::write(&plan_path, plan.to_bytes()).unwrap();
        fs::write(&journal_path, machine::journal_of_a_roll_back(&plan)).unwrap();
    }
    let plan = Plan::read(&fs::read(&plan_path).unwrap()).unwrap();
    let (records, _) = decode(&fs::read(&journal_path).unwrap()).unwrap();
    let status = records
        .iter()
        .try_fold(visor::journal::Status::new(), |s, r| {
            next_status(&plan, s, &r.event)
        })
        .unwrap();
    assert!(matches!(
        status.stage,
        Stage::Closed(Outcome::RolledBack, _)
    ));
    // Records in another order are no run.
    let mut swapped = records.clone();
    swapped.swap(1, 2);
    let fold = swapped
        .iter()
        .try_fold(visor::journal::Status::new(), |s, r| {
            next_status(&plan, s, &r.event)
        });
    assert!(fold.is_err());
}
