//! Log lines: what they say of a connection, how many there are, and where they go.

mod filter;

use std::borrow::Cow;
use std::cell::Cell;
use std::env;
use std::fmt;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use glommio::timer::Timer;
use tracing::{Level, debug, error, info, trace, warn};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::access_log::Entry;
use crate::addr::{ClientAddr, ListenAddr, PeerAddr};
use crate::config::{LogFormat, Verbosity};
use crate::header::{Details, Tlvs};

/// The time in which an error that repeats with every packet gets one line.
const WINDOW: Duration = Duration::from_secs(1);

/// Lines waiting to be written. If whoever reads them is too slow, further ones are lost rather than a shard stalled.
const LINES_MAX: usize = 16_384;

/// How long the end of the process waits for a slow reader.
const FLUSH: Duration = Duration::from_secs(1);

/// The log of the process. Dropping it writes the lines that still wait, unless whoever reads them takes too long.
pub struct Log(Option<WorkerGuard>);

/// Sends the log to stdout, as go-mmproxy does. It is complete once what this returns is dropped.
pub fn init(format: Option<LogFormat>, verbosity: Verbosity) -> Log {
    let format = chosen(format);
    let level = match verbosity {
        Verbosity::Quiet => Level::INFO,
        Verbosity::Errors => Level::DEBUG,
        Verbosity::All => Level::TRACE,
    };
    // Libraries only get to warn: their details are no news of connections.
    let by_verbosity = Targets::new()
        .with_default(Level::WARN)
        .with_target("glommproxy", level);
    // RUST_LOG says it all if it is there.
    let (filter, refused) = match env::var_os("RUST_LOG").map(|value| filter::parse(&value)) {
        Some(Ok(Some(filter))) => (filter, None),
        Some(Err(error)) => (by_verbosity, Some(error)),
        Some(Ok(None)) | None => (by_verbosity, None),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .finish(io::stdout());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_target(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => lines.with_ansi(io::stdout().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
    if let Some(error) = refused {
        warn!(%error, "RUST_LOG is ignored: want levels and modules, as in warn,glommproxy=debug");
    }
    Log(Some(guard))
}

/// The form of the log: as asked for, else by whether people read it.
pub(crate) fn chosen(format: Option<LogFormat>) -> LogFormat {
    format.unwrap_or_else(|| {
        if io::stdout().is_terminal() {
            LogFormat::Text
        } else {
            LogFormat::Json
        }
    })
}

// === impl Log ===

impl Drop for Log {
    fn drop(&mut self) {
        let guard = self.0.take();
        let (done, wait) = mpsc::channel();
        // The guard complains on stdout if it cannot make the writer end. If stdout is what the writer is stuck in, that
        // is forever.
        thread::spawn(move || {
            drop(guard);
            let _ = done.send(());
        });
        let _ = wait.recv_timeout(FLUSH);
    }
}

/// What a line is about: a connection, or a datagram.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    listener: usize,
    protocol: &'static str,
    listen_addr: ListenAddr,
    peer: PeerAddr,
    client: Option<ClientAddr>,
    target: Option<SocketAddr>,
}

/// Whether lines of `-v 2` are written, which alone show what a header tells beside the addresses.
pub(crate) fn shows_details() -> bool {
    tracing::enabled!(tracing::Level::TRACE)
}

/// Reads the TLVs of a header for [`Subject::opened`], if there are any and it will show them.
pub(crate) fn details(tlvs: Tlvs<'_>) -> Option<Box<Details>> {
    (!tlvs.is_empty() && shows_details()).then(|| Box::new(Details::of(tlvs)))
}

/// Writes one event about a subject at a level; the fields are the same everywhere.
macro_rules! event {
    ($level:ident, $subject:expr, $error:expr, $($more:tt)+) => {{
        let subject: &Subject = $subject;
        let error: Option<&dyn fmt::Display> = $error;
        $level!(
            listener = subject.listener,
            protocol = subject.protocol,
            listen_addr = %subject.listen_addr,
            peer_addr = %subject.peer,
            client_addr = subject.client.map(tracing::field::display),
            target_addr = subject.target.map(tracing::field::display),
            error = error.map(tracing::field::display),
            $($more)+
        )
    }};
}

// === impl Subject ===

impl Subject {
    pub(crate) fn new(
        listener: usize,
        protocol: &'static str,
        listen_addr: ListenAddr,
        peer: PeerAddr,
    ) -> Self {
        Self {
            listener,
            protocol,
            listen_addr,
            peer,
            client: None,
            target: None,
        }
    }

    pub(crate) fn peer(&self) -> PeerAddr {
        self.peer
    }

    pub(crate) fn set_client(&mut self, client: Option<ClientAddr>) {
        self.client = client;
    }

    pub(crate) fn set_target(&mut self, target: SocketAddr) {
        self.target = Some(target);
    }

    /// A change of state (`-v 2`).
    pub(crate) fn trace(&self, message: &str) {
        event!(trace, self, None, "{message}");
    }

    /// The beginning of a connection or flow (`-v 2`), with what its header tells beside the addresses.
    pub(crate) fn opened(&self, message: &str, details: Option<&Details>) {
        let text =
            |field: fn(&Details) -> &Option<String>| details.and_then(|it| field(it).as_deref());
        event!(
            trace,
            self,
            None,
            authority = text(|it| &it.authority),
            alpn = text(|it| &it.alpn),
            unique_id = text(|it| &it.unique_id),
            ssl_version = text(|it| &it.ssl_version),
            ssl_cn = text(|it| &it.ssl_cn),
            ssl_verified = details.and_then(|it| it.ssl_verified),
            aws_vpce_id = text(|it| &it.aws_vpce_id),
            azure_link_id = details.and_then(|it| it.azure_link_id),
            "{message}"
        );
    }

    /// An error of this connection alone (`-v 1`).
    pub(crate) fn failed(&self, message: &str, error: &dyn fmt::Display) {
        event!(debug, self, Some(error), "{message}");
    }

    /// The end of a connection or flow (`-v 2`).
    pub(crate) fn closed(
        &self,
        bytes_upstream: u64,
        bytes_downstream: u64,
        reason: &dyn fmt::Display,
    ) {
        event!(trace, self, None, bytes_upstream, bytes_downstream, %reason, "closed");
    }

    /// The end of a connection or flow, for the access log.
    pub(crate) fn entry(
        &self,
        [bytes_upstream, bytes_downstream]: [u64; 2],
        duration: Duration,
        reason: Cow<'static, str>,
    ) -> Entry {
        Entry {
            ended_at: SystemTime::now(),
            protocol: self.protocol,
            client: self.client,
            peer: self.peer,
            listen_addr: self.listen_addr,
            target: self.target,
            bytes_upstream,
            bytes_downstream,
            duration,
            reason,
        }
    }
}

/// One place in the code whose line may repeat with every packet. It writes one a second at most, and how many it kept
/// back. One per shard and place; must be used on an executor.
#[derive(Clone)]
pub(crate) struct RateLimited(Rc<Window>);

struct Window {
    opened: Cell<Option<Instant>>,
    suppressed: Cell<u64>,
}

// === impl RateLimited ===

impl RateLimited {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Window {
            opened: Cell::new(None),
            suppressed: Cell::new(0),
        }))
    }

    /// A line of `-v 1` about a connection or datagram.
    pub(crate) fn debug(
        &self,
        subject: &Subject,
        message: &'static str,
        error: Option<&dyn fmt::Display>,
    ) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let repeated = || {
            let subject = subject.clone();
            move |count| event!(debug, &subject, None, count, "{message} (repeated)")
        };
        if self.admit(repeated) {
            event!(debug, subject, error, "{message}");
        }
    }

    /// A line of every level about a connection or datagram.
    pub(crate) fn error(&self, subject: &Subject, message: &'static str, error: &dyn fmt::Display) {
        let repeated = || {
            let subject = subject.clone();
            move |count| event!(error, &subject, None, count, "{message} (repeated)")
        };
        if self.admit(repeated) {
            event!(error, subject, Some(error), "{message}");
        }
    }

    /// Good news of the shard itself.
    pub(crate) fn info(&self, listener: usize, message: &'static str) {
        let repeated = || move |count: u64| info!(listener, count, "{message} (repeated)");
        if self.admit(repeated) {
            info!(listener, "{message}");
        }
    }

    /// A line of every level about the shard itself.
    pub(crate) fn warn(&self, listener: usize, message: &'static str, error: &io::Error) {
        let repeated = || move |count: u64| warn!(listener, count, "{message} (repeated)");
        if self.admit(repeated) {
            warn!(listener, %error, "{message}");
        }
    }

    /// Whether a line may be written now. If not, it is counted, and `repeated` writes the count when the second is over.
    fn admit<F: FnOnce(u64) + 'static>(&self, repeated: impl FnOnce() -> F) -> bool {
        let now = Instant::now();
        let window = &self.0;
        let is_over = |opened| now.duration_since(opened) >= WINDOW;
        if window.opened.get().is_none_or(is_over) {
            window.opened.set(Some(now));
            return true;
        }
        let suppressed = window.suppressed.get() + 1;
        window.suppressed.set(suppressed);
        if suppressed == 1 {
            let (window, repeated) = (Rc::clone(window), repeated());
            glommio::spawn_local(async move {
                Timer::new(WINDOW).await;
                repeated(window.suppressed.replace(0));
            })
            .detach();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{Decoded, Transport, decode};

    /// Whoever does not look at single connections does not pay for their TLVs.
    #[test]
    fn without_a_log_of_connections_no_details_are_read() {
        let header = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x07\x02\x00\x04game";
        let Ok(Decoded::Complete { header, .. }) =
            decode(header, Transport::Stream).and_then(Decoded::check)
        else {
            panic!("no whole header");
        };
        assert!(!header.tlvs.is_empty());
        let seen = |level: Option<tracing::Level>| {
            let lines = tracing_subscriber::fmt().with_writer(io::sink);
            let Some(level) = level else {
                return details(header.tlvs);
            };
            let log = lines.with_max_level(level).finish();
            tracing::subscriber::with_default(log, || details(header.tlvs))
        };
        assert_eq!(seen(None), None);
        assert_eq!(seen(Some(tracing::Level::DEBUG)), None);
        let shown = seen(Some(tracing::Level::TRACE)).expect("details");
        assert_eq!(shown.authority.as_deref(), Some("game"));
        // And none for a header without TLVs.
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        let log = log.with_writer(io::sink).finish();
        let none = tracing::subscriber::with_default(log, || details(Tlvs::default()));
        assert_eq!(none, None);
    }
}
