//! What operators of cosmovisor complain of, as far as it is about keeping a node: each a test. Of the same list stand elsewhere:
//!
//! | complaint | test |
//! |---|---|
//! | cosmos-sdk#9414, #9678, #19348, gaia#2928: restart loops | `supervise::a_crash_loop_ends_in_a_state_that_status_shows` |
//! | cosmos-sdk#18270, #12684, #8540: confusing messages | `control::every_state_is_explained`, `control::status_says_what_visor_knows_and_waits_for` |
//! | sei-chain#1450: restarts in a container | `keeper::the_first_process_of_a_container_reaps_forwards_and_takes_the_node_along` |

use crate::env::{Env, Set, kill};
use std::fs;
use std::thread;
use std::time::Duration;

fn node(args: &[&str]) -> Set {
    Set {
        args_extra: args.iter().map(|a| (*a).to_owned()).collect(),
        upgrades: vec![("v2", "{ height = 1000000 }", "", String::new())],
        ..Set::default()
    }
}

/// cosmos-sdk#7740, #23683, #24262, gaia#2313: the signal does not reach the node, and its state is lost.
#[test]
fn sigterm_and_sigint_reach_the_node_and_its_state_is_whole() {
    for signal in ["TERM", "INT"] {
        let env = Env::with(&node(&["--stop-ms", "500"]));
        let run = env.spawn(&["run"], "run.log");
        env.eventually("the node answers", || env.height().is_some());
        kill(run.pid(), signal);
        assert_eq!(run.wait(), Some(0), "{}", env.logs());
        let log = env.visor(&["logs", "-n", "1"]).expect(0).stdout;
        assert!(log.contains("ends at height"), "{signal}: {log}");
        assert!(env.visor(&["status"]).stdout.contains("exit status 0"));
        let report = visor::devnode::check_data(&env.data()).unwrap();
        assert_eq!(report.mistakes, Vec::<String>::new());
    }
}

/// omnibus#595, #906, cosmosd#6: where no grace is said, the node is killed at once.
#[test]
fn where_no_grace_is_said_the_node_has_its_time() {
    let set = Set {
        stop: "{}",
        ..node(&["--stop-ms", "4000"])
    };
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let stop = env.visor(&["stop"]).expect(0);
    assert!(
        stop.stderr.contains("the node is stopped"),
        "{}",
        stop.stderr
    );
    let status = env.visor(&["status"]).stdout;
    assert!(status.contains("exit status 0"), "{status}");
    assert_eq!(run.term(), Some(0));
}

/// cosmos-sdk#12101, #12188: the new node starts before the old one has released its database.
#[test]
fn the_next_node_finds_the_database_free() {
    let set = Set {
        upgrades: vec![("v2", "{ height = 150 }", "", String::new())],
        ..node(&["--stop-ms", "800"])
    };
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    for _ in 0..3 {
        let _ = env.visor(&["restart"]).expect(0);
    }
    env.eventually("the upgrade", || env.state_of("v2") == "current");
    let log = env.visor(&["logs", "-n", "all"]).expect(0).stdout;
    let opened = log.matches(" opens ").count();
    let ended = log.matches(" ends ").count();
    assert_eq!((opened, ended), (5, 4), "{log}");
    let mut open = 0;
    for line in log.lines() {
        open += i32::from(line.contains(" opens ")) - i32::from(line.contains(" ends "));
        assert!((0..=1).contains(&open), "two at once\n{log}");
    }
    assert!(!log.to_lowercase().contains("lock"), "{log}");
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

/// cosmos-sdk#26526: signals and watchers leak.
#[test]
fn signals_without_end_leave_nothing_behind() {
    let env = Env::with(&node(&[]));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let nodes = env.nodes();
    let count = |what: &str| {
        fs::read_dir(format!("/proc/{}/{what}", run.pid()))
            .unwrap()
            .count()
    };
    thread::sleep(Duration::from_secs(3));
    let before = (count("fd"), count("task"));
    for _ in 0..300 {
        kill(run.pid(), "HUP");
        thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..30 {
        let _ = env.visor(&["status"]);
    }
    // Those who answer wait some seconds for more to ask.
    env.eventually("nothing is left", || {
        count("fd") <= before.0 && count("task") <= before.1 + 1
    });
    assert_eq!(env.nodes(), nodes);
    assert_eq!(run.term(), Some(0));
}

/// cosmos-sdk#11555, #11731, #15360, #11161: words of the tool among what programs read.
#[test]
fn what_programs_read_has_no_word_of_visors_in_it() {
    let env = Env::with(&node(&["--say-blocks"]));
    let version = env.visor(&["--version"]).expect(0);
    assert_eq!(
        (version.stdout.lines().count(), version.stderr.as_str()),
        (1, "")
    );
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    for command in [
        &["status"][..],
        &["plan", "diff"],
        &["history"],
        &["upgrade", "list"],
    ] {
        let args = [command, &["--format", "json"]].concat();
        let out = env.visor(&args);
        let _: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    }
    assert_eq!(run.term(), Some(0));
    // What the node writes is its log and nothing else's.
    let ours = fs::read_to_string(env.path("run.log")).unwrap();
    assert!(!ours.contains("block 1"), "{ours}");
    let log = env.visor(&["logs", "-n", "all"]).expect(0).stdout;
    let own = |l: &str| l.starts_with("devnode v1 ") || l.starts_with("block ");
    assert!(log.lines().all(own), "{log}");
}
