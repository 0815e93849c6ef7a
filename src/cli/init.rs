//! `visor init`: a commented set that passes the check. It installs nothing.

use super::error::{CliError, Exit};
use super::out;
use clap::ValueEnum;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// What the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NodeKind {
    /// An Ethereum node such as geth: heights come from its JSON-RPC
    Evm,
    /// Any daemon with a data directory: upgrades begin when they are approved
    Generic,
}

const HEAD: &str = "#:schema ./manifest.v1.json
# What this node should be. `visor plan check` checks it, `visor plan diff` says what would be done.
visor = 1
";

const EVM: &str = r#"
[node.node-1]
binary = "geth"                       # the file in <root>/current/bin/
home = "/var/lib/geth"                # releases, state, backups and logs go to /var/lib/geth/visor
args = ["--datadir", "${node.data}", "--http", "--http.port", "${chain.port}"]
# `exclude` is disposable. `keep` is never rolled back: keys, and what must not be lost.
data = { path = "data", exclude = ["*.ipc", "**/LOCK"], keep = ["geth/nodekey", "keystore/**"] }
chain = { kind = "evm", rpc = "http://127.0.0.1:8545" }
stop = { grace = "5m" }               # TERM, then wait this long; KILL only with kill = true
labels = { network = "mainnet" }
"#;

const GENERIC: &str = r#"
[node.node-1]
binary = "noded"                      # the file in <root>/current/bin/
home = "/var/lib/noded"               # releases, state, backups and logs go to /var/lib/noded/visor
args = ["--data", "${node.data}"]
# `exclude` is disposable. `keep` is never rolled back: keys, and what must not be lost.
data = { path = "data", exclude = ["**/LOCK"] }
stop = { grace = "1m" }               # TERM, then wait this long; KILL only with kill = true
"#;

const REST: &str = r#"
# The first release, for a node without data. A node that has data says its release once: `visor start --release genesis`.
# genesis = "BINARY-v1"               # goes into [node.node-1]

# A release: where its file is, and what it must be. `sha256sum FILE` prints the digest.
# [artifact.BINARY-v2]
# version = "v2.0.0"
# [[artifact.BINARY-v2.file]]
# platform = "linux/amd64"
# urls = ["https://releases.example/BINARY-v2"]   # or a path in this directory
# sha256 = "64 hex digits"

# Be at that release from then on.
# [upgrade."v2.0.0"]
# trigger = TRIGGER
# artifact = "BINARY-v2"
# backup = "pre-upgrade"
# hooks = { pre-stop = ["check-disk"] }
# health = { within = "3m" }
# on-failure = "roll-back"            # or "hold": a person decides

# [hook.check-disk]
# run = ["hooks/check-disk.sh"]       # a file of this directory, mode 755
# timeout = "60s"

# [backup.pre-upgrade]
# keep = { last = 3 }
"#;

/// Writes `visor.toml` and the schema into a directory; nothing is replaced.
pub(super) fn init(dir: &Path, kind: NodeKind) -> Result<Exit, CliError> {
    let (node, binary, trigger) = match kind {
        NodeKind::Evm => (
            EVM,
            "geth",
            "{ height = 1_000_000 }        # or { manual = true }, fired by `visor upgrade approve v2.0.0`",
        ),
        NodeKind::Generic => (
            GENERIC,
            "noded",
            "{ manual = true }             # fired by `visor upgrade approve v2.0.0`",
        ),
    };
    let rest = REST.replace("BINARY", binary).replace("TRIGGER", trigger);
    let failed =
        |what: &Path, e: std::io::Error| CliError::Machine(format!("{}: {e}", what.display()));
    fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    let manifest = dir.join("visor.toml");
    let schema = dir.join("manifest.v1.json");
    if let Some(there) = [&manifest, &schema].into_iter().find(|p| p.exists()) {
        return Err(CliError::usage(
            format!("{} is there already", there.display()),
            "Name another directory; `visor init` replaces nothing.",
        ));
    }
    for (path, text) in [
        (&manifest, format!("{HEAD}{node}{rest}")),
        (&schema, crate::manifest::schema_text()),
    ] {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|e| failed(path, e))?;
        file.write_all(text.as_bytes())
            .map_err(|e| failed(path, e))?;
    }
    out::line(&format!(
        "visor: wrote {} and its schema\n  Edit it, then run `visor plan check --manifests {}`.",
        manifest.display(),
        dir.display()
    ));
    Ok(Exit::Done)
}
