//! Where replies leave from: the address the balancer wrote to. From any other, a balancer with a connected socket, or a
//! firewall between, drops them.

use super::header_of;
use crate::harness::{Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated};

const OWN: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
const OWN_V6: [&str; 2] = ["2001:db8:51::1", "2001:db8:51::2"];

#[test]
fn a_reply_leaves_from_the_address_its_peer_wrote_to() -> TestResult {
    isolated(|| {
        for ip in OWN.iter().chain(&OWN_V6) {
            add_address(ip)?;
        }
        let server = UdpServer::echo("127.0.0.1")?;
        for listen in ["0.0.0.0:0", "[::]:0"] {
            let proxy = Proxy::udp(server).listen(listen).start()?;
            let mut client = 0;
            for (peers, addresses) in [
                (["127.0.0.1", OWN[0]], ["127.0.0.1", OWN[0], OWN[1]]),
                (["::1", OWN_V6[0]], ["::1", OWN_V6[0], OWN_V6[1]]),
            ] {
                for (peer, to) in peers.iter().flat_map(|peer| addresses.map(|to| (peer, to))) {
                    client += 1;
                    let balancer = UdpBalancer::bind(peer)?;
                    let to = proxy.addr_at(to)?;
                    balancer.send_to(to, &header_of(&format!("192.0.2.{client}:4000"))?, b"?")?;
                    let reply = balancer.expect(format!("192.0.2.{client}:4000 ?").as_bytes())?;
                    assert_eq!(reply.from, to, "to {peer} from a listener on {listen}");
                }
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

/// One batch of replies, of one flow each, and every one from another address.
#[test]
fn replies_of_one_batch_leave_each_from_its_own_address() -> TestResult {
    isolated(|| {
        for ip in OWN.iter().chain(&OWN_V6) {
            add_address(ip)?;
        }
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .listen("[::]:0")
            .args(["--listeners", "1"])
            .start()?;
        let (balancer, balancer_v6) = (UdpBalancer::bind("127.0.0.1")?, UdpBalancer::bind("::1")?);
        let mut flows = Vec::new();
        for n in 0..20 {
            let (v4, v6) = (OWN[n % 2], OWN_V6[n % 2]);
            for (balancer, to, port) in [(&balancer, v4, 4000), (&balancer_v6, v6, 6000)] {
                let (client, to) = (format!("192.0.2.1:{}", port + n), proxy.addr_at(to)?);
                balancer.send_to(to, &header_of(&client)?, b"?")?;
                server.expect(&client, b"?")?;
                flows.push((balancer, client, to));
            }
        }
        proxy.signal(rustix::process::Signal::STOP)?;
        for (_, client, _) in &flows {
            server.send(client.parse()?, client.as_bytes())?;
        }
        proxy.signal(rustix::process::Signal::CONT)?;
        for _ in 0..flows.len() / 2 {
            for balancer in [&balancer, &balancer_v6] {
                let reply = balancer.receive()?;
                let flow = flows
                    .iter()
                    .find(|(_, client, _)| client.as_bytes() == reply.payload);
                let (_, client, to) = flow.ok_or("a reply that nobody sent")?;
                assert_eq!(reply.from, *to, "to {client}");
            }
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn the_latest_address_a_peer_wrote_to_counts() -> TestResult {
    isolated(|| {
        for ip in OWN {
            add_address(ip)?;
        }
        let client = "192.0.2.1:4000";
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).listen("0.0.0.0:0").start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for to in [OWN[0], OWN[1], OWN[0]] {
            let to = proxy.addr_at(to)?;
            balancer.send_to(to, &header_of(client)?, b"question")?;
            server.expect(client, b"question")?;
            server.send(client.parse()?, b"answer")?;
            assert_eq!(balancer.expect(b"answer")?.from, to);
        }
        proxy.stop()?.expect_success()
    })
}
