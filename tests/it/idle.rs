//! What `visor run` costs beside a node that runs, and that it does not grow. Figures are printed; a build with optimisations is what they are
//! meant for (`cargo test --release`). With `VISOR_IT_FULL` ten minutes each, without it ten seconds.

use crate::anvil::anvil;
use crate::env::{Env, Running, Set, is_full};
use crate::geth::{geth, write_set};
use std::fs;
use std::time::{Duration, Instant};

/// What the kernel has counted of a process.
#[derive(Debug, Clone, Copy)]
struct Cost {
    rss_kib: u64,
    cpu: Duration,
    switches: u64,
}

fn cost(pid: i32) -> Cost {
    let read = |path: &str| fs::read_to_string(format!("/proc/{pid}/{path}")).unwrap();
    let field = |text: &str, name: &str| -> u64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let stat = read("stat");
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let switches = tasks.filter_map(|t| {
        let text = fs::read_to_string(t.path().join("status")).ok()?;
        Some(field(&text, "voluntary_ctxt_switches:"))
    });
    Cost {
        rss_kib: field(&read("status"), "VmRSS:"),
        cpu: Duration::from_millis(ticks * 10),
        switches: switches.sum(),
    }
}

fn idle(env: &Env, what: &str) {
    let full = is_full();
    let time = Duration::from_secs(if full { 600 } else { 10 });
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some_and(|h| h > 1));
    // The start is over.
    std::thread::sleep(Duration::from_secs(3));
    let (began, before) = (Instant::now(), cost(run.pid()));
    std::thread::sleep(time);
    let (took, after) = (began.elapsed().as_secs_f64(), cost(run.pid()));
    println!(
        "idle beside {what} for {took:.0} s (VISOR_IT_FULL=1: 600 s): RSS {} KiB, CPU {:.2} %, {:.1} wake-ups a second",
        after.rss_kib,
        (after.cpu - before.cpu).as_secs_f64() / took * 100.0,
        (after.switches - before.switches) as f64 / took,
    );
    peer(env, what);
    assert_eq!(run.term(), Some(0));
}

/// cosmovisor beside it, when there is one: the same figures for the same program.
fn peer(env: &Env, what: &str) {
    let Some(peer) = std::env::var_os("COSMOVISOR_BIN") else {
        return;
    };
    let home = env.path("peer");
    let bin = home.join("cosmovisor/genesis/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(home.join("data")).unwrap();
    std::os::unix::fs::symlink("/bin/sleep", bin.join("noded")).unwrap();
    let mut command = std::process::Command::new(peer);
    command.args(["run", "100000"]).env("DAEMON_HOME", &home);
    command
        .env("DAEMON_NAME", "noded")
        .env("UNSAFE_SKIP_BACKUP", "true");
    let run: Running = env.spawn_command(command, "peer.log");
    std::thread::sleep(Duration::from_secs(3));
    let (began, before) = (Instant::now(), cost(run.pid()));
    std::thread::sleep(Duration::from_secs(10));
    let (took, after) = (began.elapsed().as_secs_f64(), cost(run.pid()));
    println!(
        "cosmovisor beside `sleep`, in the place of {what}, for {took:.0} s: RSS {} KiB, CPU {:.2} %, {:.1} wake-ups a second",
        after.rss_kib,
        (after.cpu - before.cpu).as_secs_f64() / took * 100.0,
        (after.switches - before.switches) as f64 / took,
    );
    run.kill();
}

#[test]
fn idle_beside_geth_and_anvil() {
    if let Some(geth) = geth() {
        let env = Env::new();
        fs::create_dir_all(env.path("home")).unwrap();
        write_set(&env, &geth, false);
        idle(&env, "geth");
    }
    if let Some(program) = anvil() {
        let env = Env::new();
        crate::anvil::write_set(&env, &program, 1_000_000);
        idle(&env, "anvil");
    }
}

#[test]
fn a_million_lines_and_ten_thousand_heads_leave_no_trace_in_memory() {
    let env = Env::with(&Set {
        args_extra: vec!["--block-ms".into(), "1".into()],
        script: "seq -f 'line %.0f of the log, as long as such lines are' 1000000; exec NODE",
        node_extra: "logs = { size = \"4MiB\", keep = 3 }\n".into(),
        upgrades: vec![("v2", "{ height = 100000000 }", "", String::new())],
        ..Set::default()
    });
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node makes blocks", || {
        env.height().is_some_and(|h| h > 500)
    });
    let pieces = || visor::node::pieces(&visor::store::Layout::new(&env.root())).len();
    env.eventually("the log is cut", || pieces() == 3);
    let before = cost(run.pid());
    env.eventually("ten thousand heads", || {
        env.height().is_some_and(|h| h > 10_500)
    });
    let after = cost(run.pid());
    println!(
        "RSS {} KiB after a million lines, {} KiB after ten thousand heads more",
        before.rss_kib, after.rss_kib
    );
    assert!(
        after.rss_kib < before.rss_kib + 2_048,
        "{before:?} {after:?}"
    );
    assert_eq!(run.term(), Some(0));
}
