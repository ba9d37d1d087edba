//! What systemd passes to this process, and what it is told (sd_listen_fds(3), sd_notify(3)). Without systemd, nothing.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use socket2::Socket;
use tracing::warn;

use crate::listen::{InheritError, Inherited};
use crate::sys::activation;

/// The variable that stands in for `--listen`.
const LISTEN: &str = "GLOMMPROXY_LISTEN";

/// systemd kills the process if it is not told in time; half of it is what sd_watchdog_enabled(3) recommends.
const BEATS_PER_WATCHDOG: u32 = 2;

/// How much longer than the drain may take systemd is to wait for the end.
const STOP_SPARE: Duration = Duration::from_secs(5);

/// Why the sockets that systemd has passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The variables, or a descriptor, are not what sd_listen_fds(3) says.
    #[error("cannot take the sockets that LISTEN_FDS announces: {0}")]
    Variables(#[from] io::Error),
    /// One of them is no listening socket.
    #[error(transparent)]
    Socket(#[from] InheritError),
}

/// The sockets that systemd has passed. To be called once, before the process opens anything itself.
///
/// # Errors
///
/// If one of them cannot be listened on.
pub fn sockets() -> Result<Inherited, ActivationError> {
    let mut inherited = Inherited::default();
    for (name, descriptor) in activation::take_descriptors()? {
        let name = format!("systemd's socket \"{}\"", name.escape_debug());
        inherited.add(name, Socket::from(descriptor))?;
    }
    Ok(inherited)
}

/// A variable of the environment. Where to listen is said by the sockets, unless somebody says it.
pub fn variable(
    name: &str,
    sockets: &Inherited,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Option<OsString> {
    let set = environment(name).filter(|value| !value.is_empty());
    if name != LISTEN || sockets.is_empty() {
        return set;
    }
    set.or_else(|| {
        let addrs = sockets.addrs();
        let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
        Some(addrs.join(",").into())
    })
}

/// How often systemd is to be told that all is well; `None` if it does not ask.
pub(crate) fn beat() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|watchdog| watchdog / BEATS_PER_WATCHDOG)
}

/// All shards listen.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The lists are read again, until [`ready`].
pub(crate) fn reloading() {
    // systemd tells by the time that this answers its SIGHUP and no earlier one.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot tell systemd the time"),
    }
}

/// It drains, which may take so long.
pub(crate) fn stopping(timeout: Duration) {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("stopping"),
        NotifyState::ExtendTimeoutUsec(extension(timeout)),
    ]);
}

/// It still drains, for so long. To be told again within an hour: a message cannot name more than 71 minutes.
pub(crate) fn still_stopping(rest: Duration) {
    tell(&[NotifyState::ExtendTimeoutUsec(extension(rest))]);
}

/// For how many microseconds systemd is to wait from now on.
fn extension(rest: Duration) -> u32 {
    u32::try_from((rest + STOP_SPARE).as_micros()).unwrap_or(u32::MAX)
}

/// What `systemctl status` is to show.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// All is well.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot tell systemd (NOTIFY_SOCKET)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn systemd_is_to_wait_a_little_longer_or_as_long_as_can_be_said() {
        assert_eq!(extension(Duration::ZERO), 5_000_000);
        assert_eq!(extension(Duration::from_secs(3600)), 3_605_000_000);
        assert_eq!(extension(Duration::from_secs(86_400)), u32::MAX);
    }

    #[test]
    fn sockets_say_where_to_listen_unless_somebody_does() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = tcp.local_addr().expect("bound").to_string();
        let mut sockets = Inherited::default();
        sockets
            .add("it".to_owned(), tcp.into())
            .expect("a listener");
        let none = Inherited::default();
        for (name, set, sockets, want) in [
            (LISTEN, None, &sockets, Some(&*addr)),
            (LISTEN, Some(""), &sockets, Some(&*addr)),
            (LISTEN, Some(":1"), &sockets, Some(":1")),
            (LISTEN, None, &none, None),
            ("GLOMMPROXY_MARK", None, &sockets, None),
            ("GLOMMPROXY_MARK", Some("5"), &sockets, Some("5")),
        ] {
            let value = variable(name, sockets, |_| set.map(Into::into));
            assert_eq!(value, want.map(Into::into), "{name} {set:?}");
        }
    }
}
