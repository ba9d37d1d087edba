//! HTTP, within limits: whoever reaches the endpoint may be slow, or want harm.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::{self, Runtime};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::Entrance;
use super::clients::{self, Clients};
use super::exposition;
use super::overview::Overview;
use super::status;
use crate::coordinator::State;
use crate::panics;

/// Connections at once. One more ends the oldest: that is the slowest, and scrapers take milliseconds.
pub(crate) const CONNECTIONS_MAX: usize = 32;

/// How long a request may take to come, and a connection as a whole, which has one request.
const HEADER_MAX: Duration = Duration::from_secs(5);
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// Bytes and lines of a request's head.
const HEAD_LEN_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;

/// How long accepting rests when descriptors or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much of its turn the thread leaves to others, the shards above all (nice(2)).
const NICE: i32 = 10;

/// The endpoint on its executor.
pub(super) struct Server {
    runtime: Runtime,
    listener: tokio::net::TcpListener,
    closed: Arc<Notify>,
    overview: Arc<Overview>,
    clients: Arc<Clients>,
}

// === impl Server ===

impl Server {
    pub(super) fn new(
        entrance: Entrance,
        overview: Arc<Overview>,
        clients: Clients,
    ) -> io::Result<Self> {
        let Entrance {
            listener, closed, ..
        } = entrance;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        Ok(Self {
            runtime,
            listener,
            closed,
            overview,
            clients: Arc::new(clients),
        })
    }

    /// Serves for as long as the process lives, though nobody new once it is closed.
    pub(super) fn run(self) {
        // Without it the thread counts as much as a shard's, which is no reason not to run.
        let _ = rustix::process::nice(NICE);
        let Self {
            runtime,
            listener,
            closed,
            overview,
            clients,
        } = self;
        runtime.block_on(async {
            or(closed.notified(), accept(listener, &overview, &clients)).await;
            // Those it has let in are tasks of this executor.
            pending().await
        })
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    overview: &Arc<Overview>,
    clients: &Arc<Clients>,
) {
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS_MAX);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() == CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = tokio::spawn(serve(stream, Arc::clone(overview), Arc::clone(clients)));
        open.push_back(connection.abort_handle());
    }
}

/// Answers the one request of a connection.
async fn serve(stream: TcpStream, overview: Arc<Overview>, clients: Arc<Clients>) {
    let service = service_fn(|request: Request<Incoming>| {
        // Its body is not read.
        let request = request.map(drop);
        let (overview, clients) = (Arc::clone(&overview), Arc::clone(&clients));
        async move { Ok::<_, Infallible>(answer(&request, &overview, &clients).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(timeout(CONNECTION_MAX, connection));
    // What else goes wrong with it is its own affair: an answer has been tried.
    if let Err(panic) = poll_fn(|cx| panics::poll(served.as_mut(), cx)).await {
        tracing::error!(error = %panic, "request to the admin endpoint dropped: this is a bug, please report it");
    }
}

/// The answer to a request.
async fn answer(
    request: &Request<()>,
    overview: &Arc<Overview>,
    clients: &Clients,
) -> Response<String> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let (status, content_type, body) = match request.uri().path() {
        _ if ![Method::GET, Method::HEAD].contains(request.method()) => {
            let body = "only GET and HEAD are answered\n".to_owned();
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, body);
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        "/metrics" => match exposition::text(overview) {
            Ok(text) => (StatusCode::OK, exposition::CONTENT_TYPE, text),
            Err(error) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                format!("{error}\n"),
            ),
        },
        "/status" => (StatusCode::OK, "application/json", status::json(overview)),
        "/clients" => match clients::limit(request.uri().query()) {
            Ok(limit) => match clients.count().await.json(limit) {
                Some(json) => (StatusCode::OK, "application/json", json),
                None => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    TEXT,
                    "not all shards have answered in time\n".to_owned(),
                ),
            },
            Err(error) => (StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
        },
        "/livez" => (StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" | "/healthz" => {
            let phase = overview.state.get();
            let status = match phase {
                State::Ready => StatusCode::OK,
                State::Starting | State::Draining => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, TEXT, format!("{}\n", phase.name()))
        }
        _ => (
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /metrics, /status, /clients, /livez, /readyz and /healthz\n".to_owned(),
        ),
    };
    respond(status, content_type, body)
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::overview::Facts;
    use crate::coordinator::{SharedState, census};

    #[test]
    fn only_the_ready_are_ready_and_all_are_alive() {
        let state = SharedState::default();
        let overview = Overview::new(Facts::default(), state.clone(), Vec::new(), None);
        let overview = Arc::new(overview);
        let clients = Clients::new(census::unanswered().0, overview.started);
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let status = |path: &str| {
            let request = Request::builder().uri(path).body(()).expect("a request");
            let answer = answer(&request, &overview, &clients);
            runtime.block_on(answer).status().as_u16()
        };
        for (phase, wanted) in [
            (State::Starting, 503),
            (State::Ready, 200),
            (State::Draining, 503),
        ] {
            state.set(phase);
            assert_eq!(status("/readyz"), wanted, "{phase:?}");
            assert_eq!(status("/healthz"), wanted, "{phase:?}");
            assert_eq!(status("/livez"), 200, "{phase:?}");
            assert_eq!(status("/metrics"), 200, "{phase:?}");
            assert_eq!(status("/status"), 200, "{phase:?}");
            // Nobody hears the question.
            assert_eq!(status("/clients"), 503, "{phase:?}");
        }
    }
}
