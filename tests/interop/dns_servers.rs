//! dnsdist in front of a DNS server: over UDP, where every datagram has its header, and over TCP.

use crate::dns::{DnsServer, Query, Transport};
use crate::harness::Proxy;
use crate::hosts::{
    BALANCER_V4, BALANCER_V6, CLIENT_V4, CLIENT_V6, OTHER_CLIENT_V4, add_addresses, associate,
    connect,
};
use crate::namespace::TestResult;
use crate::software::{Balancer, Dnsdist};
use crate::tool::{DNSDIST, isolated_with};

/// What dnsdist asks for, again and again, to learn whether the server is there (`checkName`).
const HEALTH_CHECK: &str = "a.root-servers.net";

#[test]
fn clients_over_udp() -> TestResult {
    isolated_with(&[DNSDIST], || {
        add_addresses()?;
        let (server, server_v6) = (DnsServer::start("127.0.0.1")?, DnsServer::start("::1")?);
        let proxy = Proxy::udp(server.addr()).and(server_v6.addr());
        let proxy = proxy.args(["-v", "1"]).start()?;
        let dnsdist = Dnsdist::start(proxy.addr())?;
        // Two ports of one address among them.
        let clients = [
            (
                associate(CLIENT_V4, dnsdist.addr_at(BALANCER_V4)?)?,
                &server,
            ),
            (
                associate(CLIENT_V6, dnsdist.addr_at(BALANCER_V6)?)?,
                &server_v6,
            ),
            (
                associate(OTHER_CLIENT_V4, dnsdist.addr_at(BALANCER_V4)?)?,
                &server,
            ),
            (
                associate(CLIENT_V4, dnsdist.addr_at(BALANCER_V4)?)?,
                &server,
            ),
        ];
        for round in 1..=3 {
            let queries: Vec<_> = (0..clients.len())
                .map(|id| name(id, round))
                .zip(1000..)
                .map(|(name, id)| Ok((Query::new(id, &name)?, name)))
                .collect::<TestResult<_>>()?;
            // All ask before any is answered.
            for ((client, _), (query, _)) in clients.iter().zip(&queries) {
                query.send(client)?;
            }
            for ((client, server), (query, name)) in clients.iter().zip(&queries) {
                query.expect_answer(client)?;
                let question = server.wait_for(name)?;
                assert_eq!(question.from, client.local_addr()?);
                assert_eq!(question.transport, Transport::Udp);
            }
        }
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert_eq!(exit.log_since_ready(), [""; 0]);
        Ok(())
    })
}

#[test]
fn clients_over_tcp() -> TestResult {
    isolated_with(&[DNSDIST], || {
        add_addresses()?;
        let (server, server_v6) = (DnsServer::start("127.0.0.1")?, DnsServer::start("::1")?);
        let proxy = Proxy::builder().args(["-p", "both"]);
        let proxy = proxy.and(server.addr()).and(server_v6.addr()).start()?;
        let dnsdist = Dnsdist::start(proxy.addr())?;
        let mut clients = Vec::new();
        for (number, (client, at, server)) in [
            (CLIENT_V4, BALANCER_V4, &server),
            (CLIENT_V6, BALANCER_V6, &server_v6),
            (CLIENT_V4, BALANCER_V4, &server),
        ]
        .into_iter()
        .enumerate()
        {
            let client = connect(client, dnsdist.addr_at(at)?)?;
            for round in 1..=2 {
                let name = name(number, round);
                Query::new(7, &name)?.ask(client.stream())?;
                let question = server.wait_for(&name)?;
                assert_eq!(question.from, client.local()?);
                assert_eq!(question.transport, Transport::Tcp);
            }
            clients.push(client);
        }
        proxy.stop()?.expect_success()
    })
}

/// They are of command LOCAL.
#[test]
fn health_checks_are_served_from_our_own_address() -> TestResult {
    isolated_with(&[DNSDIST], || {
        add_addresses()?;
        let server = DnsServer::start("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()).start()?;
        let mut dnsdist = Dnsdist::start(proxy.addr())?;
        let question = server.wait_for(HEALTH_CHECK)?;
        assert_eq!(question.from.ip(), server.addr().ip());
        dnsdist.wait_until_up()?;
        proxy.stop()?.expect_success()
    })
}

fn name(client: usize, round: u32) -> String {
    format!("client-{client}.round-{round}.example")
}
