//! The EVM RPC of devnode: what geth answers to the few methods that visor asks, and faults on demand.

#![expect(clippy::disallowed_methods, reason = "devnode listens on loopback")]

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the RPC knows of the node.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) height: AtomicU64,
    /// Milliseconds since the epoch.
    pub(super) at: AtomicU64,
    pub(super) release: String,
    /// Between two blocks.
    pub(super) block_ms: u64,
    /// A file that holds the fault of the moment: `hang`, `garbage`, `oversized`, `lie`, `syncing`, `error`, `stale`.
    pub(super) faults: Option<PathBuf>,
}

/// Serves until the process ends. Returns once the address is bound.
pub(super) fn serve(address: SocketAddr, head: Arc<Head>) -> std::io::Result<()> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(
                listener,
                Router::new().route("/", post(answer)).with_state(head),
            )
            .await
        })
    });
    Ok(())
}

async fn answer(State(head): State<Arc<Head>>, body: Bytes) -> Response {
    let fault = match &head.faults {
        Some(path) => std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned(),
        None => String::new(),
    };
    match fault.as_str() {
        "hang" => tokio::time::sleep(Duration::from_secs(3_600)).await,
        "garbage" => return "<html>502</html>".into_response(),
        "oversized" => return vec![b' '; 4 * 1024 * 1024].into_response(),
        "error" => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => {}
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let id = request.get("id").cloned().unwrap_or(Value::Null);
    let height = head.height.load(Ordering::Acquire);
    let hex = |n: u64| json!(format!("{n:#x}"));
    let result = match request.get("method").and_then(Value::as_str) {
        Some("eth_blockNumber") if fault == "lie" => hex(height + 1_000_000),
        Some("eth_blockNumber") => hex(height),
        Some("eth_getBlockByNumber") => {
            let age = if fault == "stale" { 3_600 } else { 0 };
            let wanted = request.pointer("/params/0").and_then(Value::as_str);
            let wanted = wanted.and_then(|t| u64::from_str_radix(t.strip_prefix("0x")?, 16).ok());
            let number = wanted.unwrap_or(height);
            if number > height {
                Value::Null
            } else {
                // As if all blocks had come in their time.
                let before = (height - number).saturating_mul(head.block_ms);
                let at = head.at.load(Ordering::Acquire).saturating_sub(before);
                json!({ "number": hex(number), "timestamp": hex(at / 1000 - age) })
            }
        }
        Some("eth_syncing") if fault == "syncing" => {
            json!({ "startingBlock": "0x0", "currentBlock": hex(height), "highestBlock": hex(height + 100) })
        }
        Some("eth_syncing") => json!(false),
        Some("web3_clientVersion") => json!(format!("devnode/{}", head.release)),
        Some("eth_chainId") => json!("0x539"),
        Some("net_version") => json!("1337"),
        other => {
            let message = format!(
                "the method {} does not exist/is not available",
                other.unwrap_or("")
            );
            return json_response(
                &json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": message } }),
            );
        }
    };
    json_response(&json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

fn json_response(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}
