//! A control group for each start: what a node leaves behind is found in it, and limits hold for all of it.

use crate::children::{child, lives};
use crate::env::{Env, Running, Set, kill};
use rustix::fs::XattrFlags;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A group that is delegated as systemd does it; removed with what visor left in it.
struct Delegated(PathBuf);

impl Delegated {
    /// `None` where this user may not make one.
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|l| l.contains(" - cgroup2 "))?;
        let point = mount.split(' ').nth(4).unwrap();
        let name = tempfile::Builder::new()
            .prefix("visor-it-")
            .make_in(point, |dir| fs::create_dir(dir));
        let Ok(dir) = name.map(|dir| dir.into_temp_path().keep().unwrap()) else {
            println!("skipped: no control group can be made in {point}");
            return None;
        };
        rustix::fs::setxattr(&dir, "user.delegate", b"1", XattrFlags::empty()).unwrap();
        fs::create_dir(dir.join("visor")).unwrap();
        Some(Self(dir))
    }

    /// Starts visor in a group of its own below.
    fn run(&self, env: &Env) -> Running {
        let mut command = Command::new("/bin/sh");
        let procs = self.0.join("visor/cgroup.procs");
        command
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(procs)
            .args([env!("CARGO_BIN_EXE_visor"), "run"])
            .env("VISOR_MANIFESTS", env.set());
        env.spawn_command(command, "run.log")
    }

    /// The groups that visor made for nodes.
    fn groups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap().flatten();
        let dirs = entries.filter(|e| e.file_type().unwrap().is_dir());
        let dirs = dirs.map(|e| e.path());
        dirs.filter(|p| p.file_name().unwrap() != "visor").collect()
    }

    /// True when the machine has something to delegate.
    fn has(&self, controllers: &[&str]) -> bool {
        let all = fs::read_to_string(self.0.join("cgroup.controllers")).unwrap();
        let all: Vec<&str> = all.split_whitespace().collect();
        controllers.iter().all(|c| all.contains(c))
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for dir in self.groups() {
            let _ = fs::write(dir.join("cgroup.kill"), "1");
        }
        for _ in 0..200 {
            let mut all = self.groups();
            all.push(self.0.join("visor"));
            all.push(self.0.clone());
            for dir in all {
                let _ = fs::remove_dir(dir);
            }
            if !self.0.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn node(script: &'static str, extra: &str) -> Set {
    Set {
        upgrades: vec![("v2", "{ height = 1000000 }", "", String::new())],
        node_extra: format!("restart = {{ delay = \"1s\", backoff = \"1s\" }}\n{extra}"),
        script,
        ..Set::default()
    }
}

fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    text.lines().map(|l| l.parse().unwrap()).collect()
}

/// Neither in the node's session nor with its lock, deaf to TERM, and with children.
const UNTIED: &str = "(trap '' TERM; for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done; exec setsid sh -c 'echo $$ >child; sleep 1001 & sleep 1002 & wait') &\nexec NODE";
const UNTIED_NODE: &str =
    "for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done\nsetsid NODE & echo $! > child\nexit 0";

#[test]
fn who_has_cut_all_ties_is_found_in_the_control_group() {
    let Some(delegated) = Delegated::new() else {
        return;
    };
    let env = Env::with(&node(UNTIED_NODE, ""));
    let run = delegated.run(&env);
    env.eventually("the node answers", || env.height().is_some());
    let works = child(&env).unwrap();
    let is_named = || {
        let shown = env.visor(&["status"]).stdout;
        shown.contains("state     unclear") && shown.contains(&format!("pid {works} (visor)"))
    };
    env.eventually("status names it", is_named);
    assert!(members(&delegated.groups()[0]).contains(&works));
    let before = env.height().unwrap();
    env.eventually("it goes on", || env.height() > Some(before + 50));
    // Another visor, of no group, knows it by the record.
    run.kill();
    let run = env.spawn(&["run"], "run.log");
    env.eventually("status names it again", is_named);
    let _ = env.visor(&["stop"]).expect(0);
    assert!(!lives(works), "{}", env.logs());
    assert_eq!(env.height(), None);
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

#[test]
fn all_that_a_crashed_node_left_is_killed_by_policy_and_its_group_removed() {
    let Some(delegated) = Delegated::new() else {
        return;
    };
    let env = Env::with(&Set {
        stop: "{ grace = \"1s\", dump = \"1s\", kill = true }",
        ..node(UNTIED, "")
    });
    let run = delegated.run(&env);
    env.eventually("the node answers", || env.height().is_some());
    env.eventually("its child", || child(&env).is_some());
    let first = child(&env).unwrap();
    let (groups, before) = (delegated.groups(), env.nodes());
    assert_eq!(groups.len(), 1, "{groups:?}");
    let all = members(&groups[0]);
    assert!(
        all.contains(&before[0]) && all.contains(&first) && all.len() >= 4,
        "{all:?}"
    );
    kill(before[0], "KILL");
    env.eventually("it is started again", || {
        env.nodes().len() == 1 && env.nodes() != before && env.height().is_some()
    });
    assert!(!all.iter().any(|pid| lives(*pid)), "{}", env.logs());
    let now = delegated.groups();
    assert!(now.len() == 1 && now != groups, "{now:?}");
    // Asked to stop, the same.
    env.eventually("its child", || child(&env).is_some_and(|c| c != first));
    let all = members(&now[0]);
    let _ = env.visor(&["stop"]).expect(0);
    assert!(!all.iter().any(|pid| lives(*pid)), "{}", env.logs());
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

#[test]
fn who_has_left_the_group_is_found_by_session_and_lock() {
    let Some(delegated) = Delegated::new() else {
        return;
    };
    let env = Env::with(&Set {
        stop: "{ grace = \"1s\" }",
        ..node(
            "(trap '' TERM; exec sleep 1000) & echo $! >child\nexec NODE",
            "",
        )
    });
    let run = delegated.run(&env);
    env.eventually("the node answers", || env.height().is_some());
    let stays = child(&env).unwrap();
    let elsewhere = delegated.0.join("visor/cgroup.procs");
    fs::write(elsewhere, stays.to_string()).unwrap();
    assert!(!members(&delegated.groups()[0]).contains(&stays));
    kill(env.nodes()[0], "KILL");
    env.eventually("status names it", || {
        let shown = env.visor(&["status"]).stdout;
        shown.contains("state     unclear") && shown.contains(&format!("pid {stays} (sleep)"))
    });
    assert_eq!(env.nodes(), Vec::<i32>::new());
    kill(stays, "KILL");
    env.eventually("the node is started", || {
        env.nodes().len() == 1 && child(&env).is_some()
    });
    // Its child is as deaf as the first, and nothing allows to kill it.
    assert_eq!(run.term(), Some(6));
    kill(child(&env).unwrap(), "KILL");
}

const LIMITS: &str = "process = { cgroup = { memory-max = \"256MiB\", memory-high = \"200MiB\", cpu-max = \"150%\", cpu-weight = 50, pids-max = 64 } }\n";

#[test]
fn limits_hold_or_the_start_is_refused_before_anything_is_stopped() {
    let Some(delegated) = Delegated::new() else {
        return;
    };
    let env = Env::with(&Set {
        upgrades: vec![],
        ..node("exec NODE", "")
    });
    let run = delegated.run(&env);
    env.eventually("the node answers", || env.height().is_some());
    let before = env.nodes();
    env.write_set(&Set {
        upgrades: vec![("v2", "{ height = 5 }", "", String::new())],
        ..node("exec NODE", LIMITS)
    });
    let has_all = delegated.has(&["cpu", "memory", "pids"]);
    if !has_all {
        println!("no controllers to delegate here: only the refusal is tried");
        env.eventually("the refusal is said", || {
            let shown = env.visor(&["status"]).stdout;
            shown.contains("is not delegated to")
        });
        assert_eq!((env.nodes(), env.current()), (before, "genesis".to_owned()));
        // Without the wish it goes on.
        env.write_set(&Set {
            upgrades: vec![("v2", "{ height = 5 }", "", String::new())],
            ..node("exec NODE", "")
        });
    }
    env.eventually("it is upgraded", || env.current() == "upgrades/v2");
    env.eventually("it answers again", || env.height().is_some());
    let groups = delegated.groups();
    if has_all {
        for (file, want) in [
            ("memory.max", "268435456"),
            ("memory.high", "209715200"),
            ("cpu.max", "150000 100000"),
            ("cpu.weight", "50"),
            ("pids.max", "64"),
        ] {
            let has = fs::read_to_string(groups[0].join(file)).unwrap();
            assert_eq!(has.trim(), want, "{file}");
        }
    }
    assert!(members(&groups[0]).contains(&env.nodes()[0]));
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

#[test]
fn limits_without_a_delegated_group_are_refused_with_the_reason() {
    let env = Env::with(&node("exec NODE", LIMITS));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the refusal is said", || {
        let shown = env.visor(&["status"]).stdout;
        shown.contains("start-refused") && shown.contains("`process.cgroup` cannot be had")
    });
    assert_eq!(env.nodes(), Vec::<i32>::new());
    assert_eq!(run.term(), Some(0));
}

#[test]
fn memory_that_is_used_up_is_named() {
    let Some(delegated) = Delegated::new() else {
        return;
    };
    if !delegated.has(&["memory"]) {
        println!("skipped: no controllers to delegate here");
        return;
    }
    let set = node(
        "exec tail /dev/zero",
        "process = { cgroup = { memory-max = \"32MiB\", memory-swap-max = \"0B\" } }\n",
    );
    let env = Env::with(&set);
    let run = delegated.run(&env);
    env.eventually("status says so", || {
        let shown = env.visor(&["status"]).stdout;
        shown.contains("the memory that `process.cgroup` allows was used up")
    });
    assert_eq!(run.term(), Some(0));
}
