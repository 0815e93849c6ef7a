//! The table of step kinds: class, probe and undo of each. The book prints it.

use crate::plan::StepKind;

/// What recovery does with a step that has no end record, whether it was only begun or a power loss took the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Changes nothing that lasts: run again.
    Pure,
    /// May be run twice: run again.
    Idempotent,
    /// Leaves an artefact: look first, then record or run.
    Probed,
    /// May not run twice unless its record proves that it did not happen; else stuck.
    Once,
}

impl Class {
    pub fn word(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Idempotent => "idempotent",
            Self::Probed => "probed",
            Self::Once => "once",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRow {
    pub kind: &'static str,
    pub class: Class,
    pub probe: &'static str,
    pub undo: &'static str,
}

/// The row of a step.
pub fn row(kind: &StepKind) -> StepRow {
    let once = matches!(kind, StepKind::Hook(h) if h.once);
    let mut found = *ROWS
        .iter()
        .find(|r| r.kind == kind.word())
        .expect("every kind has a row");
    if once {
        found.class = Class::Once;
    }
    found
}

const fn of(kind: &'static str, class: Class, probe: &'static str, undo: &'static str) -> StepRow {
    StepRow {
        kind,
        class,
        probe,
        undo,
    }
}

const ROWS: &[StepRow] = &[
    of(
        "fetch",
        Class::Idempotent,
        "file with the digest in cache or release",
        "none needed",
    ),
    of(
        "stage",
        Class::Idempotent,
        "executable with the digest in the release",
        "none needed: nothing names it",
    ),
    of(
        "hook",
        Class::Idempotent,
        "attempt record",
        "none: hooks undo their own effects",
    ),
    of(
        "precopy",
        Class::Idempotent,
        "synced baseline of the last round",
        "the part is swept",
    ),
    of("trigger", Class::Pure, "chain or approval", "none needed"),
    of("chain-safe", Class::Pure, "chain", "none needed"),
    of(
        "stop",
        Class::Probed,
        "start record dead and node.lock free",
        "start-old",
    ),
    of(
        "seal",
        Class::Probed,
        "SEAL of the generation",
        "none needed: a good backup",
    ),
    of("switch", Class::Probed, "the link `current`", "switch-back"),
    of(
        "start",
        Class::Probed,
        "start record of the intent's start id",
        "stop-new",
    ),
    of("health", Class::Pure, "process and chain", "none needed"),
    of("commit", Class::Pure, "its own record", "irreversible"),
    of(
        "verify",
        Class::Idempotent,
        "VERIFIED or BAD of the generation",
        "none needed",
    ),
    of(
        "archive",
        Class::Idempotent,
        "the file under its name",
        "none needed",
    ),
    of(
        "prune",
        Class::Idempotent,
        "generations in place",
        "irreversible",
    ),
    of(
        "stop-new",
        Class::Probed,
        "start record dead and node.lock free",
        "none: stuck",
    ),
    of(
        "consume",
        Class::Probed,
        "CONSUMED of the generation",
        "none: stuck",
    ),
    of(
        "carry-keep",
        Class::Idempotent,
        "inodes against the restore record; contents compared",
        "none: stuck",
    ),
    of(
        "exchange",
        Class::Probed,
        "inodes against the restore record",
        "none: stuck",
    ),
    of(
        "set-aside",
        Class::Probed,
        "the generation in failed/",
        "none: stuck",
    ),
    of(
        "switch-back",
        Class::Probed,
        "the link `current`",
        "none: stuck",
    ),
    of(
        "start-old",
        Class::Probed,
        "start record of the undo's start id",
        "none: stuck",
    ),
    of(
        "health-old",
        Class::Pure,
        "process and chain",
        "none: stuck",
    ),
];

/// The table as Markdown, for the book.
pub fn book_table() -> String {
    let mut out = String::from("| step | class | probe | undo |\n|---|---|---|---|\n");
    for r in ROWS {
        out.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            r.kind,
            r.class.word(),
            r.probe,
            r.undo
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step whose records may be lost with the power is met again.
    #[test]
    fn what_leaves_evidence_may_be_met_twice() {
        for kind in [
            StepKind::Consume,
            StepKind::CarryKeep,
            StepKind::Exchange,
            StepKind::SetAside,
            StepKind::StartOld,
        ] {
            let class = row(&kind).class;
            assert!(kind.leaves_evidence(), "{}", kind.word());
            assert!(matches!(class, Class::Probed | Class::Idempotent));
        }
        for kind in [StepKind::Start, StepKind::Commit] {
            assert!(!kind.leaves_evidence(), "{}", kind.word());
        }
    }
}
