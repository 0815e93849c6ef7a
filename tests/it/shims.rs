//! Shims of visors before this one: they live as long as their nodes, so a new visor has to keep what they started.

use crate::env::{Env, Set, kill};
use crate::house::repo;
use serde_json::{Value, json};
use std::fs;
use std::process::{Child, Command, Stdio};

/// Installs the node, and starts it as a visor of format 1 did, with the shim that is kept in `tests/data`.
fn start_by_old_shim(env: &Env) -> Child {
    let _ = env.visor(&["reconcile"]).expect(0);
    kill(env.nodes()[0], "TERM");
    env.eventually("it ends", || {
        env.nodes().is_empty() && env.shims().is_empty()
    });
    let starts = env.root().join("state/starts");
    let last = fs::read_dir(&starts).unwrap().flatten().next().unwrap();
    let launch = fs::read(last.path().join("launch.json")).unwrap();
    let launch: Value = serde_json::from_slice(&launch).unwrap();
    let start = ulid::Ulid::generate().to_string();
    let dir = starts.join(&start);
    fs::create_dir(&dir).unwrap();
    // No more than that format knew.
    let old = json!({
        "version": 1, "program": launch["program"], "args": launch["args"], "env": launch["env"], "cwd": launch["cwd"],
    });
    fs::write(dir.join("launch.json"), old.to_string()).unwrap();
    let log = fs::OpenOptions::new()
        .append(true)
        .open(env.root().join("logs/node.log"))
        .unwrap();
    let mut shim = Command::new(repo().join("tests/data/shim.v1.sh"));
    shim.arg(env.root())
        .arg(start)
        .arg(launch["program"].as_str().unwrap());
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    shim.args(launch["args"].as_array().unwrap().iter().map(text));
    let vars = launch["env"].as_object().unwrap();
    shim.env_clear()
        .envs(vars.iter().map(|(k, v)| (k, text(v))));
    shim.stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    shim.spawn().unwrap()
}

#[test]
fn the_node_of_an_old_shim_is_taken_over_upgraded_and_its_end_known() {
    let env = Env::with(&Set {
        upgrades: vec![],
        ..Set::default()
    });
    let mut shim = start_by_old_shim(&env);
    env.eventually("the node answers", || env.height().is_some());
    let before = env.nodes();
    let run = env.spawn(&["run"], "run.log");
    let said = format!("the node runs, pid {}", before[0]);
    env.eventually("it is taken over", || {
        fs::read_to_string(env.path("run.log")).is_ok_and(|log| log.contains(&said))
    });
    assert_eq!(env.nodes(), before);
    // An upgrade ends it, waits for the shim's word, and starts it by a shim of this visor.
    env.write_set(&Set::default());
    env.eventually("it is upgraded", || env.current() == "upgrades/v2");
    env.eventually("it answers", || env.height().is_some());
    assert!(shim.wait().unwrap().success());
    let log = fs::read_to_string(env.path("run.log")).unwrap();
    assert!(log.contains("exit status 0"), "{log}");
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

#[test]
fn the_node_of_an_old_shim_that_crashes_is_started_again() {
    let env = Env::with(&Set {
        upgrades: vec![("v2", "{ height = 1000000 }", "", String::new())],
        node_extra: "restart = { delay = \"1s\", backoff = \"1s\" }\n".into(),
        ..Set::default()
    });
    let mut shim = start_by_old_shim(&env);
    env.eventually("the node answers", || env.height().is_some());
    let before = env.nodes();
    let run = env.spawn(&["run"], "run.log");
    env.eventually("it is taken over", || {
        fs::read_to_string(env.path("run.log")).is_ok_and(|log| log.contains("the node runs"))
    });
    kill(before[0], "KILL");
    env.eventually("it is started again", || {
        env.nodes().len() == 1 && env.nodes() != before
    });
    let _ = shim.wait();
    let log = fs::read_to_string(env.path("run.log")).unwrap();
    assert!(log.contains("killed by signal 9"), "{log}");
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}
