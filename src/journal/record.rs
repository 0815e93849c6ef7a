//! Records and their bytes.

use crate::model::{Answer, GenId, StartId, UnixMs};
use crate::plan::StepId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The format of `journal.jsonl`. 1: first.
pub const JOURNAL_VERSION: u32 = 1;

/// How a run ended. A closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The new release is in place and was healthy.
    Committed,
    /// The old release is in place and was healthy again; data as they were.
    RolledBack,
    /// Given up before the node was touched; may be tried again.
    Abandoned,
    /// Cancelled before the node was touched, by an operator or because its copy was late.
    Cancelled,
    /// A person resolved a stuck run by leaving the machine as it is.
    GivenUp,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled-back",
            Self::Abandoned => "abandoned",
            Self::Cancelled => "cancelled",
            Self::GivenUp => "given-up",
        })
    }
}

/// The one intent of the critical section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub steps: Vec<StepId>,
    /// The start that is about to be ended, if the node runs.
    pub old_start: Option<StartId>,
    /// The start of the node to come.
    pub new_start: StartId,
    /// The last head seen of the old release.
    pub old_head: Option<u64>,
    /// What the last gate saw. The intent ends the pre-copy and the chain's gate: they have no end record of their own.
    #[serde(default)]
    pub seen: String,
}

/// The decision to go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    pub cause: String,
    /// True when something may have written to the data after the seal.
    pub restore: bool,
    /// The start of the old release to come.
    pub start: StartId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Opened {
        version: u32,
        plan: String,
        generation: GenId,
        /// The command that opened the run, and for whom.
        #[serde(default)]
        by: String,
    },
    /// A step is about to have its effect.
    Began {
        step: StepId,
        attempt: u32,
    },
    Ended {
        step: StepId,
        began: UnixMs,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Figures of the step: times in Unix milliseconds, sizes in bytes, counts.
        #[serde(default)]
        facts: BTreeMap<String, u64>,
    },
    Failed {
        step: StepId,
        error: String,
    },
    Intent(Intent),
    /// The node is started once more in the same run: after a power loss, or after an operator stopped it.
    Restart {
        start: StartId,
        why: String,
    },
    /// The node is stopped by the operator although the run goes on later.
    Paused {
        why: String,
    },
    Undo(Undo),
    /// Inodes of the live data directory and of the generation's, before they are exchanged.
    Restore {
        live: u64,
        generation: u64,
    },
    Stuck {
        step: StepId,
        reason: String,
    },
    Resolved {
        answer: Answer,
        by: String,
        reason: String,
    },
    Closed {
        outcome: Outcome,
        detail: String,
    },
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub seq: u64,
    pub at: UnixMs,
    pub event: Event,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("line {line} of the journal is damaged ({what}); only the last line may be")]
    Damaged { line: usize, what: &'static str },
    #[error("line {line} of the journal is not a record that this visor knows")]
    Unknown {
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("line {line} of the journal has number {found}, expected {expected}")]
    Gap {
        line: usize,
        found: u64,
        expected: u64,
    },
    #[error("the journal has format version {0}, this visor writes {JOURNAL_VERSION}")]
    Newer(u32),
}

const HEAD: &str = "{\"crc\":\"";
const HEAD_LEN: usize = HEAD.len() + 8 + 2;

/// The line of a record, with its newline.
pub fn encode(record: &Record) -> Vec<u8> {
    let json = serde_json::to_string(record).expect("records hold nothing that JSON cannot say");
    let rest = &json[1..];
    format!("{HEAD}{:08x}\",{rest}\n", crc32fast::hash(rest.as_bytes())).into_bytes()
}

/// Reads a journal's bytes: its records, and how many bytes of them are whole. What follows is a torn last line.
pub fn decode(bytes: &[u8]) -> Result<(Vec<Record>, usize), JournalError> {
    let mut records = Vec::new();
    let mut whole = 0;
    // Reserved space that a file system did not hide reads as zeros behind the last record.
    let bytes = bytes.strip_suffix(&[0]).map_or(bytes, |b| {
        let end = b.iter().rposition(|&c| c != 0).map_or(0, |i| i + 1);
        &bytes[..end]
    });
    let n_lines = bytes.split_inclusive(|&b| b == b'\n').count();
    for (index, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let number = index + 1;
        match body(line) {
            Ok(body) => {
                let json = [b"{", body].concat();
                let record: Record =
                    serde_json::from_slice(&json).map_err(|source| JournalError::Unknown {
                        line: number,
                        source,
                    })?;
                let expected = records.len() as u64;
                if record.seq != expected {
                    return Err(JournalError::Gap {
                        line: number,
                        found: record.seq,
                        expected,
                    });
                }
                records.push(record);
                whole += line.len();
            }
            Err(_) if number == n_lines => break,
            Err(what) => return Err(JournalError::Damaged { line: number, what }),
        }
    }
    if let Some(Record {
        event: Event::Opened { version, .. },
        ..
    }) = records.first()
        && *version > JOURNAL_VERSION
    {
        return Err(JournalError::Newer(*version));
    }
    Ok((records, whole))
}

fn body(line: &[u8]) -> Result<&[u8], &'static str> {
    let line = line.strip_suffix(b"\n").ok_or("no line end")?;
    let head = line.get(..HEAD_LEN).ok_or("too short")?;
    let crc = head
        .strip_prefix(HEAD.as_bytes())
        .and_then(|h| h.get(..8))
        .and_then(|h| std::str::from_utf8(h).ok())
        .and_then(|h| u32::from_str_radix(h, 16).ok())
        .ok_or("no checksum")?;
    let body = &line[HEAD_LEN..];
    if crc32fast::hash(body) == crc {
        Ok(body)
    } else {
        Err("wrong checksum")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<Record> {
        let step = StepId("5c1e".into());
        [
            Event::Opened {
                version: 1,
                plan: "9f".into(),
                generation: GenId(ulid::Ulid::from_parts(1, 2)),
                by: "visor run".into(),
            },
            Event::Began {
                step: step.clone(),
                attempt: 1,
            },
            Event::Ended {
                step,
                began: 4,
                note: None,
                facts: BTreeMap::from([("bytes".into(), 7)]),
            },
        ]
        .into_iter()
        .zip(0..)
        .map(|(event, seq)| Record {
            seq,
            at: 1_790_000_000_000 + seq,
            event,
        })
        .collect()
    }

    fn bytes() -> Vec<u8> {
        three().iter().flat_map(encode).collect()
    }

    #[test]
    fn every_cut_leaves_the_whole_records_before_it() {
        let bytes = bytes();
        let ends: Vec<usize> = bytes
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .map(|(i, _)| i + 1)
            .collect();
        for cut in 0..=bytes.len() {
            let (records, whole) = decode(&bytes[..cut]).expect("a cut is no damage");
            let n = ends.iter().filter(|&&e| e <= cut).count();
            assert_eq!(
                (records.len(), whole),
                (n, if n == 0 { 0 } else { ends[n - 1] }),
                "cut at {cut}"
            );
            assert_eq!(records, three()[..n]);
        }
    }

    #[test]
    fn damage_in_the_middle_is_an_error() {
        let mut bytes = bytes();
        bytes[40] ^= 1;
        assert!(matches!(
            decode(&bytes),
            Err(JournalError::Damaged { line: 1, .. })
        ));
    }

    #[test]
    fn reserved_zeros_behind_the_last_record_do_not_count() {
        let mut padded = bytes();
        let len = padded.len();
        padded.resize(len + 4096, 0);
        assert_eq!(
            decode(&padded).map(|(r, n)| (r.len(), n)).ok(),
            Some((3, len))
        );
    }

    #[test]
    fn a_newer_journal_is_refused_and_an_unknown_field_is_not() {
        let newer = Event::Opened {
            version: 2,
            plan: String::new(),
            generation: GenId(ulid::Ulid::nil()),
            by: String::new(),
        };
        let line = encode(&Record {
            seq: 0,
            at: 0,
            event: newer,
        });
        assert!(matches!(decode(&line), Err(JournalError::Newer(2))));
        let rest = "\"seq\":0,\"at\":1,\"colour\":\"red\",\"event\":{\"paused\":{\"why\":\"x\",\"more\":1}}}";
        let line = format!("{HEAD}{:08x}\",{rest}\n", crc32fast::hash(rest.as_bytes()));
        assert_eq!(decode(line.as_bytes()).map(|(r, _)| r.len()).ok(), Some(1));
    }
}
