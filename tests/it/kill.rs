//! The real program killed with SIGKILL: around every journal append, after every artefact, at random after a start.
//! Then another visor: every case ends whole, with one node, and data that prove themselves.
//!
//! Without `VISOR_IT_FULL` a bounded part is done: every place once with the shim left alive, the places of the critical
//! section also with the shim killed, and 30 random kills. With it: every place both ways, and 300 random kills.

use crate::env::{Env, Set, is_full, kill};
use crate::machine::n_records;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};
use visor::plan::{Phase, Plan};

fn set(fault: &'static str) -> Set {
    Set {
        health: "{ within = \"5s\", blocks = 2, alive = \"50ms\" }",
        upgrades: vec![(
            "v2",
            "{ height = 5 }",
            fault,
            "hooks = { pre-stop = [\"ok\"], pre-upgrade = [\"ok\"], on-failure = [\"ok\"] }".into(),
        )],
        more: "[hook.ok]\nrun = [\"/bin/true\"]\n".into(),
        ..Set::default()
    }
}

/// A node that runs its genesis at a height at which the upgrade is due.
fn due(fault: &'static str) -> Env {
    let mut before = set(fault);
    before.upgrades[0].1 = "{ height = 1000000 }";
    let env = Env::with(&before);
    let _ = env.visor(&["reconcile"]).expect(0);
    env.eventually("the height", || env.height().is_some_and(|h| h >= 5));
    env.write_set(&set(fault));
    env
}

/// The places that an upgrade passes, each with how often; and the plan it followed.
fn places(fault: &'static str, want: i32) -> (BTreeMap<String, usize>, Plan) {
    let env = due(fault);
    let trace = env.path("trace");
    let _ = Env::output(env.command(&["reconcile"]).env("VISOR_KILL_TRACE", &trace)).expect(want);
    let mut places = BTreeMap::new();
    for line in fs::read_to_string(trace).unwrap().lines() {
        *places.entry(line.to_owned()).or_default() += 1;
    }
    let runs = fs::read_dir(env.root().join("state/journal")).unwrap();
    let last = runs.map(|e| e.unwrap().path()).max().unwrap();
    let plan = Plan::read(&fs::read(last.join("plan.json")).unwrap()).unwrap();
    (places, plan)
}

/// Kills visor at one place, perhaps the shim too, and lets another visor finish.
fn one_case(fault: &'static str, want: i32, place: &str, nth: usize, with_shim: bool) {
    let env = due(fault);
    let at = format!("{place}#{nth}");
    let out = Env::output(env.command(&["reconcile"]).env("VISOR_KILL_AT", &at));
    let what = format!(
        "killed at {at}{}",
        if with_shim { ", the shim too" } else { "" }
    );
    // Places in the shim kill the shim, and visor goes on or gives the start up.
    let in_child = place.starts_with("shim:") || place.starts_with("stage2:");
    assert!(
        out.code.is_none() || in_child,
        "{what}: code {:?}\n{}",
        out.code,
        out.stderr
    );
    if with_shim {
        env.shims().into_iter().for_each(|s| kill(s, "KILL"));
    }
    assert!(env.nodes().len() <= 1, "{what}: {:?}", env.nodes());
    if out.code.is_none() {
        // A blocked chain gate (the node is just coming up) is tried again.
        let again = env.visor(&["reconcile", "--wait=20s"]);
        assert!(
            again.code == Some(want) || again.code == Some(3) && want == 5,
            "{what}: {:?}\n{}\n{}",
            again.code,
            again.stderr,
            env.logs()
        );
    }
    if out.code == Some(70) {
        // Every shim was killed, that of the old release too; this time nobody kills it.
        assert!(
            out.stderr.contains("the next pass goes on"),
            "{what}: {}",
            out.stderr
        );
        let _ = env.visor(&["reconcile"]).expect(5);
    }
    if out.code == Some(6) {
        // The old release was started, and killed: a person says "again", and this time nobody kills it.
        let at = ["stuck at undo/start-old", "stuck at undo/health-old"];
        assert!(
            at.iter().any(|at| out.stderr.contains(at)),
            "{what}: {}",
            out.stderr
        );
        let _ = env.visor(&["resolve", "not-done"]).expect(5);
    }
    assert_eq!(
        env.nodes().len(),
        1,
        "{what}: {:?}\n{}\n{}",
        out.code,
        out.stderr,
        env.logs()
    );
    let (release, schema) = match env.current().as_str() {
        "upgrades/v2" => ("upgrades/v2", "v2"),
        _ => ("genesis", "v1"),
    };
    if out.code.is_none() {
        assert_eq!(
            release,
            if want == 0 { "upgrades/v2" } else { "genesis" },
            "{what}"
        );
    }
    assert_eq!(env.stop_and_check().schema, schema, "{what}");
}

fn every_place(fault: &'static str, want: i32, only: impl Fn(&str) -> bool) {
    let (places, plan) = places(fault, want);
    let critical = |p: &str| !p.starts_with("append:");
    let mut cases = Vec::new();
    for (place, n) in &places {
        for nth in 1..=*n {
            if only(place) {
                cases.push((place.clone(), nth, false));
            }
            if critical(place) && (is_full() || only(place)) || is_full() {
                cases.push((place.clone(), nth, true));
            }
        }
    }
    let n = cases.len();
    for (place, nth, with_shim) in cases {
        one_case(fault, want, &place, nth, with_shim);
    }
    let word = if is_full() {
        "all cases"
    } else {
        "a bounded part; VISOR_IT_FULL=1 does all"
    };
    println!(
        "kill -9 ({}): {n} cases at {} places ({word})",
        if want == 0 { "good" } else { "bad" },
        places.values().sum::<usize>()
    );
    // Every record is passed at three places, and their number follows from the plan.
    for place in ["append:before", "append:written", "append:after"] {
        let forward = n_records(&plan);
        let undone = plan.undo.len();
        let after = 2 * plan.phase(Phase::After).count();
        // On the way back: a failure, the decision, the inodes, begin and end of each undo step; no end of health,
        // nothing of the commit and after it.
        let follows = if want == 0 {
            forward
        } else {
            forward - after - 3 + 3 + 2 * undone
        };
        assert_eq!(places[place], follows, "{place}");
    }
    let artefacts = [
        "seal:written",
        "seal:named",
        "switch:after",
        "shim:locked",
        "stage2:recorded",
    ];
    assert!(
        artefacts.iter().all(|a| places.contains_key(*a)),
        "{places:?}"
    );
}

#[test]
fn killed_around_every_append_of_a_good_upgrade() {
    every_place("", 0, |p| {
        p.starts_with("append:") && (is_full() || p != "append:before")
    });
}

#[test]
fn killed_after_every_artefact_of_a_good_upgrade() {
    every_place("", 0, |p| !p.starts_with("append:"));
}

#[test]
fn killed_on_the_way_back() {
    let back = [
        "consume:after",
        "carry-keep:after",
        "exchange:after",
        "set-aside:after",
        "set-aside:settled",
        "switch:after",
        "stop:exited",
        "start:spawned",
    ];
    every_place("exit", 5, |p| back.contains(&p) || is_full());
}

#[test]
fn killed_at_random_after_a_start() {
    let times = if is_full() { 300 } else { 30 };
    let env = Env::with(&Set {
        upgrades: vec![],
        ..Set::default()
    });
    let _ = env.visor(&["reconcile"]).expect(0);
    let _ = env.visor(&["stop"]).expect(0);
    let mut seed: u64 = 0x2545_f491_4f6c_dd1d;
    let mut alive_after = 0;
    for i in 0..times {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let delay = Duration::from_micros((seed >> 33) % 10_000);
        let mut child = env
            .command(&["start"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while began.elapsed() < delay {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if i % 2 == 1 {
            env.shims().into_iter().for_each(|s| kill(s, "KILL"));
        }
        assert!(
            env.nodes().len() <= 1,
            "kill {i} after {delay:?}: {:?}",
            env.nodes()
        );
        let _ = env.visor(&["start"]).expect(0);
        assert_eq!(
            env.nodes().len(),
            1,
            "kill {i} after {delay:?}\n{}",
            env.logs()
        );
        alive_after += 1;
        let _ = env.visor(&["stop"]).expect(0);
        assert_eq!(env.nodes(), Vec::<i32>::new(), "kill {i} after {delay:?}");
    }
    env.check_signed();
    println!(
        "random kills after a start: {alive_after} of {times}, never two nodes{}",
        if is_full() {
            ""
        } else {
            " (VISOR_IT_FULL=1 does 300)"
        }
    );
}
