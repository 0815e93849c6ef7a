//! A hook as a step: attempts across crashes, retries, `once`.

use super::report::{Notice, Report};
use super::run::{Cx, StepEnd, StepError};
use crate::host::{HookCall, HookEnd, Host, HostError};
use crate::model::HookSpec;
use crate::plan::{Action, Step};
use std::collections::BTreeMap;

/// Runs a hook until it succeeds or its retries are used up. Attempts are numbered across crashes of visor.
pub fn run_hook_step<H: Host>(
    cx: &Cx<'_, H>,
    step: &Step,
    hook: &HookSpec,
    report: &mut dyn Report,
) -> Result<StepEnd, StepError> {
    let mut number = 0;
    if let Some(last) = cx.host.attempt(cx.run, &step.id)? {
        number = last.number;
        match last.ok {
            Some(true) => return Ok(StepEnd::note("had succeeded")),
            Some(false) => {}
            None => {
                match cx.host.reap_hook(cx.run, &step.id) {
                    Err(HostError::Failed(why)) => return Err(StepError::Stuck(why)),
                    other => other?,
                }
                if hook.once {
                    return Err(StepError::Stuck(format!(
                        "attempt {number} of hook {} was cut off, and with `once = true` it may not run again",
                        hook.name
                    )));
                }
            }
        }
    }
    let mut tries = 0;
    loop {
        number += 1;
        tries += 1;
        let call = HookCall {
            run: cx.run,
            step: step.id.clone(),
            attempt: number,
            vars: vars(cx, step, hook, number),
        };
        match cx.host.run_hook(hook, &call)? {
            HookEnd::Ok if number == 1 => return Ok(StepEnd::default()),
            HookEnd::Ok => return Ok(StepEnd::note(&format!("attempt {number}"))),
            HookEnd::Failed { what, output } => {
                let tail = if output.is_empty() {
                    String::new()
                } else {
                    format!("\n{}", indent(&output))
                };
                let text = format!("hook {} {what} (attempt {number}){tail}", hook.name);
                if tries > hook.retries {
                    return Err(StepError::Failed(text));
                }
                report.notice(Notice::Warn(format!(
                    "{text}\nnext attempt in {:?}",
                    hook.retry_delay
                )));
                cx.host.pause(hook.retry_delay)?;
            }
        }
    }
}

/// visor's variables, and those that scripts written for cosmovisor and wemixvisor expect.
fn vars<H: Host>(
    cx: &Cx<'_, H>,
    step: &Step,
    hook: &HookSpec,
    attempt: u32,
) -> BTreeMap<String, String> {
    let node = &cx.plan.node;
    let (upgrade, height) = match &cx.plan.action {
        Action::Upgrade { name, trigger, .. } => (name.to_string(), trigger.height().unwrap_or(0)),
        Action::Install { release, .. } => (release.to_string(), 0),
    };
    let info = serde_json::json!({ "name": upgrade, "height": height, "info": "" }).to_string();
    let path = |p: &std::path::Path| p.display().to_string();
    let mut vars = BTreeMap::new();
    let mut set = |key: &str, value: String| vars.insert(key.to_owned(), value);
    set("VISOR_NODE", node.name.to_string());
    set("VISOR_HOME", path(&node.home));
    set("VISOR_ROOT", path(&node.root));
    set("VISOR_DATA", path(&node.data.path));
    set("VISOR_RUN", cx.run.to_string());
    set("VISOR_PHASE", hook.phase.as_str().to_owned());
    set("VISOR_UPGRADE", upgrade.clone());
    set("VISOR_UPGRADE_HEIGHT", height.to_string());
    set("VISOR_ATTEMPT", attempt.to_string());
    set("VISOR_IDEMPOTENCY_KEY", format!("{}-{}", cx.run, step.id));
    if let Some(undo) = &cx.status.undo {
        set("VISOR_CAUSE", undo.cause.clone());
    }
    set("DAEMON_HOME", path(&node.home));
    set("DAEMON_NAME", node.launch.binary.clone());
    set("UPGRADE_NAME", upgrade);
    set("UPGRADE_HEIGHT", height.to_string());
    set("UPGRADE_INFO", info);
    vars
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|l| format!("    {l}"))
        .collect::<Vec<_>>()
        .join("\n")
}
