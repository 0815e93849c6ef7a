//! Nodes: paths, globs, durations, the chain.

use super::desired::DesiredNode;
use super::facts::{NodeFacts, Reference};
use super::local::Local;
use super::profile;
use super::vars::{NODE_VARS, split_rpc};
use crate::diag::{Code, Finding};
use crate::manifest::{self, ChainKind, Node, Object, ObjectKind, Profile, escape};
use crate::model::{
    ChainSpec, DataSpec, Launch, LogPolicy, NodeSpec, RestartOn, RestartPolicy, StopPolicy,
};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

impl Local<'_> {
    pub(super) fn nodes(&mut self) {
        let loaded = self.file;
        for object in &loaded.nodes {
            let said_before = self.facts.findings.len();
            let node = &object.value;
            let at = |below: &str| loaded.at(object, below);
            let mut error = |code, below: &str, message: String, help: Cow<'static, str>| {
                self.push(Finding::error(code, at(below), message, help));
            };
            if node.binary.is_empty() || node.binary.contains('/') || node.binary.starts_with('.') {
                error(
                    Code::BadPath,
                    "/binary",
                    format!(
                        "`binary` is the name of an executable, not a path; this is \"{}\"",
                        node.binary
                    ),
                    "Write only the file's name; visor looks in `current/bin/`.".into(),
                );
            }
            let home = PathBuf::from(&node.home);
            let mut good = true;
            for (key, path) in [("home", Some(&node.home)), ("root", node.root.as_ref())] {
                let Some(path) = path else { continue };
                if let Some(message) = too_long(key, path) {
                    let help = "Write the path of a directory that is there, or can be.";
                    error(Code::BadPath, &format!("/{key}"), message, help.into());
                    good = false;
                } else if !is_plain_absolute(Path::new(path)) {
                    error(
                        Code::BadPath,
                        &format!("/{key}"),
                        format!("`{key}` wants an absolute path without `..`; this is \"{path}\""),
                        "Write the whole path, beginning with `/`.".into(),
                    );
                    good = false;
                }
            }
            let data = home.join(&node.data.path);
            let has_dirs = good && data.as_os_str().len() <= LONGEST_PATH;
            if let Some(message) = too_long("path", &node.data.path) {
                let help = "Write for example \"data\".";
                error(Code::BadPath, "/data/path", message, help.into());
            } else if !is_plain_absolute(&data) && good || node.data.path.is_empty() {
                error(
                    Code::BadPath,
                    "/data/path",
                    format!(
                        "`path` wants a directory below the home, or an absolute one; this is \"{}\"",
                        node.data.path
                    ),
                    "Write for example \"data\".".into(),
                );
                good = false;
            }
            let root = node
                .root
                .as_ref()
                .map_or_else(|| home.join("visor"), PathBuf::from);
            if good && root.starts_with(&data) {
                let message = format!(
                    "visor's root {} lies inside the data directory {}",
                    root.display(),
                    data.display()
                );
                error(
                    Code::BadPath,
                    "/data/path",
                    message,
                    "Give the data a directory of their own, or set `root` to one elsewhere on the same file system.".into(),
                );
            }
            let below = data.strip_prefix(&root).ok();
            let first = below.and_then(|b| b.components().next());
            if good && first.is_some_and(|f| OWN.iter().any(|own| f.as_os_str() == *own)) {
                let message = format!(
                    "the data directory {} lies among what visor keeps in its root {}",
                    data.display(),
                    root.display()
                );
                let help = "Give the data a directory outside the root.";
                error(Code::BadPath, "/data/path", message, help.into());
            }
            for (key, globs) in [
                ("exclude", &node.data.exclude),
                ("keep", &node.data.keep),
                ("immutable", &node.data.immutable),
                ("append", &node.data.append),
            ] {
                for (i, glob) in globs.iter().enumerate() {
                    let bad = glob.starts_with('/')
                        || glob.split('/').any(|p| ["..", ".", ""].contains(&p))
                        || glob.is_empty();
                    // Only sets and choices can be wrong.
                    let is_plain = !glob.contains(['[', ']', '{', '}', '\\']);
                    if bad || !is_plain && globset::Glob::new(glob).is_err() {
                        let below = glob.trim_start_matches('/');
                        let help = if below.len() < glob.len() && !below.is_empty() {
                            format!("It is relative to the data directory: write \"{below}\".")
                                .into()
                        } else {
                            "Write for example \"*.ipc\" or \"**/LOCK\".".into()
                        };
                        error(
                            Code::BadGlob,
                            &format!("/data/{key}/{i}"),
                            format!("\"{glob}\" is not a glob below the data directory"),
                            help,
                        );
                    }
                }
            }
            for (i, text) in node.args.iter().enumerate() {
                self.variables(text, || at(&format!("/args/{i}")), &[NODE_VARS]);
            }
            for (key, text) in &node.env {
                self.variables(text, || at(&format!("/env/{}", escape(key))), &[NODE_VARS]);
            }
            self.environment(object, &node.env);
            self.arguments(object, "args", &node.args);
            let said = self.facts.findings.len();
            let chain = self.chain(object);
            let is_broken = |below: &str| loaded.at(object, below).is_nowhere();
            let chain_is_sound = said == self.facts.findings.len()
                && !is_broken("/chain/kind")
                && !is_broken("/chain/rpc");
            let uses_chain = |text: &String| text.contains("${chain.");
            if chain == ChainSpec::None
                && chain_is_sound
                && node.args.iter().chain(node.env.values()).any(uses_chain)
            {
                self.push(Finding::error(
                    Code::UnknownVariable,
                    at("/args"),
                    "${chain.…} is used and the node has no chain",
                    "Say `chain = { kind = \"evm\", rpc = … }`, or write the address out.",
                ));
            }
            let stop = StopPolicy {
                grace: self.time_limit("grace", node.stop.grace.as_deref(), "5m", || {
                    at("/stop/grace")
                }),
                dump: self.duration("dump", node.stop.dump.as_deref(), "5s", || at("/stop/dump")),
                kill: node.stop.kill,
            };
            let restart = self.restart(object);
            let logs = self.logs(object);
            let process = self.process(object);
            if let Some(genesis) = &node.genesis {
                self.facts.references.push(Reference {
                    kind: ObjectKind::Artifact,
                    name: genesis.clone(),
                    place: at("/genesis"),
                    node: Some(self.facts.nodes.len()),
                });
            }
            self.secrets(object);
            let is_unsound = self.facts.findings.len() > said_before || loaded.is_patched(object);
            let has_chain = chain != ChainSpec::None;
            let place = loaded.name_of(object);
            let name = object.name.parse().ok().filter(|_| self.keep);
            let profile = node.data.profile.unwrap_or(match node.chain.kind {
                ChainKind::Evm => Profile::Geth,
                ChainKind::None => Profile::Generic,
            });
            let parts = name.map(|name| {
                let mut of_data = DataSpec {
                    path: data.clone(),
                    exclude: node.data.exclude.clone(),
                    keep: node.data.keep.clone(),
                    immutable: node.data.immutable.clone(),
                    append: node.data.append.clone(),
                };
                profile::add(profile, &mut of_data);
                let spec = NodeSpec {
                    name,
                    home,
                    root: root.clone(),
                    data: of_data,
                    launch: Launch {
                        binary: node.binary.clone(),
                        args: node.args.clone(),
                        env: node.env.clone(),
                        process,
                    },
                    stop,
                    restart,
                    logs,
                    chain,
                };
                Box::new(DesiredNode {
                    spec,
                    root_given: node.root.is_some(),
                    genesis: None,
                    upgrades: vec![],
                    rehearse: node.rehearse,
                    control_group: node.control.group.clone(),
                    place: self.place_text(&place),
                })
            });
            self.facts.nodes.push(NodeFacts {
                name: object.name.clone(),
                place,
                home: at("/home"),
                dirs: has_dirs.then_some([root, data]),
                labels: node.labels.clone().into_iter().collect(),
                has_chain,
                chain_is_sound,
                labels_are_sound: !at("/labels").is_nowhere(),
                odd_labels: loaded.broken_below(object, "/labels"),
                is_unsound,
                genesis: node.genesis.clone(),
                parts,
            });
        }
    }

    fn restart(&mut self, object: &Object<Node>) -> RestartPolicy {
        let (loaded, restart) = (self.file, &object.value.restart);
        let at = |below: &str| loaded.at(object, &format!("/restart/{below}"));
        let delay = self.duration("delay", restart.delay.as_deref(), "5s", || at("delay"));
        let backoff = self.duration("backoff", restart.backoff.as_deref(), "5m", || {
            at("backoff")
        });
        if restart.backoff.is_some() && backoff < delay {
            let message = "the longest pause, `backoff`, is shorter than the first, `delay`";
            let help = "Make `backoff` as long as `delay` or longer.";
            self.push(Finding::error(
                Code::BadDuration,
                at("backoff"),
                message,
                help,
            ));
        }
        let within = self.time_limit("within", restart.within.as_deref(), "10m", || at("within"));
        RestartPolicy {
            delay,
            on: match restart.on {
                manifest::RestartOn::Failure => RestartOn::Failure,
                manifest::RestartOn::Always => RestartOn::Always,
                manifest::RestartOn::Never => RestartOn::Never,
            },
            backoff: backoff.max(delay),
            max: restart.max.unwrap_or(RestartPolicy::DEFAULT_MAX),
            within,
            no_restart_on_exit: restart.no_restart_on_exit.clone(),
        }
    }

    fn logs(&mut self, object: &Object<Node>) -> LogPolicy {
        let (loaded, logs) = (self.file, &object.value.logs);
        let at = |below: &str| loaded.at(object, &format!("/logs/{below}"));
        let age = logs.age.as_deref();
        LogPolicy {
            size: self.size("size", logs.size.as_deref(), "64MiB", || at("size")),
            age_ms: age.map(|text| {
                let age = self.time_limit("age", Some(text), "1d", || at("age"));
                u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
            }),
            keep: logs.keep.unwrap_or(LogPolicy::DEFAULT_KEEP),
        }
    }

    fn chain(&mut self, object: &Object<Node>) -> ChainSpec {
        let loaded = self.file;
        let chain = &object.value.chain;
        if let Some(rpc) = &chain.rpc {
            self.rpc(object, rpc);
        }
        let max_head_age =
            self.time_limit("max-head-age", chain.max_head_age.as_deref(), "2m", || {
                loaded.at(object, "/chain/max-head-age")
            });
        if loaded.at(object, "/chain/kind").is_nowhere() {
            // Of the rest nothing can be said without it.
            return ChainSpec::None;
        }
        match (chain.kind, &chain.rpc) {
            (ChainKind::None, None) => ChainSpec::None,
            (ChainKind::None, Some(_)) => {
                self.push(Finding::error(
                    Code::BadChain,
                    loaded.at(object, "/chain/rpc"),
                    "an `rpc` is given, and the chain's kind is `none`",
                    "Say `kind = \"evm\"`, or take `rpc` out.",
                ));
                ChainSpec::None
            }
            // It may be what could not be read.
            (ChainKind::Evm, None) if loaded.at(object, "/chain/rpc").is_nowhere() => {
                ChainSpec::None
            }
            (ChainKind::Evm, None) => {
                self.push(Finding::error(
                    Code::BadChain,
                    loaded.at(object, "/chain"),
                    "the chain has no `rpc`, so it cannot be asked",
                    "Add `rpc = \"http://127.0.0.1:8545\"`.",
                ));
                ChainSpec::None
            }
            (ChainKind::Evm, Some(rpc)) => ChainSpec::Evm {
                rpc: rpc.clone(),
                max_head_age,
            },
        }
    }

    fn rpc(&mut self, object: &Object<Node>, rpc: &str) {
        let place = self.file.at(object, "/chain/rpc");
        if super::releases::holds_password(rpc) {
            let message = "`rpc` holds a user or a password".into();
            self.secret(place.clone(), place, message);
            return;
        }
        if split_rpc(rpc).is_some() {
            return;
        }
        let is_web = rpc.starts_with("http://") || rpc.starts_with("https://");
        // One that holds a password is not repeated.
        let rpc = if rpc.contains('@') { "…" } else { rpc };
        let message = if is_web {
            format!("`rpc` has a host or a port that cannot be: \"{rpc}\"")
        } else {
            format!("`rpc` wants an http:// or https:// address; this is \"{rpc}\"")
        };
        self.push(Finding::error(
            Code::BadChain,
            place,
            message,
            "Write for example \"http://127.0.0.1:8545\".",
        ));
    }
}

/// What visor keeps in its root.
const OWN: &[&str] = &[
    "backups", "cache", "current", "failed", "genesis", "logs", "state", "upgrades",
];

/// Bytes of the longest path that Linux opens: `PATH_MAX` without the NUL at its end (limits.h).
const LONGEST_PATH: usize = 4095;

fn too_long(key: &str, path: &str) -> Option<String> {
    let bytes = path.len();
    (bytes > LONGEST_PATH)
        .then(|| format!("`{key}` has {bytes} bytes, and no path has more than {LONGEST_PATH}"))
}

fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|c| !matches!(c, std::path::Component::ParentDir))
        && path != Path::new("/")
}
