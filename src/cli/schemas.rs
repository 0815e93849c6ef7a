//! The JSON Schemas of what visor reads and prints, as published in `schemas/`.

use super::backup::{Backup, Backups};
use super::batch::{Batch, BatchList, BatchStatus};
use super::history::{History, Shown};
use super::rehearse::Rehearsal;
use super::upgrade::List;
use crate::control::{Ask, Noted, Refusal, Status};
use crate::diag::findings_schema;
use crate::manifest::schema_text;
use crate::plan::{Diff, Liveness, Plan, SavedPlan};
use clap::ValueEnum;
use schemars::{JsonSchema, schema_for};

/// A form that programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// Manifest files
    Manifest,
    /// `plan check --format json`
    Findings,
    /// `plan diff --format json`
    Diff,
    /// `plan show --format json`
    Plans,
    /// `plan diff --out`
    SavedPlan,
    /// `status --format json`, and `GET /v1/status` of the control socket
    Status,
    /// What the control socket takes and gives: `Ask`, `Noted`, `Refusal`, `Liveness`
    Control,
    /// `upgrade list --format json`
    Upgrades,
    /// `backup list --format json`
    Backups,
    /// `backup show --format json`
    Backup,
    /// `batch show --format json`
    Batch,
    /// `batch status --format json`
    BatchStatus,
    /// `batch list --format json`
    Batches,
    /// `history --format json`
    History,
    /// `history show --format json`
    Run,
    /// `rehearse --format json`
    Rehearsal,
}

impl SchemaOf {
    pub const ALL: &[Self] = &[
        Self::Manifest,
        Self::Findings,
        Self::Diff,
        Self::Plans,
        Self::SavedPlan,
        Self::Status,
        Self::Control,
        Self::Upgrades,
        Self::Backups,
        Self::Backup,
        Self::Batch,
        Self::BatchStatus,
        Self::Batches,
        Self::History,
        Self::Run,
        Self::Rehearsal,
    ];

    /// Its file in `schemas/`.
    pub fn file_name(self) -> String {
        let word = self.to_possible_value().map(|v| v.get_name().to_owned());
        format!("{}.v1.json", word.unwrap_or_default())
    }

    pub fn text(self) -> String {
        match self {
            Self::Manifest => schema_text(),
            Self::Findings => findings_schema(),
            Self::Diff => of::<Diff>(),
            Self::Plans => of::<Vec<Plan>>(),
            Self::SavedPlan => of::<SavedPlan>(),
            Self::Status => of::<Status>(),
            Self::Control => of::<Control>(),
            Self::Upgrades => of::<List>(),
            Self::Backups => of::<Backups>(),
            Self::Backup => of::<Backup>(),
            Self::Batch => of::<Batch>(),
            Self::BatchStatus => of::<BatchStatus>(),
            Self::Batches => of::<BatchList>(),
            Self::History => of::<History>(),
            Self::Run => of::<Shown>(),
            Self::Rehearsal => of::<Rehearsal>(),
        }
    }
}

/// The documents of the control socket.
#[derive(JsonSchema)]
#[schemars(title = "visor control")]
#[expect(dead_code, reason = "only its schema is used")]
enum Control {
    /// The body of `POST /v1/requests`.
    Ask(Ask),
    /// Its answer, 200.
    Noted(Noted),
    /// Its answer, 409, and that of whatever else fails.
    Refusal(Refusal),
    /// The answer of `GET /v1/node`.
    Node(Liveness),
}

fn of<T: JsonSchema>() -> String {
    serde_json::to_string_pretty(&schema_for!(T)).expect("plain data") + "\n"
}
