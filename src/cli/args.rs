//! Arguments. The first line of each text is the short help, all of it the long one.

use super::init::NodeKind;
use super::schemas::SchemaOf;
use crate::devnode::Fault;
use crate::model::StartId;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Keep a blockchain node at the release its manifests ask for
///
/// Exit codes: 0 done or nothing to do · 1 findings · 2 changes or drift (diff, --dry-run) · 3 blocked, try again · 4 saved plan stale · 5 failed and rolled
/// back · 6 stuck, a person is needed · 7 interrupted, resumable · 64 usage · 70 an error of the machine or of visor.
#[derive(Debug, Parser)]
#[command(name = "visor", version, max_term_width = 100)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, clap::Args)]
pub(super) struct Global {
    /// The manifest set: a directory of TOML files [default: ./manifests, else .]
    #[arg(
        long,
        short,
        global = true,
        env = "VISOR_MANIFESTS",
        value_name = "DIR"
    )]
    pub(super) manifests: Option<PathBuf>,
    /// The node of the set; needed when it has several
    #[arg(long, global = true, env = "VISOR_NODE", value_name = "NAME")]
    pub(super) node: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Human,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ShowFormat {
    Tree,
    Json,
    /// Graphviz
    Dot,
    Mermaid,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a commented manifest set that passes the check, or a systemd unit
    ///
    /// It writes `visor.toml` and the schema for editors, or with --systemd `visor-NODE.service` for a node of a set that is there. It
    /// replaces nothing and installs nothing.
    Init {
        /// What the node is
        #[arg(value_enum, required_unless_present = "systemd")]
        kind: Option<NodeKind>,
        /// Where to [default: that of --manifests, or manifests; for a unit the current directory]
        dir: Option<PathBuf>,
        /// Write a unit for `visor run`
        #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = ".", conflicts_with_all = ["kind", "dir"])]
        systemd: Option<PathBuf>,
    },
    /// Check manifests, compare them with the machine, show what would be done
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Do all that can be done now, once
    ///
    /// Finishes what was cut off, starts the node, and applies the upgrade that is due; one that is not due is only listed. At
    /// a closed gate it stops, says what it
    /// waits for, and exits with 3.
    Reconcile(ReconcileOptions),
    /// Supervise the node and reconcile, until told to end
    ///
    /// TERM and INT stop the node gracefully, then visor. HUP reads the manifests at once and says what came of it. USR1 ends visor
    /// and leaves the node, for the next `visor run` to take over. A node that crashes is started again, as its `restart` says.
    ///
    /// As the first process of a container visor runs below a parent that reaps and hands signals on; there the node cannot outlive
    /// it, and USR1 is refused.
    Run,
    /// Start the node and end an override of `visor stop`
    Start {
        /// Say which release the data belong to: `genesis`, or an upgrade of the set. Only where there is no `current` yet
        #[arg(long, value_name = "NAME")]
        release: Option<String>,
    },
    /// Stop the node, and keep it stopped until `visor start`
    Stop {
        /// Why, for those who look at `visor status`
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
    /// Stop the node and start it again at once
    Restart {
        /// Why, for the record of overrides
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
    /// Show what the node wrote, across all that was cut out of its log
    Logs(LogsOptions),
    /// Let no upgrade begin until `visor release-hold`
    Hold {
        /// Why, for those who look at `visor status`
        #[arg(long, default_value = "no reason given")]
        reason: String,
        /// How long it lasts, such as "2h" [default: until it is released]
        #[arg(long, value_name = "DURATION")]
        r#for: Option<String>,
    },
    /// End a hold
    ReleaseHold,
    /// Show what is, what should be, what visor waits for and why, and what comes next
    ///
    /// The states of the first lines are explained by `visor explain STATE`, such as `visor explain stuck`. While `visor run` keeps the node
    /// it answers itself, whatever it does; otherwise its records are read.
    Status {
        /// Go on, and show it anew: in place on a terminal, elsewhere when something has changed; in JSON a document a line
        #[arg(short, long)]
        watch: bool,
        /// For people or for programs
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Approve, retry and list upgrades
    #[command(subcommand)]
    Upgrade(UpgradeCommand),
    /// Show past runs: when, what, how they ended, who started them
    #[command(args_conflicts_with_subcommands = true)]
    History {
        #[command(subcommand)]
        command: Option<HistoryCommand>,
        /// For people or for programs
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Follow, check and import batches of upgrades
    ///
    /// A batch is a list of upgrades in the order of their heights. Each becomes a run of its own; one that failed holds those
    /// behind it. A change of the list counts from the next look on: a run that has touched the node goes on, one that only prepares gives way.
    #[command(subcommand)]
    Batch(BatchCommand),
    /// Make, show, prove and put back copies of the data
    ///
    /// Each upgrade makes one by its policy; these commands are for those between. A copy is a generation below `backups/gen` of the root, on the data's own
    /// file system, so that a restore is an exchange of two names.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Say what is true of a stuck step
    Resolve {
        /// What happened
        #[arg(value_enum)]
        answer: ResolveAnswer,
        /// Why, for those who look at `visor status`
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
    /// Run the whole plan of a set against a stand-in node, and show the timeline
    Rehearse(RehearseOptions),
    /// Say what the code of a finding means, with examples, or what a state of `visor status` means
    Explain {
        /// Such as V0101 or stuck; without one, all codes are listed
        code: Option<String>,
    },
    /// Print the JSON Schema of manifests, or of what visor prints for programs
    Schema {
        /// Of what
        #[arg(value_enum, default_value = "manifest")]
        of: SchemaOf,
    },
    /// Run a small real node for rehearsals and tests
    Devnode(DevnodeOptions),
    #[command(hide = true)]
    Shim {
        #[arg(long)]
        root: PathBuf,
        #[arg(long)]
        start: StartId,
        #[arg(long)]
        second_stage: bool,
    },
    #[command(hide = true)]
    HookExec {
        #[arg(long)]
        record: PathBuf,
        #[arg(long)]
        number: u32,
        #[arg(last = true)]
        argv: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PlanCommand {
    /// Find every mistake of a set, offline
    ///
    /// All mistakes of all files at once, each with its place and what to do. Exit code 1 when there is an error; warnings alone
    /// end with 0, unless they are denied. `visor explain CODE` says what a code means.
    Check(CheckOptions),
    /// Compare what is wanted with what is: drift, changes, scheduled, blocked
    Diff {
        /// For people or for programs
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
        /// Save what would be done, and the facts that it rests on, for `visor reconcile --plan`
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show the step graphs of the set's upgrades
    Show {
        /// Only this upgrade
        upgrade: Option<String>,
        /// For people or for programs
        #[arg(long, value_enum, default_value = "tree")]
        format: ShowFormat,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckOptions {
    /// Sets; of a file, the set of its directory [default: the one of --manifests]
    pub(super) paths: Vec<PathBuf>,
    /// For people, for programs, for code scanning, or as GitHub's workflow commands
    #[arg(long, value_enum, default_value = "human")]
    pub(super) format: CheckFormat,
    /// Treat a warning as an error: its code, or `warnings` for all
    #[arg(long, value_name = "CODE")]
    pub(super) deny: Vec<String>,
    /// Leave a warning out, by its code
    #[arg(long, value_name = "CODE")]
    pub(super) allow: Vec<String>,
    /// Make the edits that are certainly right, then check again
    #[arg(long)]
    pub(super) fix: bool,
    /// Show so many findings to people, errors first; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(super) most: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CheckFormat {
    Human,
    Json,
    Sarif,
    Github,
}

#[derive(Debug, Subcommand)]
pub(super) enum UpgradeCommand {
    /// Fire an upgrade with `trigger = { manual = true }`
    Approve { name: String },
    /// Try a failed upgrade again
    Retry { name: String },
    /// List the node's upgrades and their states
    List {
        /// For people or for programs
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum HistoryCommand {
    /// Show one run with its timeline
    Show {
        /// Its id, the end of it, or `last`
        run: String,
        /// For people or for programs
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum BackupCommand {
    /// List generations, and what other tools left
    List {
        /// For people or for programs
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Show one: what is in it, when and of what it was made, whether it is proved
    Show {
        /// A generation, or `latest`
        id: String,
        /// For people or for programs
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Copy the data now, and read the copy
    ///
    /// While the node runs, files are of different moments, and the generation says so. After `visor stop` they are of one.
    Create {
        /// What it is called, for people [default: manual]
        #[arg(long)]
        label: Option<String>,
        /// The backup policy of the set that it goes by: method, rate, reserve
        #[arg(long, value_name = "NAME")]
        policy: Option<String>,
    },
    /// Read all of a generation: against its digests, and against the data where they are unchanged
    Verify {
        /// A generation, or `latest`
        id: String,
    },
    /// Put a generation in the place of the data, which are kept in `failed/`
    ///
    /// The node must be down, and no other visor at work. One that is not verified is read first, as fast as the disk can; `visor backup verify` before the stop
    /// spares that. The generation is used up. What `keep` names is carried over from the data as they are. A restore that was cut off goes on when it is asked
    /// for again.
    Restore {
        /// A generation, or `latest`: the newest that is not bad and was sealed after an exit
        id: String,
        /// Read it though it is verified
        #[arg(long)]
        verify: bool,
        /// Take one that was made of a running node
        #[arg(long)]
        running: bool,
    },
    /// Remove what a policy no longer keeps, and data set aside that are older than it keeps
    Prune {
        /// The backup policy of the set [default: the last 3, and those of 7 days]
        #[arg(long, value_name = "NAME")]
        policy: Option<String>,
        /// Only show what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove one generation, also one that the policy keeps; not one that is pinned
    Remove {
        /// A generation
        id: String,
    },
    /// Keep a generation, whatever the policy says
    Pin {
        /// A generation, or `latest`
        id: String,
    },
    /// Let go of a pinned generation
    Unpin {
        /// A generation, or `latest`
        id: String,
    },
    /// Write a generation into a file: .tar.zst, .tar.gz or .tar, by its name
    Export {
        /// A generation, or `latest`
        id: String,
        file: PathBuf,
        /// How hard is compressed [default: 3]
        #[arg(long)]
        level: Option<i32>,
        /// A public key that it is encrypted to with `age`, for a file whose name ends with .age; as often as there are some
        #[arg(long, value_name = "KEY")]
        recipient: Vec<String>,
    },
    /// Make a generation of such a file, or of one that another tool wrote
    ///
    /// What `exclude` names is left out, and what `keep` names is never taken from an archive.
    Import {
        file: PathBuf,
        /// What it is called, for people [default: imported]
        #[arg(long)]
        label: Option<String>,
        /// A file with a secret key of age, for a file whose name ends with .age; as often as there are some
        #[arg(long, value_name = "FILE")]
        identity: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum BatchCommand {
    /// List the node's batches
    List {
        /// For people or for programs
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Show what the manifests say of a batch
    Show {
        name: String,
        /// For people or for programs
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Show how far a batch is, when its members are due, and what each still needs
    Status {
        name: String,
        /// For people or for programs
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Check the set, and say which batches are valid
    Validate {
        /// Only this batch
        name: Option<String>,
    },
    /// Write a peer's batch plan (JSON) as manifests into the set
    Import { file: PathBuf },
}

#[derive(Debug, clap::Args)]
pub(super) struct ReconcileOptions {
    /// Wait at closed gates until everything is done, or for this long, such as "10m"
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "forever")]
    pub(super) wait: Option<String>,
    /// Do what a saved plan says and nothing else; refuse it (exit 4) when a fact that it rests on has moved
    #[arg(long, value_name = "FILE", conflicts_with_all = ["wait", "dry_run", "abort"])]
    pub(super) plan: Option<PathBuf>,
    /// Show which steps would run and what their gates say; change nothing
    #[arg(long, conflicts_with_all = ["wait", "abort"])]
    pub(super) dry_run: bool,
    /// Cancel the open run, or roll it back once the node was touched
    #[arg(long, conflicts_with = "wait")]
    pub(super) abort: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RehearseOptions {
    /// The set [default: the one of --manifests]
    pub(super) set: Option<PathBuf>,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "human")]
    pub(super) format: Format,
    /// Let the new releases be bad in this way, to see the roll-back
    #[arg(long, value_enum, value_name = "FAULT")]
    pub(super) bad: Option<Fault>,
    /// Leave the temporary directory in place
    #[arg(long)]
    pub(super) keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ResolveAnswer {
    /// The stuck step has happened: go on after it
    Done,
    /// It has not happened: do it again
    NotDone,
    /// Leave the machine as it is and close the run
    GiveUp,
    /// Undo the run: back to the old release
    RollBack,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct DevnodeOptions {
    #[command(subcommand)]
    pub(super) command: Option<DevnodeCommand>,
    /// The data directory
    #[arg(long, default_value = "data")]
    pub(super) data: PathBuf,
    /// The RPC's port on 127.0.0.1 [default: no RPC]
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// Name of the release, written into every block
    #[arg(long, default_value = "dev")]
    pub(super) release: String,
    /// Time between blocks
    #[arg(long, default_value_t = 100)]
    pub(super) block_ms: u64,
    /// Time from the start to the first block and answer
    #[arg(long, default_value_t = 50)]
    pub(super) start_ms: u64,
    /// Time from TERM to the end
    #[arg(long, default_value_t = 50)]
    pub(super) stop_ms: u64,
    /// A way in which this release is bad
    #[arg(long, value_enum)]
    pub(super) fault: Option<Fault>,
    /// Bytes of data laid down at the first start
    #[arg(long, default_value_t = 0)]
    pub(super) fill: u64,
    /// File to which each signed height is appended
    #[arg(long)]
    pub(super) signed_log: Option<PathBuf>,
    /// File that names the RPC's fault of the moment
    #[arg(long)]
    pub(super) faults: Option<PathBuf>,
    /// Print a line for each block
    #[arg(long)]
    pub(super) say_blocks: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum DevnodeCommand {
    /// Say whether a data directory is whole
    Check { dir: PathBuf },
}

#[derive(Debug, clap::Args)]
pub(super) struct LogsOptions {
    /// Go on with what comes
    #[arg(short, long)]
    pub(super) follow: bool,
    /// From this time on: how long ago, such as "10m", or RFC 3339. To the minute, as long as `visor run` was there
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// So many lines, the last ones; "all" for all of them. With --since all, unless it is said
    #[arg(short = 'n', long, value_name = "LINES", default_value = LogsOptions::LINES)]
    pub(super) lines: String,
}

impl LogsOptions {
    pub(super) const LINES: &'static str = "100";
}
