//! The node outlives visor: adoption after every kind of death, overrides, crash and restart.

use crate::env::{Env, Set, kill};
use std::fs;

fn far() -> Set {
    Set {
        upgrades: vec![("v2", "{ height = 1000000 }", "", String::new())],
        node_extra: "restart = { delay = \"200ms\" }".into(),
        ..Set::default()
    }
}

#[test]
fn a_node_is_adopted_after_the_death_of_visor_shim_or_both() {
    let env = Env::with(&far());
    let mut run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let pid = env.nodes()[0];
    for (visor_dies, shim_dies) in [(true, false), (false, true), (true, true)] {
        if shim_dies {
            env.shims().into_iter().for_each(|shim| kill(shim, "KILL"));
        }
        if visor_dies {
            run.kill();
            assert_eq!(env.nodes(), [pid], "the node lives");
            run = env.spawn(&["run"], "run.log");
        }
        let before = env.height().unwrap();
        env.eventually("it goes on", || {
            env.height().is_some_and(|h| h > before + 5)
        });
        assert_eq!(
            env.nodes(),
            [pid],
            "adopted, not started again\n{}",
            env.logs()
        );
        let status = env.visor(&["status"]).expect(0);
        assert!(
            status.stdout.contains(&format!("running, pid {pid}")),
            "{}",
            status.stdout
        );
    }
    // The shim is dead, and the node can still be stopped; only its exit status is lost.
    assert_eq!(run.term(), Some(0));
    assert_eq!(env.nodes(), Vec::<i32>::new());
    assert_eq!(
        visor::devnode::check_data(&env.data()).unwrap().mistakes,
        Vec::<String>::new()
    );
}

#[test]
fn stop_and_start_through_a_running_visor() {
    let env = Env::with(&far());
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    env.visor(&["stop", "--reason", "disk change"]).expect(0);
    assert_eq!(env.nodes(), Vec::<i32>::new());
    let status = env.visor(&["status"]).expect(0);
    assert!(status.stdout.contains("disk change"), "{}", status.stdout);
    // It stays down behind the operator's back, also over a new visor.
    run.kill();
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the new visor is at work", || {
        env.visor(&["status"])
            .stdout
            .contains(&format!("`visor run`, pid {}", run.pid()))
    });
    assert_eq!(env.nodes(), Vec::<i32>::new());
    env.visor(&["start"]).expect(0);
    env.eventually("the node answers", || env.height().is_some());
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

#[test]
fn two_visors_never_fight() {
    let env = Env::with(&far());
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let second = env.visor(&["run"]).expect(3);
    assert!(
        second.stderr.contains(&format!("pid {}", run.pid())),
        "{}",
        second.stderr
    );
    assert_eq!(env.nodes().len(), 1);
    assert_eq!(run.term(), Some(0));
}

#[test]
fn the_exit_of_a_node_is_recorded_and_its_log_is_its_own() {
    let env = Env::with(&far());
    env.visor(&["reconcile"]).expect(0);
    let pid = env.nodes()[0];
    kill(pid, "KILL");
    env.eventually("the exit is known", || {
        env.visor(&["status"]).stdout.contains("killed by signal 9")
    });
    let diff = env.visor(&["plan", "diff"]).expect(2);
    assert!(
        diff.stdout
            .contains("it is not running (killed by signal 9)"),
        "{}",
        diff.stdout
    );
    env.visor(&["reconcile"]).expect(0);
    assert_ne!(env.nodes(), [pid]);
    let log = fs::read_to_string(env.root().join("logs/node.log")).unwrap();
    assert_eq!(log.matches("opens").count(), 2, "{log}");
    assert_eq!(env.visor(&["stop"]).expect(0).stdout, "");
}

#[test]
fn a_run_that_is_told_to_end_while_it_confirms_goes_on_later() {
    let mut set = far();
    set.upgrades[0].1 = "{ height = 20 }";
    set.health = "{ within = \"30s\", blocks = 100, alive = \"1s\" }";
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("v2 answers", || {
        env.root().join("current").exists()
            && env.current() == "upgrades/v2"
            && env.height().is_some()
    });
    assert_eq!(run.term(), Some(0), "{}", env.logs());
    assert_eq!(env.nodes(), Vec::<i32>::new());
    // The operator's stop is no failure of the release: it is started once more and proves itself.
    env.visor(&["reconcile", "--wait"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(env.stop_and_check().schema, "v2");
}

#[test]
fn visor_stop_in_the_middle_of_a_run_is_no_failure_of_the_release() {
    let mut set = far();
    set.upgrades[0].1 = "{ height = 20 }";
    set.health = "{ within = \"30s\", blocks = 100, alive = \"1s\" }";
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    let on_v2 = || env.root().join("current").exists() && env.current() == "upgrades/v2";
    env.eventually("v2 answers", || on_v2() && env.height().is_some());
    let _ = env.visor(&["stop", "--reason", "look at it"]).expect(0);
    assert_eq!(env.nodes(), Vec::<i32>::new());
    assert_eq!(env.current(), "upgrades/v2");
    // Over the death of visor too.
    run.kill();
    let waiting = env.visor(&["reconcile"]).expect(3);
    assert!(waiting.stderr.contains("visor start"), "{}", waiting.stderr);
    let _ = env.visor(&["start"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(env.stop_and_check().schema, "v2");
}

#[test]
fn a_node_that_is_down_before_its_upgrade_is_started_first() {
    let env = Env::with(&far());
    let waiting = env.spawn(&["reconcile", "--wait"], "run.log");
    env.eventually("a run waits", || env.logs().contains("waiting: height"));
    // `visor stop` is carried out by the visor that waits.
    let _ = env.visor(&["stop"]).expect(0);
    waiting.kill();
    let _ = env.visor(&["start"]);
    env.eventually("the node answers", || env.height().is_some());
    kill(env.nodes()[0], "KILL");
    env.eventually("it is gone", || env.nodes().is_empty());
    // The open run waits for a height that only a node that runs can tell.
    let _ = env.visor(&["reconcile"]).expect(3);
    assert_eq!(env.nodes().len(), 1);
}

#[test]
fn a_node_that_dies_at_once_is_not_started_without_pause() {
    let env = Env::with(&Set {
        node_extra: "restart = { delay = \"1s\" }".into(),
        upgrades: vec![],
        ..Set::default()
    });
    let _ = env.visor(&["reconcile"]).expect(0);
    let _ = env.visor(&["stop"]).expect(0);
    fs::write(env.data().join("signer.json"), "{\"height\":0}").unwrap();
    let _ = env.command(&["start"]).output();
    let run = env.spawn(&["run"], "run.log");
    let opens = || {
        fs::read_dir(env.root().join("state/starts"))
            .unwrap()
            .count()
    };
    let before = opens();
    let began = std::time::Instant::now();
    env.eventually("three seconds", || began.elapsed().as_secs() >= 3);
    assert!(
        opens() - before <= 5,
        "{} starts in three seconds",
        opens() - before
    );
    assert_eq!(run.term(), Some(0));
}
