//! Upgrades of a real devnode by the real program: good ones, bad ones, chains of them, and an RPC that cannot be trusted.

use crate::env::{Env, Set, kill};
use std::fs;
use std::path::Path;

fn bad(fault: &'static str) -> Set {
    let mut set = Set {
        upgrades: vec![("v2", "{ height = 20 }", fault, String::new())],
        ..Set::default()
    };
    if fault == "ignore-term" {
        set.stop = "{ grace = \"300ms\", dump = \"50ms\", kill = true }";
    }
    set
}

#[test]
fn a_good_upgrade_by_reconcile() {
    let env = Env::with(&Set::default());
    let out = env.visor(&["reconcile", "--wait"]).expect(0);
    assert!(out.stdout.contains("nothing to do"), "{}", out.stdout);
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(env.nodes().len(), 1);
    // The sealed generation is the data of the moment of the exit, and proves itself; signer state is not in it.
    let generation = fs::read_dir(env.root().join("backups/gen"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let backup = visor::devnode::check_data(&generation.join("tree")).unwrap();
    assert_eq!(
        (backup.mistakes, backup.schema.as_str(), backup.signer),
        (vec![], "v1", None)
    );
    assert!(backup.height >= 20);
    assert!(!generation.join("tree/LOCK").exists());
    let report = env.stop_and_check();
    assert_eq!(report.schema, "v2");
    assert!(report.height > backup.height);
    env.visor(&["reconcile"]).expect(3);
    env.visor(&["start"]).expect(0);
    env.visor(&["plan", "diff"]).expect(0);
}

#[test]
fn bad_upgrades_are_rolled_back_and_remembered() {
    for fault in ["exit", "silent", "stall", "ignore-term"] {
        let env = Env::with(&bad(fault));
        let out = env.visor(&["reconcile", "--wait"]).expect(5);
        assert!(
            out.stderr.contains("rolled back"),
            "{fault}: {}",
            out.stderr
        );
        assert_eq!(env.current(), "genesis", "{fault}");
        assert_eq!(env.nodes().len(), 1, "{fault}");
        assert_eq!(
            env.count(Path::new("failed")),
            1,
            "{fault}: the failed data are kept"
        );
        let before = env.height().unwrap();
        env.eventually("the old release goes on", || {
            env.height().is_some_and(|h| h > before)
        });
        let again = env.visor(&["reconcile"]).expect(3);
        assert!(
            again.stderr.contains("is not tried again")
                && again.stderr.contains("visor upgrade retry v2"),
            "{}",
            again.stderr
        );
        assert_eq!(env.state_of("v2"), "failed");
        let report = env.stop_and_check();
        assert_eq!(report.schema, "v1", "{fault}: data as before");
        assert!(report.height >= before);
    }
}

#[test]
fn a_corrected_upgrade_is_tried_again() {
    let env = Env::with(&bad("exit"));
    env.visor(&["reconcile", "--wait"]).expect(5);
    env.write_set(&Set::default());
    env.visor(&["reconcile", "--wait"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(env.stop_and_check().schema, "v2");
}

#[test]
fn run_upgrades_twice_and_stops_on_term() {
    let second = ("v3", "{ height = 60 }", "", String::new());
    let env = Env::with(&Set {
        upgrades: vec![("v2", "{ height = 20 }", "", String::new()), second],
        ..Set::default()
    });
    let run = env.spawn(&["run"], "run.log");
    env.eventually("v3 is current", || {
        env.root().join("current").exists() && env.current() == "upgrades/v3"
    });
    env.eventually("the run is over", || env.state_of("v2") == "applied");
    let out = env.visor(&["run"]).expect(3);
    assert!(
        out.stderr.contains("another visor works on this node") && out.stderr.contains("visor run"),
        "{}",
        out.stderr
    );
    env.eventually("both are done", || env.state_of("v3") == "current");
    assert_eq!(run.term(), Some(0));
    assert_eq!(env.nodes(), Vec::<i32>::new());
    let report = visor::devnode::check_data(&env.data()).unwrap();
    assert_eq!((report.mistakes, report.schema.as_str()), (vec![], "v3"));
    env.check_signed();
}

#[test]
fn run_rolls_bad_upgrades_back_and_goes_on_supervising() {
    for fault in ["exit", "silent", "stall", "ignore-term"] {
        let mut set = bad(fault);
        set.node_extra = "restart = { delay = \"100ms\" }".into();
        let env = Env::with(&set);
        let run = env.spawn(&["run"], "run.log");
        env.eventually("v2 has failed", || env.state_of("v2") == "failed");
        assert_eq!(env.current(), "genesis", "{fault}");
        let pid = env.nodes()[0];
        kill(pid, "KILL");
        env.eventually("a crashed node is started again", || {
            env.nodes().first().is_some_and(|p| *p != pid) && env.height().is_some()
        });
        assert_eq!(run.term(), Some(0), "{fault}");
        assert_eq!(env.nodes(), Vec::<i32>::new());
        let report = visor::devnode::check_data(&env.data()).unwrap();
        assert_eq!(report.schema, "v1", "{fault}: data as before");
        env.check_signed();
    }
}

#[test]
fn an_rpc_that_cannot_be_trusted_opens_no_gate() {
    let env = Env::with(&Set::default());
    env.fault("garbage");
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node runs", || !env.nodes().is_empty());
    let blocks =
        || fs::read_to_string(env.data().join("chain.log")).map_or(0, |t| t.lines().count());
    for fault in [
        "garbage",
        "oversized",
        "error",
        "lie",
        "hang",
        "syncing",
        "stale",
    ] {
        let before = blocks();
        env.fault(fault);
        env.eventually("blocks go on", || blocks() > before.max(20) + 15);
        assert_eq!(
            env.current(),
            "genesis",
            "{fault} opened a gate\n{}",
            env.logs()
        );
        if fault != "hang" {
            let status = env.visor(&["status"]).expect(0);
            let word = if fault == "syncing" {
                "syncing true"
            } else if fault == "stale" {
                "1h"
            } else {
                "unknown"
            };
            assert!(
                status.stdout.contains(word),
                "{fault} is shown:\n{}",
                status.stdout
            );
        }
    }
    env.fault("");
    env.eventually("the upgrade", || env.current() == "upgrades/v2");
    env.eventually("the commit", || env.state_of("v2") == "current");
    assert_eq!(run.term(), Some(0));
}

#[test]
fn an_rpc_that_fails_after_the_start_rolls_back() {
    let env = Env::with(&Set {
        more: String::new(),
        ..Set::default()
    });
    let hook = "hooks = { pre-upgrade = [\"break-rpc\"] }".to_owned();
    let faults = env.path("faults");
    env.write_script(
        "hooks/break.sh",
        &format!("#!/bin/sh\necho garbage > {}\n", faults.display()),
    );
    env.write_script(
        "hooks/mend.sh",
        &format!("#!/bin/sh\n: > {}\n", faults.display()),
    );
    let mend = env.path("mend");
    fs::write(&mend, "").unwrap();
    env.write_set(&Set {
        upgrades: vec![("v2", "{ height = 20 }", "", hook)],
        more: "[hook.break-rpc]\nrun = [\"hooks/break.sh\"]\n".into(),
        ..Set::default()
    });
    let run = env.spawn(&["reconcile", "--wait"], "run.log");
    env.eventually("the way back has begun", || {
        fs::read_to_string(env.path("run.log"))
            .unwrap()
            .contains("rolling back")
    });
    env.fault("");
    assert_eq!(run.wait(), Some(5), "{}", env.logs());
    assert_eq!(
        (env.current().as_str(), env.stop_and_check().schema.as_str()),
        ("genesis", "v1")
    );
}

#[test]
fn hold_leaves_it_to_a_person() {
    let mut set = bad("stall");
    set.upgrades[0].3 = "on-failure = \"hold\"".into();
    let env = Env::with(&set);
    let out = env.visor(&["reconcile", "--wait"]).expect(6);
    assert!(
        out.stderr.contains("stuck at confirm/health") && out.stderr.contains("visor resolve"),
        "{}",
        out.stderr
    );
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(env.nodes().len(), 1);
    let status = env.visor(&["status"]).expect(6);
    assert!(
        status.stdout.contains("stuck     at confirm/health"),
        "{}",
        status.stdout
    );
    let diff = env.visor(&["plan", "diff"]).expect(3);
    assert!(diff.stdout.contains("is stuck"), "{}", diff.stdout);
    env.visor(&["resolve", "roll-back", "--reason", "it stands still"])
        .expect(5);
    assert_eq!(
        (env.current().as_str(), env.stop_and_check().schema.as_str()),
        ("genesis", "v1")
    );
}

#[test]
fn a_frozen_node_opens_no_chain_gate() {
    let env = Env::with(&Set {
        stop: "{ grace = \"300ms\" }",
        ..Set::default()
    });
    env.visor(&["reconcile"]).expect(0);
    let pid = env.nodes()[0];
    env.eventually("the trigger is near", || {
        env.height().is_some_and(|h| h >= 20)
    });
    let hook = env.write_script("hooks/freeze.sh", &format!("#!/bin/sh\nkill -STOP {pid}\n"));
    env.write_set(&Set {
        stop: "{ grace = \"300ms\" }",
        upgrades: vec![(
            "v2",
            "{ height = 20 }",
            "",
            "hooks = { pre-stop = [\"freeze\"] }".into(),
        )],
        more: format!("[hook.freeze]\nrun = [\"{}\"]\n", hook.display()),
        ..Set::default()
    });
    // The frozen node answers no more, so the chain gate stays closed: nothing is stopped.
    env.visor(&["reconcile", "--wait=2s"]).expect(3);
    assert_eq!(env.nodes(), [pid]);
    kill(pid, "CONT");
    env.visor(&["reconcile", "--wait"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
}

#[test]
fn abort_before_and_after_the_intent() {
    // Before: the run waits for a height that is far.
    let env = Env::with(&Set {
        upgrades: vec![("v2", "{ height = 100000 }", "", String::new())],
        ..Set::default()
    });
    let run = env.spawn(&["run"], "run.log");
    env.eventually("a run waits", || {
        fs::read_to_string(env.path("run.log"))
            .unwrap()
            .contains("waiting: height 100000")
    });
    let out = env.visor(&["reconcile", "--abort"]).expect(0);
    assert!(out.stderr.contains("cancelled"), "{}", out.stderr);
    assert_eq!(
        env.count(Path::new("backups/gen")),
        0,
        "the unfinished copy is gone"
    );
    env.visor(&["reconcile", "--abort"]).expect(64);
    assert_eq!(run.term(), Some(0));
    // After: the new release stands still, and nobody waits for the end of its time.
    let mut set = bad("stall");
    set.health = "{ within = \"60s\", blocks = 3 }";
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("v2 is current", || {
        env.root().join("current").exists() && env.current() == "upgrades/v2"
    });
    env.visor(&["reconcile", "--abort"]).expect(5);
    assert_eq!(env.current(), "genesis");
    assert_eq!(run.term(), Some(0));
    assert_eq!(
        visor::devnode::check_data(&env.data()).unwrap().schema,
        "v1"
    );
}

#[test]
fn a_manual_upgrade_waits_for_a_person() {
    let env = Env::with(&Set {
        upgrades: vec![("v2", "{ manual = true }", "", String::new())],
        ..Set::default()
    });
    env.visor(&["reconcile"]).expect(0);
    let diff = env.visor(&["plan", "diff"]).expect(0);
    assert!(diff.stdout.contains("v2 at approval"), "{}", diff.stdout);
    env.visor(&["upgrade", "approve", "v3"]).expect(64);
    env.visor(&["upgrade", "approve", "v2"]).expect(0);
    env.visor(&["plan", "diff"]).expect(2);
    env.visor(&["hold", "--reason", "not today"]).expect(0);
    let held = env.visor(&["reconcile"]).expect(3);
    assert!(held.stderr.contains("not today"), "{}", held.stderr);
    env.visor(&["release-hold"]).expect(0);
    env.visor(&["reconcile"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(env.stop_and_check().schema, "v2");
}

#[test]
fn data_without_a_release_are_not_guessed_at() {
    let env = Env::with(&Set {
        upgrades: vec![("v2", "{ height = 100000 }", "", String::new())],
        ..Set::default()
    });
    fs::create_dir_all(env.data()).unwrap();
    fs::write(env.data().join("something"), "").unwrap();
    let out = env.visor(&["reconcile"]).expect(3);
    assert!(
        out.stderr.contains("visor start --release NAME"),
        "{}",
        out.stderr
    );
    env.visor(&["start", "--release", "v9"]).expect(64);
    env.visor(&["start", "--release", "v2"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    env.visor(&["start", "--release", "genesis"]).expect(64);
    env.visor(&["plan", "diff"]).expect(0);
    let history = env.visor(&["history"]).expect(0).stdout;
    assert!(history.contains("visor start, "), "{history}");
    // Taken out of the set, it leaves what was before it behind.
    env.write_set(&Set {
        upgrades: vec![("v0", "{ height = 1 }", "", String::new())],
        ..Set::default()
    });
    env.eventually("the head", || env.height() >= Some(2));
    env.visor(&["plan", "diff"]).expect(0);
}

#[test]
fn an_applied_upgrade_taken_out_of_the_set_is_no_downgrade() {
    let env = Env::with(&Set::default());
    env.visor(&["reconcile", "--wait"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    env.write_set(&Set {
        upgrades: vec![
            ("v0", "{ height = 10 }", "", String::new()),
            ("v3", "{ height = 100000 }", "", String::new()),
        ],
        ..Set::default()
    });
    let diff = env.visor(&["plan", "diff"]).expect(0).stdout;
    assert!(diff.contains("v3 at height 100000"), "{diff}");
    assert!(!diff.contains("v0"), "{diff}");
    assert_eq!(env.state_of("v0"), "passed");
    env.visor(&["reconcile"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
}

#[test]
fn dry_run_changes_nothing() {
    let env = Env::with(&Set::default());
    let out = env.visor(&["reconcile", "--dry-run"]).expect(2);
    assert!(
        out.stdout.contains("install the first release") && out.stdout.contains("would run"),
        "{}",
        out.stdout
    );
    assert!(!env.root().exists());
}

#[test]
fn a_node_that_outlives_its_grace_is_stuck_and_untouched() {
    let env = Env::new();
    fs::create_dir_all(env.path("home")).unwrap();
    let text = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n";
    env.write("stubborn", text);
    let digest = visor::model::sha256_hex(text.as_bytes());
    let home = env.path("home").display().to_string();
    env.write(
        "set.toml",
        &format!(
            r#"visor = 1
[node.n]
binary = "stubborn"
home = "{home}"
args = ["{home}"]
data = {{ path = "data" }}
stop = {{ grace = "300ms" }}
genesis = "s"
[artifact.s]
[[artifact.s.file]]
urls = ["stubborn"]
sha256 = "{digest}"
[upgrade.next]
trigger = {{ manual = true }}
artifact = "s"
health = {{ within = "2s", alive = "200ms" }}
"#
        ),
    );
    let _ = env.visor(&["reconcile"]).expect(0);
    let _ = env.visor(&["upgrade", "approve", "next"]).expect(0);
    let out = env.visor(&["reconcile"]).expect(6);
    let says = "after TERM and the manifest does not allow kill";
    assert!(out.stderr.contains(says), "{}", out.stderr);
    assert_eq!(env.current(), "genesis");
    let status = env.visor(&["status"]).expect(6);
    assert!(status.stdout.contains("running, pid"), "{}", status.stdout);
}
