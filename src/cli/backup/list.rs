//! `visor backup list` and `show`.

use super::super::args::{Format, Global};
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::out;
use super::id_of;
use crate::agent::{BackupJobError, find_backup};
use crate::backup::{
    Contents, GenState, Generation, Verdict, contents, copies_elsewhere, foreign_backups,
    generations,
};
use crate::host::wall_clock;
use crate::model::{UnixMs, human_ms, rfc3339};
use schemars::JsonSchema;
use serde::Serialize;

/// The JSON form. 1: first.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Backups {
    version: u32,
    node: String,
    /// Oldest first.
    generations: Vec<Entry>,
    /// Backups that other tools made: paths. visor lists them and touches none.
    foreign: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Entry {
    id: String,
    state: GenState,
    label: String,
    /// The release that had the data.
    release: Option<String>,
    created_at: UnixMs,
    /// Made of a running node: files of different moments.
    running: bool,
    pinned: bool,
}

/// The JSON form. 1: first.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Backup {
    version: u32,
    node: String,
    #[serde(flatten)]
    entry: Entry,
    path: String,
    /// Copies of directories on other disks that links in the data lead to.
    elsewhere: Vec<String>,
    contents: Option<Contents>,
    verdict: Option<Verdict>,
}

fn entry(generation: &Generation) -> Entry {
    Entry {
        id: generation.id().to_string(),
        state: generation.state,
        label: generation.label().to_owned(),
        release: generation.release().map(str::to_owned),
        created_at: generation.created_at(),
        running: generation.record.as_ref().is_some_and(|r| r.running),
        pinned: generation.pinned,
    }
}

/// What is particular about one, in words.
fn remarks(e: &Entry) -> String {
    let marks = [(e.pinned, "pinned"), (e.running, "of a running node")];
    let said: Vec<&str> = marks
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, w)| *w)
        .collect();
    said.join(", ")
}

pub(super) fn list(global: &Global, format: Format) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let spec = &cx.node().spec;
    let shown = Backups {
        version: 1,
        node: spec.name.to_string(),
        generations: generations(&cx.layout).iter().map(entry).collect(),
        foreign: foreign_backups(&spec.home)
            .iter()
            .map(|p| p.display().to_string())
            .collect(),
    };
    match format {
        Format::Json => out::json(&shown),
        Format::Human => {
            let now = wall_clock();
            let mut rows = vec![
                ["generation", "state", "release", "age", "label", ""]
                    .map(str::to_owned)
                    .to_vec(),
            ];
            rows.extend(shown.generations.iter().map(|e| {
                vec![
                    e.id.clone(),
                    e.state.word().to_owned(),
                    e.release.clone().unwrap_or_else(|| "unknown".into()),
                    human_ms(now.saturating_sub(e.created_at)),
                    e.label.clone(),
                    remarks(e),
                ]
            }));
            if shown.generations.is_empty() {
                out::data("no generations yet\n");
            } else {
                out::data(&out::table(&rows));
            }
            for path in &shown.foreign {
                out::data(&format!("of another tool: {path}\n"));
            }
        }
    }
    Ok(Exit::Done)
}

pub(super) fn show(global: &Global, id: &str, format: Format) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let generation = find_backup(&cx.host(), id_of(&cx, id)?)?;
    let is_part = generation.state == GenState::Part;
    let elsewhere = copies_elsewhere(&generation).map_err(BackupJobError::from)?;
    let shown = Backup {
        version: 1,
        node: cx.node().spec.name.to_string(),
        entry: entry(&generation),
        path: if is_part {
            &generation.paths.part
        } else {
            &generation.paths.done
        }
        .display()
        .to_string(),
        elsewhere: elsewhere.iter().map(|p| p.display().to_string()).collect(),
        contents: if is_part {
            None
        } else {
            Some(contents(&generation.paths).map_err(BackupJobError::from)?)
        },
        verdict: generation.verdict.clone(),
    };
    match format {
        Format::Json => out::json(&shown),
        Format::Human => out::data(&text(&shown)),
    }
    Ok(Exit::Done)
}

fn text(shown: &Backup) -> String {
    let e = &shown.entry;
    let mut text = String::new();
    let mut row = |key: &str, value: &str| text.push_str(&format!("{key:<10} {value}\n"));
    row("generation", &e.id);
    let marks = remarks(e);
    let state = e.state.word();
    row(
        "state",
        &if marks.is_empty() {
            state.to_owned()
        } else {
            format!("{state}, {marks}")
        },
    );
    row("label", &e.label);
    row("release", e.release.as_deref().unwrap_or("unknown"));
    row("begun", &rfc3339(e.created_at));
    if let Some(c) = &shown.contents {
        if c.sealed_at > 0 {
            row("sealed", &rfc3339(c.sealed_at));
        }
        if let Some(height) = c.height {
            row("height", &height.to_string());
        }
        let size = bytesize::ByteSize(c.bytes);
        row("contents", &format!("{} files, {size}", c.files));
    }
    match &shown.verdict {
        None => row("verified", "not yet"),
        Some(v) => {
            let found = format!(
                "{}: {} files, {}; {} compared with their sources",
                rfc3339(v.at),
                v.files,
                bytesize::ByteSize(v.bytes),
                v.proved
            );
            row("verified", &found);
            for bad in &v.bad {
                row("bad", bad);
            }
        }
    }
    row("path", &shown.path);
    for dir in &shown.elsewhere {
        row("and", dir);
    }
    text
}
