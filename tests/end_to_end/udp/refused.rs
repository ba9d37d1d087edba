//! What does not pass: it is dropped, counted, and told at `-v 1` in words that help, but not once a datagram.

use super::header_of;
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated, run};

const CLIENT: &str = "192.0.2.1:4000";

/// A version 2 header with one byte changed.
fn with_byte(at: usize, byte: u8) -> TestResult<Header> {
    let mut bytes = header_of(CLIENT)?.bytes().to_vec();
    bytes[at] = byte;
    Ok(Header::raw(bytes))
}

#[test]
fn datagrams_without_a_good_header_are_dropped_and_counted_for_a_reason() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let good = header_of(CLIENT)?;
        let cut = |len: usize| Header::raw(&good.bytes()[..len]);
        let bad = [
            (Header::none(), "no PROXY header"),
            (Header::raw("hello"), "no PROXY header"),
            (cut(8), "no PROXY header"),
            (Header::v1(CLIENT, "203.0.113.1:443")?, "version 1"),
            (cut(14), "ends before"),
            (cut(27), "ends before"),
            (Header::v2(CLIENT, "203.0.113.1:443")?, "says TCP"),
            (with_byte(12, 0x11)?, "version 1 behind"), // version 1, PROXY
            (with_byte(12, 0x22)?, "unknown PROXY version 2 command 2"),
            (with_byte(13, 0x42)?, "family 4"), // family 4, DGRAM
            (with_byte(13, 0x13)?, "transport 3"), // INET, transport 3
            (with_byte(13, 0x32)?, "no IP address"), // UNIX, DGRAM
            (with_byte(15, 11)?, "11"),         // length, one less than two addresses
            (good.clone().tlv(0x03, &[0; 4])?, "CRC32C"), // a checksum that is none
        ];
        for (header, reason) in &bad {
            // One proxy each: a second reason within the second would not be written.
            let proxy = Proxy::udp(server.addr()?)
                .args(["-v", "1", "--listeners", "1"])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, header, b"")?;
            balancer.send(&proxy, &good, b"good")?;
            server.expect(CLIENT, b"good")?;
            let line = proxy.wait_for_message("datagram dropped")?;
            let error = line["error"].as_str().unwrap_or_default();
            assert!(error.contains(reason), "{error} does not tell of {reason}");
            assert_eq!(line["level"], "DEBUG");
            assert_eq!(line["protocol"], "udp");
            assert_eq!(line["peer_addr"], balancer.addr()?.to_string());
            let exit = proxy.stop()?;
            assert_eq!(exit.total("header_errors")?, 1, "{reason}");
            assert_eq!(exit.total("flows")?, 1);
            exit.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn every_cut_of_a_header_is_dropped() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--listeners", "4"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let mut cuts = 0;
        for client in [CLIENT, "[2001:db8::1]:4000"] {
            let header = header_of(client)?.tlv(0x04, b"padding")?;
            for len in 0..header.bytes().len() {
                balancer.send(&proxy, &Header::raw(&header.bytes()[..len]), b"")?;
                cuts += 1;
            }
        }
        // So many that each shard has one, which it serves behind what it had to drop.
        let clients = 1..=32;
        for client in clients.clone().map(|n| format!("192.0.2.{n}:4000")) {
            balancer.send(&proxy, &header_of(&client)?, b"good")?;
            server.expect(&client, b"good")?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("header_errors")?, cuts);
        assert_eq!(exit.total("flows")?, clients.count() as u64);
        server.expect_nothing()?;
        exit.expect_success()
    })
}

#[test]
fn a_thousand_bad_datagrams_make_a_line_and_a_number() -> TestResult {
    isolated(|| {
        const BAD: u64 = 1_000;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["-v", "1", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for n in 1..=BAD {
            balancer.send(&proxy, &Header::none(), b"hello")?;
            // In step with the proxy, so that its receive buffer never overflows.
            if n % 50 == 0 {
                balancer.send(&proxy, &header_of(CLIENT)?, b"good")?;
                server.expect(CLIENT, b"good")?;
            }
        }
        // The number is told when the second is over.
        let is_line = |line: &serde_json::Value| line["message"] == "datagram dropped";
        let is_number = |line: &serde_json::Value| line["message"] == "datagram dropped (repeated)";
        let told = |lines: &[serde_json::Value]| {
            let count = |line: &serde_json::Value| line["count"].as_u64().unwrap_or_default();
            let numbers: u64 = lines.iter().filter(|line| is_number(line)).map(count).sum();
            numbers + lines.iter().filter(|line| is_line(line)).count() as u64
        };
        let mut numbers = 1;
        while told(&proxy.log()) < BAD {
            proxy.wait_for_logs(numbers, is_number)?;
            numbers += 1;
        }
        let log = proxy.log();
        assert_eq!(told(&log), BAD, "every datagram is told of once");
        // A second line only if sending took longer than the first line's second.
        let (lines, numbers) = (
            log.iter().filter(|line| is_line(line)).count(),
            log.iter().filter(|line| is_number(line)).count(),
        );
        assert!(
            lines <= 3 && numbers <= 3,
            "{lines} lines, {numbers} numbers"
        );
        let exit = proxy.stop()?;
        assert_eq!(exit.total("header_errors")?, BAD);
        exit.expect_success()
    })
}

#[test]
fn peers_that_are_not_allowed_are_not_heard() -> TestResult {
    isolated(|| {
        let list = tempfile::NamedTempFile::new()?;
        std::fs::write(list.path(), "127.0.0.2\n2001:db8:7::/48\n")?;
        add_address("2001:db8:7::1")?;
        add_address("2001:db8:8::1")?;
        let server = UdpServer::bind("127.0.0.1")?;
        // A listener of both families sees IPv4 peers as v4-mapped; the list does not.
        for listen in ["127.0.0.1:0", "[::]:0"] {
            let proxy = Proxy::udp(server.addr()?)
                .listen(listen)
                .args(["-v", "1", "--listeners", "1"])
                .args(["--allowed-subnets".as_ref(), list.path()])
                .start()?;
            let to = proxy.addr_at("127.0.0.1")?;
            let stranger = UdpBalancer::bind("127.0.0.3")?;
            let friend = UdpBalancer::bind("127.0.0.2")?;
            stranger.send_to(to, &header_of(CLIENT)?, b"stranger")?;
            friend.send_to(to, &header_of(CLIENT)?, b"friend")?;
            server.expect(CLIENT, b"friend")?;
            let message = "datagram dropped: the peer is not in the allow list";
            let line = proxy.wait_for_message(message)?;
            assert_eq!(line["peer_addr"], stranger.addr()?.to_string());

            // A refused peer cannot take over a flow either: the reply goes to the friend.
            stranger.send_to(to, &header_of(CLIENT)?, b"stranger")?;
            friend.send_to(to, &header_of("192.0.2.2:4000")?, b"friend")?;
            server.expect("192.0.2.2:4000", b"friend")?;
            server.send(CLIENT.parse()?, b"answer")?;
            friend.expect(b"answer")?;
            stranger.expect_nothing()?;

            let mut refused = 2;
            if listen == "[::]:0" {
                let to = proxy.addr_at("::1")?;
                UdpBalancer::bind("2001:db8:8::1")?.send_to(to, &header_of(CLIENT)?, b"no")?;
                UdpBalancer::bind("2001:db8:7::1")?.send_to(to, &header_of(CLIENT)?, b"yes")?;
                server.expect(CLIENT, b"yes")?;
                refused += 1;
            }
            let exit = proxy.stop()?;
            assert_eq!(exit.total("peers_refused")?, refused);
            exit.expect_success()?;
        }
        Ok(())
    })
}

/// Linux binds a socket to several of these, and the server then sees 127.0.0.1, its own host, which it may trust.
#[test]
fn sources_that_no_client_has_are_dropped_and_counted() -> TestResult {
    isolated(|| {
        add_address("198.51.100.9")?;
        let (server, server_v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let proxy = Proxy::udp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["-v", "1", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("198.51.100.9")?;
        let forbidden = [
            "0.0.0.0:4000",
            "0.1.2.3:4000",
            "224.0.0.1:4000",
            "239.255.255.255:4000",
            "255.255.255.255:4000",
            "127.0.0.1:4000",
            "127.255.255.255:4000",
            "192.0.2.1:0",
            "[::]:4000",
            "[::1]:4000",
            "[ff02::1]:4000",
            "[fe80::1]:4000",
            "[2001:db8::1]:0",
            "[::ffff:0.0.0.0]:4000",
            "[::ffff:127.0.0.1]:4000",
            "[::ffff:224.0.0.1]:4000",
            "[::ffff:255.255.255.255]:4000",
        ];
        for source in forbidden {
            balancer.send(&proxy, &header_of(source)?, source.as_bytes())?;
        }
        for (server, client) in [(&server, CLIENT), (&server_v6, "[2001:db8::1]:4000")] {
            balancer.send(&proxy, &header_of(client)?, b"good")?;
            server.expect(client, b"good")?;
            server.expect_nothing()?;
        }
        let line = proxy.wait_for_message("datagram dropped")?;
        let error = line["error"].as_str().unwrap_or_default();
        assert!(error.contains("0.0.0.0"), "{error}");
        let exit = proxy.stop()?;
        assert_eq!(exit.total("sources_refused")?, forbidden.len() as u64);
        assert_eq!(exit.total("flows")?, 2);
        exit.expect_success()
    })
}

/// The broadcast address of one of this host's own networks is an address like any other to whoever does not know the
/// network. Linux sends from it as from none: the server would see 127.0.0.1.
#[test]
fn the_broadcast_address_of_our_own_network_is_no_source() -> TestResult {
    isolated(|| {
        run("ip address add 198.51.100.1/24 broadcast 198.51.100.255 dev lo")?;
        let tcp_server = TcpServer::bind("127.0.0.1")?;
        let server = UdpServer::bind_to(tcp_server.addr()?)?;
        let proxy = Proxy::builder()
            .args(["-p", "both", "-v", "1", "--listeners", "1"])
            .and(server.addr()?)
            .start()?;
        let (source, destination) = ("198.51.100.255:4000", "203.0.113.1:443");
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(source)?, b"broadcast")?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"good")?;
        server.expect(CLIENT, b"good")?;
        server.expect_nothing()?;
        let connection = Balancer::default().connect(&proxy, &Header::v2(source, destination)?)?;
        connection.expect_over()?;
        tcp_server.expect_nobody()?;

        let lines = proxy.wait_for_logs(2, |line| {
            let error = line["error"].as_str().unwrap_or_default();
            error.contains("198.51.100.255:4000 is a broadcast address of this host")
        })?;
        assert_ne!(lines[0]["protocol"], lines[1]["protocol"]);
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 1);
        assert_eq!(exit.total("dial_errors")?, 2);
        exit.expect_success()
    })
}

/// A socket connected to its own address would hear itself.
#[test]
fn the_servers_own_address_is_no_client() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["-v", "1", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let itself = server.addr()?.to_string();
        balancer.send(&proxy, &header_of(&itself)?, b"itself")?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"good")?;
        server.expect(CLIENT, b"good")?;
        proxy.wait_for_log(|line| {
            let error = line["error"].as_str().unwrap_or_default();
            line["message"] == "datagram dropped" && error.contains("server's own")
        })?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("dial_errors")?, 1);
        exit.expect_success()
    })
}

/// Through a balancer, a client may claim any address: the proxy's own must not make it talk to itself for ever.
#[test]
fn the_proxys_own_address_as_client_makes_no_loop() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        for listeners in ["1", "4"] {
            let proxy = Proxy::udp(server.addr()?)
                .args(["--listeners", listeners])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, &header_of(&proxy.addr().to_string())?, b"loop?")?;
            let question = server.receive()?;
            assert_eq!(question.payload, b"loop?");
            assert_ne!(question.from, proxy.addr());
            server.send(question.from, b"answer")?;
            balancer.expect(b"answer")?;
            server.expect_nothing()?;
            let exit = proxy.stop()?;
            assert_eq!(exit.total("flows")?, 1);
            assert_eq!(exit.total("header_errors")?, 0);
            exit.expect_success()?;
        }
        Ok(())
    })
}
