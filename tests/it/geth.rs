//! The node that most chains were made from: geth, kept, crashed, stopped and upgraded.
//!
//! `.ci/run` builds it with Go, or `VISOR_GETH` names it.

use crate::env::{Env, kill, node_of_others};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use visor::model::sha256_hex;

pub(crate) fn geth() -> Option<PathBuf> {
    node_of_others(
        "VISOR_GETH",
        "bin/geth",
        "GOBIN=$PWD/target/test-nodes/bin go install github.com/ethereum/go-ethereum/cmd/geth@v1.16.9",
    )
}

pub(crate) fn write_set(env: &Env, geth: &Path, upgrade: bool) {
    let digest = sha256_hex(&fs::read(geth).unwrap());
    let upgrade = if upgrade {
        "[upgrade.next]\ntrigger = { height = 6 }\nartifact = \"geth\"\nhealth = { within = \"60s\", blocks = 2 }\n"
    } else {
        ""
    };
    let text = format!(
        r#"visor = 1
[node.dev]
binary = "geth"
home = "{home}"
args = ["--dev", "--dev.period", "1", "--datadir", "${{node.data}}", "--http", "--http.port", "${{chain.port}}", "--ipcdisable", "--authrpc.port", "0", "--nodiscover"]
data = {{ path = "data", exclude = ["geth/LOCK"], keep = ["geth/nodekey", "keystore"] }}
chain = {{ kind = "evm", rpc = "http://127.0.0.1:{port}", max-head-age = "30s" }}
stop = {{ grace = "60s" }}
restart = {{ delay = "1s" }}
genesis = "geth"
[artifact.geth]
version = "1.16.9"
[[artifact.geth.file]]
platform = "linux/amd64"
urls = ["file://{geth}"]
sha256 = "{digest}"
{upgrade}"#,
        home = env.path("home").display(),
        port = env.port,
        geth = geth.display(),
    );
    env.write("set.toml", &text);
}

#[test]
fn geth_is_kept_crashed_stopped_and_upgraded() {
    let Some(geth) = geth() else { return };
    let env = Env::new();
    let home = env.path("home");
    fs::create_dir_all(&home).unwrap();
    write_set(&env, &geth, false);
    let run = env.spawn(&["run"], "run.log");
    let is_at = |height: u64| env.height().is_some_and(|h| h >= height);
    env.eventually("it makes blocks", || is_at(2));
    let processes = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let ours =
            all.filter(|e| fs::read_link(e.path().join("exe")).is_ok_and(|p| p.starts_with(&home)));
        ours.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
            .collect::<Vec<i32>>()
    };
    // Crashed.
    let before = processes();
    assert_eq!(before.len(), 1, "{}", env.logs());
    kill(before[0], "KILL");
    env.eventually("it is started again", || {
        processes().first().is_some_and(|p| *p != before[0]) && env.height().is_some()
    });
    // Stopped, gracefully: geth says so itself.
    let _ = env.visor(&["stop"]).expect(0);
    assert_eq!(processes(), Vec::<i32>::new());
    let log = env.visor(&["logs", "-n", "all"]).expect(0).stdout;
    assert!(log.contains("Unclean shutdown detected"), "{log}");
    assert!(log.contains("Blockchain stopped"), "{log}");
    let _ = env.visor(&["start"]).expect(0);
    env.eventually("it answers", || env.height().is_some());
    // Upgraded.
    write_set(&env, &geth, true);
    env.eventually("the upgrade", || env.state_of("next") == "current");
    assert_eq!(env.current(), "upgrades/next");
    assert!(is_at(8), "its chain goes on: {}", env.logs());
    assert_eq!(processes().len(), 1);
    let log = env.visor(&["logs", "-n", "all"]).expect(0).stdout;
    // It tells of each past crash at each start.
    let unclean = log
        .lines()
        .filter(|l| l.contains("Unclean shutdown detected"));
    let booted = |l: &str| l.split("booted=").nth(1).map(str::to_owned);
    let crashes: BTreeSet<_> = unclean
        .map(|l| booted(l).map(|b| b[..19].to_owned()))
        .collect();
    assert_eq!(
        crashes.len(),
        1,
        "only the crash was one: {crashes:?}\n{log}"
    );
    assert_eq!(run.term(), Some(0));
    assert_eq!(processes(), Vec::<i32>::new());
}

/// Pebble and its freezer, copied while geth writes to them, sealed at its exit, put back, and gone on with.
#[test]
fn data_of_geth_are_copied_while_it_runs_and_it_goes_on_after_a_restore() {
    let Some(geth) = geth() else { return };
    let env = Env::new();
    fs::create_dir_all(env.path("home")).unwrap();
    write_set(&env, &geth, true);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the upgrade", || env.state_of("next") == "current");
    env.eventually("blocks after it", || env.height().is_some_and(|h| h >= 12));
    let verified = || {
        let list = env.visor(&["backup", "list"]).stdout;
        list.contains("verified") && list.contains("pre-upgrade-next")
    };
    env.eventually("its copy is proved", verified);
    assert_eq!(run.term(), Some(0));
    let shown = env.visor(&["backup", "show", "latest", "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.expect(0).stdout).unwrap();
    let sealed_at = shown["contents"]["height"].as_u64().unwrap();
    let tree = PathBuf::from(shown["path"].as_str().unwrap()).join("tree");
    assert!(!tree.join("geth/LOCK").exists() && !tree.join("geth/nodekey").exists());
    let _ = env.visor(&["backup", "restore", "latest"]).expect(0);
    let run = env.spawn(&["run"], "again.log");
    env.eventually("it answers", || env.height().is_some());
    let first = env.height().unwrap();
    assert!(
        (sealed_at..sealed_at + 4).contains(&first),
        "sealed at {sealed_at}, it goes on at {first}"
    );
    env.eventually("and makes blocks", || {
        env.height().is_some_and(|h| h > first + 2)
    });
    let log = env.visor(&["logs", "-n", "all"]).expect(0).stdout;
    assert!(!log.contains("Unclean shutdown"), "{log}");
    assert_eq!(run.term(), Some(0));
}
