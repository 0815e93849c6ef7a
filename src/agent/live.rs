//! What a visor that keeps a node does and waits for at this moment, for those who ask while it works.
//!
//! Keeper and engine write it, in passing; whoever answers questions reads it. Nothing is decided by it.

use crate::host::wall_clock;
use crate::model::UnixMs;
use crate::step::Notice;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So much of the chain's past is looked back on to guess when a height comes.
const REMEMBER_MS: u64 = 10 * 60 * 1000;
const HEADS: usize = 64;

/// A text, and since when it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Since {
    pub what: String,
    pub since: UnixMs,
}

/// When something is tried again, and why not before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NextTry {
    pub at: UnixMs,
    pub why: String,
    /// It was the machine that would not do it, not the node that ended.
    pub refused: bool,
}

impl NextTry {
    pub(super) fn after(pause: Duration, why: &str, refused: bool) -> Self {
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Self {
            at: wall_clock().saturating_add(pause),
            why: why.to_owned(),
            refused,
        }
    }
}

/// What visor does at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Now {
    /// The step that is under way.
    pub doing: Option<Since>,
    /// What it said last of that, or of a stop.
    pub said: Option<Since>,
    /// What it waits for, each with its reason.
    pub waits: Vec<Since>,
    /// When a node that does not run is started again.
    pub next_start: Option<NextTry>,
    /// When the engine tries again what the machine would not do.
    pub next_look: Option<NextTry>,
    /// The node's ends that count against `restart.max`.
    pub ends: u32,
    /// Why the manifests as they are now are not used.
    pub set_problem: Option<Since>,
    /// The number of the look at everything that began last.
    pub begun: u64,
    /// The number of the last look after which there was no more to do at once.
    pub looks: u64,
}

/// The place where it is written.
#[derive(Debug, Default)]
pub struct Live(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    now: Now,
    heads: VecDeque<(UnixMs, u64)>,
}

impl Live {
    /// A panic elsewhere must not take the answers away.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Now {
        self.state().now.clone()
    }

    /// What visor says while it does one thing.
    pub fn said(&self, text: &str) {
        self.state().now.said = Some(since(text));
    }

    pub fn set_problem(&self, text: &str) {
        let mut state = self.state();
        state.now.set_problem = match state.now.set_problem.take() {
            _ if text.is_empty() => None,
            Some(known) if known.what == text => Some(known),
            _ => Some(since(text)),
        };
    }

    pub fn next_start(&self, next: Option<NextTry>, ends: usize) {
        let mut state = self.state();
        state.now.next_start = next;
        state.now.ends = u32::try_from(ends).unwrap_or(u32::MAX);
    }

    /// What the engine tells.
    pub fn notice(&self, notice: &Notice<'_>) {
        let now = &mut self.state().now;
        match notice {
            Notice::Began(step) => {
                now.doing = Some(since(&step.name));
                now.said = None;
                now.waits.clear();
            }
            Notice::Looks => now.begun += 1,
            Notice::Progress(_, text) => now.said = Some(since(text)),
            Notice::Ended(..) | Notice::Failed(..) => {
                (now.doing, now.said, now.next_look) = (None, None, None);
            }
            Notice::Waiting(why) => {
                let known = std::mem::take(&mut now.waits);
                let since_when = |what: &String| {
                    let same = known
                        .iter()
                        .find(|k| without_head(&k.what) == without_head(what));
                    same.map_or_else(wall_clock, |k| k.since)
                };
                let waits = why.iter().map(|what| Since {
                    what: what.clone(),
                    since: since_when(what),
                });
                now.waits = waits.collect();
                (now.doing, now.said, now.next_look) = (None, None, None);
                now.looks = now.begun;
            }
            Notice::Undo { cause, .. } => now.said = Some(since(&format!("rolling back: {cause}"))),
            Notice::Stuck { .. } => {
                (now.doing, now.said, now.next_look) = (None, None, None);
                now.waits.clear();
                now.looks = now.begun;
            }
            Notice::Refused { why, again_in } => {
                (now.doing, now.said) = (None, None);
                now.next_look = Some(NextTry::after(*again_in, why, true));
            }
            Notice::Warn(_) => {}
        }
    }

    /// Remembers a head, and guesses from those remembered when a height will be there.
    pub fn when(&self, head: u64, height: u64) -> Option<UnixMs> {
        let mut state = self.state();
        let now = wall_clock();
        let heads = &mut state.heads;
        if heads
            .back()
            .is_some_and(|(at, last)| *last > head || *at > now)
        {
            heads.clear();
        }
        if heads.back().is_none_or(|(_, last)| *last < head) {
            heads.push_back((now, head));
        }
        while heads.len() > HEADS
            || heads
                .front()
                .is_some_and(|(at, _)| now.saturating_sub(*at) > REMEMBER_MS)
        {
            heads.pop_front();
        }
        let ((began, first), (last_at, last)) = (*heads.front()?, *heads.back()?);
        let (time, blocks) = (last_at - began, last - first);
        if blocks == 0 || height <= head {
            return None;
        }
        let left = u128::from(height - head) * u128::from(time) / u128::from(blocks);
        Some(now.saturating_add(u64::try_from(left).unwrap_or(u64::MAX)))
    }
}

fn since(text: &str) -> Since {
    Since {
        what: text.to_owned(),
        since: wall_clock(),
    }
}

/// A reason without the figures that move.
pub fn without_head(reason: &str) -> &str {
    let figures = [": the head is ", ": so far "];
    let end = figures.iter().find_map(|figure| reason.find(figure));
    &reason[..end.unwrap_or(reason.len())]
}
