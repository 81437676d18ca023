//! The sockets: one listener, a bound on connections, time bounds on headers, a clean stop.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::{Router, middleware};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

use super::guard::{self, Hosts};
use super::{ApiError, Config, Token, TokenError};

/// The file in the data folder that says where a running node's API listens.
pub const ADDR_FILE: &str = "admin.addr";
/// How long a connection may take to send a request's headers; also how long it may idle between requests.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// Bytes that a connection buffers of what it reads; bounds the headers.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// How long requests under way may take to end when the node stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Pause after a failed accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why the API did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("the HTTP API cannot listen on {addr}: {source}; choose another with --http or [listen] http")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The file that names the address cannot be written.
    #[error("{path} cannot be written: {source}")]
    AddrFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The running API.
pub struct Server {
    addr: SocketAddr,
    addr_file: PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What one connection needs.
struct Connection {
    service: TowerToHyperService<Router>,
    stop: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Server {
    /// Listens, and serves `open` to everyone and `guarded` to who brings the token. Writes
    /// [`ADDR_FILE`] into `data`.
    ///
    /// # Errors
    /// When the address or a file cannot be used.
    pub async fn start(
        listen: SocketAddr,
        config: &Config,
        data: &Path,
        open: Router,
        guarded: Router,
    ) -> Result<Self, StartError> {
        let token = Token::at(&data.join(&config.token_file))?;
        let app = assemble(config, token, open, guarded);
        let refused = |source| StartError::Listen { addr: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        let addr_file = data.join(ADDR_FILE);
        write_whole(&addr_file, &format!("{addr}\n"))
            .map_err(|source| StartError::AddrFile { path: addr_file.clone(), source })?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, app, config.connections_max, stopped));
        tracing::info!(%addr, "the HTTP API listens");
        if !addr.ip().is_loopback() {
            tracing::warn!(%addr, "the HTTP API is not encrypted and may be reached from other machines");
        }
        Ok(Self { addr, addr_file, stop, task })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more connections, lets requests under way end for a bounded time, and is gone.
    pub async fn stop(self) {
        if let Err(error) = fs::remove_file(&self.addr_file) {
            tracing::debug!(%error, "the address file was gone already");
        }
        self.stop.send_replace(true);
        if self.task.await.is_err() {
            tracing::error!("the HTTP API's task had panicked before it was stopped");
        }
    }
}

fn assemble(config: &Config, token: Token, open: Router, guarded: Router) -> Router {
    let unknown = || async {
        ApiError::not_found("there is no such call")
            .hint("the calls are under /v1; /healthz, /readyz and /metrics are open")
    };
    let wrong_method = || async {
        ApiError::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this call has another method")
    };
    let guarded = guarded.fallback(unknown).layer(middleware::from_fn_with_state(token, guard::bearer));
    Router::new()
        .nest("/v1", guarded)
        .merge(open)
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(config.body_bytes_max))
        .layer(middleware::from_fn_with_state(Hosts::new(&config.hosts), guard::source))
}

async fn serve(listener: TcpListener, app: Router, connections_max: usize, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(connections_max));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping(&mut stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let service = TowerToHyperService::new(app.clone());
                tokio::spawn(Connection { service, stop: stop.clone(), _permit: permit }.run(stream));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the HTTP API was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // All permits back: every connection has ended.
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    if tokio::time::timeout(STOP_WITHIN, permits.acquire_many(all)).await.is_err() {
        tracing::debug!("some API calls were cut off by the stop");
    }
}

impl Connection {
    async fn run(mut self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay could not be set");
        }
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), self.service);
        tokio::pin!(served);
        let ended = tokio::select! {
            ended = served.as_mut() => Some(ended),
            () = stopping(&mut self.stop) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                served.as_mut().graceful_shutdown();
                let ended = tokio::time::timeout(STOP_WITHIN, served).await;
                ended.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an API connection ended early");
        }
    }
}

/// Returns when the node stops.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    // An error means that the server itself is gone, which is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Writes a file so that a reader finds all of it or none.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("addr.new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests;
