//! Every malformed header, and every good one cut anywhere, each followed by one that is served by the same process; all
//! of them are counted, by kind, and none leaves a descriptor behind.

mod cases;

use std::collections::BTreeMap;

use self::cases::{
    Case, INET, by_signature, cut, malformed_datagrams, malformed_on_streams, missing, v2,
    well_formed, well_formed_on_streams,
};
use super::{ADMIN, count, expect_tcp, expect_udp};
use crate::harness::{
    Balancer, Connection, Header, Proxy, TcpServer, UdpBalancer, UdpServer, unread, wait_for,
};
use crate::namespace::{TestResult, isolated};

/// How often each kind was seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kinds(BTreeMap<String, u64>);

// === impl Kinds ===

impl Kinds {
    /// What the proxy has counted so far.
    fn of(proxy: &Proxy, protocol: &str) -> TestResult<(Self, u64)> {
        let text = proxy.admin()?.get("/metrics")?.body;
        let begin = format!("glommproxy_header_errors_total{{protocol=\"{protocol}\",kind=\"");
        let samples = text.lines().filter_map(|line| line.strip_prefix(&begin));
        let counts = samples.filter_map(|sample| sample.split_once("\"} "));
        let counts = counts.map(|(kind, count)| Ok((kind.to_owned(), count.parse()?)));
        let counts: TestResult<BTreeMap<String, u64>> = counts.collect();
        let dropped =
            format!("glommproxy_dropped_total{{protocol=\"{protocol}\",reason=\"header\"}}");
        let counted = counts?.into_iter().filter(|(_, count)| *count > 0);
        Ok((Self(counted.collect()), count(&text, &dropped)))
    }

    fn add(&mut self, kind: &str) {
        *self.0.entry(kind.to_owned()).or_default() += 1;
    }

    /// Waits until the proxy has counted these, and the sum of them.
    #[track_caller]
    fn expect(&self, proxy: &Proxy, protocol: &str) -> TestResult {
        let sum = self.0.values().sum::<u64>();
        let counted = || Self::of(proxy, protocol);
        let agree = wait_for(|| Ok((counted()?.1 >= sum).then_some(())));
        let (kinds, dropped) = counted()?;
        if agree.is_err() || kinds != *self || dropped != sum {
            return Err(format!("counted {dropped}: {kinds:?}, wanted {sum}: {self:?}").into());
        }
        Ok(())
    }
}

/// A connection that has said this.
#[track_caller]
fn connect(proxy: &Proxy, bytes: &[u8]) -> TestResult<Connection> {
    Balancer::default().connect(proxy, &Header::raw(bytes))
}

/// Lets a proxy meet headers, and compares what it has counted with what is added to the kinds meanwhile. Nothing is left
/// of them.
#[track_caller]
fn expect_kinds(args: &[&str], meet: impl FnOnce(&Proxy, &mut Kinds) -> TestResult) -> TestResult {
    let server = TcpServer::echo("127.0.0.1")?;
    let proxy = Proxy::tcp(server).args(ADMIN).args(args).start()?;
    expect_tcp(&proxy)?;
    let sockets = proxy.socket_count()?;
    let mut kinds = Kinds::default();
    meet(&proxy, &mut kinds)?;
    kinds.expect(&proxy, "tcp")?;
    proxy.wait_for_sockets(sockets)?;
    proxy.stop()?.expect_success()
}

#[test]
fn every_malformed_header_over_tcp() -> TestResult {
    isolated(|| {
        expect_kinds(&[], |proxy, kinds| {
            for (kind, bytes) in malformed_on_streams() {
                let connection = connect(proxy, &bytes)?;
                // Refused before the sender has finished.
                connection.expect_over()?;
                kinds.add(kind);
                expect_tcp(proxy)?;
            }
            Ok(())
        })
    })
}

#[test]
fn headers_without_a_checksum_where_one_is_required() -> TestResult {
    isolated(|| {
        expect_kinds(&["--require-crc32c"], |proxy, kinds| {
            for bytes in [
                v2(0x21, 0x11, &[INET]),
                v2(0x21, 0x11, &[INET, b"\x04\0\0"]),
            ] {
                connect(proxy, &bytes)?.expect_over()?;
                kinds.add("crc_missing");
                expect_tcp(proxy)?;
            }
            Ok(())
        })
    })
}

#[test]
fn every_header_over_tcp_that_is_cut_and_ends() -> TestResult {
    isolated(|| {
        expect_kinds(&[], |proxy, kinds| {
            for bytes in cut(well_formed_on_streams()?) {
                let connection = connect(proxy, &bytes)?;
                connection.finish()?;
                connection.expect_over()?;
                kinds.add(if bytes.is_empty() {
                    "empty"
                } else {
                    "closed_early"
                });
                expect_tcp(proxy)?;
            }
            Ok(())
        })
    })
}

#[test]
fn every_header_over_tcp_that_is_cut_and_reset() -> TestResult {
    isolated(|| {
        expect_kinds(&[], |proxy, kinds| {
            for bytes in cut(well_formed_on_streams()?) {
                let connection = connect(proxy, &bytes)?;
                // What it has read before the reset, it knows; what it has not is taken back.
                let socket = proxy.socket_to(&connection)?;
                wait_for(|| Ok((unread(&socket)? == 0).then_some(())))?;
                drop(socket);
                connection.reset()?;
                kinds.add(if bytes.is_empty() {
                    "empty"
                } else {
                    "unreadable"
                });
                expect_tcp(proxy)?;
            }
            Ok(())
        })
    })
}

#[test]
fn a_header_that_stays_cut_times_out() -> TestResult {
    isolated(|| {
        expect_kinds(&["--header-timeout", "0.2"], |proxy, kinds| {
            let mut waiting = Vec::new();
            for header in well_formed_on_streams()? {
                for bytes in cut([header]) {
                    waiting.push(connect(proxy, &bytes)?);
                    kinds.add("timed_out");
                }
                expect_tcp(proxy)?;
            }
            for connection in waiting {
                connection.expect_over()?;
            }
            Ok(())
        })
    })
}

/// Sends each, and then a good one; and compares what was counted.
#[track_caller]
fn expect_datagrams(udp_header: &str, cases: &[Case], good: &Header) -> TestResult {
    let server = UdpServer::echo("127.0.0.1")?;
    let proxy = Proxy::udp(server)
        .args(ADMIN)
        .args(["--udp-header", udp_header])
        .start()?;
    let (balancer, other) = (
        UdpBalancer::bind("127.0.0.1")?,
        UdpBalancer::bind("127.0.0.1")?,
    );
    expect_udp(&proxy, &balancer, good)?;
    let sockets = proxy.socket_count()?;
    let mut kinds = Kinds::default();
    let mut unbound = 0;
    for (kind, bytes) in cases {
        other.send(&proxy, &Header::raw(bytes.as_slice()), b"")?;
        match *kind {
            "unbound" => unbound += 1,
            kind => kinds.add(kind),
        }
        expect_udp(&proxy, &balancer, good)?;
    }
    kinds.expect(&proxy, "udp")?;
    let text = proxy.admin()?.get("/metrics")?.body;
    let sample = "glommproxy_dropped_total{protocol=\"udp\",reason=\"unbound\"}";
    assert_eq!(count(&text, sample), unbound);
    assert_eq!(count(&text, "glommproxy_flows_open"), 1);
    proxy.wait_for_sockets(sockets)?;
    other.expect_nothing()?;
    proxy.stop()?.expect_success()
}

#[test]
fn every_malformed_and_cut_header_over_udp() -> TestResult {
    isolated(|| {
        let good = Header::v2_udp("192.0.2.250:4000", "203.0.113.1:443")?;
        let spp = Header::spp("192.0.2.1:4000", "203.0.113.1:443")?;
        let mut cases = malformed_datagrams();
        cases.extend(
            missing()
                .into_iter()
                .filter(|(_, bytes)| !bytes.starts_with(b"\r\n\r\n")),
        );
        cases.push(("looks_like_spp", spp.bytes().to_vec()));
        cases.extend(cut(well_formed(0x12)?).map(by_signature));
        expect_datagrams("v2", &cases, &good)
    })
}

#[test]
fn every_malformed_and_cut_header_over_udp_with_first_datagrams() -> TestResult {
    isolated(|| {
        let good = Header::v2_udp("192.0.2.250:4000", "203.0.113.1:443")?;
        let spp = Header::spp("192.0.2.1:4000", "203.0.113.1:443")?;
        // What is no header at all is payload, of a client that nobody has named.
        let payload = |(kind, bytes): Case| match kind {
            "missing" | "v1_on_datagram" => ("unbound", bytes),
            kind => (kind, bytes),
        };
        let mut cases = malformed_datagrams();
        cases.extend(missing());
        cases.push(("unbound", spp.bytes().to_vec()));
        cases.extend(cut(well_formed(0x12)?).map(by_signature));
        let cases: Vec<_> = cases.into_iter().map(payload).collect();
        expect_datagrams("v2-first", &cases, &good)
    })
}

#[test]
fn every_malformed_and_cut_header_over_udp_with_simple_proxy_protocol() -> TestResult {
    isolated(|| {
        let good = Header::spp("192.0.2.250:4000", "203.0.113.1:443")?;
        let by_magic = |bytes: Vec<u8>| match bytes.len() {
            0 | 1 => ("spp_missing", bytes),
            _ => ("spp_truncated", bytes),
        };
        let mut cases: Vec<Case> = cut([good.bytes().to_vec()]).map(by_magic).collect();
        for header in well_formed(0x12)? {
            cases.push(("v2_instead_of_spp", header));
        }
        for (_, bytes) in missing() {
            cases.push(("spp_missing", bytes));
        }
        expect_datagrams("spp", &cases, &good)
    })
}
