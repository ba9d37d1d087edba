//! Several datagrams in one piece (udp(7)): faster, and nothing else. Whoever is at either end, each datagram arrives as it
//! was sent: whole, alone and in its order.

use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::header_of;
use super::losses::wait_for_sum;
use crate::harness::{Header, Pieces, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated, run};

const CLIENT: &str = "192.0.2.1:4000";
const OTHER: &str = "192.0.2.2:4000";
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
            // The kernel steers a piece to one of several.
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
        // On several shards each client has one flow all the same, on its own.
        for (listeners, headers) in [("1", "v2"), ("4", "v2"), ("4", "spp")] {
            let server = UdpServer::bind("127.0.0.1")?;
            let proxy = Proxy::udp(server.addr()?)
                .args(["--listeners", listeners, "--udp-header", headers])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            let client = |n: usize| format!("192.0.2.{}:4000", 1 + n / 2 % 5);
            let payloads = payloads(&[100; 40]);
            let datagram = |n: usize| -> TestResult<Vec<u8>> {
                let header = match headers {
                    "spp" => Header::spp(&client(n), "203.0.113.1:443")?,
                    _ => header_of(&client(n))?,
                };
                let mut datagram = [header.bytes(), &payloads[n]].concat();
                if n % 10 == 9 {
                    datagram[0] = b'x';
                }
                Ok(datagram)
            };
            let mut order: Vec<usize> = (0..40).collect();
            for _ in 0..3 {
                let piece: Vec<_> = order
                    .iter()
                    .map(|&n| datagram(n))
                    .collect::<TestResult<_>>()?;
                Pieces::of(balancer.socket())?.send(proxy.addr(), &piece)?;
                let good = order.iter().filter(|&n| n % 10 != 9);
                let mut expected: Vec<_> = good.map(|&n| (client(n), &payloads[n])).collect();
                for _ in 0..expected.len() {
                    // In order for each client, in any order between them.
                    let datagram = server.receive()?;
                    let from = datagram.from.to_string();
                    let next = expected.iter().position(|(client, _)| *client == from);
                    let next = next.ok_or("more than was sent")?;
                    assert_eq!(*expected.remove(next).1, datagram.payload, "from {from}");
                }
                // Another client first, and so another shard perhaps.
                order.rotate_left(2);
            }
            server.expect_nothing()?;
            let exit = proxy.stop()?;
            assert_eq!(exit.total("flows")?, 5, "{listeners} listeners, {headers}");
            assert_eq!(exit.total("header_errors")?, 12);
            exit.expect_success()?;
        }
        Ok(())
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

/// A datagram from port 0, where no answer can go: the kernel refuses it as it refuses pieces that are too long.
#[test]
fn replies_that_cannot_be_sent_at_all_do_not_keep_others_from_leaving_in_one_piece() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--admin", "127.0.0.1:0", "--listeners", "1"])
            .start()?;
        let payload = [header_of(CLIENT)?.bytes(), b"question"].concat();
        send_from_port_0(proxy.addr(), &payload)?;
        server.expect(CLIENT, b"question")?;
        let replies = |client: &str, payloads: &[Vec<u8>]| {
            proxy.at_once(|| {
                let client = client.parse()?;
                payloads
                    .iter()
                    .try_for_each(|payload| server.send(client, payload))
            })
        };
        replies(CLIENT, &payloads(&[20, 20, 7]))?;
        let errors = "glommproxy_datagram_errors_total{direction=\"downstream\"}";
        wait_for_sum(&proxy, &[errors], 3)?;

        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let takes = Pieces::of(balancer.socket())?;
        balancer.send(&proxy, &header_of(OTHER)?, b"question")?;
        server.expect(OTHER, b"question")?;
        replies(OTHER, &payloads(&[1_200; 3]))?;
        assert_eq!(lens(&takes.receive_all(3)?), [[1_200; 3]]);
        proxy.stop()?.expect_success()
    })
}

/// From loopback, over a raw socket (raw(7)), as no other can have that port.
fn send_from_port_0(to: SocketAddr, payload: &[u8]) -> TestResult {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?;
    let mut datagram = Vec::new();
    datagram.extend(0u16.to_be_bytes()); // source port
    datagram.extend(to.port().to_be_bytes());
    datagram.extend(u16::try_from(8 + payload.len())?.to_be_bytes());
    datagram.extend([0, 0]); // no checksum
    datagram.extend(payload);
    socket.send_to(&datagram, &to.into())?;
    Ok(())
}

/// The same header is on all replies of a client, and those of other clients at once have others.
#[test]
fn replies_with_headers_leave_in_one_piece_through_the_listener_of_their_client() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::builder()
            .listen("0.0.0.0:2001-2003")
            .args(["-p", "udp", "--udp-header", "spp", "--listeners", "1"])
            .args(["-4", &server.addr()?.to_string()])
            .start()?;
        let mut downstreams = Vec::new();
        for port in [2001, 2002, 2003] {
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            // It hears this listener and no other.
            balancer.socket().connect(proxy.addr_on(port))?;
            Pieces::of(balancer.socket())?;
            let clients = [1, 2].map(|n| format!("192.0.2.{n}:{}", port + 2000));
            for client in &clients {
                let header = Header::spp(client, "203.0.113.1:443")?;
                balancer.socket().send(header.bytes())?;
                server.expect(client, b"")?;
            }
            downstreams.push((balancer, clients));
        }
        let payloads = payloads(&[500, 500, 0, 0, 500, 20]);
        proxy.at_once(|| {
            for payload in &payloads {
                for client in downstreams.iter().flat_map(|(_, clients)| clients) {
                    server.send(client.parse()?, payload)?;
                }
            }
            Ok(())
        })?;
        for (balancer, clients) in &downstreams {
            let replies = Pieces::of(balancer.socket())?.receive_all(2 * payloads.len())?;
            let of_one = [&[538, 538, 38][..], &[38], &[538, 58]];
            assert_eq!(lens(&replies), [of_one, of_one].concat());
            let mut replies = replies.concat();
            for client in clients {
                let header = Header::spp(client, "203.0.113.1:443")?;
                let (own, others) = replies
                    .into_iter()
                    .partition(|reply| reply.starts_with(header.bytes()));
                replies = others;
                assert_eq!(own, with_header(&header, &payloads));
            }
            assert!(replies.is_empty());
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_piece_may_begin_a_session_and_go_on_with_it() -> TestResult {
    isolated(|| {
        // Pieces come to all of them whole.
        for listeners in ["1", "3"] {
            let server = UdpServer::bind("127.0.0.1")?;
            let proxy = Proxy::udp(server.addr()?)
                .args(["--udp-header", "v2-first", "--listeners", listeners])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            let pieces = Pieces::of(balancer.socket())?;
            let (header, other_header) = (header_of(CLIENT)?, header_of(OTHER)?);
            let len = header.bytes().len();
            let bare = payloads(&[len + 100, len + 100, len + 100, 7]);
            let short = payloads(&[100, 50]);

            let first = [header.bytes(), &short[0]].concat();
            let piece = [&[first.clone()][..], &bare].concat();
            pieces.send(proxy.addr(), &piece)?;
            server.expect(CLIENT, &short[0])?;
            for payload in &bare {
                server.expect(CLIENT, payload)?;
            }

            // Another client in the middle, and one header twice.
            let other = [other_header.bytes(), &short[0]].concat();
            let piece = [&first, &first, &bare[0], &other, &bare[1], &bare[3]];
            pieces.send(proxy.addr(), &piece.map(Vec::clone))?;
            server.expect(CLIENT, &short[0])?;
            server.expect(CLIENT, &short[0])?;
            server.expect(CLIENT, &bare[0])?;
            server.expect(OTHER, &short[0])?;
            server.expect(OTHER, &bare[1])?;
            server.expect(OTHER, &bare[3])?;

            // Headers alone are no datagrams for the server, however many of them there are.
            let header = header.bytes().to_vec();
            let piece = [header.clone(), header.clone(), short[1][..9].to_vec()];
            pieces.send(proxy.addr(), &piece)?;
            server.expect(CLIENT, &short[1][..9])?;
            pieces.send(proxy.addr(), &[first, header])?;
            server.expect(CLIENT, &short[0])?;
            balancer.send(&proxy, &Header::none(), b"the next")?;
            server.expect(CLIENT, b"the next")?;
            let exit = proxy.stop()?;
            assert_eq!(exit.total("flows")?, 3);
            exit.expect_success()?;
        }
        Ok(())
    })
}
