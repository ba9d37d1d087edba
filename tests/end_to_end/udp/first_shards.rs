//! `--udp-header v2-first` on several shards: they are chosen by peer, so a client may have a flow on more than one.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use super::header_of;
use crate::harness::{Header, PATIENCE, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const CLIENT: &str = "192.0.2.1:4000";

fn start(server: &UdpServer) -> TestResult<Proxy> {
    Proxy::udp(server.addr()?)
        .args(["--udp-header", "v2-first", "-v", "2", "--listeners", "2"])
        .start()
}

/// Which shard a peer reaches. It opens a flow there, of this client.
fn shard_of(
    proxy: &Proxy,
    server: &UdpServer,
    peer: &UdpBalancer,
    client: &str,
) -> TestResult<Option<u64>> {
    peer.send(proxy, &header_of(client)?, b"where am I?")?;
    server.expect(client, b"where am I?")?;
    let opened = proxy
        .wait_for_log(|line| line["message"] == "flow opened" && line["client_addr"] == client)?;
    Ok(opened["listener"].as_u64())
}

/// Two peers that reach different shards, and a third that reaches the first one's.
fn peers_apart(proxy: &Proxy, server: &UdpServer) -> TestResult<[UdpBalancer; 3]> {
    let mut shards = [Vec::new(), Vec::new()];
    for n in 1..=250 {
        let peer = UdpBalancer::bind("127.0.0.1")?;
        let at = shard_of(proxy, server, &peer, &format!("198.51.100.{n}:4000"))?;
        shards[at.ok_or("no shard")? as usize].push(peer);
        if shards[0].len() > 1 && !shards[1].is_empty() {
            let [mut first, mut second] = shards;
            let (a, b, c) = (first.pop(), second.pop(), first.pop());
            return Ok([a.ok_or("none")?, b.ok_or("none")?, c.ok_or("none")?]);
        }
    }
    Err("all peers reach one shard".into())
}

#[test]
fn many_peers_reach_their_clients_flows_with_and_without_headers() -> TestResult {
    isolated(|| {
        const PEERS: usize = 100;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = start(&server)?;
        let peers = (1..=PEERS)
            .map(|n| Ok((format!("192.0.2.{n}:4000"), UdpBalancer::bind("127.0.0.1")?)))
            .collect::<TestResult<Vec<_>>>()?;
        for (client, peer) in &peers {
            peer.send(&proxy, &header_of(client)?, b"first")?;
            server.expect(client, b"first")?;
        }
        for n in 0..5 {
            for (client, peer) in &peers {
                let payload = format!("{client} {n}");
                peer.send(&proxy, &Header::none(), payload.as_bytes())?;
                server.expect(client, payload.as_bytes())?;
                server.send(client.parse()?, payload.as_bytes())?;
                peer.expect(payload.as_bytes())?;
            }
        }
        let exit = proxy.stop()?;
        let opened = exit.log.iter();
        let opened = opened.filter(|line| line["message"] == "flow opened");
        let shards: HashSet<_> = opened.map(|line| line["listener"].as_u64()).collect();
        assert_eq!(shards.len(), 2, "one shard has them all");
        assert_eq!(exit.total("flows")?, PEERS as u64);
        assert_eq!(exit.total("unbound")?, 0);
        exit.expect_success()
    })
}

/// Its session at the balancer has ended and begun anew: the server must know it by the same port.
#[test]
fn a_client_that_comes_to_another_shard_keeps_its_port_and_gets_its_replies() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let proxy = Proxy::udp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["--udp-header", "v2-first", "-v", "2", "--listeners", "2"])
            .start()?;
        let [here, there, here_again] = peers_apart(&proxy, &server)?;
        for (server, client) in [(&server, CLIENT), (&server_v6, "[2001:db8::1]:4000")] {
            let addr = client.parse()?;
            // The last step leads back to a shard whose flow has an older socket than the other's.
            for peer in [&here, &there, &here_again] {
                peer.send(&proxy, &header_of(client)?, b"first")?;
                server.expect(client, b"first")?;
                for push in [b"one", b"two"] {
                    server.send(addr, push)?;
                    peer.expect(push)?;
                }
                peer.send(&proxy, &Header::none(), b"second")?;
                server.expect(client, b"second")?;
                server.send(addr, b"three")?;
                peer.expect(b"three")?;
            }
        }
        for peer in [&here, &there, &here_again] {
            peer.expect_nothing()?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ports_replaced")?, 0);
        exit.expect_success()
    })
}

/// Without a header there is no telling that the client has come back, but that it talks and hears nothing.
#[test]
fn a_client_that_comes_back_without_a_header_is_not_deaf_for_long() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = start(&server)?;
        let [here, there, _] = peers_apart(&proxy, &server)?;
        for peer in [&here, &there] {
            peer.send(&proxy, &header_of(CLIENT)?, b"first")?;
            server.expect(CLIENT, b"first")?;
            server.send(CLIENT.parse()?, b"answer")?;
            peer.expect(b"answer")?;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut lost = 0;
        while here.expect_nothing().is_ok() {
            here.send(&proxy, &Header::none(), b"can you hear me?")?;
            server.expect(CLIENT, b"can you hear me?")?;
            server.send(CLIENT.parse()?, b"yes")?;
            lost += 1;
            if Instant::now() > deadline {
                return Err(format!("deaf for {lost} replies").into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        here.send(&proxy, &Header::none(), b"thank you")?;
        server.expect(CLIENT, b"thank you")?;
        server.send(CLIENT.parse()?, b"welcome")?;
        while here.receive()?.payload != b"welcome" {}
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ports_replaced")?, 0);
        exit.expect_success()
    })
}
