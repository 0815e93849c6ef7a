//! Durations and sizes in manifests.

use super::local::Local;
use crate::diag::{Code, Finding, Place};
use std::time::Duration;

/// A duration such as `30s`, `1h 30m`, `500ms`; more than nothing is not asked for.
pub fn duration(text: &str) -> Option<Duration> {
    plain_duration(text).or_else(|| any_duration(text))
}

/// A number and a unit, as nearly all of them are written: without the cost of a parser for every form.
fn plain_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    // More could be too much for a span of time.
    let number: u64 = number.parse::<u32>().ok()?.into();
    Some(match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3_600),
        _ => return None,
    })
}

fn any_duration(text: &str) -> Option<Duration> {
    if text.trim_start().starts_with(['-', '+', 'P', 'p']) || text.contains("ago") {
        return None;
    }
    let parsed: jiff::Span = text.trim().parse().ok()?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    Duration::try_from(parsed.to_duration(days).ok()?).ok()
}

/// The same, written back.
pub fn duration_text(d: Duration) -> String {
    let ms = u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    if ms % 60_000 == 0 && ms > 0 {
        format!("{}m", ms / 60_000)
    } else if ms % 1_000 == 0 {
        format!("{}s", ms / 1_000)
    } else {
        format!("{ms}ms")
    }
}

impl Local<'_> {
    /// A duration of a manifest, or its default.
    pub(super) fn duration(
        &mut self,
        key: &str,
        text: Option<&str>,
        default: &str,
        place: impl FnOnce() -> Place,
    ) -> Duration {
        let text = text.unwrap_or(default);
        duration(text).unwrap_or_else(|| {
            let message = format!(
                "`{key}` wants a duration such as \"30s\" or \"1h 30m\"; this is \"{text}\""
            );
            let help = "Write a number with one of ms, s, m, h, d.";
            self.push(Finding::error(Code::BadDuration, place(), message, help));
            Duration::ZERO
        })
    }

    /// The same for a time in which something has to happen: not nothing.
    pub(super) fn time_limit(
        &mut self,
        key: &str,
        text: Option<&str>,
        default: &str,
        place: impl Fn() -> Place,
    ) -> Duration {
        let found = self.duration(key, text, default, &place);
        if found.is_zero() && text.is_some_and(|t| duration(t).is_some()) {
            let message = format!("`{key}` is no time at all");
            let help = format!("Write for example \"{default}\".");
            self.push(Finding::error(Code::BadDuration, place(), message, help));
        }
        found
    }

    pub(super) fn size(
        &mut self,
        key: &str,
        text: Option<&str>,
        default: &str,
        place: impl FnOnce() -> Place,
    ) -> u64 {
        let text = text.unwrap_or(default);
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) if size.0 > 0 => size.0,
            _ => {
                let message = format!(
                    "`{key}` wants a size such as \"200MiB\" or \"1GB\"; this is \"{text}\""
                );
                self.push(Finding::error(
                    Code::BadSize,
                    place(),
                    message,
                    "Write a number with one of B, KB, MB, GB, KiB, MiB, GiB.",
                ));
                1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_odd_ones_refused() {
        for (text, ms) in [
            ("30s", 30_000),
            ("1h 30m", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
            ("1d", 86_400_000),
            ("1 day 2h", 93_600_000),
        ] {
            let want = Some(Duration::from_millis(ms));
            assert_eq!(duration(text), want, "{text}");
            assert_eq!(any_duration(text), want, "{text}");
        }
        for bad in ["", "60 parsecs", "5", "-1s", "PT5M", "5s ago", "1 month"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
