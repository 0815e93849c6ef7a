//! `visor logs`: what the node wrote, across the pieces that were cut out of its log.

use super::args::{Global, LogsOptions};
use super::context::Context;
use super::error::{CliError, Exit};
use crate::check::duration;
use crate::control::{Client, ClientError};
use crate::host::wall_clock;
use crate::model::UnixMs;
use crate::node::{LogQuery, show_log};
use std::io::{self, ErrorKind};

pub(super) fn logs(global: &Global, options: &LogsOptions) -> Result<Exit, CliError> {
    let cx = Context::open_node(global)?;
    let since = options.since.as_deref().map(time).transpose()?;
    let lines = match options.lines.as_str() {
        "all" => None,
        text => Some(text.parse::<usize>().map_err(|_| {
            CliError::usage(
                format!("`-n {text}` is not a number of lines"),
                "Write for example -n 100, or -n all.",
            )
        })?),
    };
    // Whoever asks for a time wants all of it.
    let lines = lines.filter(|_| since.is_none() || options.lines != LogsOptions::LINES);
    let query = LogQuery {
        since: since.unwrap_or(0),
        lines,
        follow: options.follow,
    };
    let mut out = io::stdout().lock();
    let shown = show_log(&cx.layout, query, &mut out, &|| true);
    let shown = match shown {
        // Those who may not read the files may ask the visor that keeps the node.
        Err(e) if e.source.kind() == ErrorKind::PermissionDenied => {
            match Client::reach(&cx.layout)? {
                Some(visor) => return through(visor.logs(query, &mut out)),
                None => Err(e),
            }
        }
        other => other,
    };
    match shown {
        // Whoever reads may go away at any time.
        Err(e) if e.source.kind() == ErrorKind::BrokenPipe => Ok(Exit::Done),
        other => Ok(other.map(|()| Exit::Done)?),
    }
}

fn through(shown: Result<(), ClientError>) -> Result<Exit, CliError> {
    match shown {
        Err(ClientError::Write(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(Exit::Done),
        other => Ok(other.map(|()| Exit::Done)?),
    }
}

/// A time: how long ago, or RFC 3339.
fn time(text: &str) -> Result<UnixMs, CliError> {
    if let Some(ago) = duration(text) {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(wall_clock().saturating_sub(ago));
    }
    let at = text.parse::<jiff::Timestamp>().ok();
    at.and_then(|t| u64::try_from(t.as_millisecond()).ok())
        .ok_or_else(|| {
            CliError::usage(
                format!("`--since {text}` is neither a duration nor a time"),
                "Write for example --since 10m or --since 2026-11-25T08:00:00Z.",
            )
        })
}
