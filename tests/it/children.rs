//! Nodes that do not end alone: children that are left behind, and nodes that go into the background.

use crate::env::{Env, Set, kill};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use visor::host::NodeState;
use visor::model::StartId;
use visor::node::{mark_gone, node_state, starts};
use visor::process::Identity;
use visor::store::Layout;

fn node(script: &'static str) -> Set {
    Set {
        upgrades: vec![("v2", "{ height = 1000000 }", "", String::new())],
        node_extra: "restart = { delay = \"1s\", backoff = \"1s\" }\n".into(),
        script,
        ..Set::default()
    }
}

/// The pid that a script has written down, while that process lives.
pub(crate) fn child(env: &Env) -> Option<i32> {
    let text = fs::read_to_string(env.path("home/child")).ok()?;
    text.trim().parse().ok().filter(|pid| lives(*pid))
}

pub(crate) fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// In the node's session and with its lock.
const WITH_CHILD: &str = "/bin/sleep 1000 & echo $! > child\nexec NODE";
/// The same without the lock, and deaf to TERM.
const DEAF_CHILD: &str = "(trap '' TERM; for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done; exec /bin/sleep 1000) & echo $! > child\nexec NODE";
const BACKGROUND: &str = "NODE & echo $! > child\nexit 0";
const FAR_BACKGROUND: &str = "setsid NODE & echo $! > child\nexit 0";
const WITHOUT_LOCK: &str =
    "for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done\nsetsid NODE & echo $! > child\nexit 0";

#[test]
fn a_child_ends_with_the_node_at_a_stop_and_in_an_upgrade() {
    let set = Set {
        upgrades: vec![("v2", "{ height = 20 }", "", String::new())],
        ..node(WITH_CHILD)
    };
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let first = child(&env).expect("the first node's child");
    env.eventually("it is upgraded", || env.current() == "upgrades/v2");
    env.eventually("it answers again", || env.height().is_some_and(|h| h > 25));
    let second = child(&env).expect("the second node's child");
    assert_ne!(first, second);
    assert!(!lives(first), "{}", env.logs());
    let layout = Layout::new(&env.path("home/visor"));
    let is_marked = |start: &StartId| layout.starts().join(format!("{start}/gone")).exists();
    let marks: Vec<bool> = starts(&layout).iter().map(is_marked).collect();
    assert_eq!(marks, [true, false]);
    assert_eq!(run.term(), Some(0));
    assert_eq!(child(&env), None);
    env.check_signed();
}

/// In a session of its own, it leaves a child there.
const LEADER: &str = "/bin/sleep 1000 & echo $!; read line";

#[test]
fn a_start_that_was_seen_gone_is_not_looked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let mut leader = Command::new("setsid")
        .args(["sh", "-c", LEADER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(leader.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let left: i32 = line.trim().parse().unwrap();
    let start: StartId = "01M8BMRFJZ1B8KBBMPDDNC4MV7".parse().unwrap();
    let identity = Identity::of(i32::try_from(leader.id()).unwrap()).unwrap();
    let at = layout.starts().join(start.to_string());
    fs::create_dir_all(&at).unwrap();
    let record = serde_json::json!({ "version": 1, "identity": identity, "at": 0 });
    fs::write(at.join("start"), record.to_string()).unwrap();
    let is_gone = |seen: Option<StartId>| match node_state(&layout, seen).unwrap() {
        NodeState::Gone { last, .. } => {
            assert_eq!(last, Some(start));
            true
        }
        NodeState::Unclear { why } => {
            assert!(why.contains(&format!("pid {left} (")), "{why}");
            false
        }
        NodeState::Running { .. } => panic!("it has ended"),
    };
    drop(leader.stdin.take());
    leader.wait().unwrap();
    assert!(!is_gone(None));
    assert!(is_gone(Some(start)));
    mark_gone(&layout, start).unwrap();
    assert!(is_gone(None));
    kill(left, "KILL");
}

#[test]
fn what_a_crashed_node_left_behind_is_ended_before_the_next_start() {
    let env = Env::with(&node(WITH_CHILD));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let (first, before) = (child(&env).unwrap(), env.nodes());
    kill(before[0], "KILL");
    env.eventually("it is started again", || {
        env.nodes().len() == 1 && env.nodes() != before && env.height().is_some()
    });
    assert!(!lives(first), "{}", env.logs());
    let log = fs::read_to_string(env.path("run.log")).unwrap();
    assert!(
        log.contains("what the node left behind is told to end"),
        "{log}"
    );
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

#[test]
fn a_child_that_will_not_end_keeps_the_next_node_from_starting() {
    let set = Set {
        stop: "{ grace = \"1s\" }",
        ..node(DEAF_CHILD)
    };
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let stays = child(&env).unwrap();
    kill(env.nodes()[0], "KILL");
    env.eventually("status names it", || {
        let shown = env.visor(&["status"]).stdout;
        shown.contains("state     unclear") && shown.contains(&format!("pid {stays} (sleep)"))
    });
    assert_eq!(env.nodes(), Vec::<i32>::new());
    kill(stays, "KILL");
    env.eventually("the node is started", || env.nodes().len() == 1);
    // With `kill = true` visor does it itself.
    let set = Set {
        stop: "{ grace = \"1s\", dump = \"1s\", kill = true }",
        ..node(DEAF_CHILD)
    };
    env.write_set(&set);
    kill(run.pid(), "HUP");
    env.eventually("the set is read", || {
        let log = fs::read_to_string(env.path("run.log")).unwrap();
        log.contains("were read again")
    });
    env.eventually("it answers", || env.height().is_some());
    let _ = env.visor(&["stop"]).expect(0);
    assert_eq!(child(&env), None);
    assert_eq!(run.term(), Some(0));
}

#[test]
fn a_node_in_the_background_is_named_left_alone_and_stopped_when_asked() {
    for script in [BACKGROUND, FAR_BACKGROUND] {
        let env = Env::with(&node(script));
        let run = env.spawn(&["run"], "run.log");
        env.eventually("the node answers", || env.height().is_some());
        let works = child(&env).unwrap();
        env.eventually("status names it", || {
            let shown = env.visor(&["status"]).stdout;
            shown.contains("state     unclear") && shown.contains(&format!("pid {works} (visor)"))
        });
        let before = env.height().unwrap();
        env.eventually("it goes on", || env.height() > Some(before + 100));
        assert_eq!(child(&env), Some(works), "{}", env.logs());
        let _ = env.visor(&["stop"]).expect(0);
        assert_eq!((child(&env), env.height()), (None, None));
        assert_eq!(run.term(), Some(0));
        env.check_signed();
    }
}

#[test]
fn one_that_has_cut_all_ties_is_foreign() {
    let env = Env::with(&node(WITHOUT_LOCK));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let works = child(&env).unwrap();
    env.eventually("status names it", || {
        let shown = env.visor(&["status"]).stdout;
        shown.contains(&format!("pid {works} ("))
    });
    let before = env.height().unwrap();
    env.eventually("it goes on", || env.height() > Some(before + 100));
    assert_eq!(child(&env), Some(works), "{}", env.logs());
    assert_eq!(run.term(), Some(0));
    kill(works, "TERM");
    env.eventually("it ends", || child(&env).is_none());
    env.check_signed();
}
