//! The answering side.

use super::peer::{Peer, group};
use super::request::{Ask, Refusal, Request, RequestError, note};
use super::status::gather;
use crate::agent::{Live, Wish};
use crate::check::DesiredNode;
use crate::host::{Ambient, Baton, HostError, Nodes as _, RealHost, wall_clock};
use crate::node::{LogQuery, show_log};
use crate::plan::Liveness;
use crate::store::Layout;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use futures_util::stream::unfold;
use nix::unistd::Gid;
use rustix::fs::{Mode, OFlags, open};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Bytes of a request.
const BODY_LIMIT: usize = 64 * 1024;
/// Looks at everything at once; more wait. They may take seconds, and what takes none does not wait for them.
const LOOKERS: usize = 4;
/// What else is answered at once.
const OTHERS: usize = 4;
/// Lines of a log that are gathered at once.
const MOST_LINES: usize = 10_000;
/// Logs that are read at once; more are refused.
const LOG_READERS: usize = 8;

/// The socket could not be laid down.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen at {}", .path.display())]
pub struct ServerError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// A socket that is answered, until this is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

struct Desk {
    wish: Mutex<Wish>,
    ambient: Ambient,
    live: Arc<Live>,
    layout: Layout,
    group: Option<Gid>,
    lookers: Semaphore,
    others: Semaphore,
    log_readers: Arc<Semaphore>,
}

impl Server {
    /// Lays down the socket and answers. The caller holds the state lock, so a socket that is there already is a dead visor's.
    pub fn start(
        wish: &Wish,
        group_name: Option<&str>,
        ambient: &Ambient,
        live: &Arc<Live>,
    ) -> Result<Self, ServerError> {
        let layout = Layout::new(&wish.node.spec.root);
        let path = layout.control();
        let failed = |source| ServerError {
            path: path.clone(),
            source,
        };
        let group = group_name.map(group).transpose().map_err(failed)?;
        let listener = listen(&path, group).map_err(failed)?;
        let desk = Arc::new(Desk {
            wish: Mutex::new(wish.clone()),
            ambient: ambient.clone(),
            live: Arc::clone(live),
            layout,
            group,
            lookers: Semaphore::new(LOOKERS),
            others: Semaphore::new(OTHERS),
            log_readers: Arc::new(Semaphore::new(LOG_READERS)),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(failed)?;
        let answer = move || {
            runtime.block_on(async move {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                axum::serve(
                    listener,
                    router(desk).into_make_service_with_connect_info::<Peer>(),
                )
                .await
            })
        };
        thread::Builder::new()
            .name("control".into())
            .spawn(answer)
            .map_err(failed)?;
        Ok(Self { path })
    }
}

/// A socket in the place of an earlier one. It is not there under its name before its mode is right.
fn listen(path: &Path, group: Option<Gid>) -> io::Result<UnixListener> {
    let dir = crate::durable::parent(path);
    let fresh = dir.join("control.new");
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let (_dir, short) = short(&fresh)?;
    let listener = UnixListener::bind(short)?;
    listener.set_nonblocking(true)?;
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    match group {
        None => mode(&fresh, 0o600)?,
        Some(group) => {
            let group = Some(group.as_raw());
            chown(&fresh, None, group)?;
            mode(&fresh, 0o660)?;
            // The group may pass through; what is beside the socket is closed to it by its own modes.
            chown(dir, None, group)?;
            let root = crate::durable::parent(dir);
            let now = fs::metadata(root)?.mode() & 0o7777;
            if now & 0o001 == 0 {
                chown(root, None, group)?;
                mode(root, now | 0o010)?;
            }
        }
    }
    mode(dir, if group.is_some() { 0o710 } else { 0o700 })?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

/// The same place by a path that a socket's address has room for.
pub(super) fn short(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = open(crate::durable::parent(path), flags, Mode::empty())?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(name);
    Ok((dir, short))
}

impl Connected<IncomingStream<'_, tokio::net::UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, tokio::net::UnixListener>) -> Self {
        // One whose word the kernel will not give is nobody.
        let nobody = Self {
            uid: u32::MAX,
            gid: u32::MAX,
        };
        stream.io().peer_cred().map_or(nobody, |cred| Self {
            uid: cred.uid(),
            gid: cred.gid(),
        })
    }
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/node", get(node))
        .route("/v1/logs", get(logs))
        .route("/v1/requests", post(requests))
        .fallback(async || {
            refused(
                StatusCode::NOT_FOUND,
                "there is nothing here",
                "See `visor schema control`.",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(Arc::clone(&desk), admit))
        .with_state(desk)
}

async fn admit(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: HttpRequest,
    next: Next,
) -> Response {
    if peer.may_speak(desk.group) {
        return next.run(request).await;
    }
    refused(
        StatusCode::FORBIDDEN,
        &format!("{} may not speak to this visor", peer.name()),
        "Root and visor's own user may, and the group that the node's `control = { group = … }` names.",
    )
}

fn refused(status: StatusCode, what: &str, help: &str) -> Response {
    let refusal = Refusal {
        what: what.to_owned(),
        help: help.to_owned(),
    };
    (status, Json(refusal)).into_response()
}

impl Desk {
    /// The wish as the manifests say it now; as they said it last, when they are wrong.
    fn node(&self) -> DesiredNode {
        let mut wish = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = wish.refresh_if_changed();
        wish.node.clone()
    }

    fn host(&self, node: &DesiredNode) -> RealHost {
        // Whoever asks is answered as long as visor lives, also while it ends.
        let calm = Ambient {
            env: self.ambient.env.clone(),
            starts_node: true,
            ..Ambient::default()
        };
        RealHost::new(&node.spec, calm, Baton::default())
    }
}

/// Does what blocks beside the socket's own thread.
async fn beside<T: Serialize + Send + 'static>(
    work: impl FnOnce() -> Result<T, RequestError> + Send + 'static,
) -> Response {
    match apart(work).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(RequestError::Refused(refusal))) => {
            (StatusCode::CONFLICT, Json(refusal)).into_response()
        }
        Ok(Err(error)) => {
            let text = HostError::from_error(&error).to_string();
            refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                &text,
                "See visor's own log.",
            )
        }
        Err(_) => refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer broke off",
            "This is a mistake of visor's; see its own log.",
        ),
    }
}

/// Does work in a thread of its own; an error when it panics. On a machine that gives no thread it is done here, and others wait.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, oneshot::error::RecvError> {
    let (sender, receiver) = oneshot::channel();
    let job = Arc::new(Mutex::new(Some(work)));
    let take = |job: &Mutex<Option<_>>| job.lock().unwrap_or_else(PoisonError::into_inner).take();
    let of_thread = Arc::clone(&job);
    let spawned = thread::Builder::new().name("answer".into()).spawn(move || {
        if let Some(work) = take(&of_thread) {
            let _ = sender.send(work());
        }
    });
    if spawned.is_err()
        && let Some(work) = take(&job)
    {
        return Ok(work());
    }
    receiver.await
}

async fn status(State(desk): State<Arc<Desk>>) -> Response {
    // Never closed, so there is always a permit in the end.
    let permit = desk.lookers.acquire().await;
    let own = Arc::clone(&desk);
    let answer = beside(move || {
        let node = own.node();
        Ok(gather(&node, &own.host(&node), Some(&own.live))?)
    });
    let answer = answer.await;
    drop(permit);
    answer
}

async fn node(State(desk): State<Arc<Desk>>) -> Response {
    let permit = desk.others.acquire().await;
    let own = Arc::clone(&desk);
    let answer = beside(move || {
        let node = own.node();
        Ok(Liveness::from(own.host(&node).node()?))
    });
    let answer = answer.await;
    drop(permit);
    answer
}

async fn requests(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(ask): Json<Ask>,
) -> Response {
    let by = match ask.person {
        Some(person) if peer.is_own() => person,
        _ => peer.name(),
    };
    let permit = desk.others.acquire().await;
    let own = Arc::clone(&desk);
    let answer = beside(move || {
        if wall_clock() > ask.until {
            return Err(RequestError::Refused(Refusal {
                what: "the request came too late".into(),
                help: "Whoever asked did not wait for the answer; ask again.".into(),
            }));
        }
        let node = own.node();
        let noted = note(&node, &own.host(&node), &by, &ask.request)?;
        if ask.request == (Request::Reconcile {}) {
            own.ambient.reload.store(true, Ordering::Relaxed);
        }
        Ok(noted)
    });
    let answer = answer.await;
    drop(permit);
    answer
}

/// The question for a log, as it stands behind the `?`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct LogParams {
    #[serde(default)]
    pub(super) since: u64,
    pub(super) lines: Option<usize>,
    #[serde(default)]
    pub(super) follow: bool,
}

async fn logs(State(desk): State<Arc<Desk>>, Query(params): Query<LogParams>) -> Response {
    if params.lines.is_some_and(|lines| lines > MOST_LINES) {
        return refused(
            StatusCode::BAD_REQUEST,
            &format!("at most {MOST_LINES} lines are gathered"),
            "Ask for all of them, or for those since a time.",
        );
    }
    let Ok(permit) = Arc::clone(&desk.log_readers).try_acquire_owned() else {
        return refused(
            StatusCode::TOO_MANY_REQUESTS,
            &format!("{LOG_READERS} readers have the log open already"),
            "Read `logs/node.log` itself, or wait for one of them to end.",
        );
    };
    let query = LogQuery {
        since: params.since,
        lines: params.lines,
        follow: params.follow,
    };
    let (sender, receiver) = channel(4);
    let layout = desk.layout.clone();
    let read = move || {
        let permit: OwnedSemaphorePermit = permit;
        let mut out = Chunks(sender);
        let is_wanted = {
            let sender = out.0.clone();
            move || !sender.is_closed()
        };
        // Whoever reads sees that the text ends; there is no other word left to say here.
        let _ = show_log(&layout, query, &mut out, &is_wanted);
        drop(permit);
    };
    if let Err(error) = thread::Builder::new().name("log reader".into()).spawn(read) {
        return refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            &error.to_string(),
            "The machine gives visor no thread; see its limits.",
        );
    }
    let chunks = unfold(receiver, async |mut receiver| {
        let chunk: Option<Bytes> = receiver.recv().await;
        chunk.map(|chunk| (Ok::<_, Infallible>(chunk), receiver))
    });
    Body::from_stream(chunks).into_response()
}

/// Writes into the body of an answer; waits while the reader is slow.
struct Chunks(Sender<Bytes>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
