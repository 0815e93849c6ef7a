//! The timeline of a run, for people.

use crate::engine::Timeline;
use crate::model::human_ms;
use std::fmt::Write as _;

pub(super) const LEGEND: &str = "█ the node is down or not yet healthy   ░ it serves";

/// A line a step, and the outage in its parts.
pub(super) fn timeline_text(t: &Timeline) -> String {
    let mut out = String::new();
    let zero = t.rows.first().map_or(0, |row| row.began);
    for row in &t.rows {
        let bar = if row.inside_outage { '█' } else { '░' };
        let note = row
            .note
            .as_deref()
            .and_then(|n| n.lines().next())
            .map(|n| format!("  {n}"))
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "  {bar} {:>9}  {:<24} {:>8}{note}",
            format!("+{}", human_ms(row.began.saturating_sub(zero))),
            row.step,
            human_ms(row.ms)
        );
    }
    if let (Some(stop), Some(start), Some(between)) = (t.stop_ms, t.start_ms, t.between_ms) {
        let _ = writeln!(
            out,
            "  the node's own stop {} and start {}; visor between them {}",
            human_ms(stop),
            human_ms(start),
            human_ms(between)
        );
    }
    out
}
