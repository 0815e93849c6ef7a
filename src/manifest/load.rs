//! A whole set: every file parsed and validated, every good object read into its type.

use super::parse::{Parsed, Spans, parse};
use super::schema::{empty, is_below, validate};
use super::set::ManifestSet;
use super::{Artifact, Backup, Hook, Node, Upgrade};
use crate::diag::{Code, Finding, Place};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    Node,
    Artifact,
    Upgrade,
    Hook,
    Backup,
}

impl ObjectKind {
    pub const ALL: [Self; 5] = [
        Self::Node,
        Self::Artifact,
        Self::Upgrade,
        Self::Hook,
        Self::Backup,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Artifact => "artifact",
            Self::Upgrade => "upgrade",
            Self::Hook => "hook",
            Self::Backup => "backup",
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
    pub spans: Vec<Spans>,
    pub nodes: Vec<Object<Node>>,
    pub artifacts: Vec<Object<Artifact>>,
    pub upgrades: Vec<Object<Upgrade>>,
    pub hooks: Vec<Object<Hook>>,
    pub backups: Vec<Object<Backup>>,
    /// Every object that is named anywhere, the broken ones too, with the place of its name.
    pub named: BTreeMap<ObjectId, Vec<Place>>,
    /// Objects of which nothing more may be said.
    pub broken: Vec<ObjectId>,
    /// Some header could not be read, so that a missing name proves nothing.
    pub names_unknown: bool,
}

impl Loaded {
    /// Where a value of an object stands; `below` as in `/trigger/height`.
    pub fn at<T>(&self, object: &Object<T>, below: &str) -> Place {
        Place::new(
            object.file,
            self.spans[object.file].value(&format!("{}{below}", object.pointer)),
        )
    }

    /// Where an object's name stands.
    pub fn name_of<T>(&self, object: &Object<T>) -> Place {
        Place::new(object.file, self.spans[object.file].key(&object.pointer))
    }
}

/// Reads all files of a set.
pub fn load(set: &ManifestSet) -> Loaded {
    let mut out = Loaded::default();
    for (index, file) in set.files.iter().enumerate() {
        let Parsed {
            value,
            spans,
            errors,
            left_out,
            names_unknown,
        } = parse(&file.text);
        for error in &errors {
            let place = Place::new(index, error.span.clone());
            let finding = match &error.first {
                Some(first) => Finding::error(
                    Code::Duplicate,
                    place,
                    "this table is opened twice in the file",
                    "Rename one of them, or take one out.",
                )
                .with(Place::new(index, first.clone()), "first opened here"),
                None => Finding::error(
                    Code::Syntax,
                    place,
                    error.message.clone(),
                    "Correct the TOML here; what follows in this table was not looked at.",
                ),
            };
            out.findings.push(finding);
        }
        out.names_unknown |= names_unknown;
        let value = if value.is_object() { value } else { empty() };
        let (findings, mut broken) = validate(index, &value, &spans);
        // A file that is broken at its top may have lost its `visor = 1` there.
        let top_lost = left_out.iter().any(Vec::is_empty) || errors.iter().any(|_| names_unknown);
        out.findings.extend(
            findings
                .into_iter()
                .filter(|f| !(top_lost && f.code == Code::Version)),
        );
        for path in left_out {
            if let [kind, name, ..] = path.as_slice()
                && let Some(kind) = ObjectKind::ALL.into_iter().find(|k| k.word() == kind)
            {
                out.broken.push((kind, name.clone()));
                out.named.entry((kind, name.clone())).or_default();
                broken.push(format!("/{}/{name}", kind.word()));
            }
        }
        let errors_at: Vec<usize> = errors.iter().map(|e| e.span.start).collect();
        for kind in ObjectKind::ALL {
            let Some(objects) = value.get(kind.word()).and_then(Value::as_object) else {
                continue;
            };
            for (name, value) in objects {
                let pointer = format!(
                    "/{}/{}",
                    kind.word(),
                    name.replace('~', "~0").replace('/', "~1")
                );
                let place = Place::new(index, spans.key(&pointer));
                out.named
                    .entry((kind, name.clone()))
                    .or_default()
                    .push(place);
                let hit = |b: &String| {
                    is_below(b, std::slice::from_ref(&pointer))
                        || is_below(&pointer, std::slice::from_ref(b)) && !b.is_empty()
                };
                let span = spans.value(&pointer);
                let bad_number = errors_at.iter().any(|at| span.contains(at));
                if broken.iter().any(hit) || bad_number {
                    out.broken.push((kind, name.clone()));
                    continue;
                }
                let id = (index, name.as_str(), pointer.as_str());
                match kind {
                    ObjectKind::Node => out.nodes.push(read(id, value)),
                    ObjectKind::Artifact => out.artifacts.push(read(id, value)),
                    ObjectKind::Upgrade => out.upgrades.push(read(id, value)),
                    ObjectKind::Hook => out.hooks.push(read(id, value)),
                    ObjectKind::Backup => out.backups.push(read(id, value)),
                }
            }
        }
        out.spans.push(spans);
    }
    out
}

fn read<T: DeserializeOwned>(
    (file, name, pointer): (usize, &str, &str),
    value: &Value,
) -> Object<T> {
    let value = T::deserialize(value).expect("what passes the derived schema can be deserialized");
    Object {
        name: name.to_owned(),
        file,
        pointer: pointer.to_owned(),
        value,
    }
}
