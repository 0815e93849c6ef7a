//! A node that is not ours: anvil, upgraded at a height from one directory to another. Its chain goes on from its state.
//!
//! The ELF is in the npm package `@foundry-rs/anvil-linux-amd64`; `.ci/run` installs it, or `VISOR_ANVIL` names it.

use crate::env::{Env, node_of_others};
use std::fs;
use std::path::{Path, PathBuf};
use visor::model::sha256_hex;

pub(crate) fn anvil() -> Option<PathBuf> {
    node_of_others(
        "VISOR_ANVIL",
        "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil",
        "npm install --prefix target/test-nodes --ignore-scripts @foundry-rs/anvil-linux-amd64@1.7.1",
    )
}

/// A set with an upgrade at a height, from anvil to anvil.
pub(crate) fn write_set(env: &Env, anvil: &Path, height: u64) {
    let digest = sha256_hex(&fs::read(anvil).unwrap());
    let (home, port) = (env.path("home"), env.port);
    fs::create_dir_all(home.join("data")).unwrap();
    env.write(
        "set.toml",
        &format!(
            r#"visor = 1
[node.dev]
binary = "anvil"
home = "{}"
args = ["--host", "127.0.0.1", "--port", "${{chain.port}}", "--block-time", "1", "--state", "${{node.data}}/state.json", "--quiet"]
data = {{ path = "data" }}
chain = {{ kind = "evm", rpc = "http://127.0.0.1:{port}", max-head-age = "30s" }}
stop = {{ grace = "20s" }}
genesis = "anvil"
[artifact.anvil]
version = "1.7.1"
[[artifact.anvil.file]]
platform = "linux/amd64"
urls = ["file://{}"]
sha256 = "{digest}"
[upgrade.next]
trigger = {{ height = {height} }}
artifact = "anvil"
health = {{ within = "30s", blocks = 2 }}
"#,
            home.display(),
            anvil.display()
        ),
    );
}

#[test]
fn anvil_is_upgraded_at_a_height_and_its_chain_goes_on() {
    let Some(anvil) = anvil() else { return };
    let env = Env::new();
    let home = env.path("home");
    write_set(&env, &anvil, 4);
    let _ = env.visor(&["plan", "check"]).expect(0);
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the upgrade", || env.state_of("next") == "current");
    let log = fs::read_to_string(env.path("run.log")).unwrap();
    assert_eq!(env.current(), "upgrades/next");
    // The state file was written at TERM and loaded again: the chain did not begin anew.
    let head = env.height().unwrap();
    assert!(head >= 6, "the chain goes on: {head}\n{log}");
    let exe = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| fs::read_link(e.ok()?.path().join("exe")).ok());
    let ours: Vec<PathBuf> = exe.filter(|p| p.starts_with(&home)).collect();
    assert_eq!(
        ours,
        [home.join("visor/upgrades/next/bin/anvil")],
        "one node, from the new directory"
    );
    let generation = fs::read_dir(home.join("visor/backups/gen"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let state = fs::read_to_string(generation.join("tree/state.json")).unwrap();
    assert!(
        state.contains("best_block_number"),
        "the backup holds the state of the exit"
    );
    assert_eq!(run.term(), Some(0));
}
