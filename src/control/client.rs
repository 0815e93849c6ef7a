//! The asking side.

use super::request::{Ask, Noted, Refusal, Request};
use super::server::short;
use super::status::Status;
use crate::host::wall_clock;
use crate::node::LogQuery;
use crate::plan::Liveness;
use crate::store::Layout;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// Longer than any look that visor takes: the chain's answer is awaited for some seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{}", .0.what)]
    Refused(Refusal),
    /// Somebody listens there, and this user may not speak.
    #[error("{} is closed to you", .0.display())]
    Closed(PathBuf),
    /// Somebody listens there, and does not answer.
    #[error("the visor that keeps this node does not answer: {0}")]
    Silent(String),
    /// The answer was on its way when its reader went.
    #[error("the log cannot be shown")]
    Write(#[source] io::Error),
}

fn silent(error: impl std::fmt::Display) -> ClientError {
    ClientError::Silent(error.to_string())
}

/// A way to the visor that keeps a node.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    path: PathBuf,
    /// The visor that listens.
    pub pid: i32,
}

impl Client {
    /// `None` when nobody listens.
    pub fn reach(layout: &Layout) -> Result<Option<Self>, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(silent)?;
        let mut client = Self {
            runtime,
            path: layout.control(),
            pid: 0,
        };
        match client.runtime.block_on(client.connect()) {
            Ok(stream) => {
                let cred = stream.peer_cred().map_err(silent)?;
                client.pid = cred.pid().unwrap_or(0);
                Ok(Some(client))
            }
            Err(e) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&e.kind()) => {
                Ok(None)
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                Err(ClientError::Closed(client.path))
            }
            Err(e) => Err(silent(e)),
        }
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        let (_dir, short) = short(&self.path)?;
        UnixStream::connect(short).await
    }

    pub fn status(&self) -> Result<Status, ClientError> {
        self.document(Method::GET, "/v1/status", Bytes::new())
    }

    /// The process alone: cheap enough to ask often.
    pub fn node(&self) -> Result<Liveness, ClientError> {
        self.document(Method::GET, "/v1/node", Bytes::new())
    }

    pub fn ask(&self, request: &Request, person: &str) -> Result<Noted, ClientError> {
        let ask = Ask {
            request: request.clone(),
            person: Some(person.to_owned()),
            until: wall_clock() + ANSWER_WITHIN.as_millis() as u64,
        };
        let body = serde_json::to_vec(&ask).expect("plain data");
        self.document(Method::POST, "/v1/requests", body.into())
    }

    /// Writes the log to `out` until its end, or for ever when it is followed.
    pub fn logs(&self, query: LogQuery, out: &mut dyn Write) -> Result<(), ClientError> {
        let lines = query.lines.map(|n| format!("&lines={n}"));
        let path = format!(
            "/v1/logs?since={}&follow={}{}",
            query.since,
            query.follow,
            lines.unwrap_or_default()
        );
        self.runtime.block_on(async {
            let (answer, _connection) = self.send(Method::GET, &path, Bytes::new()).await?;
            let mut body = answer.into_body();
            while let Some(frame) = body.frame().await {
                if let Some(chunk) = frame.map_err(silent)?.data_ref() {
                    out.write_all(chunk)
                        .and_then(|()| out.flush())
                        .map_err(ClientError::Write)?;
                }
            }
            Ok(())
        })
    }

    fn document<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        self.runtime.block_on(async {
            let answer = async {
                let (answer, _connection) = self.send(method, path, body).await?;
                read(answer).await
            };
            let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
            let text = answer.map_err(|_| silent(format!("not within {ANSWER_WITHIN:?}")))??;
            serde_json::from_slice(&text).map_err(silent)
        })
    }

    /// Sends one request. An answer that is no success is an error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), ClientError> {
        let stream = self.connect().await.map_err(silent)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(silent)?;
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "visor")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(silent)?;
        let answer = sender.send_request(request);
        let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        let answer = answer
            .map_err(|_| silent(format!("not within {ANSWER_WITHIN:?}")))?
            .map_err(silent)?;
        if answer.status() == StatusCode::OK {
            return Ok((answer, sender));
        }
        let status = answer.status();
        let text = read(answer).await?;
        Err(match serde_json::from_slice(&text) {
            Ok(refusal) => ClientError::Refused(refusal),
            Err(_) => silent(format!("{status}: {}", String::from_utf8_lossy(&text))),
        })
    }
}

async fn read(answer: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(answer.into_body(), ANSWER_LIMIT);
    let whole = body.collect().await.map_err(silent)?;
    Ok(whole.to_bytes())
}
