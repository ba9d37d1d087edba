//! Floods of clients that somebody made up, through a balancer that is trusted: who is being served goes on being served.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::header_of;
use crate::harness::{Proxy, UdpBalancer, UdpServer, raise_descriptor_limit};
use crate::namespace::{TestResult, isolated};

/// Innocent clients.
const PLAYERS: usize = 16;

/// Of the flood's.
const MADE_UP: u32 = 20_000;

/// How often a datagram is sent before it counts as lost for good.
const TRIES: usize = 50;

/// A client that asks, and asks again if nothing comes: what has no room in a buffer is lost, as on any network.
struct Player {
    addr: String,
    balancer: UdpBalancer,
}

// === impl Player ===

impl Player {
    fn new(n: usize) -> TestResult<Self> {
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let wait = Duration::from_millis(400);
        balancer.socket().set_read_timeout(Some(wait))?;
        let addr = format!("192.0.2.{}:4000", n + 1);
        Ok(Self { addr, balancer })
    }

    #[track_caller]
    fn ping(&self, proxy: &Proxy, number: usize) -> TestResult {
        let Self { addr, balancer } = self;
        let pong = format!("{addr} {number}");
        let mut buffer = [0; 64];
        for _ in 0..TRIES {
            balancer.send(proxy, &header_of(addr)?, number.to_string().as_bytes())?;
            while let Ok(len) = balancer.socket().recv(&mut buffer) {
                if buffer[..len] == *pong.as_bytes() {
                    return Ok(());
                }
            }
        }
        Err(format!("{addr} is not served any more").into())
    }
}

/// Sends as fast as it can, each datagram in the name of another client, until it is told to stop or all have been named.
fn flood(to: SocketAddr, stop: &AtomicBool) -> TestResult<u32> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for n in 0..MADE_UP {
        if stop.load(Ordering::Relaxed) {
            return Ok(n);
        }
        // 198.18.0.0/15
        let [a, b, c, d] = (0xC612_0000 + n).to_be_bytes();
        let header = header_of(&format!("{a}.{b}.{c}.{d}:4000"))?;
        socket.send_to(&[header.bytes(), b"flood"].concat(), to)?;
    }
    Ok(MADE_UP)
}

/// Plays, is flooded, plays on. None of the players' flows may end meanwhile.
fn play_through_a_flood(proxy: &Proxy) -> TestResult {
    let players = (0..PLAYERS).map(Player::new);
    let players = players.collect::<TestResult<Vec<_>>>()?;
    for number in 0..2 {
        for player in &players {
            player.ping(proxy, number)?;
        }
    }
    // One after the other, each of which the server answers, and then nobody hears of again: more than there is room for.
    let made_up = UdpBalancer::bind("127.0.0.1")?;
    for n in 0..200 {
        let client = format!("203.0.113.{}:{}", n % 100 + 1, 5000 + n);
        made_up.send(proxy, &header_of(&client)?, b"flood")?;
        made_up.expect(format!("{client} flood").as_bytes())?;
    }
    // And all at once.
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(proxy.addr(), &stop));
        let mut number = 2;
        while !flooding.is_finished() {
            for player in &players {
                player.ping(proxy, number)?;
            }
            number += 1;
        }
        flooding.join().map_err(|_| "the flood panicked")?
    })?;
    for player in &players {
        player.ping(proxy, usize::MAX)?;
    }
    let ended = proxy.log().into_iter().filter(|line| {
        let client = line["client_addr"].as_str().unwrap_or_default();
        line["message"] == "closed" && client.starts_with("192.0.2.")
    });
    let ended: Vec<_> = ended.collect();
    assert!(ended.is_empty(), "{ended:?}");
    proxy.wait_for_log(|line| line["message"] == "closed" && line["reason"] == "evicted")?;
    Ok(())
}

/// A server that answers everybody makes answered flows of the flood's, too: who has spoken again since goes on.
#[test]
fn players_stay_though_the_server_answers_the_flood() -> TestResult {
    isolated(|| {
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .args(["--max-flows", "64", "--listeners", "2", "-v", "2"])
            .args(["--close-after", "300"])
            .start()?;
        play_through_a_flood(&proxy)?;
        proxy.stop()?.expect_success()
    })
}

/// The same where descriptors run out first.
#[test]
fn players_stay_though_a_flood_takes_all_descriptors() -> TestResult {
    isolated(|| {
        raise_descriptor_limit(4096)?;
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .under(["sh", "-c", "ulimit -n 192; exec \"$@\"", "sh"])
            .args(["--listeners", "2", "-v", "2", "--close-after", "300"])
            .start()?;
        play_through_a_flood(&proxy)?;
        proxy.stop()?.expect_success()
    })
}
