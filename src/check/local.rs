//! The rules that need no other file.

use super::facts::{BatchFacts, Facts, Reference};
use crate::check::DesiredBatch;
use crate::diag::{Finding, Lines, Place};
use crate::manifest::{LoadedFile, ManifestSet, Named, ObjectKind, load_file};
use std::cell::RefCell;

/// Finds a path that is much like another.
pub(super) type Near<'a> = dyn Fn(&str) -> Option<String> + Sync + 'a;

/// One file under its rules, and what they leave.
pub(super) struct Local<'a> {
    pub(super) set: &'a ManifestSet,
    pub(super) file: &'a LoadedFile,
    /// The parts of `Desired` are wanted, not only findings.
    pub(super) keep: bool,
    pub(super) facts: Facts,
    /// The file of the set, other than its manifests, whose path is nearest to a misspelt one.
    pub(super) near: &'a Near<'a>,
    pub(super) lines: RefCell<Lines<'a>>,
}

/// Reads a file and tries every rule on it that needs no other: the names in it, and what else it leaves.
pub(super) fn local(
    set: &ManifestSet,
    near: &Near<'_>,
    index: usize,
    is_readable: bool,
    keep: bool,
) -> (Vec<Named>, Facts) {
    let mut file = if is_readable {
        load_file(index, &set.files[index].text)
    } else {
        // What is in it nobody knows; that it cannot be read is said elsewhere.
        LoadedFile::unread(index)
    };
    let mut named = std::mem::take(&mut file.named);
    let facts = Facts {
        findings: std::mem::take(&mut file.findings),
        mentioned: std::mem::take(&mut file.mentioned),
        blind: std::mem::take(&mut file.blind),
        names_unknown: file.names_unknown,
        ..Facts::default()
    };
    let mut local = Local {
        set,
        file: &file,
        keep,
        facts,
        near,
        lines: RefCell::new(Lines::new(&set.files)),
    };
    local.broken_secrets();
    local.artifacts();
    local.hooks();
    local.backups();
    local.nodes();
    local.upgrades();
    local.batches();
    named.shrink_to_fit();
    local.facts.shrink();
    (named, local.facts)
}

impl Local<'_> {
    /// Takes a finding, unless it rests on a value that was broken: that was said already.
    pub(super) fn push(&mut self, finding: Finding) {
        if !finding.is_about_nothing() {
            self.facts.findings.push(finding);
        }
    }

    /// Writes down that an object is named here; whether it exists is found out with all files.
    pub(super) fn refer(&mut self, kind: ObjectKind, name: &str, place: Place) {
        self.facts.references.push(Reference {
            kind,
            name: name.to_owned(),
            place,
            node: None,
        });
    }

    /// `file:line` of a place, for `Desired`.
    pub(super) fn place_text(&self, place: &Place) -> String {
        match self.set.files.get(place.file) {
            Some(file) => {
                let (line, _) = self.lines.borrow_mut().line(place.file, place.start);
                format!("{}:{}", file.path, line + 1)
            }
            None => String::new(),
        }
    }

    fn batches(&mut self) {
        for object in &self.file.batches {
            let mut members = Vec::with_capacity(object.value.upgrades.len());
            for (i, member) in object.value.upgrades.iter().enumerate() {
                let place = self.file.at(object, &format!("/upgrades/{i}"));
                self.refer(ObjectKind::Upgrade, member, place.clone());
                members.push((member.clone(), place));
            }
            let name = object.name.parse().ok().filter(|_| self.keep);
            let parts = name.map(|name| {
                let upgrades = object.value.upgrades.iter();
                Box::new(DesiredBatch {
                    name,
                    description: object.value.description.clone(),
                    upgrades: upgrades.filter_map(|u| u.parse().ok()).collect(),
                    place: self.place_text(&self.file.name_of(object)),
                })
            });
            self.facts.batches.push(BatchFacts {
                name: object.name.clone(),
                members,
                parts,
            });
        }
    }
}
