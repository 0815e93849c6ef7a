//! Manifests: from a file's text to typed objects, with a place for everything.
//!
//! ```text
//!  text ─▶ parse (blocks that are no TOML are reported and left out)
//!            ├─▶ spans by JSON pointer
//!            └─▶ JSON value ─▶ schema, one pass ─▶ findings, merged per object
//!                                └─▶ objects without findings ─▶ serde
//! ```
//!
//! The types are plain: no spans inside, unknown fields denied. Pure: the texts are given.

mod artifact;
mod backup;
mod hook;
mod load;
mod node;
mod parse;
mod schema;
mod set;
mod upgrade;

pub use artifact::{Artifact, ArtifactFile};
pub use backup::{Backup, BackupKeep};
pub use hook::{Hook, Retry};
pub use load::{Loaded, Object, ObjectId, ObjectKind, load};
pub use node::{Chain, ChainKind, Data, Node, Restart, Stop};
pub use parse::{Parsed, Spans, parse};
pub(crate) use schema::closest;
pub use schema::{File, schema_text};
pub use set::{BesideFile, ManifestSet};
pub use upgrade::{Health, Hooks, OnFailure, Selector, Trigger, Upgrade};
