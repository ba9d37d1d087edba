//! What a full receive buffer had no room for is counted, to the datagram.

use super::header_of;
use crate::harness::{Proxy, UdpBalancer, UdpServer, metric, wait_for};
use crate::namespace::{TestResult, isolated};

const CLIENT: &str = "192.0.2.1:4000";

/// More than fit into any listener's buffer.
const FLOOD: usize = 30_000;

/// The sum of these metrics, as soon as it is this, or what they are if it is never.
#[track_caller]
pub(super) fn wait_for_sum(proxy: &Proxy, samples: &[&str], sum: usize) -> TestResult<Vec<usize>> {
    let admin = proxy.admin()?;
    let mut counts = Vec::new();
    let reached = wait_for(|| {
        let text = admin.get("/metrics")?.body;
        counts.clear();
        for sample in samples {
            counts.push(metric(&text, sample).ok_or("no such metric")?.parse()?);
        }
        Ok((counts.iter().sum::<usize>() == sum).then_some(()))
    });
    match reached {
        Ok(()) => Ok(counts),
        Err(_) => Err(format!("{counts:?} of {sum}").into()),
    }
}

/// A proxy with a flow over which something has gone both ways, between this server and this balancer.
#[track_caller]
fn proxy_with_flow() -> TestResult<(UdpServer, Proxy, UdpBalancer)> {
    let server = UdpServer::bind("127.0.0.1")?;
    let proxy = Proxy::udp(server.addr()?)
        .args(["--admin", "127.0.0.1:0", "--listeners", "1"])
        .args(["--close-after", "2"])
        .start()?;
    let balancer = UdpBalancer::bind("127.0.0.1")?;
    balancer.send(&proxy, &header_of(CLIENT)?, b"question")?;
    server.expect(CLIENT, b"question")?;
    server.send(CLIENT.parse()?, b"answer")?;
    balancer.expect(b"answer")?;
    Ok((server, proxy, balancer))
}

#[test]
fn what_a_listener_has_no_room_for_is_counted() -> TestResult {
    isolated(|| {
        let (_server, proxy, balancer) = proxy_with_flow()?;
        let header = header_of(CLIENT)?;
        proxy.at_once(|| (0..FLOOD).try_for_each(|_| balancer.send(&proxy, &header, b"flood")))?;
        let counts = wait_for_sum(
            &proxy,
            &[
                "glommproxy_datagrams_total{direction=\"upstream\"}",
                "glommproxy_datagrams_lost_total{direction=\"upstream\"}",
            ],
            1 + FLOOD,
        )?;
        assert!(counts[0] > 1 && counts[1] > 0, "{counts:?}");
        proxy.stop()?.expect_success()
    })
}

/// Small datagrams come in full batches. Of large ones a buffer holds a few only, and the loss is counted with the next
/// ones, or at the flow's end.
#[test]
fn what_a_flow_has_no_room_for_is_counted() -> TestResult {
    isolated(|| {
        for size in [100, 60_000] {
            let (server, proxy, _balancer) = proxy_with_flow()?;
            const REPLIES: usize = 1_000;
            let reply = vec![7; size];
            let client = CLIENT.parse()?;
            proxy.at_once(|| (0..REPLIES).try_for_each(|_| server.send(client, &reply)))?;
            let counts = wait_for_sum(
                &proxy,
                &[
                    "glommproxy_datagrams_total{direction=\"downstream\"}",
                    "glommproxy_datagrams_lost_total{direction=\"downstream\"}",
                ],
                1 + REPLIES,
            )?;
            assert!(counts[0] > 1 && counts[1] > 0, "{size}: {counts:?}");
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

/// Made-up clients come faster than sockets for them can be had. Who is being served goes on, and whoever is turned away
/// is counted.
#[test]
fn while_a_listener_is_crowded_those_with_a_flow_are_served_first() -> TestResult {
    isolated(|| {
        let (server, proxy, balancer) = proxy_with_flow()?;
        let header = header_of(CLIENT)?;
        proxy.at_once(|| {
            balancer.send(&proxy, &header, b"in time")?;
            (0..FLOOD).try_for_each(|n| {
                let made_up = format!("198.51.{}.{}:4000", n / 250, n % 250 + 1);
                balancer.send(&proxy, &header_of(&made_up)?, b"flood")
            })
        })?;
        server.expect(CLIENT, b"in time")?;
        let counts = wait_for_sum(
            &proxy,
            &[
                "glommproxy_datagrams_total{direction=\"upstream\"}",
                "glommproxy_datagrams_lost_total{direction=\"upstream\"}",
                "glommproxy_dropped_total{protocol=\"udp\",reason=\"overload\"}",
            ],
            2 + FLOOD,
        )?;
        let [served, _, overload] = counts[..] else {
            return Err("not three".into());
        };
        assert!(served > 2 && overload > 0, "{counts:?}");
        let warning = proxy.wait_for_message("datagrams of new clients dropped")?;
        assert_eq!(warning["level"], "WARN");
        // Now there is time for newcomers.
        let late = "192.0.2.2:4000";
        server.drain()?;
        balancer.send(&proxy, &header_of(late)?, b"late")?;
        server.expect(late, b"late")?;
        proxy.stop()?.expect_success()
    })
}
