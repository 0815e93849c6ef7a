//! What a run tells those who watch it.

use crate::plan::Step;
use std::time::Duration;

/// One thing worth showing.
#[derive(Debug)]
pub enum Notice<'a> {
    /// Manifests, machine and chain are looked at.
    Looks,
    Began(&'a Step),
    /// What a long step is doing right now; replaces the last such line.
    Progress(&'a Step, String),
    Ended(&'a Step, u64, Option<String>),
    Failed(&'a Step, &'a str),
    /// Nothing more can be done now: gates that are closed, each with its reason; none when nothing is left to do.
    Waiting(&'a [String]),
    /// The run turns back.
    Undo {
        cause: &'a str,
        restore: bool,
    },
    Stuck {
        step: &'a Step,
        reason: &'a str,
    },
    /// The machine would not do what comes next; it is tried again after this time.
    Refused {
        why: &'a str,
        again_in: Duration,
    },
    /// Something went wrong that changes nothing.
    Warn(String),
}

pub trait Report {
    fn notice(&mut self, notice: Notice<'_>);
}

/// Shows nothing.
pub struct Silent;

impl Report for Silent {
    fn notice(&mut self, _: Notice<'_>) {}
}
