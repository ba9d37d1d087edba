//! The balancers: a few sockets for all clients, now and then others.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::message::{LEN_MIN, Message, client_addr};
use super::{CLIENTS, Tally, count};
use crate::Run;
use crate::harness::Header;
use crate::kernel::drops;
use crate::namespace::TestResult;
use crate::random::Random;

/// How many threads send, each for clients of its own.
const SENDERS: u32 = 4;

/// How many sockets a sender has at a time. A client uses two of them.
const SOCKETS: usize = 3;

/// How often one of them is replaced.
const REBIND_EVERY: Duration = Duration::from_secs(4);

/// A socket of a balancer. Someone hears it to the end, even if nobody uses it any more.
struct Outlet {
    socket: UdpSocket,
    proxy: SocketAddr,
    /// Whose replies may come here.
    clients: Mutex<Vec<u32>>,
}

/// Sends until the time is over, and hears until nothing more comes as `settled` says.
pub(crate) fn balancers(
    proxy: [SocketAddr; 2],
    tally: &Tally,
    run: &Run,
    settled: &AtomicBool,
) -> TestResult {
    let outlets: Mutex<Vec<Arc<Outlet>>> = Mutex::default();
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let outlets = &outlets;
            scope.spawn(move || {
                let open = |random: &mut Random| -> TestResult<Arc<Outlet>> {
                    let outlet = Arc::new(Outlet::new(proxy, random)?);
                    let (hearing, of_all) = (Arc::clone(&outlet), Arc::clone(&outlet));
                    outlets
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(of_all);
                    scope.spawn(move || hearing.hear(tally, run, settled));
                    Ok(outlet)
                };
                if let Err(error) = send(sender, tally, run, open) {
                    run.fail(format!("sender {sender}: {error:?}"));
                }
            });
        }
    });
    let outlets = outlets.into_inner().unwrap_or_else(PoisonError::into_inner);
    for outlet in outlets {
        let lost = drops(&outlet.socket)?;
        tally.lost_at_balancers.fetch_add(lost, Ordering::Relaxed);
    }
    Ok(())
}

/// Sends what this sender's clients say.
fn send(
    sender: u32,
    tally: &Tally,
    run: &Run,
    open: impl Fn(&mut Random) -> TestResult<Arc<Outlet>>,
) -> TestResult {
    let mut random = Random::new(run.seed, (3 << 40) + u64::from(sender));
    let mut outlets = (0..SOCKETS)
        .map(|_| open(&mut random))
        .collect::<TestResult<Vec<_>>>()?;
    let mut said = [0; CLIENTS as usize];
    let mut datagram = Vec::new();
    let mut rebound = Instant::now();
    while !run.is_over() {
        if rebound.elapsed() > REBIND_EVERY {
            rebound = Instant::now();
            let which = random.below(SOCKETS as u64) as usize;
            outlets[which] = open(&mut random)?;
        }
        let client = sender + SENDERS * random.below((CLIENTS / SENDERS).into()) as u32;
        // One of two sockets, now this, now that.
        let outlet = (client as u64 + random.below(8) / 7) % SOCKETS as u64;
        let outlet = &outlets[outlet as usize];
        outlet.serve(client);
        let burst = if random.once_in(300) {
            1500
        } else {
            random.of_any_size(16)
        };
        let addr = client_addr(client);
        let destination = if addr.is_ipv4() {
            "203.0.113.1:443"
        } else {
            "[2001:db8:ffff::1]:443"
        };
        let header = Header::v2_udp(&addr.to_string(), destination)?;
        for _ in 0..burst {
            let number = &mut said[client as usize];
            *number += 1;
            let message = Message {
                client,
                number: *number,
                to_server: true,
            };
            let len_max = if random.once_in(200) { 60_000 } else { 1300 };
            let len = LEN_MIN + random.of_any_size(len_max) as usize;
            datagram.clear();
            datagram.extend(header.bytes());
            message.write(&mut datagram, len);
            count(&tally.asked);
            outlet.socket.send_to(&datagram, outlet.proxy)?;
        }
        thread::sleep(random.millis(8));
    }
    Ok(())
}

// === impl Outlet ===

impl Outlet {
    fn new([v4, v6]: [SocketAddr; 2], random: &mut Random) -> TestResult<Self> {
        let balancer = [127, 0, 0, 1 + random.below(200) as u8];
        let (socket, proxy) = if random.once_in(3) {
            (UdpSocket::bind("[::1]:0")?, v6)
        } else {
            (UdpSocket::bind(SocketAddr::from((balancer, 0)))?, v4)
        };
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let clients = Mutex::default();
        Ok(Self {
            socket,
            proxy,
            clients,
        })
    }

    /// Notes that a client's datagrams leave from here.
    fn serve(&self, client: u32) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if !clients.contains(&client) {
            clients.push(client);
        }
    }

    fn serves(&self, client: u32) -> bool {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.contains(&client)
    }

    fn hear(&self, tally: &Tally, run: &Run, settled: &AtomicBool) {
        let mut heard: HashMap<u32, u64> = HashMap::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let len = match self.socket.recv(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if settled.load(Ordering::Acquire) {
                        return;
                    }
                    continue;
                }
                Err(error) => {
                    run.fail(format!("a balancer hears: {error}"));
                    return;
                }
            };
            let message = Message::read(&buffer[..len]);
            let Some(message) = message.filter(|it| !it.to_server && self.serves(it.client)) else {
                run.fail(format!(
                    "{message:?} of {len} bytes came to another's balancer"
                ));
                continue;
            };
            let latest = heard.entry(message.client).or_default();
            if message.number <= *latest {
                let Message { client, number, .. } = message;
                run.fail(format!("answer {number} for {client} comes after {latest}"));
                continue;
            }
            *latest = message.number;
            count(&tally.answered);
        }
    }
}
