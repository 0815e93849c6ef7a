//! Ethereum's JSON-RPC, as geth and its descendants speak it (`eth_blockNumber`, `eth_getBlockByNumber`, `eth_syncing`).

#![expect(
    clippy::disallowed_methods,
    reason = "this capability asks the network"
)]

use crate::model::UnixMs;
use crate::plan::{ChainFacts, Fact};
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::Duration;

/// A client with a connection that is kept; one a thread.
#[derive(Debug)]
pub struct EvmClient {
    agent: ureq::Agent,
    next_id: Cell<u64>,
}

/// A node on loopback that needs longer is not well.
const TIMEOUT: Duration = Duration::from_secs(3);
const MAX_BODY: u64 = 1024 * 1024;
/// A head this far in the future says that a clock is wrong.
const MAX_AHEAD_MS: u64 = 15_000;

/// Blocks over which a block time is measured.
const SAMPLE: u64 = 500;

impl Default for EvmClient {
    fn default() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .build();
        Self {
            agent: ureq::Agent::new_with_config(config),
            next_id: Cell::new(1),
        }
    }
}

impl EvmClient {
    /// One look at the chain. `now` is compared with the head's timestamp.
    pub fn look(&self, rpc: &str, now: impl Fn() -> UnixMs) -> ChainFacts {
        let number = match self.height(rpc) {
            Ok(number) => number,
            Err(why) => return ChainFacts::unknown(&why),
        };
        let block = self
            .call(rpc, "eth_getBlockByNumber", &json!(["latest", false]))
            .and_then(|b| header(&b));
        let (head, head_age) = match block {
            Err(why) => (Fact::Known(number), Fact::Unknown(why)),
            Ok((latest, _)) if latest < number => {
                let why =
                    format!("eth_blockNumber says {number}, the latest block has number {latest}");
                (Fact::Unknown(why.clone()), Fact::Unknown(why))
            }
            Ok((latest, seconds)) => (Fact::Known(latest), age(seconds, now())),
        };
        let syncing = match self
            .call(rpc, "eth_syncing", &json!([]))
            .and_then(|v| syncing(&v))
        {
            Ok(syncing) => Fact::Known(syncing),
            Err(why) => Fact::Unknown(why),
        };
        ChainFacts {
            head,
            syncing,
            head_age,
        }
    }

    /// Mean time between the last blocks, at most `SAMPLE` of them; with stamps of whole seconds.
    pub fn block_time(&self, rpc: &str) -> Result<Duration, String> {
        let at = |block: &str| {
            self.call(rpc, "eth_getBlockByNumber", &json!([block, false]))
                .and_then(|b| header(&b))
        };
        let (head, last) = at("latest")?;
        let back = head.min(SAMPLE);
        let (from, first) = at(&format!("{:#x}", head - back))?;
        let (blocks, seconds) = (head.saturating_sub(from), last.saturating_sub(first));
        if blocks == 0 || seconds == 0 {
            return Err("the chain is too young to tell its block time".into());
        }
        Ok(Duration::from_millis(seconds.saturating_mul(1000) / blocks))
    }

    /// The height alone.
    pub fn height(&self, rpc: &str) -> Result<u64, String> {
        self.call(rpc, "eth_blockNumber", &json!([]))
            .and_then(|v| quantity(&v))
    }

    fn call(&self, rpc: &str, method: &str, params: &Value) -> Result<Value, String> {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let body =
            json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        let sent = self
            .agent
            .post(rpc)
            .header("content-type", "application/json")
            .send(body.as_bytes());
        let mut response = sent.map_err(|e| format!("{method}: {e}"))?;
        if response.status() != 200 {
            return Err(format!("{method}: answered HTTP {}", response.status()));
        }
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_BODY)
            .read_to_vec()
            .map_err(|e| format!("{method}: {e}"))?;
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|_| format!("{method}: the answer is not JSON"))?;
        if answer.get("id") != Some(&json!(id)) {
            return Err(format!("{method}: the answer is to another question"));
        }
        if let Some(error) = answer.get("error") {
            let text: String = error.to_string().chars().take(200).collect();
            return Err(format!("{method}: {text}"));
        }
        answer
            .get("result")
            .cloned()
            .ok_or_else(|| format!("{method}: the answer has no result"))
    }
}

/// A hex quantity: `0x1b4`.
fn quantity(value: &Value) -> Result<u64, String> {
    let odd = || format!("`{}` is not a hex quantity", short(value));
    let digits = value
        .as_str()
        .and_then(|t| t.strip_prefix("0x"))
        .ok_or_else(odd)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(odd());
    }
    u64::from_str_radix(digits, 16).map_err(|_| odd())
}

/// Number and timestamp (seconds) of a block.
fn header(block: &Value) -> Result<(u64, u64), String> {
    let field = |name: &str| {
        let value = block
            .get(name)
            .ok_or_else(|| format!("the latest block has no {name}"))?;
        quantity(value).map_err(|e| format!("{name} of the latest block: {e}"))
    };
    Ok((field("number")?, field("timestamp")?))
}

/// `false`, or an object with the block it is at and the highest it knows. An object at its own end is in sync: geth
/// keeps it while only its index lags.
fn syncing(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(false) => Ok(false),
        Value::Object(object) => {
            let field = |name: &str| {
                let value = object
                    .get(name)
                    .ok_or_else(|| format!("eth_syncing has no {name}"))?;
                quantity(value).map_err(|e| format!("{name} of eth_syncing: {e}"))
            };
            Ok(field("currentBlock")? < field("highestBlock")?)
        }
        other => Err(format!("eth_syncing answered `{}`", short(other))),
    }
}

fn age(seconds: u64, now: UnixMs) -> Fact<Duration> {
    let stamp = seconds.saturating_mul(1000);
    if stamp > now.saturating_add(MAX_AHEAD_MS) {
        let ahead = (stamp - now) / 1000;
        return Fact::Unknown(format!("the head's timestamp is {ahead} s in the future"));
    }
    Fact::Known(Duration::from_millis(now.saturating_sub(stamp)))
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_answers_are_unknown() {
        assert_eq!(quantity(&json!("0x1b4")), Ok(436));
        for odd in [
            json!("0x"),
            json!("1b4"),
            json!(436),
            json!(null),
            json!("0x+1"),
            json!("0x10000000000000000"),
        ] {
            assert!(quantity(&odd).is_err(), "{odd}");
        }
        assert_eq!(syncing(&json!(false)), Ok(false));
        assert_eq!(
            syncing(&json!({"currentBlock": "0x1", "highestBlock": "0x2"})),
            Ok(true)
        );
        assert_eq!(
            syncing(&json!({"currentBlock": "0x2", "highestBlock": "0x2"})),
            Ok(false)
        );
        for odd in [json!(true), json!(null), json!({}), json!("no")] {
            assert!(syncing(&odd).is_err(), "{odd}");
        }
        assert_eq!(age(10, 12_500), Fact::Known(Duration::from_millis(2_500)));
        assert!(matches!(age(100, 12_500), Fact::Unknown(_)));
    }
}
