//! `visor run` as the keeper of a node: signals, restarts by hand, the log.

use crate::env::{Env, Set, kill};
use std::cell::Cell;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use visor::model::LogPolicy;
use visor::node::{LogQuery, Rotated, mark, pieces, read_all, rotate, show_log};
use visor::store::Layout;

fn far(extra: &str) -> Set {
    Set {
        upgrades: vec![("v2", "{ height = 1000000 }", "", String::new())],
        node_extra: extra.into(),
        ..Set::default()
    }
}

fn stops_in(ms: &str) -> Vec<String> {
    vec!["--stop-ms".into(), ms.into()]
}

fn says(env: &Env, log: &str, text: &str) -> bool {
    fs::read_to_string(env.path(log)).is_ok_and(|t| t.contains(text))
}

#[test]
fn a_second_term_changes_nothing() {
    let set = Set {
        args_extra: stops_in("1500"),
        ..far("")
    };
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let began = Instant::now();
    kill(run.pid(), "TERM");
    thread::sleep(Duration::from_millis(300));
    kill(run.pid(), "TERM");
    kill(run.pid(), "INT");
    assert_eq!(run.wait(), Some(0), "{}", env.logs());
    assert!(
        began.elapsed() >= Duration::from_millis(1_400),
        "it waited for the real exit"
    );
    assert_eq!(env.nodes(), Vec::<i32>::new());
    env.check_signed();
}

#[test]
fn usr1_leaves_the_node_and_the_next_visor_takes_it_over() {
    let env = Env::with(&far(""));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let nodes = env.nodes();
    kill(run.pid(), "USR1");
    assert_eq!(run.wait(), Some(0), "{}", env.logs());
    assert!(
        says(&env, "run.log", "the node is left as it is"),
        "{}",
        env.logs()
    );
    let before = env.height().unwrap();
    env.eventually("the node goes on", || env.height() > Some(before + 3));
    let run = env.spawn(&["run"], "run2.log");
    env.eventually("it is taken over", || {
        says(&env, "run2.log", "the node runs")
    });
    assert_eq!(env.nodes(), nodes);
    assert_eq!(run.term(), Some(0));
}

#[test]
fn usr1_in_the_middle_of_an_upgrade_waits_until_the_node_is_whole() {
    let set = Set {
        args_extra: stops_in("1000"),
        upgrades: vec![("v2", "{ height = 20 }", "", String::new())],
        health: "{ within = \"30s\", blocks = 100, alive = \"1s\" }",
        ..Set::default()
    };
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    // The node takes a second to end.
    let journals = env.root().join("state/journal");
    env.eventually("the critical section has begun", || {
        let runs = fs::read_dir(&journals).into_iter().flatten().flatten();
        let mut texts =
            runs.filter_map(|r| fs::read_to_string(r.path().join("journal.jsonl")).ok());
        texts.any(|t| t.contains("\"old_start\":\""))
    });
    kill(run.pid(), "USR1");
    assert_eq!(run.wait(), Some(0), "{}", env.logs());
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(env.nodes().len(), 1, "{}", env.logs());
    env.visor(&["reconcile", "--wait"]).expect(0);
    env.stop_and_check();
}

#[test]
fn hup_reads_the_set_and_keeps_the_old_one_when_it_is_bad() {
    let set = far("");
    let env = Env::with(&set);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let nodes = env.nodes();
    kill(run.pid(), "HUP");
    env.eventually("it was read", || {
        says(&env, "run.log", "the manifests were read again")
    });
    let file = env.set().join("broken.toml");
    fs::write(&file, "visor = 1\n[hook.x]\nrn = [\"/bin/true\"]\n").unwrap();
    kill(run.pid(), "HUP");
    env.eventually("it is refused with its place", || {
        says(&env, "run.log", "broken.toml:3:1 V0101")
    });
    // It is also seen without a signal, and said once; whoever asks is told again.
    thread::sleep(Duration::from_secs(3));
    let told = || {
        let log = fs::read_to_string(env.path("run.log")).unwrap();
        log.matches("broken.toml:3:1 V0101").count()
    };
    let before = told();
    kill(run.pid(), "HUP");
    env.eventually("it is said again", || told() == before + 1);
    assert_eq!(env.nodes(), nodes);
    assert_eq!(run.term(), Some(0));
}

#[test]
fn what_the_keeper_goes_by_changes_with_the_manifests() {
    let env = Env::with(&far("restart = { delay = \"200ms\" }"));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let set = env.set().join("visor.toml");
    let text = fs::read_to_string(&set).unwrap();
    env.write(
        "visor.toml",
        &text.replace("delay = \"200ms\"", "on = \"never\""),
    );
    // Without a signal, within some seconds.
    thread::sleep(Duration::from_secs(4));
    kill(env.nodes()[0], "KILL");
    env.eventually("it is left", || {
        let status = env.visor(&["status"]).stdout;
        status.contains("`restart.on` is \"never\"")
    });
    assert_eq!(env.nodes(), Vec::<i32>::new());
    assert_eq!(run.term(), Some(0));
}

#[test]
fn the_first_process_of_a_container_reaps_forwards_and_takes_the_node_along() {
    let env = Env::with(&far(""));
    let mut inner = Command::new("unshare");
    inner.args(["--fork", "--pid", "--mount-proc", "--kill-child"]);
    let visor = env.command(&["run"]);
    inner.arg(visor.get_program()).args(visor.get_args());
    inner.envs(visor.get_envs().filter_map(|(k, v)| Some((k, v?))));
    if let Some(dir) = visor.get_current_dir() {
        inner.current_dir(dir);
    }
    let probe = Command::new("unshare")
        .args(["--fork", "--pid", "--mount-proc", "true"])
        .output();
    if !probe.is_ok_and(|o| o.status.success()) {
        println!("skipped: this machine allows no pid namespace");
        return;
    }
    let log = fs::File::create(env.path("run.log")).unwrap();
    let mut child = inner.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    env.eventually("the node answers", || env.height().is_some());
    // The one below unshare is the first process of the namespace, and the one below that works.
    let below = |pid: u32| -> Vec<i32> {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace()
            .filter_map(|w| w.parse().ok())
            .collect()
    };
    let first = below(child.id())[0];
    let worker = below(first.unsigned_abs())[0];
    kill(first, "USR1");
    env.eventually("leaving is refused", || {
        says(&env, "run.log", "USR1 is refused")
    });
    // A worker that is killed comes again, and the node stays.
    let nodes = env.nodes();
    kill(worker, "KILL");
    env.eventually("it is there again", || {
        below(first.unsigned_abs())
            .iter()
            .any(|p| *p != worker && !nodes.contains(p))
            && fs::read_to_string(env.path("run.log"))
                .unwrap()
                .matches("visor: run of node")
                .count()
                == 2
    });
    assert_eq!(env.nodes(), nodes);
    kill(first, "TERM");
    assert!(child.wait().unwrap().success(), "{}", env.logs());
    assert_eq!(env.nodes(), Vec::<i32>::new());
    env.check_signed();
}

#[test]
fn restart_by_hand_with_and_without_a_visor() {
    let env = Env::with(&far("restart = { delay = \"60s\" }"));
    env.visor(&["restart"]).expect(64);
    env.visor(&["reconcile"]).expect(0);
    let first = env.nodes();
    env.visor(&["restart", "--reason", "new flags"]).expect(0);
    let second = env.nodes();
    assert!(second.len() == 1 && second != first);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("it is taken over", || {
        says(&env, "run.log", "the node runs")
    });
    let out = env.visor(&["restart"]).expect(0);
    assert!(out.stderr.contains("started"), "{}", out.stderr);
    let third = env.nodes();
    assert!(third.len() == 1 && third != second, "{}", env.logs());
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}

#[test]
fn the_wait_for_an_exit_is_shown() {
    let set = Set {
        args_extra: stops_in("4000"),
        stop: "{ grace = \"2m\" }",
        ..far("")
    };
    let env = Env::with(&set);
    env.visor(&["reconcile"]).expect(0);
    let out = env.visor(&["stop"]).expect(0);
    assert!(
        out.stderr
            .contains("waiting for the node's exit, 3 s of 2m 0s; its last line: "),
        "{}",
        out.stderr
    );
}

fn lines(from: usize, to: usize) -> String {
    (from..to).fold(String::new(), |mut text, i| {
        writeln!(text, "line {i:08}").unwrap();
        text
    })
}

fn all(layout: &Layout, since: u64) -> String {
    let mut text = String::new();
    for mut part in read_all(layout, since).unwrap().parts {
        part.read_to_string(&mut text).unwrap();
    }
    text
}

#[test]
fn a_piece_that_is_cut_while_the_log_is_read_is_read_on_in_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    fs::create_dir(dir.path().join("logs")).unwrap();
    fs::write(layout.log(), lines(0, 20_000)).unwrap();
    let policy = LogPolicy {
        size: 100_000,
        age_ms: None,
        keep: 1_000,
    };
    let mut parts = read_all(&layout, 0).unwrap().parts;
    let mut text = vec![0; 5_003];
    parts[0].read_exact(&mut text).unwrap();
    let cut = rotate(&layout, &policy, 10, &|| false).unwrap();
    assert!(matches!(cut, Rotated::Cut(_)), "{cut:?}");
    for mut part in parts {
        part.read_to_end(&mut text).unwrap();
    }
    assert!(String::from_utf8(text).unwrap() == lines(0, 20_000));
    // What has NULs of its own is shown as it is.
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(layout.log())
        .unwrap();
    log.write_all(b"a\0b\n").unwrap();
    assert!(all(&layout, 0) == lines(0, 20_000) + "a\0b\n");
}

#[test]
fn rotation_loses_no_line_of_a_node_that_writes_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    fs::create_dir(dir.path().join("logs")).unwrap();
    let mut log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(layout.log())
        .unwrap();
    let writer = thread::spawn(move || {
        for i in 0..200_000 {
            log.write_all(format!("line {i:08}\n").as_bytes()).unwrap();
        }
    });
    let policy = LogPolicy {
        size: 100_000,
        age_ms: None,
        keep: 1_000,
    };
    let mut now = 1_000;
    let mut cuts = 0;
    while !writer.is_finished() {
        now += 1;
        cuts += usize::from(matches!(
            rotate(&layout, &policy, now, &|| false),
            Ok(Rotated::Cut(_))
        ));
    }
    writer.join().unwrap();
    assert!(cuts > 3, "{cuts}");
    assert!(all(&layout, 0) == lines(0, 200_000));
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(layout.log()).unwrap());
    assert!(
        blocks * 512 < 2_800_000 - 100_000 * cuts as u64 + 10_000,
        "what was cut is free"
    );
    // By age, and only so many are kept. The last cut may have left nothing.
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(layout.log())
        .unwrap();
    log.write_all(b"one more\n").unwrap();
    let policy = LogPolicy {
        size: u64::MAX,
        age_ms: Some(10),
        keep: 2,
    };
    assert!(matches!(
        rotate(&layout, &policy, now + 100, &|| false),
        Ok(Rotated::Cut(_))
    ));
    assert_eq!(pieces(&layout).len(), 2);
}

#[test]
fn a_log_that_was_taken_away_or_emptied_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    fs::create_dir(dir.path().join("logs")).unwrap();
    let policy = LogPolicy {
        size: 10_000,
        age_ms: None,
        keep: 100,
    };
    fs::write(layout.log(), lines(0, 1_000)).unwrap();
    assert!(matches!(
        rotate(&layout, &policy, 10, &|| false),
        Ok(Rotated::Cut(_))
    ));
    // Emptied and filled beyond the place that was cut.
    fs::write(layout.log(), lines(1_000, 4_000)).unwrap();
    assert!(all(&layout, 0) == lines(0, 4_000));
    assert!(matches!(
        rotate(&layout, &policy, 20, &|| false),
        Ok(Rotated::Cut(_))
    ));
    assert!(all(&layout, 0) == lines(0, 4_000));
    fs::remove_file(layout.log()).unwrap();
    fs::write(layout.log(), lines(4_000, 9_000)).unwrap();
    // A clock that went back.
    assert!(matches!(
        rotate(&layout, &policy, 5, &|| false),
        Ok(Rotated::Cut(_))
    ));
    assert!(all(&layout, 0) == lines(0, 9_000));
}

#[test]
fn marks_tell_where_a_time_begins() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    fs::create_dir(dir.path().join("logs")).unwrap();
    let append = |text: String| {
        let mut log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(layout.log())
            .unwrap();
        log.write_all(text.as_bytes()).unwrap();
    };
    for (at, from) in [(100, 0), (200, 1_000), (300, 2_000), (400, 3_000)] {
        append(lines(from, from + 1_000));
        mark(&layout, at).unwrap();
    }
    let policy = LogPolicy {
        size: 1,
        age_ms: None,
        keep: 100,
    };
    assert!(all(&layout, 250) == lines(2_000, 4_000));
    rotate(&layout, &policy, 450, &|| false).unwrap();
    append(lines(4_000, 5_000));
    assert!(all(&layout, 250) == lines(2_000, 5_000));
    assert!(all(&layout, 420) == lines(4_000, 5_000));
}

#[test]
fn a_death_at_any_point_of_a_rotation_costs_no_line() {
    for place in ["log:written", "log:renamed", "log:recorded", "log:punched"] {
        let env = Env::with(&far("logs = { size = \"10KB\" }"));
        env.visor(&["reconcile"]).expect(0);
        env.visor(&["stop"]).expect(0);
        let layout = Layout::new(&env.root());
        fs::write(layout.log(), lines(0, 5_000)).unwrap();
        let mut run = env.command(&["run"]);
        run.env("VISOR_KILL_AT", format!("{place}#1"));
        let out = Env::output(&mut run);
        assert_eq!(out.code, None, "{place}: {}", out.stderr);
        let shown = env.visor(&["logs", "-n", "all"]).expect(0).stdout;
        assert!(shown == lines(0, 5_000), "{place}: after the death");
        let run = env.spawn(&["run"], "run.log");
        env.eventually("the log is cut", || {
            pieces(&layout).len() == 1
                && fs::read_to_string(env.root().join("logs/rotation.json"))
                    .is_ok_and(|t| t.contains("\"punched\":true") && !t.contains("\"to\":0"))
        });
        let shown = env.visor(&["logs", "-n", "all"]).expect(0).stdout;
        assert!(shown == lines(0, 5_000), "{place}: after the next one");
        assert_eq!(run.term(), Some(0));
    }
}

#[test]
fn logs_shows_the_last_lines_and_follows() {
    let env = Env::with(&far(""));
    let layout = Layout::new(&env.root());
    fs::create_dir_all(env.root().join("logs")).unwrap();
    fs::write(layout.log(), lines(0, 1_000)).unwrap();
    rotate(
        &layout,
        &LogPolicy {
            size: 1,
            age_ms: None,
            keep: 5,
        },
        10,
        &|| false,
    )
    .unwrap();
    let append = |text: String| {
        let mut log = fs::OpenOptions::new()
            .append(true)
            .open(layout.log())
            .unwrap();
        log.write_all(text.as_bytes()).unwrap();
    };
    append(lines(1_000, 1_010));
    assert_eq!(
        env.visor(&["logs", "-n", "3"]).expect(0).stdout,
        lines(1_007, 1_010)
    );
    assert_eq!(
        env.visor(&["logs", "-n", "20"]).expect(0).stdout,
        lines(990, 1_010)
    );
    assert_eq!(env.visor(&["logs"]).expect(0).stdout, lines(910, 1_010));
    env.visor(&["logs", "-n", "many"]).expect(64);
    env.visor(&["logs", "--since", "yesterday"]).expect(64);
    let mut follow = env
        .command(&["logs", "-f", "-n", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = follow.stdout.take().unwrap();
    let mut seen = vec![0; 14];
    out.read_exact(&mut seen).unwrap();
    append(lines(1_010, 1_012));
    let mut more = vec![0; 28];
    out.read_exact(&mut more).unwrap();
    // Taken away: the new one is followed.
    fs::remove_file(layout.log()).unwrap();
    fs::write(layout.log(), lines(7, 8)).unwrap();
    let mut anew = vec![0; 14];
    out.read_exact(&mut anew).unwrap();
    let text = [seen, more, anew].concat();
    let want = lines(1_009, 1_012) + &lines(7, 8);
    assert_eq!(String::from_utf8(text).unwrap(), want);
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn who_follows_the_log_slowly_sees_what_was_cut_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    fs::create_dir(dir.path().join("logs")).unwrap();
    fs::write(layout.log(), "").unwrap();
    /// Takes the first bytes, and the rest once the log was cut.
    struct Slow<'a>(&'a Layout, Vec<u8>);
    impl io::Write for Slow<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            if self.1.is_empty() {
                let policy = LogPolicy {
                    size: 100_000,
                    age_ms: None,
                    keep: 1_000,
                };
                let cut = rotate(self.0, &policy, 10, &|| false).unwrap();
                assert!(matches!(cut, Rotated::Cut(_)), "{cut:?}");
            }
            self.1.extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut slow = Slow(&layout, vec![]);
    let looks = Cell::new(0);
    let query = LogQuery {
        since: 0,
        lines: Some(0),
        follow: true,
    };
    show_log(&layout, query, &mut slow, &|| {
        looks.set(looks.get() + 1);
        if looks.get() == 1 {
            let mut log = fs::OpenOptions::new().append(true).open(layout.log());
            let log = log.as_mut().unwrap();
            log.write_all(lines(0, 20_000).as_bytes()).unwrap();
        }
        looks.get() < 3
    })
    .unwrap();
    assert!(String::from_utf8(slow.1).unwrap() == lines(0, 20_000));
}

/// cosmos-sdk #12101: a second node is started before the first has released its data.
#[test]
fn a_node_that_somebody_else_started_is_named_and_never_fought() {
    let env = Env::with(&far(""));
    env.visor(&["reconcile"]).expect(0);
    env.visor(&["stop"]).expect(0);
    let data = env.data();
    let mut other = Command::new(env!("CARGO_BIN_EXE_visor"))
        .args([
            "devnode",
            "--block-ms",
            "50",
            "--port",
            &env.port.to_string(),
            "--data",
        ])
        .arg(&data)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    env.eventually("it answers", || env.height().is_some());
    let named = format!("pid {} (`", other.id());
    for args in [&["start"][..], &["plan", "diff"], &["reconcile"]] {
        let out = env.visor(args);
        let text = out.stdout + &out.stderr;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains(&named) && text.contains("LOCK"),
            "{args:?}: {text}"
        );
        assert_ne!(out.code, Some(0), "{args:?}");
    }
    let run = env.spawn(&["run"], "run.log");
    env.eventually("visor says who it is", || says(&env, "run.log", &named));
    thread::sleep(Duration::from_millis(500));
    assert!(other.try_wait().unwrap().is_none(), "it is left alone");
    let theirs = i32::try_from(other.id()).unwrap();
    assert_eq!(env.nodes(), [theirs]);
    other.kill().unwrap();
    other.wait().unwrap();
    env.eventually("the node is started", || env.nodes().len() == 1);
    assert_eq!(run.term(), Some(0));
}
