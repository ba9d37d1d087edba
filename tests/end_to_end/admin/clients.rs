//! The busiest clients.

use std::io::Read;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::ADMIN;
use crate::harness::{
    Admin, Balancer, Connection, Header, Proxy, TcpServer, UdpBalancer, UdpServer, wait_for,
};
use crate::namespace::{TestResult, isolated};

/// Over TCP and UDP, on so many shards that a client's connections are on several.
fn proxy() -> TestResult<(Proxy, UdpServer)> {
    let server = TcpServer::echo("127.0.0.1")?;
    let udp_server = UdpServer::bind_to(server)?;
    let proxy = Proxy::builder()
        .and(server)
        .args(ADMIN)
        .args(["-p", "both", "--listeners", "4", "--close-after", "1"])
        .start()?;
    Ok((proxy, udp_server))
}

/// So many connections of a client, on each of which a text goes there and back.
fn connect(proxy: &Proxy, ip: &str, count: u16, text: &[u8]) -> TestResult<Vec<Connection>> {
    let connections = (0..count).map(|n| {
        let header = Header::of(&format!("{ip}:{}", 4000 + n))?;
        let connection = Balancer::default().connect(proxy, &header)?;
        connection.expect_echo(text)?;
        Ok(connection)
    });
    connections.collect()
}

/// What is told of each: who, connections, flows, bytes up and down.
fn rows(answer: &Value) -> TestResult<Vec<Value>> {
    let rows = answer["busiest"].as_array().ok_or("no list")?.iter();
    let told = rows.map(|row| {
        json!([
            row["client"],
            row["connections"],
            row["flows"],
            row["bytes_upstream"],
            row["bytes_downstream"]
        ])
    });
    Ok(told.collect())
}

/// Waits until the answer is this. It is up to a second old.
#[track_caller]
fn wait_for_rows(admin: Admin, path: &str, wanted: &[Value]) -> TestResult<Value> {
    let mut last = Vec::new();
    let found = wait_for(|| {
        let answer = admin.get(path)?;
        // A shard may have been too busy to answer.
        if answer.status == 503 {
            return Ok(None);
        }
        let answer: Value = serde_json::from_str(&answer.body)?;
        last = rows(&answer)?;
        Ok((last == wanted).then_some(answer))
    });
    found.map_err(|error| format!("{error:?}: there is {last:?}").into())
}

#[test]
fn the_busiest_come_first_and_those_who_have_left_are_gone() -> TestResult {
    isolated(|| {
        let (proxy, udp_server) = proxy()?;
        let admin = proxy.admin()?;
        wait_for_rows(admin, "/clients", &[])?;

        let few = connect(&proxy, "192.0.2.1", 12, b"ping")?;
        let many = connect(&proxy, "192.0.2.2", 2, &[7; 1000])?;
        // A balancer's own connection is nobody's.
        let health = Balancer::default().connect(&proxy, &Header::v2_local()?)?;
        health.expect_echo(&[0; 5000])?;
        let balancers = [4000, 4001, 4002].map(|port| {
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            for client in ["192.0.2.1", "192.0.2.3"] {
                let header = Header::v2_udp(&format!("{client}:{port}"), "203.0.113.1:443")?;
                balancer.send(&proxy, &header, &[1; 100])?;
                let datagram = udp_server.receive()?;
                udp_server.send(datagram.from, b"pong")?;
                balancer.expect(b"pong")?;
            }
            TestResult::Ok(balancer)
        });
        let flows = |client: &str, connections: u64, bytes: u64| {
            let up = bytes * connections + 300;
            json!([client, connections, 3, up, bytes * connections + 12])
        };
        let all = [
            json!(["192.0.2.2", 2, 0, 2000, 2000]),
            flows("192.0.2.1", 12, 4),
            flows("192.0.2.3", 0, 0),
        ];
        let answer = wait_for_rows(admin, "/clients", &all)?;
        assert_eq!(answer["clients"], 3);
        let uptime = answer["uptime_seconds"].as_f64().ok_or("no uptime")?;
        for row in answer["busiest"].as_array().ok_or("no list")? {
            let open = row["open_seconds"].as_f64().ok_or("no time")?;
            assert!((0.0..uptime).contains(&open), "{answer}");
        }
        let answer = wait_for_rows(admin, "/clients?limit=1", &all[..1])?;
        assert_eq!(answer["clients"], 3);

        // What passes from now on counts, too.
        few[0].expect_echo(&[3; 3000])?;
        let last = [
            json!(["192.0.2.1", 12, 0, 3048, 3048]),
            json!(["192.0.2.2", 2, 0, 2000, 2000]),
        ];
        wait_for_rows(admin, "/clients", &last)?;
        drop((few, many, balancers));
        wait_for_rows(admin, "/clients", &[])?;
        health.expect_echo(b"still here")?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn they_are_told_while_the_proxy_drains() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(ADMIN)
            .args(["--listeners", "4", "--drain-timeout", "3600"])
            .start()?;
        let admin = proxy.admin()?;
        let connections = connect(&proxy, "192.0.2.1", 1, b"ping")?;
        proxy.signal(Signal::TERM)?;
        proxy.wait_for_message("draining")?;
        // By now the shards without a connection have ended.
        wait_for_rows(admin, "/clients", &[json!(["192.0.2.1", 1, 0, 4, 4])])?;
        drop(connections);
        proxy.exit()?.expect_success()
    })
}

/// However many ask, the shards count once a second at most.
#[test]
fn many_who_ask_at_once_get_one_answer() -> TestResult {
    isolated(|| {
        let (proxy, _udp_server) = proxy()?;
        let admin = proxy.admin()?;
        let connections = connect(&proxy, "192.0.2.1", 3, b"ping")?;
        wait_for_rows(admin, "/clients", &[json!(["192.0.2.1", 3, 0, 12, 12])])?;
        let askers = (0..16)
            .map(|_| admin.connect())
            .collect::<TestResult<Vec<_>>>()?;
        for asker in &askers {
            asker.send(b"GET /clients HTTP/1.1\r\nHost: admin\r\n\r\n")?;
        }
        let mut counted = Vec::new();
        for asker in &askers {
            let mut text = String::new();
            asker.stream().read_to_string(&mut text)?;
            let (head, body) = text.split_once("\r\n\r\n").ok_or("no head")?;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let answer: Value = serde_json::from_str(body)?;
            counted.push(answer["uptime_seconds"].as_f64().ok_or("no time")?);
        }
        counted.sort_unstable_by(f64::total_cmp);
        counted.dedup();
        let apart = counted.windows(2).all(|pair| pair[1] - pair[0] >= 1.0);
        assert!(apart, "{counted:?}");
        drop(connections);
        proxy.stop()?.expect_success()
    })
}
