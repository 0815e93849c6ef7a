//! CometBFT's data: blocks, state and its write-ahead log, copied at rest and put back; the signer's state is nobody's to lower.
//!
//! `.ci/run` builds cometbft with Go, or `VISOR_COMETBFT` names it.

use crate::env::{Env, node_of_others};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use visor::model::sha256_hex;

fn cometbft() -> Option<PathBuf> {
    node_of_others(
        "VISOR_COMETBFT",
        "bin/cometbft",
        "GOBIN=$PWD/target/test-nodes/bin go install github.com/cometbft/cometbft/cmd/cometbft@v0.38.26",
    )
}

fn height(port: u16) -> Option<u64> {
    let url = format!("http://127.0.0.1:{port}/status");
    let mut answer = ureq::get(&url).call().ok()?;
    let text = answer.body_mut().read_to_string().ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    let height = &value["result"]["sync_info"]["latest_block_height"];
    height.as_str()?.parse().ok().filter(|h| *h > 0)
}

#[test]
fn data_of_cometbft_are_put_back_and_it_goes_on_from_the_same_block() {
    let Some(cometbft) = cometbft() else { return };
    let env = Env::new();
    let home = env.path("home");
    let made = Command::new(&cometbft)
        .args(["init", "--home"])
        .arg(&home)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let digest = sha256_hex(&fs::read(&cometbft).unwrap());
    env.write(
        "set.toml",
        &format!(
            r#"visor = 1
[node.comet]
binary = "cometbft"
home = "{home}"
args = ["start", "--home", "${{node.home}}", "--proxy_app=kvstore", "--rpc.laddr", "tcp://127.0.0.1:{port}", "--p2p.laddr", "tcp://127.0.0.1:0"]
data = {{ path = "data", profile = "cometbft" }}
stop = {{ grace = "30s" }}
genesis = "comet"
[artifact.comet]
[[artifact.comet.file]]
urls = ["file://{program}"]
sha256 = "{digest}"
"#,
            home = home.display(),
            port = env.port,
            program = cometbft.display(),
        ),
    );
    // There are data already: the signer's state. Which release has them a person says.
    let _ = env.visor(&["start", "--release", "genesis"]).expect(0);
    env.eventually("blocks", || height(env.port).is_some_and(|h| h >= 3));
    env.visor(&["stop"]).expect(0);
    let signer = env.data().join("priv_validator_state.json");
    let mark = fs::read_to_string(&signer).unwrap();
    let made = env.visor(&["backup", "create"]).expect(0);
    let generation = made.stdout.trim().to_owned();
    let tree = env
        .root()
        .join("backups/gen")
        .join(&generation)
        .join("tree");
    assert!(
        tree.join("blockstore.db").is_dir() && !tree.join("priv_validator_state.json").exists()
    );
    // All is lost but what must never be.
    for lost in ["blockstore.db", "state.db", "cs.wal", "tx_index.db"] {
        fs::remove_dir_all(env.data().join(lost)).unwrap();
    }
    env.visor(&["backup", "restore", &generation]).expect(0);
    assert_eq!(fs::read_to_string(&signer).unwrap(), mark);
    let before: serde_json::Value = serde_json::from_str(&mark).unwrap();
    let before: u64 = before["height"].as_str().unwrap().parse().unwrap();
    env.visor(&["start"]).expect(0);
    env.eventually("it goes on", || {
        height(env.port).is_some_and(|h| h > before + 1)
    });
    env.visor(&["stop"]).expect(0);
}
