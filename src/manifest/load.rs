//! A whole set: every file parsed and validated, every good object read into its type.

use super::parse::{SyntaxError, SyntaxKind, parse};
use super::set::ManifestSet;
use super::spans::{Spans, escape, unescape};
use super::structure::{is_below, judge};
use super::{Artifact, Backup, Batch, Hook, Node, Upgrade};
use crate::diag::{Code, Finding, Place};
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    Node,
    Artifact,
    Upgrade,
    Hook,
    Backup,
    Batch,
}

impl ObjectKind {
    pub const ALL: [Self; 6] = [
        Self::Node,
        Self::Artifact,
        Self::Upgrade,
        Self::Hook,
        Self::Backup,
        Self::Batch,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Artifact => "artifact",
            Self::Upgrade => "upgrade",
            Self::Hook => "hook",
            Self::Backup => "backup",
            Self::Batch => "batch",
        }
    }
}

/// Which object: its kind and name.
pub type ObjectId = (ObjectKind, String);

/// One object: where it is, and its typed form when nothing is wrong with its structure.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<T> {
    pub name: String,
    pub file: usize,
    /// JSON pointer of the object in its file.
    pub pointer: String,
    pub value: T,
}

/// Everything that could be read of a set.
#[derive(Debug, Default)]
pub struct Loaded {
    pub findings: Vec<Finding>,
    pub nodes: Vec<Object<Node>>,
    pub artifacts: Vec<Object<Artifact>>,
    pub upgrades: Vec<Object<Upgrade>>,
    pub hooks: Vec<Object<Hook>>,
    pub backups: Vec<Object<Backup>>,
    pub batches: Vec<Object<Batch>>,
    /// Every object that is named anywhere, the broken ones too, with the places of its name.
    pub named: BTreeMap<ObjectKind, BTreeMap<String, Vec<Place>>>,
    /// Objects of which nothing could be read but the name.
    pub broken: BTreeSet<ObjectId>,
    /// Some header could not be read, so that a missing name proves nothing.
    pub names_unknown: bool,
    /// Texts that were left out, and so may name an object that nothing else names.
    pub mentioned: Vec<String>,
    files: Vec<FileInfo>,
}

/// What is kept of a file beside its objects.
#[derive(Debug, Default)]
struct FileInfo {
    spans: Spans,
    poisoned: Vec<String>,
}

impl FileInfo {
    fn is_poisoned(&self, pointer: &str) -> bool {
        self.poisoned.iter().any(|p| is_below(pointer, p))
    }
}

impl Loaded {
    /// Where a value of an object stands; `below` as in `/trigger/height`. Nowhere when it was broken and stood in for.
    pub fn at<T>(&self, object: &Object<T>, below: &str) -> Place {
        let file = &self.files[object.file];
        let pointer = format!("{}{below}", object.pointer);
        if file.is_poisoned(&pointer) {
            return Place::NOWHERE;
        }
        Place::new(object.file, file.spans.value(&pointer))
    }

    /// Where the key of an object's value stands.
    pub fn key_of<T>(&self, object: &Object<T>, below: &str) -> Place {
        let file = &self.files[object.file];
        let pointer = format!("{}{below}", object.pointer);
        if file.is_poisoned(&pointer) {
            return Place::NOWHERE;
        }
        Place::new(object.file, file.spans.key(&pointer))
    }

    /// Where an object's name stands.
    pub fn name_of<T>(&self, object: &Object<T>) -> Place {
        let file = &self.files[object.file];
        Place::new(object.file, file.spans.key(&object.pointer))
    }

    /// True when some value of the object was broken and is stood in for.
    pub fn is_patched<T>(&self, object: &Object<T>) -> bool {
        let file = &self.files[object.file];
        file.poisoned.iter().any(|p| is_below(p, &object.pointer))
    }
}

/// Reads all files of a set.
pub fn load(set: &ManifestSet) -> Loaded {
    let unread: BTreeSet<&str> = set.unreadable.iter().map(|(p, _)| p.as_str()).collect();
    let parts: Vec<FileParts> = set
        .files
        .par_iter()
        .enumerate()
        .map(|(index, file)| {
            if unread.contains(file.path.as_str()) {
                // What is in it nobody knows; that it cannot be read is said elsewhere.
                return FileParts {
                    names_unknown: true,
                    ..FileParts::default()
                };
            }
            read_file(index, &file.text)
        })
        .collect();
    let mut out = Loaded::default();
    for part in parts {
        out.findings.extend(part.findings);
        out.nodes.extend(part.nodes);
        out.artifacts.extend(part.artifacts);
        out.upgrades.extend(part.upgrades);
        out.hooks.extend(part.hooks);
        out.backups.extend(part.backups);
        out.batches.extend(part.batches);
        for ((kind, name), place) in part.named {
            let places = out.named.entry(kind).or_default().entry(name).or_default();
            places.extend(place);
        }
        out.broken.extend(part.broken);
        out.names_unknown |= part.names_unknown;
        out.mentioned.extend(part.mentioned);
        out.files.push(part.info);
    }
    out
}

#[derive(Debug, Default)]
struct FileParts {
    findings: Vec<Finding>,
    nodes: Vec<Object<Node>>,
    artifacts: Vec<Object<Artifact>>,
    upgrades: Vec<Object<Upgrade>>,
    hooks: Vec<Object<Hook>>,
    backups: Vec<Object<Backup>>,
    batches: Vec<Object<Batch>>,
    named: Vec<(ObjectId, Option<Place>)>,
    broken: Vec<ObjectId>,
    names_unknown: bool,
    mentioned: Vec<String>,
    info: FileInfo,
}

fn read_file(index: usize, text: &str) -> FileParts {
    let mut parsed = parse(text);
    parsed.spans.settle();
    let mut out = FileParts {
        names_unknown: parsed.names_unknown,
        mentioned: std::mem::take(&mut parsed.lost_text),
        ..FileParts::default()
    };
    out.findings
        .extend(parsed.errors.iter().map(|e| syntax(index, e)));
    let judged = judge(index, &mut parsed);
    out.names_unknown |= judged.names_unknown;
    out.findings.extend(judged.findings);
    out.mentioned.extend(judged.mentioned);
    for (kind, name) in judged.meant {
        if let Some(kind) = ObjectKind::ALL.into_iter().find(|k| k.word() == kind) {
            out.named.push(((kind, name), None));
        }
    }
    out.info = FileInfo {
        spans: std::mem::take(&mut parsed.spans),
        poisoned: judged.poisoned,
    };
    for kind in ObjectKind::ALL {
        let Some(objects) = parsed.value.get(kind.word()).and_then(Value::as_object) else {
            continue;
        };
        for (name, value) in objects {
            let pointer = format!("/{}/{}", kind.word(), escape(name));
            let place = Place::new(index, out.info.spans.key(&pointer));
            let id = (kind, name.clone());
            out.named.push((id.clone(), Some(place)));
            let at = (index, name.as_str(), pointer.as_str());
            let whole = !out.info.is_poisoned(&pointer)
                && match kind {
                    ObjectKind::Node => read(at, value, &mut out.nodes),
                    ObjectKind::Artifact => read(at, value, &mut out.artifacts),
                    ObjectKind::Upgrade => read(at, value, &mut out.upgrades),
                    ObjectKind::Hook => read(at, value, &mut out.hooks),
                    ObjectKind::Backup => read(at, value, &mut out.backups),
                    ObjectKind::Batch => read(at, value, &mut out.batches),
                };
            if !whole {
                out.broken.push(id);
            }
        }
    }
    // What stood where `/node/a` was no table is named all the same.
    for pointer in &out.info.poisoned {
        let mut parts = pointer.split('/').skip(1);
        if let (Some(kind), Some(name), None) = (parts.next(), parts.next(), parts.next())
            && let Some(kind) = ObjectKind::ALL.into_iter().find(|k| k.word() == kind)
        {
            let id = (kind, unescape(name));
            out.named.push((id.clone(), None));
            out.broken.push(id);
        }
    }
    out
}

fn syntax(file: usize, error: &SyntaxError) -> Finding {
    let place = Place::new(file, error.span.clone());
    let message = error.message.clone();
    let (code, help) = match error.kind {
        SyntaxKind::NotToml => (
            Code::Syntax,
            "Correct the TOML here; nothing else is said about this statement.",
        ),
        SyntaxKind::TableTwice => (Code::Duplicate, "Rename one of them, or take one out."),
        SyntaxKind::KeyTwice => (Code::Duplicate, "Keep one of them."),
    };
    let mut finding = Finding::error(code, place, message, help);
    if let Some(first) = &error.first {
        finding = finding.with(Place::new(file, first.clone()), "first given here");
    }
    finding
}

/// False when the object cannot be read, because of something that was said already.
fn read<T: DeserializeOwned>(
    (file, name, pointer): (usize, &str, &str),
    value: &Value,
    into: &mut Vec<Object<T>>,
) -> bool {
    let Ok(value) = T::deserialize(value) else {
        return false;
    };
    into.push(Object {
        name: name.to_owned(),
        file,
        pointer: pointer.to_owned(),
        value,
    });
    true
}
