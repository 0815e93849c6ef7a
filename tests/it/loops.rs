//! The node outlives whatever kills its keepers, again and again: never a second process, no line of its log lost.
//!
//! With `VISOR_IT_FULL` 1,000 kills in steady state and 200 during upgrades; without it 50 and 20.

use crate::env::{Env, Running, Set, is_full, kill};
use crate::work::Random;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

fn chatty(upgrades: Vec<(&'static str, &'static str, &'static str, String)>) -> Set {
    Set {
        upgrades,
        args_extra: vec!["--say-blocks".into()],
        node_extra: "logs = { size = \"4KB\", keep = 10000 }".into(),
        ..Set::default()
    }
}

/// `visor run` that leads a group of its own, as a terminal would have it.
fn run(env: &Env) -> Running {
    let mut command = env.command(&["run"]);
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(env.path("run.log"))
        .unwrap();
    command.process_group(0).stdout(Stdio::null()).stderr(log);
    Running(command.spawn().unwrap())
}

/// Every block of the node is a line of its log, in order, over all that was cut out of it.
fn check_log(env: &Env) -> u64 {
    let text = env.visor(&["logs", "-n", "all"]).expect(0).stdout;
    let heights = text.lines().filter_map(|l| l.strip_prefix("block "));
    let mut last = 0;
    for height in heights {
        let height: u64 = height.parse().unwrap();
        assert_eq!(height, last + 1, "a line of the log is lost or twice");
        last = height;
    }
    last
}

#[test]
fn killed_again_and_again_in_steady_state() {
    let env = Env::with(&chatty(vec![(
        "v2",
        "{ height = 100000000 }",
        "",
        String::new(),
    )]));
    env.visor(&["reconcile"]).expect(0);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let kills = if is_full() { 1_000 } else { 50 };
    let mut longest = Duration::ZERO;
    let mut node = env.nodes();
    for i in 0..kills {
        let ran = std::fs::read_to_string(env.path("run.log"))
            .unwrap_or_default()
            .len();
        let began = Instant::now();
        let run = run(&env);
        let has_adopted = || {
            let log = std::fs::read_to_string(env.path("run.log")).unwrap();
            log[ran..].contains("the node runs")
        };
        while !has_adopted() {
            assert!(began.elapsed() < Duration::from_secs(20), "{}", env.logs());
            thread::sleep(Duration::from_millis(1));
        }
        longest = longest.max(began.elapsed());
        assert_eq!(env.nodes(), node, "kill {i}: {}", env.logs());
        thread::sleep(Duration::from_millis(random.below(120)));
        // The shim alone, visor alone, both at once, or all that visor's group holds.
        let shims = env.shims();
        match i % 4 {
            0 => shims.into_iter().for_each(|shim| kill(shim, "KILL")),
            1 => {}
            2 => {
                kill(run.pid(), "KILL");
                shims.into_iter().for_each(|shim| kill(shim, "KILL"));
            }
            _ => {
                let group = rustix::process::Pid::from_raw(run.pid()).unwrap();
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
            }
        }
        run.kill();
        assert_eq!(env.nodes(), node, "kill {i}: {}", env.logs());
        if i % 10 == 9 {
            // A new start has a shim again.
            env.visor(&["restart"]).expect(0);
            assert_ne!(env.nodes(), node);
            node = env.nodes();
        }
    }
    env.visor(&["stop"]).expect(0);
    let blocks = check_log(&env);
    assert!(blocks > 100);
    env.check_signed();
    println!(
        "{kills} kills of visor, shim, both and the group (VISOR_IT_FULL=1: 1,000); {blocks} lines of log whole; the node is known again after {longest:?} at the most"
    );
}

#[test]
fn killed_at_random_times_of_upgrades() {
    const NAMES: [(&str, &str); 8] = [
        ("u1", "{ height = 40 }"),
        ("u2", "{ height = 90 }"),
        ("u3", "{ height = 140 }"),
        ("u4", "{ height = 190 }"),
        ("u5", "{ height = 240 }"),
        ("u6", "{ height = 290 }"),
        ("u7", "{ height = 340 }"),
        ("u8", "{ height = 390 }"),
    ];
    let wanted = if is_full() { 200 } else { 20 };
    let mut random = Random(0x1234_5678_9abc_def1);
    let (mut kills, mut sets) = (0, 0);
    while kills < wanted {
        sets += 1;
        let upgrades = NAMES.map(|(name, trigger)| (name, trigger, "", String::new()));
        let env = Env::with(&chatty(upgrades.to_vec()));
        env.visor(&["reconcile"]).expect(0);
        while env.current() != "upgrades/u8" {
            let run = run(&env);
            thread::sleep(Duration::from_millis(50 + random.below(900)));
            run.kill();
            kills += 1;
            assert!(env.nodes().len() <= 1, "two nodes: {}", env.logs());
            assert!(kills < wanted + 1_000, "it never ends: {}", env.logs());
        }
        env.visor(&["reconcile", "--wait"]).expect(0);
        assert_eq!(env.nodes().len(), 1);
        assert_eq!(env.stop_and_check().schema, "u8");
        check_log(&env);
        env.check_signed();
    }
    println!(
        "{kills} kills at random times of {} upgrades (VISOR_IT_FULL=1: 200)",
        sets * 8
    );
}
