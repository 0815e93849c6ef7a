//! `[node.<name>]`: one supervised process.

use super::Process;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// One long-running process with a home, a data directory and a release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Node {
    /// Name of the executable in `current/bin/`.
    #[schemars(example = &"gethd")]
    pub binary: String,
    /// Absolute path of the node's home; it is also the working directory.
    #[schemars(example = &"/var/lib/geth")]
    pub home: String,
    /// Absolute path of visor's root for this node. Default: the one of `<home>/visor`, `<home>/cosmovisor` and
    /// `<home>/wemixvisor` that is there, else `<home>/visor`.
    #[schemars(example = &"/var/lib/geth/visor")]
    pub root: Option<String>,
    /// Arguments of the process. `${node.home}`, `${node.data}`, `${node.name}`, `${node.root}`, `${chain.host}` and
    /// `${chain.port}` are replaced. Default: none.
    #[serde(default)]
    #[schemars(example = ["--datadir", "${node.data}"])]
    pub args: Vec<String>,
    /// Environment of the process, beside `PATH HOME LANG TZ` and `VISOR_EXE`. Never for secrets. Default: none.
    #[serde(default)]
    #[schemars(example = BTreeMap::from([("GOGC", "50")]))]
    pub env: BTreeMap<String, String>,
    /// The data directory.
    #[schemars(example = json!({ "path": "data" }))]
    pub data: Data,
    /// The chain the node follows. Default: `{ kind = "none" }`.
    #[serde(default)]
    #[schemars(example = json!({ "kind": "evm", "rpc": "http://127.0.0.1:8545" }))]
    pub chain: Chain,
    /// How the process is stopped. Default: TERM, and 5 minutes to end.
    #[serde(default)]
    #[schemars(example = json!({ "grace": "5m" }))]
    pub stop: Stop,
    /// What `visor run` does when the node has ended by itself. Default: after a failure it is started again, after 5 seconds at first, at most
    /// 5 times within 10 minutes.
    #[serde(default)]
    #[schemars(example = json!({ "delay": "5s" }))]
    pub restart: Restart,
    /// What its process is given before it becomes the node. Default: nothing but what visor has itself.
    #[serde(default)]
    #[schemars(example = json!({ "user": "geth", "limits": { "nofile": "65536" } }))]
    pub process: Process,
    /// When `visor run` cuts pieces out of the node's log, and how many it keeps. Default: 64 MiB each, 10 of them.
    #[serde(default)]
    #[schemars(example = json!({ "size": "64MiB", "keep": 10 }))]
    pub logs: Logs,
    /// Who may speak to `visor run` beside root and its own user. Default: nobody.
    #[serde(default)]
    #[schemars(example = json!({ "group": "validators" }))]
    pub control: Control,
    /// Labels that upgrades select by. Default: none.
    #[serde(default)]
    #[schemars(example = BTreeMap::from([("network", "mainnet")]))]
    pub labels: BTreeMap<String, String>,
    /// The artifact that a node without data starts from. Without it the first release is given by hand:
    /// `visor start --release`. Default: none.
    #[schemars(example = &"gethd-v1")]
    pub genesis: Option<String>,
    /// The program of this node may run as it is in `visor rehearse`; otherwise devnode takes its place. Default: false.
    #[serde(default)]
    #[schemars(example = true)]
    pub rehearse: bool,
}

/// The node's data directory, and what of it is special.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Data {
    /// The directory: below `home`, or absolute.
    #[schemars(example = &"data")]
    pub path: String,
    /// Globs below the directory of what is disposable: not copied, gone after a restore. Default: none.
    #[serde(default)]
    #[schemars(example = ["*.ipc", "**/LOCK"])]
    pub exclude: Vec<String>,
    /// Globs below the directory of what is never rolled back, such as keys and signer state: carried over from the live
    /// directory. What a path without wildcards names, and all below it, must still be there at a restore; what a glob
    /// names may come and go. Default: none.
    #[serde(default)]
    #[schemars(example = ["geth/nodekey"])]
    pub keep: Vec<String>,
    /// What is known of the data of such a node; it adds to the lists here. Default: `"geth"` where `chain.kind` is `"evm"`, else `"generic"`.
    #[schemars(example = &"geth")]
    pub profile: Option<Profile>,
    /// Globs below the directory of files that are written once and then only read and removed: they may be linked instead of copied, and are known by name and
    /// inode. Default: none.
    #[serde(default)]
    #[schemars(example = ["**/*.ldb"])]
    pub immutable: Vec<String>,
    /// Globs below the directory of files that grow at their end: only what is new is copied. Default: none.
    #[serde(default)]
    #[schemars(example = ["**/*.log"])]
    pub append: Vec<String>,
}

/// What is known of the data of a kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// `"generic"`: nothing.
    Generic,
    /// `"geth"`: locks and sockets are left out, keys are kept, tables are immutable, logs and the freezer grow.
    Geth,
    /// `"wbft"`: as of geth.
    Wbft,
    /// `"cometbft"`: locks are left out, keys and the signer's state are kept, tables are immutable, logs grow.
    Cometbft,
}

/// How visor asks the node about its chain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Chain {
    /// The chain's family.
    #[schemars(example = &"evm")]
    pub kind: ChainKind,
    /// The node's HTTP RPC; required unless the kind is `none`. Default: none.
    #[schemars(example = &"http://127.0.0.1:8545")]
    pub rpc: Option<String>,
    /// A head older than this closes the chain's gate. A duration. Default: `"2m"`.
    #[schemars(example = &"2m")]
    pub max_head_age: Option<String>,
}

/// A chain's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChainKind {
    /// `"none"`: no chain is asked, there are no heights.
    #[default]
    None,
    /// `"evm"`: Ethereum's JSON-RPC.
    Evm,
}

/// The stop sequence: TERM, wait `grace`; then, only with `kill`, QUIT, wait `dump`, KILL.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stop {
    /// How long the process may take to end after TERM. A duration. Default: `"5m"`.
    #[schemars(example = &"5m")]
    pub grace: Option<String>,
    /// How long the process may write a dump after QUIT. A duration. Default: `"5s"`.
    #[schemars(example = &"5s")]
    pub dump: Option<String>,
    /// Whether QUIT and KILL follow when the grace is over. Otherwise the run is stuck and the node untouched. Default: false.
    #[serde(default)]
    #[schemars(example = false)]
    pub kill: bool,
}

/// The node's log, `logs/node.log` in visor's root. The node writes it itself; what is cut out of it is compressed beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Logs {
    /// So much is cut out at once. A size. Default: `"64MiB"`.
    #[schemars(example = &"64MiB")]
    pub size: Option<String>,
    /// What is older is cut out, however small. A duration. Default: none.
    #[schemars(example = &"1d")]
    pub age: Option<String>,
    /// Pieces that are kept; the oldest goes first. Default: 10.
    #[schemars(range(min = 1, max = 10000), example = 10)]
    pub keep: Option<u32>,
}

/// The control socket of `visor run`, which `visor status`, `stop`, `restart`, `hold`, `logs` and their like use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Control {
    /// A group of this machine whose members may ask and command. Default: none.
    #[schemars(example = &"validators")]
    pub group: Option<String>,
}

/// What `visor run` does when the node has ended by itself. The end of a release that is not yet confirmed is its upgrade's matter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Restart {
    /// After which ends the node is started again. Default: `"failure"`.
    #[serde(default)]
    #[schemars(example = &"always")]
    pub on: RestartOn,
    /// The pause before the first start; each further end within `within` doubles it. A duration. Default: `"5s"`.
    #[schemars(example = &"5s")]
    pub delay: Option<String>,
    /// The longest pause. A duration. Default: `"5m"`.
    #[schemars(example = &"5m")]
    pub backoff: Option<String>,
    /// After so many ends within `within` the node is left as it is, until `visor start`. Default: 5.
    #[schemars(range(min = 1, max = 1000), example = 5)]
    pub max: Option<u32>,
    /// The time over which ends are counted. A duration. Default: `"10m"`.
    #[schemars(example = &"10m")]
    pub within: Option<String>,
    /// Exit statuses after which the node is left at once, until `visor start`. Default: none.
    #[serde(default)]
    #[schemars(inner(range(min = 0, max = 255)), example = [2])]
    pub no_restart_on_exit: Vec<i32>,
}

/// After which ends a node is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartOn {
    /// `"failure"`: any but exit status 0, which is a node's own wish: geth ends so when its disk is nearly full.
    #[default]
    Failure,
    /// `"always"`: any.
    Always,
    /// `"never"`: none.
    Never,
}
