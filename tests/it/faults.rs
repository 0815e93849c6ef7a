//! Machines at their worst: no processes, no file descriptors, a full disk, a clock that jumps, a visor that is stopped in its tracks, an
//! RPC that accepts and never answers.

use crate::env::{Env, Running, Set, is_full, kill};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

fn node(extra: &str) -> Set {
    Set {
        upgrades: vec![("v2", "{ height = 1000000 }", "", String::new())],
        node_extra: format!("restart = {{ delay = \"1s\", backoff = \"2s\", max = 20 }}\n{extra}"),
        ..Set::default()
    }
}

/// Sets a soft limit of a process that runs; of another user's as that user.
fn limit(run: &Running, what: &str, user: Option<u32>) {
    let pid = run.pid().to_string();
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid, what]);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    assert!(command.status().unwrap().success());
}

/// The newest node is another one than before, and answers.
fn comes_again(env: &Env, before: &[i32]) {
    env.eventually("the node is started again", || {
        env.nodes().len() == 1 && env.nodes() != before && env.height().is_some()
    });
}

#[test]
fn without_file_descriptors_visor_waits_until_there_are_some() {
    let env = Env::with(&node(""));
    let mut run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let before = env.nodes();
    let open = fs::read_dir(format!("/proc/{}/fd", run.pid()))
        .unwrap()
        .count();
    limit(&run, &format!("--nofile={open}:"), None);
    kill(before[0], "KILL");
    // At the latest every ten seconds the whole is looked at.
    env.eventually("the look fails", || {
        let log = fs::read_to_string(env.path("run.log")).unwrap();
        log.contains("it is tried again in")
    });
    assert!(run.is_alive(), "{}", env.logs());
    // With room for a few, the records can be read and the node not started; with none, neither.
    limit(&run, "--nofile=1024:", None);
    comes_again(&env, &before);
    let log = fs::read_to_string(env.path("run.log")).unwrap();
    assert!(log.contains("Too many open files"), "{log}");
    assert!(
        log.lines().count() < 60,
        "it says so, and not without end\n{log}"
    );
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

fn give_away(dir: &Path, uid: u32) {
    chown(dir, Some(uid), Some(uid)).unwrap();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            give_away(&path, uid);
        } else {
            chown(&path, Some(uid), Some(uid)).unwrap();
        }
    }
}

/// Somebody whom limits bind.
const USER: u32 = 54_321;

/// `visor run` of a user's own, who owns all of the test's files.
fn run_as_user(env: &Env) -> Running {
    let copy = env.path("visor-copy");
    fs::copy(env!("CARGO_BIN_EXE_visor"), &copy).unwrap();
    give_away(&env.path(""), USER);
    let mut command = Command::new(&copy);
    command.arg("run").env("VISOR_MANIFESTS", env.set());
    command.uid(USER).gid(USER);
    env.spawn_command(command, "run.log")
}

/// The machine has no processes left for visor once the node is down; `until` this stands in visor's log.
fn refused_with_the_node_down(until: &str, release: &str) {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let env = Env::new();
    let place = env.path("").display().to_string();
    let script = env.write_script(
        "hooks/wait.sh",
        &format!("#!/bin/sh\n: > {place}/begun\nwhile [ ! -e {place}/go ]; do sleep 0.05; done\n"),
    );
    env.write_set(&Set {
        upgrades: vec![(
            "v2",
            "{ height = 5 }",
            "",
            "hooks = { pre-upgrade = [\"wait\"] }".into(),
        )],
        more: format!("[hook.wait]\nrun = [\"{}\"]\n", script.display()),
        ..Set::default()
    });
    let run = run_as_user(&env);
    env.eventually("the hook runs", || env.path("begun").exists());
    limit(&run, "--nproc=1:", Some(USER));
    fs::write(env.path("go"), "").unwrap();
    env.eventually("the refusal is shown", || {
        let shown = env.visor(&["status"]).stdout;
        let text = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        text.contains("machine-refuses: ") && text.contains("what was refused is tried again")
    });
    assert_eq!(env.nodes(), Vec::<i32>::new());
    env.eventually(until, || {
        let log = fs::read_to_string(env.path("run.log")).unwrap();
        log.contains(until)
    });
    limit(&run, "--nproc=4096:", Some(USER));
    env.eventually("it goes on", || {
        env.current() == release && env.nodes().len() == 1
    });
    env.eventually("and nothing is refused", || {
        let shown = env.visor(&["status"]).stdout;
        shown.contains("state     healthy") && !shown.contains("refuses")
    });
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

#[test]
fn a_start_that_is_refused_with_the_node_down_is_shown_and_tried_again() {
    refused_with_the_node_down("; it is tried again in 500ms", "upgrades/v2");
}

#[test]
fn a_way_back_that_is_refused_goes_on_when_it_can() {
    refused_with_the_node_down("; it is tried again in 5s", "genesis");
}

#[test]
fn without_processes_visor_waits_until_there_are_some() {
    // Root is beyond that limit.
    if !rustix::process::getuid().is_root() {
        return;
    }
    let env = Env::with(&node(""));
    let mut run = run_as_user(&env);
    env.eventually("the node answers", || env.height().is_some());
    let before = env.nodes();
    limit(&run, "--nproc=1:", Some(USER));
    kill(before[0], "KILL");
    env.eventually("the refusal is said", || {
        fs::read_to_string(env.path("run.log"))
            .unwrap()
            .contains("it is tried again in")
    });
    let shown = env.visor(&["status"]);
    assert!(run.is_alive(), "{}", env.logs());
    assert!(
        shown.stdout.contains("state     start-refused") || shown.stdout.contains("state     down"),
        "{}{}",
        shown.stdout,
        shown.stderr
    );
    limit(&run, "--nproc=4096:", Some(USER));
    comes_again(&env, &before);
    env.eventually("and visor answers", || {
        let shown = env.visor(&["status", "--format", "json"]);
        shown.stdout.contains("\"healthy\"") && shown.stderr.is_empty()
    });
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

/// Mounted for the time of a test.
struct Mount(std::path::PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn tmpfs(dir: &Path, size: u64) -> Option<Mount> {
    fs::create_dir_all(dir).unwrap();
    let options = format!("size={size},mode=700");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "none"])
        .arg(dir)
        .status();
    let is_mounted = mounted.is_ok_and(|s| s.success());
    is_mounted.then(|| Mount(dir.to_owned()))
}

fn free(dir: &Path) -> u64 {
    let stat = rustix::fs::statvfs(dir).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// An upgrade on a disk that has so many bytes left, each of visor's writes there; then with room.
fn upgraded_with(left: u64) -> bool {
    let env = Env::new();
    fs::create_dir_all(env.path("home")).unwrap();
    let root = env.path("root");
    let Some(mount) = tmpfs(&root, 16 << 20) else {
        return false;
    };
    let set = |upgrades| Set {
        upgrades,
        node_extra: format!("root = \"{}\"\n", root.display()),
        ..Set::default()
    };
    env.write_set(&set(vec![]));
    let _ = env.visor(&["reconcile"]).expect(0);
    env.eventually("the node answers", || env.height().is_some_and(|h| h >= 5));
    let upgrade = ("v2", "{ height = 5 }", "", "backup = \"none\"".to_owned());
    env.write_set(&set(vec![upgrade]));
    let fill = root.join("fill");
    fs::write(&fill, vec![1; usize::try_from(free(&root) - left).unwrap()]).unwrap();
    let tried = env.visor(&["reconcile"]);
    let link = || fs::read_link(root.join("current")).unwrap();
    let current = link();
    let whole = ["genesis", "upgrades/v2"]
        .iter()
        .any(|r| current == Path::new(r));
    assert!(whole, "{}", current.display());
    assert!(env.nodes().len() <= 1);
    if tried.code != Some(0) {
        assert!(
            tried.stderr.contains("No space left on device") || tried.code == Some(5),
            "{left} bytes left: {:?}\n{}",
            tried.code,
            tried.stderr
        );
    }
    fs::remove_file(&fill).unwrap();
    // It was remembered as failed if it was rolled back.
    let _ = env.visor(&["upgrade", "retry", "v2"]).expect(0);
    let again = env.visor(&["reconcile", "--wait=30s"]);
    assert_eq!(
        link(),
        Path::new("upgrades/v2"),
        "{left}: {}{}",
        tried.stderr,
        again.stderr
    );
    assert_eq!(
        env.nodes().len(),
        1,
        "{left}: {}{}",
        tried.stderr,
        again.stderr
    );
    let _ = env.visor(&["stop"]).expect(0);
    env.check_signed();
    drop(mount);
    true
}

#[test]
fn a_full_disk_at_any_of_visors_writes_costs_nothing() {
    // What a run reserves, then page by page of what it writes beside.
    const RESERVED: u64 = 1 << 20;
    let pages: Vec<u64> = if is_full() {
        (0..=8).chain(240..=400).collect()
    } else {
        vec![0, 2, 256, 258, 262, 270, 290, 330]
    };
    let mut tried = 0;
    for page in &pages {
        if !upgraded_with(page * 4096) {
            assert!(
                std::env::var_os("CI").is_none(),
                "no file system can be mounted, and in CI nothing is skipped"
            );
            return;
        }
        tried += 1;
    }
    println!(
        "{tried} upgrades on disks with 0 to {} KiB beside the {} KiB that a run reserves (VISOR_IT_FULL=1: each page)",
        pages.last().unwrap() * 4 - RESERVED / 1024,
        RESERVED / 1024
    );
}

#[test]
fn a_clock_that_jumps_by_a_day_moves_nothing_but_the_time() {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    if !Path::new(library).exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "libfaketime is missing, and in CI nothing is skipped: apt-get install faketime"
        );
        return;
    }
    let env = Env::with(&node(""));
    let offset = env.path("offset");
    fs::write(&offset, "+0").unwrap();
    let faked = |args: &[&str]| {
        let mut command = env.command(args);
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    };
    let run = env.spawn_command(faked(&["run"]), "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let ask = |args: &[&str]| {
        let out = faked(args).output().unwrap();
        String::from_utf8(out.stdout).unwrap() + &String::from_utf8(out.stderr).unwrap()
    };
    let mut days = BTreeSet::new();
    for jump in ["+1d", "-1d", "+0", "-1d", "+1d"] {
        let before = env.nodes();
        fs::write(&offset, jump).unwrap();
        thread::sleep(Duration::from_secs(3));
        assert_eq!(env.nodes(), before, "{jump}: {}", env.logs());
        let shown = ask(&["status"]);
        assert!(shown.contains("running, pid"), "{jump}: {shown}");
        // visor lives in that time: the end of a hold is one of its days.
        let held = ask(&["hold", "--for", "1ms"]);
        let day = held.split("until ").nth(1).map(|at| at[..10].to_owned());
        days.insert(day.unwrap_or_else(|| panic!("{held}")));
        // A node that ends is started again in its time, and found again by its newest record.
        kill(before[0], "KILL");
        comes_again(&env, &before);
        let shown = ask(&["status"]);
        let pid = env.nodes()[0];
        assert!(shown.contains(&format!("pid {pid}")), "{jump}: {shown}");
    }
    assert_eq!(days.len(), 3, "{days:?}");
    // The next visor, in another time, takes over the one that runs.
    let before = env.nodes();
    kill(run.pid(), "KILL");
    run.wait();
    fs::write(&offset, "-1d").unwrap();
    let run = env.spawn_command(faked(&["run"]), "run2.log");
    env.eventually("it is taken over", || {
        fs::read_to_string(env.path("run2.log"))
            .unwrap()
            .contains("the node runs")
    });
    assert_eq!(env.nodes(), before);
    assert_eq!(run.term(), Some(0), "{}", env.logs());
    env.check_signed();
}

#[test]
fn a_visor_that_is_stopped_for_a_minute_goes_on_where_it_was() {
    let set = Set {
        upgrades: vec![("v2", "{ height = 150 }", "", String::new())],
        ..Set::default()
    };
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let nodes = env.nodes();
    kill(run.pid(), "STOP");
    let time = Duration::from_secs(if is_full() { 60 } else { 6 });
    println!("stopped for {time:?} (VISOR_IT_FULL=1: 60 s)");
    let began = Instant::now();
    env.eventually("the height passes", || env.height() > Some(160));
    thread::sleep(time.saturating_sub(began.elapsed()));
    assert_eq!(env.nodes(), nodes);
    kill(run.pid(), "CONT");
    env.eventually("the upgrade is done", || env.state_of("v2") == "current");
    assert_eq!(run.term(), Some(0));
    env.stop_and_check();
}

#[test]
fn an_rpc_that_never_answers_stops_nothing_but_upgrades() {
    let env = Env::with(&node(""));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let nodes = env.nodes();
    env.fault("hang");
    env.eventually("status says so", || {
        let shown = env.visor(&["status"]);
        shown.stdout.contains("state     silent") && shown.stderr.is_empty()
    });
    let began = Instant::now();
    let _ = env.visor(&["hold"]).expect(0);
    let _ = env.visor(&["release-hold"]).expect(0);
    assert_eq!(env.nodes(), nodes);
    let _ = env.visor(&["restart"]).expect(0);
    assert_ne!(env.nodes(), nodes);
    let _ = env.visor(&["stop"]).expect(0);
    assert_eq!(env.nodes(), Vec::<i32>::new());
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    env.fault("");
    let _ = env.visor(&["start"]).expect(0);
    env.eventually("it is healthy", || {
        env.visor(&["status"]).stdout.contains("state     healthy")
    });
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}
