//! How a command speaks of a node: through the visor that keeps it, or, where none does, by looking and noting itself.

use super::context::{Context, person};
use super::error::CliError;
use super::out;
use crate::control::{Client, ClientError, Noted, Request, Status, gather, note};
use crate::host::Nodes as _;
use crate::plan::Liveness;
use std::cell::Cell;
use std::time::{Duration, Instant};

pub(super) struct Reach<'a> {
    cx: &'a Context,
    visor: Option<Client>,
    /// It gave no answer once: it is not asked again.
    is_silent: Cell<bool>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(cx: &'a Context) -> Result<Self, CliError> {
        let visor = match Client::reach(&cx.layout) {
            Err(ClientError::Silent(why)) => {
                tell_silent(&why);
                None
            }
            other => other?,
        };
        Ok(Self {
            cx,
            visor,
            is_silent: Cell::new(false),
        })
    }

    /// The visor that answers for the node, if one does.
    pub(super) fn visor(&self) -> Option<&Client> {
        self.visor.as_ref().filter(|_| !self.is_silent.get())
    }

    /// Asks through the visor; without its answer in another way.
    fn either<T>(
        &self,
        through: impl FnOnce(&Client) -> Result<T, ClientError>,
        here: impl FnOnce() -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        match self.visor().map(through) {
            None => here(),
            Some(Err(ClientError::Silent(why))) => {
                self.is_silent.set(true);
                tell_silent(&why);
                here()
            }
            Some(answer) => Ok(answer?),
        }
    }

    pub(super) fn ask(&self, request: &Request) -> Result<Noted, CliError> {
        let by = person();
        self.either(
            |visor| visor.ask(request, &by),
            || Ok(note(self.cx.node(), &self.cx.host(), &by, request)?),
        )
    }

    pub(super) fn status(&self) -> Result<Status, CliError> {
        self.either(Client::status, || {
            Ok(gather(self.cx.node(), &self.cx.host(), None)?)
        })
    }

    pub(super) fn node(&self) -> Result<Liveness, CliError> {
        self.either(Client::node, || Ok(Liveness::from(self.cx.host().node()?)))
    }

    /// True once the node is as wanted; false when the time is over.
    pub(super) fn wait_for(
        &self,
        time: Duration,
        wanted: impl Fn(&Liveness) -> bool,
    ) -> Result<bool, CliError> {
        let began = Instant::now();
        while began.elapsed() < time {
            if wanted(&self.node()?) {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(false)
    }
}

fn tell_silent(why: &str) {
    out::line(&format!(
        "visor: the visor that keeps this node does not answer ({why}); what follows is from its records"
    ));
}
