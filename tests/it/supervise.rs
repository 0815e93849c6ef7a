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

/// A node that devnode's fault makes end by itself.
fn ending(restart: &str, fault: &str) -> Env {
    let env = Env::with(&Set {
        node_extra: format!("restart = {restart}"),
        upgrades: vec![],
        ..Set::default()
    });
    let _ = env.visor(&["reconcile"]).expect(0);
    let _ = env.visor(&["stop"]).expect(0);
    let program = env.root().join("genesis/bin/demod");
    // The release is verified where it is staged, not each time it is started.
    fs::write(
        &program,
        format!("#!/bin/sh\necho the last words >&2\n{fault}\n"),
    )
    .unwrap();
    let _ = env.command(&["start"]).output();
    env
}

#[test]
fn a_crash_loop_ends_in_a_state_that_status_shows() {
    let env = ending(
        "{ delay = \"50ms\", backoff = \"100ms\", max = 4, within = \"1m\" }",
        "exit 3",
    );
    let run = env.spawn(&["run"], "run.log");
    env.eventually("it is left", || env.logs().contains("is not started again"));
    let logs = env.logs();
    assert_eq!(logs.matches("it is started again in").count(), 3, "{logs}");
    for pause in ["again in 50ms", "again in 100ms"] {
        assert!(logs.contains(pause), "{logs}");
    }
    let status = env.visor(&["status"]).expect(0).stdout;
    let said = status.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "exit status 3",
        "4 times within 1m",
        "visor start",
        "the last words",
    ] {
        assert!(said.contains(text), "{text}: {status}");
    }
    // It stays so, over a new visor too, until a person starts it; then what was before does not count.
    run.kill();
    let run = env.spawn(&["run"], "run.log");
    let again = || env.logs().matches("it is started again in").count();
    env.eventually("the new visor is at work", || {
        env.visor(&["status"])
            .stdout
            .contains(&format!("`visor run`, pid {}", run.pid()))
    });
    assert_eq!((again(), env.nodes()), (3, vec![]));
    let _ = env.command(&["start"]).output();
    env.eventually("it is tried anew", || again() == 6);
    assert_eq!(run.term(), Some(0));
}

#[test]
fn a_node_that_ends_by_its_own_wish_is_not_started_again() {
    for (restart, fault, why) in [
        (
            "{ delay = \"50ms\" }",
            "exit 0",
            "`restart.on` is \"failure\"",
        ),
        (
            "{ on = \"always\", no-restart-on-exit = [7] }",
            "exit 7",
            "names exit status 7",
        ),
        (
            "{ on = \"never\" }",
            "kill -9 $$",
            "`restart.on` is \"never\"",
        ),
    ] {
        let env = ending(restart, fault);
        let run = env.spawn(&["run"], "run.log");
        env.eventually("it is left", || env.logs().contains(why));
        assert!(
            !env.logs().contains("it is started again in"),
            "{}",
            env.logs()
        );
        assert!(
            env.visor(&["status"])
                .expect(0)
                .stdout
                .contains("stopped by visor")
        );
        assert_eq!(run.term(), Some(0));
    }
}
