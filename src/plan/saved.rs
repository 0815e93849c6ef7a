//! Saved plans: what a pass would do, with the facts that it rests on.
//!
//! A saved plan on disk, shortened:
//!
//! ```json
//! {"version":1,"visor":"0.1.0","digest":"4b…","node":"demo",
//!  "changes":["upgrade from genesis to v2"],"facts":{"current release":"genesis", …},"plan":{"version":1, …}}
//! ```

use super::diff::Diff;
use super::observed::{Fact, Liveness, Observed};
use super::step::{Plan, PlanError};
use crate::model::{Name, sha256_hex};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format. 1: first. Unknown fields are ignored, and are part of the digest: an older visor refuses a plan that has some.
const SAVED_VERSION: u32 = 1;

/// What a pass would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SavedPlan {
    pub version: u32,
    /// The version of visor that made it.
    pub visor: String,
    /// SHA-256 over all the rest.
    pub digest: String,
    pub node: Name,
    pub changes: Vec<String>,
    /// What must still hold, by the name of the fact.
    pub facts: BTreeMap<String, String>,
    /// The run that would be opened.
    pub plan: Option<Plan>,
}

#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    #[error("it is no saved plan that this visor can read")]
    Unreadable(#[source] serde_json::Error),
    #[error("it has format version {found}, this visor reads {SAVED_VERSION}")]
    Version { found: u32 },
    #[error("it was made by visor {found}, this is {}", env!("CARGO_PKG_VERSION"))]
    Visor { found: String },
    #[error("it was changed after it was saved: its digest is {found}, its contents have {actual}")]
    Edited { found: String, actual: String },
    #[error("it was changed after it was saved: its bytes are not those that visor writes")]
    Rewritten,
    #[error("it was made for node {found}, this is {wanted}")]
    Node { found: Name, wanted: Name },
    #[error("its steps are not usable")]
    Plan(#[source] PlanError),
}

/// A fact that is no longer what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub fact: String,
    pub then: String,
    pub now: String,
}

impl SavedPlan {
    pub fn new(d: &Diff, observed: &Observed) -> Self {
        let mut saved = Self {
            version: SAVED_VERSION,
            visor: env!("CARGO_PKG_VERSION").to_owned(),
            digest: String::new(),
            node: d.node.clone(),
            changes: d.changes.iter().map(|c| c.what.clone()).collect(),
            facts: facts(d, observed),
            plan: d.due().cloned(),
        };
        saved.digest = saved.content_digest();
        saved
    }

    /// Reads a saved plan for a node; refuses one of another version, another node, or with other bytes.
    pub fn read(bytes: &[u8], node: &Name) -> Result<Self, SavedError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
            visor: String,
            digest: String,
        }
        let header: Header = serde_json::from_slice(bytes).map_err(SavedError::Unreadable)?;
        if header.version != SAVED_VERSION {
            return Err(SavedError::Version {
                found: header.version,
            });
        }
        if header.visor != env!("CARGO_PKG_VERSION") {
            return Err(SavedError::Visor {
                found: header.visor,
            });
        }
        let saved: Self = serde_json::from_slice(bytes).map_err(SavedError::Unreadable)?;
        let actual = saved.content_digest();
        if header.digest != actual {
            return Err(SavedError::Edited {
                found: header.digest,
                actual,
            });
        }
        // What was not read was not digested either.
        if saved.to_bytes() != bytes {
            return Err(SavedError::Rewritten);
        }
        if saved.node != *node {
            return Err(SavedError::Node {
                found: saved.node,
                wanted: node.clone(),
            });
        }
        if let Some(plan) = &saved.plan {
            Plan::read(&plan.to_bytes()).map_err(SavedError::Plan)?;
        }
        Ok(saved)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes =
            serde_json::to_vec_pretty(self).expect("plans hold nothing that JSON cannot say");
        bytes.push(b'\n');
        bytes
    }

    /// The facts that are no longer as they were.
    pub fn moved(&self, d: &Diff, observed: &Observed) -> Vec<Moved> {
        let now = facts(d, observed);
        let names: std::collections::BTreeSet<&String> =
            self.facts.keys().chain(now.keys()).collect();
        let value = |of: &BTreeMap<String, String>, name: &String| {
            of.get(name).cloned().unwrap_or_else(|| "not known".into())
        };
        names
            .into_iter()
            .map(|name| Moved {
                fact: name.clone(),
                then: value(&self.facts, name),
                now: value(&now, name),
            })
            .filter(|m| m.then != m.now)
            .collect()
    }

    fn content_digest(&self) -> String {
        let bare = Self {
            digest: String::new(),
            ..self.clone()
        };
        sha256_hex(&bare.to_bytes())
    }
}

/// What a change rests on. The head is not among it: it moves by itself, and the gates look at it again.
fn facts(d: &Diff, observed: &Observed) -> BTreeMap<String, String> {
    let none = || "none".to_owned();
    let process = match &observed.node {
        Liveness::Running { .. } => "running".to_owned(),
        Liveness::Stopped { .. } => "not running".to_owned(),
        Liveness::Unclear { .. } => "not clear".to_owned(),
    };
    let current = match &observed.current {
        Fact::Known(current) => current.as_ref().map_or_else(none, ToString::to_string),
        Fact::Unknown(_) => "not known".to_owned(),
    };
    let o = &observed.overrides;
    let changes: Vec<&str> = d.changes.iter().map(|c| c.what.as_str()).collect();
    let failed: Vec<String> = observed
        .denied
        .iter()
        .map(|x| x.upgrade.to_string())
        .collect();
    let applied: Vec<String> = observed
        .applied
        .iter()
        .map(|a| a.name.to_string())
        .collect();
    let list = |words: Vec<String>| {
        if words.is_empty() {
            none()
        } else {
            words.join(", ")
        }
    };
    BTreeMap::from([
        ("current release".to_owned(), current),
        ("process".to_owned(), process),
        (
            "changes".to_owned(),
            list(changes.into_iter().map(str::to_owned).collect()),
        ),
        (
            "wish of the manifests".to_owned(),
            d.due().map_or_else(none, |p| p.digest.clone()),
        ),
        (
            "start of the node".to_owned(),
            d.start.clone().unwrap_or_else(none),
        ),
        ("applied upgrades".to_owned(), list(applied)),
        ("failed upgrades".to_owned(), list(failed)),
        (
            "open run".to_owned(),
            observed
                .open_run
                .as_ref()
                .map_or_else(none, |r| r.run.to_string()),
        ),
        (
            "hold".to_owned(),
            o.hold.as_ref().map_or_else(none, |h| h.reason.clone()),
        ),
        (
            "stop".to_owned(),
            o.stop.as_ref().map_or_else(none, |s| s.reason.clone()),
        ),
    ])
}
