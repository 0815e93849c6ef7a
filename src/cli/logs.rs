//! `visor logs`: what the node wrote, across the pieces that were cut out of its log.

use super::args::{Global, LogsOptions};
use super::context::Context;
use super::error::{CliError, Exit};
use crate::check::duration;
use crate::host::wall_clock;
use crate::model::UnixMs;
use crate::node::read_all;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// Between two looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

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
    let kept = read_all(&cx.layout, since.unwrap_or(0))?;
    let mut out = io::stdout().lock();
    let shown = print(kept.parts, lines, &mut out).and_then(|()| out.flush());
    match shown {
        Ok(()) if options.follow => done(follow_on(&cx.layout.log(), kept.live, &mut out)),
        other => done(other),
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

/// Whoever reads may go away at any time.
fn done(result: io::Result<()>) -> Result<Exit, CliError> {
    match result {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(e) => Err(CliError::Machine(format!("the log cannot be shown: {e}"))),
        Ok(()) => Ok(Exit::Done),
    }
}

fn print(
    mut parts: Vec<Box<dyn BufRead>>,
    lines: Option<usize>,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let Some(wanted) = lines else {
        for part in &mut parts {
            io::copy(part, out)?;
        }
        return Ok(());
    };
    // From the end, so that old pieces are only read when they are needed.
    let mut last: VecDeque<Vec<u8>> = VecDeque::new();
    while let Some(mut part) = parts.pop() {
        let room = wanted - last.len();
        let mut of_part: VecDeque<Vec<u8>> = VecDeque::new();
        loop {
            let mut line = Vec::new();
            if part.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            of_part.push_back(line);
            if of_part.len() > room {
                of_part.pop_front();
            }
        }
        of_part.extend(last);
        last = of_part;
        if last.len() >= wanted {
            break;
        }
    }
    last.iter().try_for_each(|line| out.write_all(line))
}

/// Shows what comes behind a place; a log that was taken away or emptied is followed from its new beginning.
fn follow_on(log: &Path, live: Option<(File, u64)>, out: &mut impl io::Write) -> io::Result<()> {
    let mut file = None;
    if let Some((mut open, shown)) = live {
        open.seek(SeekFrom::Start(shown))?;
        file = Some(open);
    }
    loop {
        if let Some(file) = &mut file {
            io::copy(file, out)?;
            out.flush()?;
        }
        let is_same = match (&mut file, std::fs::metadata(log)) {
            (Some(file), Ok(now)) => {
                file.metadata()?.ino() == now.ino() && file.stream_position()? <= now.len()
            }
            (None, Err(_)) => true,
            (Some(_), Err(_)) | (None, Ok(_)) => false,
        };
        if !is_same {
            file = File::open(log).ok();
            if file.is_some() {
                continue;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
