//! Deadlines of single steps.

use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::Timer;

/// The outcome of `future`, or None if it has none in time. The timer is only made if `future` has to wait.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let late = async {
        Timer::new(limit).await;
        None
    };
    or(async { Some(future.await) }, late).await
}
