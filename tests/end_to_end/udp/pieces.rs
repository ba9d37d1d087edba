//! Several datagrams in one piece (udp(7)): faster, and nothing else. Whoever is at either end, each datagram arrives as it
//! was sent: whole, alone and in its order.

use super::header_of;
use crate::harness::{Header, Pieces, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated, run};

const CLIENT: &str = "192.0.2.1:4000";
const CLIENT_V6: &str = "[2001:db8::1]:4000";

/// Datagrams of these lengths, none like another.
fn payloads(lens: &[usize]) -> Vec<Vec<u8>> {
    let payload = |(n, &len): (usize, &usize)| (0..len).map(|i| (7 * n + i) as u8).collect();
    lens.iter().enumerate().map(payload).collect()
}

/// Each behind the header.
fn with_header(header: &Header, payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let join = |payload: &Vec<u8>| [header.bytes(), payload].concat();
    payloads.iter().map(join).collect()
}

fn lens(pieces: &[Vec<Vec<u8>>]) -> Vec<Vec<usize>> {
    let of_piece = |piece: &Vec<Vec<u8>>| piece.iter().map(Vec::len).collect();
    pieces.iter().map(of_piece).collect()
}

#[test]
fn a_piece_from_the_balancer_reaches_the_server_datagram_by_datagram() -> TestResult {
    isolated(|| {
        for (ip, client) in [("127.0.0.1", CLIENT), ("::1", CLIENT_V6)] {
            // One listener takes pieces, several have the kernel take them apart.
            for listeners in ["1", "3"] {
                let server = UdpServer::bind(ip)?;
                let proxy = Proxy::udp(server.addr()?)
                    .args(["--listeners", listeners])
                    .listen(if ip == "::1" {
                        "[::1]:0"
                    } else {
                        "127.0.0.1:0"
                    })
                    .start()?;
                let balancer = UdpBalancer::bind(ip)?;
                let header = header_of(client)?;
                for lens in [
                    &[1_200; 45][..],
                    &[1_200, 1_200, 7],
                    &[1; 64],
                    &[0; 3],
                    // The last is a header and no more.
                    &[300, 300, 0],
                    &[30_000, 29_999],
                ] {
                    let payloads = payloads(lens);
                    let datagrams = with_header(&header, &payloads);
                    Pieces::of(balancer.socket())?.send(proxy.addr(), &datagrams)?;
                    for payload in &payloads {
                        server.expect(client, payload)?;
                    }
                }
                server.expect_nothing()?;
                proxy.stop()?.expect_success()?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_piece_may_hold_datagrams_of_many_clients_and_bad_ones() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let client = |n: usize| format!("192.0.2.{}:4000", 1 + n / 2 % 5);
        let payloads = payloads(&[100; 40]);
        let mut datagrams = Vec::new();
        for (n, payload) in payloads.iter().enumerate() {
            let mut datagram = [header_of(&client(n))?.bytes(), payload].concat();
            if n % 10 == 9 {
                datagram[0] = b'x';
            }
            datagrams.push(datagram);
        }
        Pieces::of(balancer.socket())?.send(proxy.addr(), &datagrams)?;
        let mut expected: Vec<_> = (0..40)
            .filter(|n| n % 10 != 9)
            .map(|n| (client(n), payloads[n].clone()))
            .collect();
        for _ in 0..expected.len() {
            // In order for each client, in any order between them.
            let datagram = server.receive()?;
            let from = datagram.from.to_string();
            let next = expected.iter().position(|(client, _)| *client == from);
            let next = next.ok_or("more than was sent")?;
            assert_eq!(expected.remove(next).1, datagram.payload, "from {from}");
        }
        server.expect_nothing()?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 5);
        assert_eq!(exit.total("header_errors")?, 4);
        exit.expect_success()
    })
}

#[test]
fn a_server_that_takes_pieces_gets_them_from_whatever_came_at_once() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let pieces = Pieces::of(server.socket())?;
        let proxy = Proxy::udp(server.addr()?).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let payloads = payloads(&[500, 500, 500, 20, 20, 0, 0, 31, 32, 32, 32, 3]);
        proxy.at_once(|| {
            for payload in &payloads {
                balancer.send(&proxy, &header_of(CLIENT)?, payload)?;
            }
            Ok(())
        })?;
        let received = pieces.receive_all(payloads.len())?;
        assert_eq!(received.concat(), payloads);
        let joined = [
            &[500, 500, 500, 20][..],
            &[20],
            &[0],
            &[0],
            &[31],
            &[32, 32, 32, 3],
        ];
        assert_eq!(lens(&received), joined);
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_piece_from_the_server_reaches_the_balancer_datagram_by_datagram() -> TestResult {
    isolated(|| {
        for listen in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let server = UdpServer::bind("127.0.0.1")?;
            let proxy = Proxy::udp(server.addr()?).listen(listen).start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            let to = proxy.addr_at("127.0.0.1")?;
            balancer.send_to(to, &header_of(CLIENT)?, b"question")?;
            server.expect(CLIENT, b"question")?;
            for lens in [&[1_200; 45][..], &[1_200, 7], &[1; 64], &[30_000, 29_999]] {
                let payloads = payloads(lens);
                Pieces::of(server.socket())?.send(CLIENT.parse()?, &payloads)?;
                for payload in &payloads {
                    let reply = balancer.expect(payload)?;
                    assert_eq!(reply.from, to, "from a listener on {listen}");
                }
            }
            balancer.expect_nothing()?;
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn a_balancer_that_takes_pieces_gets_them_whichever_flow_the_replies_are_of() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .listen("0.0.0.0:0")
            .args(["--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let pieces = Pieces::of(balancer.socket())?;
        let clients = ["192.0.2.1:4000", "192.0.2.2:4000"];
        for client in clients {
            balancer.send(&proxy, &header_of(client)?, b"question")?;
            server.expect(client, b"question")?;
        }
        let payloads = payloads(&[500, 500, 0, 500, 20]);
        proxy.at_once(|| {
            for client in clients {
                for payload in &payloads {
                    server.send(client.parse()?, payload)?;
                }
            }
            Ok(())
        })?;
        let received = pieces.receive_all(2 * payloads.len())?;
        assert_eq!(received.concat(), [&payloads[..], &payloads].concat());
        let of_one = [&[500, 500][..], &[0], &[500, 20]];
        assert_eq!(lens(&received), [of_one, of_one].concat());
        proxy.stop()?.expect_success()
    })
}

/// Longer than the MTU, a datagram leaves as fragments; a piece of such is refused by the kernel.
#[test]
fn datagrams_longer_than_the_mtu_pass_and_shorter_ones_still_in_one_piece() -> TestResult {
    isolated(|| {
        run("ip link set lo mtu 1500")?;
        let server = UdpServer::bind("127.0.0.1")?;
        let pieces = Pieces::of(server.socket())?;
        let proxy = Proxy::udp(server.addr()?).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let takes = Pieces::of(balancer.socket())?;
        for _ in 0..2 {
            for (lens_sent, joined) in [
                (&[1_600; 3][..], &[&[1_600][..], &[1_600], &[1_600]][..]),
                (&[1_400; 3], &[&[1_400, 1_400, 1_400]]),
            ] {
                let payloads = payloads(lens_sent);
                proxy.at_once(|| {
                    for payload in &payloads {
                        balancer.send(&proxy, &header_of(CLIENT)?, payload)?;
                    }
                    Ok(())
                })?;
                let received = pieces.receive_all(payloads.len())?;
                assert_eq!(received.concat(), payloads);
                assert_eq!(lens(&received), joined);

                proxy.at_once(|| {
                    for payload in &payloads {
                        server.send(CLIENT.parse()?, payload)?;
                    }
                    Ok(())
                })?;
                let replies = takes.receive_all(payloads.len())?;
                assert_eq!(replies.concat(), payloads);
                assert_eq!(lens(&replies), joined);
            }
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("upstream_errors")?, 0);
        assert_eq!(exit.total("downstream_errors")?, 0);
        exit.expect_success()
    })
}
