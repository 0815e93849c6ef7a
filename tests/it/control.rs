//! The control socket of `visor run`, and `visor status` in every phase.

use crate::env::{Env, Set, kill};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

fn far(extra: &str) -> Set {
    Set {
        upgrades: vec![("v2", "{ height = 1000000 }", "", String::new())],
        node_extra: extra.into(),
        ..Set::default()
    }
}

fn status(env: &Env) -> Value {
    let shown = env.visor(&["status", "--format", "json"]);
    serde_json::from_str(&shown.stdout).unwrap_or_else(|e| panic!("{e}: {}", shown.stderr))
}

fn states(status: &Value) -> Vec<&str> {
    let states = status["states"].as_array().unwrap();
    states
        .iter()
        .map(|s| s["state"].as_str().unwrap())
        .collect()
}

fn has_state(env: &Env, state: &str) -> bool {
    states(&status(env)).contains(&state)
}

/// What a copy of visor says as another user, who may read it and the set.
fn as_user(env: &Env, uid: u32, args: &[&str]) -> (Option<i32>, String, String) {
    for dir in ["", "set", "home"] {
        fs::set_permissions(env.path(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let copy = env.path("visor-copy");
    if !copy.exists() {
        fs::copy(env!("CARGO_BIN_EXE_visor"), &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(copy);
    command.args(args).env("VISOR_MANIFESTS", env.set());
    let out = command.uid(uid).gid(uid).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

#[test]
fn status_says_what_visor_knows_and_waits_for() {
    let env = Env::with(&far(""));
    let before = env.visor(&["status"]).expect(0);
    assert!(
        before.stdout.contains("state     no-release"),
        "{}",
        before.stdout
    );
    let run = env.spawn(&["run"], "run.log");
    env.eventually("it waits", || {
        states(&status(&env)) == ["healthy", "preparing"]
    });
    let now = status(&env);
    let wait = now["now"]["waits"][0]["what"].as_str().unwrap();
    assert!(wait.contains("1000000"), "{wait}");
    env.eventually("the chain's pace is known", || {
        status(&env)["next"][0]["at"].is_u64()
    });
    let text = env.visor(&["status"]).expect(0).stdout;
    for row in [
        "state     healthy for ",
        "waits     ",
        "next      upgrade v2",
        "(in",
    ] {
        assert!(text.contains(row), "{row} in\n{text}");
    }
    assert_eq!(run.term(), Some(0));
    assert!(!env.root().join("state/control.sock").exists());
    let after = env.visor(&["status"]).expect(0).stdout;
    assert!(after.contains("state     down"), "{after}");
}

#[test]
fn every_command_goes_through_the_socket() {
    let set = Set {
        upgrades: vec![("v2", "{ manual = true }", "", String::new())],
        ..Set::default()
    };
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let socket = env.root().join("state/control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    let asked = format!("asked the visor of pid {}", run.pid());
    let stop = env.visor(&["stop", "--reason", "night"]).expect(0);
    assert!(stop.stderr.contains(&asked), "{}", stop.stderr);
    assert_eq!(env.nodes(), Vec::<i32>::new());
    let stopped = env.visor(&["status"]).expect(0).stdout;
    assert!(stopped.contains("state     stopped for "), "{stopped}");
    assert!(stopped.contains(": night"), "{stopped}");
    let _ = env.visor(&["start"]).expect(0);
    let first = env.nodes();
    let _ = env.visor(&["restart"]).expect(0);
    assert_ne!(env.nodes(), first);
    assert_eq!(env.nodes().len(), 1);
    let _ = env.visor(&["hold", "--for", "1h"]).expect(0);
    assert!(has_state(&env, "held"));
    let _ = env.visor(&["release-hold"]).expect(0);
    assert!(!has_state(&env, "held"));
    let waits = env.visor(&["reconcile"]).expect(0);
    assert!(waits.stderr.contains("works on it"), "{}", waits.stderr);
    let no = env.visor(&["upgrade", "approve", "v9"]).expect(64);
    assert!(no.stderr.contains("There are: v2."), "{}", no.stderr);
    let _ = env.visor(&["upgrade", "approve", "v2"]).expect(0);
    env.eventually("it is applied", || env.current() == "upgrades/v2");
    let done = env.visor(&["reconcile", "--wait"]).expect(0);
    assert!(done.stdout.contains("nothing to do"), "{}", done.stdout);
    assert_eq!(run.term(), Some(0));
    env.stop_and_check();
}

#[test]
fn it_answers_while_a_step_hangs_and_while_visor_ends() {
    let set = Set {
        args_extra: vec!["--stop-ms".into(), "3000".into()],
        upgrades: vec![(
            "v2",
            "{ height = 10 }",
            "",
            "hooks = { prepare = [\"hang\"] }".into(),
        )],
        more: "[hook.hang]\nrun = [\"/bin/sleep\", \"600\"]\ntimeout = \"700s\"\n".into(),
        ..Set::default()
    };
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the hook hangs", || {
        status(&env)["now"]["doing"]["what"]
            .as_str()
            .is_some_and(|step| step.contains("hang"))
    });
    let _ = env.visor(&["hold"]).expect(0);
    kill(run.pid(), "TERM");
    env.eventually("it says that it waits for the exit", || {
        status(&env)["now"]["said"]["what"]
            .as_str()
            .is_some_and(|said| said.contains("stopping the node"))
    });
    assert_eq!(run.wait(), Some(0), "{}", env.logs());
    assert_eq!(env.nodes(), Vec::<i32>::new());
}

#[test]
fn a_visor_that_is_stopped_in_its_tracks_does_not_hide_the_status() {
    let env = Env::with(&far(""));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    kill(run.pid(), "STOP");
    let shown = env.visor(&["status"]).expect(0);
    kill(run.pid(), "CONT");
    assert!(shown.stderr.contains("does not answer"), "{}", shown.stderr);
    assert!(
        shown.stdout.contains("state     healthy"),
        "{}",
        shown.stdout
    );
    env.eventually("it is back", || status(&env)["now"].is_object());
    assert_eq!(run.term(), Some(0));
}

#[test]
fn the_kernel_says_who_asks() {
    // Needs two users.
    if !rustix::process::getuid().is_root() {
        return;
    }
    let env = Env::with(&far("control = { group = \"65534\" }\n"));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let socket = fs::metadata(env.root().join("state/control.sock")).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.gid()), (0o660, 65_534));
    let (code, out, err) = as_user(&env, 65_534, &["status"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("state     healthy"), "{out}");
    let (code, _, err) = as_user(&env, 65_534, &["hold", "--reason", "I may"]);
    assert_eq!(code, Some(0), "{err}");
    let held = status(&env).to_string();
    assert!(
        held.contains("(uid 65534)") && held.contains("I may"),
        "{held}"
    );
    let (code, out, err) = as_user(&env, 65_534, &["logs", "-n", "1"]);
    assert_eq!((code, out.lines().count()), (Some(0), 1), "{out}{err}");
    let (code, _, err) = as_user(&env, 65_534, &["stop"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(env.nodes(), Vec::<i32>::new());
    let (code, _, err) = as_user(&env, 12_345, &["status"]);
    assert_eq!(code, Some(70), "{err}");
    assert!(err.contains("control = { group"), "{err}");
    assert_eq!(run.term(), Some(0));
}

#[test]
fn watch_tells_what_has_changed_and_nothing_else() {
    let env = Env::with(&far(""));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("it waits", || {
        states(&status(&env)) == ["healthy", "preparing"]
    });
    let out = fs::File::create(env.path("watch")).unwrap();
    let mut command = env.command(&["status", "--watch", "--format", "json"]);
    let mut watch = command.stdout(out).spawn().unwrap();
    let lines = || fs::read_to_string(env.path("watch")).unwrap();
    env.eventually("it is shown", || lines().lines().count() >= 1);
    let before = env.height().unwrap();
    env.eventually("time passes", || env.height().unwrap() > before + 100);
    let quiet = lines().lines().count();
    let _ = env.visor(&["hold"]).expect(0);
    env.eventually("the hold is told", || lines().contains("\"held\""));
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(quiet <= 2, "{quiet}");
    for line in lines().lines() {
        let _: Value = serde_json::from_str(line).unwrap();
    }
    assert_eq!(run.term(), Some(0));
}

#[test]
fn the_logs_are_followed_through_the_socket_as_long_as_they_are_wanted() {
    let env = Env::with(&Set {
        args_extra: vec!["--say-blocks".into()],
        ..far("")
    });
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let layout = visor::store::Layout::new(&env.root());
    let follow = || {
        let visor = visor::control::Client::reach(&layout).unwrap().unwrap();
        let mut out = Limited(Vec::new());
        let query = visor::node::LogQuery {
            since: 0,
            lines: Some(1),
            follow: true,
        };
        let _ = visor.logs(query, &mut out);
        String::from_utf8(out.0).unwrap()
    };
    // More readers than there is room for, one after the other: each of them frees its place.
    for _ in 0..12 {
        assert!(follow().contains("block"));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(run.term(), Some(0));
}

/// A reader that goes away after a while.
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() > 200 {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_state_is_explained() {
    for state in visor::control::State::ALL {
        let out = Env::new().visor(&["explain", state.word()]).expect(0);
        assert!(out.stdout.contains(state.meaning()) && out.stdout.contains(state.advice()));
        assert_eq!(serde_json::to_value(state).unwrap(), state.word());
    }
}

#[test]
fn a_stuck_run_ends_the_wait_of_those_who_ask() {
    let env = Env::with(&Set {
        stop: "{ grace = \"1s\" }",
        args_extra: vec!["--stop-ms".into(), "100000".into()],
        ..Set::default()
    });
    let run = env.spawn(&["run"], "run.log");
    env.eventually("it is stuck", || env.visor(&["status"]).code == Some(6));
    let asked = env.visor(&["reconcile", "--wait"]).expect(6);
    assert!(asked.stderr.contains("visor resolve"), "{}", asked.stderr);
    let long = "x".repeat(501);
    let refused = env.visor(&["hold", "--reason", &long]).expect(64);
    assert!(
        refused.stderr.contains("500 characters"),
        "{}",
        refused.stderr
    );
    let _ = env.visor(&["hold", "--reason", "a\u{1b}[31mb"]).expect(0);
    assert!(env.visor(&["status"]).stdout.contains(": a[31mb"));
    run.kill();
}
