//! Starting and stopping the node outside a run.

use crate::check::DesiredNode;
use crate::host::{
    Chains as _, Clock as _, HostError, NodeState, Nodes as _, RealHost, StopReport,
};
use crate::model::{ChainSpec, StartId};
use crate::observe::describe_holder;
use crate::plan::expand_launch;
use crate::step::{StepError, await_clear};
use std::time::Duration;

/// How long a started node may take to answer before a pass goes on without.
const ANSWER_WITHIN_MS: u64 = 15_000;

/// Starts the node from `current` if it does not run, and waits a while for its first answer. True when it was started.
pub fn start_node(node: &DesiredNode, host: &RealHost) -> Result<bool, HostError> {
    let clear = await_clear(host).map_err(plain)?;
    if matches!(clear, NodeState::Running { .. }) {
        return Ok(false);
    }
    if let Some(holder) = host.foreign_holder()? {
        return Err(HostError::Failed(format!(
            "the node is not started: {}, and visor did not start it",
            describe_holder(&holder)
        )));
    }
    let start = StartId(host.new_ulid());
    host.start(start, &expand_launch(&node.spec))?;
    let began = host.now();
    while node.spec.chain != ChainSpec::None && host.now().saturating_sub(began) < ANSWER_WITHIN_MS
    {
        let alive = matches!(host.node()?, NodeState::Running { start: s, .. } if s == start);
        if !alive || host.chain(&node.spec.chain).head.known().is_some() {
            break;
        }
        host.pause(Duration::from_millis(50))?;
    }
    Ok(true)
}

/// Stops the node by its policy; `Ok(None)` when it lives on although the policy is spent.
pub fn stop_node(node: &DesiredNode, host: &RealHost) -> Result<Option<StopReport>, HostError> {
    match await_clear(host) {
        // What lives on though its process has ended is ended too.
        Ok(_) | Err(StepError::Stuck(_)) => {}
        Err(other) => return Err(plain(other)),
    }
    let stopped = host.stop(&node.spec.stop)?;
    if let NodeState::Gone {
        last: Some(last), ..
    } = host.node()?
    {
        host.mark_gone(last)?;
    }
    Ok(stopped)
}

fn plain(error: StepError) -> HostError {
    match error {
        StepError::Host(host) => host,
        other => HostError::Failed(other.to_string()),
    }
}
