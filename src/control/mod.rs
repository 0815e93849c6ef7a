//! The control socket of a visor that keeps a node: HTTP over `state/control.sock`.
//!
//! It answers from threads of its own, so it answers whatever keeper and engine are doing. It decides nothing: what an operator wishes
//! is noted as the commands note it (`request`), and the visor that works on the node acts on it.
//!
//! ```text
//! GET  /v1/status                         ▸ Status
//! GET  /v1/node                           ▸ Liveness: the process alone, without asking the chain
//! GET  /v1/logs?since=&lines=&follow=     ▸ the node's log, as text
//! POST /v1/requests   Ask                 ▸ Noted, or 409 with a Refusal
//! ```
//!
//! The documents are those of `visor schema control` and `visor schema status`. Whoever may not speak here gets 403; the kernel says who
//! it is. The socket is 0600, or 0660 for the group that the manifest names.

mod client;
mod peer;
mod request;
mod server;
mod states;
mod status;

pub use client::{Client, ClientError};
pub use request::{Ask, Noted, Refusal, Request, RequestError, note, restart_is_possible};
pub use server::{Server, ServerError};
pub use states::{Standing, State, night_shift_page};
pub use status::{ChainStatus, LastRun, Next, RunStatus, Status, gather};
