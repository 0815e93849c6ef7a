//! What can end a command badly, and its exit code.

use super::out;
use crate::agent::{AgentError, BackupJobError, WishError};
use crate::control::{ClientError, Refusal, RequestError};
use crate::durable::PathError;
use crate::host::HostError;
use crate::observe::ObserveError;
use crate::rehearse::RehearseError;
use crate::source::SourceError;
use crate::store::{LockError, RecordError};
use std::process::ExitCode;

/// The exit codes; the numbers are for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    Findings = 1,
    Changes = 2,
    Blocked = 3,
    Stale = 4,
    RolledBack = 5,
    Stuck = 6,
    Interrupted = 7,
    Usage = 64,
    Error = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Wish(#[from] WishError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Control(#[from] ClientError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Rehearse(#[from] RehearseError),
    #[error(transparent)]
    Backup(#[from] BackupJobError),
    #[error("{what}")]
    Usage { what: String, help: String },
    #[error("{0}")]
    Machine(String),
}

impl CliError {
    pub(super) fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Usage {
            what: what.into(),
            help: help.into(),
        }
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Wish(WishError::Findings { .. }) => Exit::Findings,
            Self::Wish(
                WishError::WhichNode(_)
                | WishError::UnknownNode { .. }
                | WishError::NoNode(_)
                | WishError::Root(_),
            )
            | Self::Wish(WishError::Source(SourceError::Missing(_)))
            | Self::Source(SourceError::Missing(_))
            | Self::Control(ClientError::Refused(_))
            | Self::Request(RequestError::Refused(_))
            | Self::Backup(BackupJobError::Refused { .. })
            | Self::Usage { .. } => Exit::Usage,
            Self::Lock(LockError::Held(_)) | Self::Backup(BackupJobError::Blocked { .. }) => {
                Exit::Blocked
            }
            Self::Agent(AgentError::Host(HostError::Interrupted))
            | Self::Backup(BackupJobError::Host(HostError::Interrupted))
            | Self::Host(HostError::Interrupted) => Exit::Interrupted,
            Self::Wish(_)
            | Self::Lock(_)
            | Self::Agent(_)
            | Self::Observe(_)
            | Self::Record(_)
            | Self::Host(_)
            | Self::Source(_)
            | Self::Path(_)
            | Self::Rehearse(_)
            | Self::Backup(_)
            | Self::Control(_)
            | Self::Request(_)
            | Self::Machine(_) => Exit::Error,
        }
    }

    /// The message, its causes, and what to do.
    pub(super) fn print(&self) {
        if let Self::Wish(WishError::Findings {
            findings, files, ..
        }) = self
        {
            let style = out::style(&std::io::stderr());
            out::raw_note(&crate::diag::human(findings, files, style));
            return;
        }
        let mut text = format!("visor: {self}");
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(&format!("\n  because {cause}"));
            source = cause.source();
        }
        match self {
            Self::Control(ClientError::Refused(Refusal { help, .. }))
            | Self::Request(RequestError::Refused(Refusal { help, .. }))
            | Self::Backup(
                BackupJobError::Refused { help, .. } | BackupJobError::Blocked { help, .. },
            )
            | Self::Usage { help, .. } => text.push_str(&format!("\n  {help}")),
            Self::Control(ClientError::Closed(_)) => {
                text.push_str("\n  It is open to root, to visor's own user, and to the group that the node's `control = { group = … }` names.");
            }
            Self::Lock(LockError::Held(_)) => {
                text.push_str("\n  Wait for it, or tell it what to do: `visor stop`, `visor hold`, `visor upgrade approve`, `visor status`.");
            }
            _ => {}
        }
        out::note(&(text + "\n"));
    }
}
