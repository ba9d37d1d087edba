//! Datagrams that do not pass: counted, and told for a reason somebody can act on.

use std::fmt;

use super::Udp;
use super::binding::Downstream;
use super::mode::Refusal;
use crate::header::HeaderError;

/// The reason of a line in the log. Read only if the line is written, so it may look further for it.
struct Reason<'a> {
    udp: &'a Udp,
    from: Downstream,
    refusal: &'a Refusal,
}

// === impl Udp ===

impl Udp {
    /// Counts a datagram that is dropped.
    pub(super) fn refuse(&self, from: Downstream, refusal: &Refusal) {
        let metrics = &self.settings.metrics.udp;
        let (counter, limit) = match refusal {
            Refusal::Header(_) | Refusal::HostBehindClient => {
                (&metrics.header_errors, &self.limits.header)
            }
            Refusal::Source(_) => (&metrics.sources_refused, &self.limits.source),
            Refusal::Unbound(_) => (&metrics.unbound, &self.limits.unbound),
        };
        counter.increment();
        match refusal {
            Refusal::Header(error) => metrics.header_error_kinds.of(*error).increment(),
            Refusal::HostBehindClient => metrics.header_error_kinds.host_behind_client.increment(),
            Refusal::Source(_) | Refusal::Unbound(_) => {}
        }
        let reason = Reason {
            udp: self,
            from,
            refusal,
        };
        let subject = self.subject(from.frontend, from.peer);
        limit.debug(&subject, "datagram dropped", Some(&reason));
    }
}

// === impl Reason ===

impl Reason<'_> {
    /// Whether the peer, which has sent no header, has sent one before.
    fn had_header_before(&self) -> bool {
        let headers_on_each = self.udp.mode.has_header_on_each();
        let is_missing = *self.refusal == Refusal::Header(HeaderError::Missing);
        let mut flows = self.udp.flows.iter();
        headers_on_each && is_missing && flows.any(|flow| flow.state.downstream() == self.from)
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.had_header_before() {
            return f.write_str(
                "no PROXY header, though this peer has sent one: if it does so on the first datagram of a session only, \
                 add --udp-header v2-first",
            );
        }
        self.refusal.fmt(f)
    }
}
