//! Manifests: from a file's text to typed objects, with a place for everything.
//!
//! ```text
//!  text ─▶ parse ── no TOML? ─▶ recover, statement by statement
//!            ├─▶ spans by JSON pointer
//!            └─▶ JSON value ─▶ mend: what stands in the wrong place is moved
//!                                └─▶ structure: the schema, one pass ─▶ findings, one a mistake
//!                                └─▶ broken values stood in for, their pointers poisoned ─▶ serde
//! ```
//!
//! The types are plain: no spans inside, unknown fields denied. Pure: the texts are given.

mod advice;
mod artifact;
mod astray;
mod backup;
mod batch;
mod behind;
mod characters;
mod depth;
mod dotted;
mod guess;
mod headers;
mod hook;
mod lexer;
mod load;
mod mend;
mod node;
mod parse;
mod plain;
mod process;
mod recover;
mod schema;
mod set;
mod spans;
mod structure;
mod upgrade;
mod wordings;
mod words;

pub use artifact::{Artifact, ArtifactFile};
pub use backup::{ArchiveFormat, Backup, BackupKeep, Late, Method};
pub use batch::Batch;
pub use hook::{Hook, Retry};
pub use load::{Blind, Kinds, LoadedFile, Named, Object, ObjectKind, load_file};
pub(crate) use mend::shown_name;
pub use node::{Chain, ChainKind, Control, Data, Node, Profile, Restart, RestartOn, Stop};
pub use parse::{Parsed, parse};
pub use process::{Cgroup, Limits, Process};
pub use schema::{File, schema_text};
pub use set::{BesideFile, ManifestSet};
pub use spans::Spans;
pub(crate) use spans::escape;
pub use upgrade::{Health, Hooks, OnFailure, Selector, Trigger, Upgrade};
pub(crate) use words::{NearNames, closest};
