//! TCP: connections of any size, in any manner, each byte of which is looked at.

mod plan;
mod side;

use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use self::plan::{Ending, Plan};
use self::side::{Outcome, Side};
use crate::Run;
use crate::harness::Header;
use crate::namespace::TestResult;
use crate::random::Random;

/// How long a step of a connection may take. Only a failing one takes it.
const STEP_MAX: Duration = Duration::from_secs(50);

/// How long a client that resets waits for what the server has heard of it. It is looked at in any case.
const HEARSAY: Duration = Duration::from_secs(1);

/// How many connections are open at a time.
const WORKERS: u64 = 16;

/// The plans of connections under way, by their clients: that is how the server knows them.
#[derive(Clone, Default)]
pub(crate) struct Plans(Arc<Mutex<HashMap<SocketAddr, Expected>>>);

struct Expected {
    plan: Plan,
    /// Gets what the server's side came to.
    report: mpsc::Sender<Outcome>,
}

/// What has been done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) connections: u64,
    pub(crate) resets: u64,
    pub(crate) bytes: u64,
}

// === impl Plans ===

impl Plans {
    fn map(&self) -> MutexGuard<'_, HashMap<SocketAddr, Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that serves each client as its plan says, until the test is over.
pub(crate) fn server(ip: &str, plans: &Plans, run: &Run) -> TestResult<SocketAddr> {
    let listener = TcpListener::bind((ip.parse::<IpAddr>()?, 0))?;
    let addr = listener.local_addr()?;
    let (plans, run) = (plans.clone(), run.clone());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let accepted = stream.and_then(|stream| Ok((stream.peer_addr()?, stream)));
            let (client, stream) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // A connection may be reset before anybody asks who it is.
                    if error.kind() != std::io::ErrorKind::NotConnected {
                        run.fail(format!("the server cannot accept: {error}"));
                    }
                    continue;
                }
            };
            let Some(Expected { plan, report }) = plans.map().remove(&client) else {
                run.fail(format!("the server sees {client}, which nobody is"));
                continue;
            };
            let run = run.clone();
            thread::spawn(move || match Side::server(&plan).talk(stream) {
                // A client that resets does not wait for long.
                Ok(outcome) => drop(report.send(outcome)),
                Err(error) => run.fail(format!("server of {plan:?}: {error}")),
            });
        }
    });
    Ok(addr)
}

/// Connects again and again, until the time is over.
pub(crate) fn clients(proxy: [SocketAddr; 2], plans: &Plans, run: &Run) -> Done {
    thread::scope(|scope| {
        let workers = (0..WORKERS).map(|worker| {
            scope.spawn(move || {
                let mut done = Done::default();
                for round in 0.. {
                    if run.is_over() {
                        break;
                    }
                    let number = round * WORKERS + worker;
                    let mut random = Random::new(run.seed, 1 + number);
                    let plan = Plan::new(&mut random, number);
                    match connect(proxy, &plan, random, plans) {
                        Ok(outcomes) => done.count(&plan, outcomes),
                        Err(error) => run.fail(format!("connection {number}, {plan:?}: {error}")),
                    }
                }
                done
            })
        });
        let workers: Vec<_> = workers.collect();
        let done = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_default());
        done.fold(Done::default(), Done::plus)
    })
}

/// One connection from begin to end.
fn connect(
    proxy: [SocketAddr; 2],
    plan: &Plan,
    mut random: Random,
    plans: &Plans,
) -> Result<[Outcome; 2], String> {
    let (report, reported) = mpsc::channel();
    let expected = Expected {
        plan: plan.clone(),
        report,
    };
    plans.map().insert(plan.client, expected);
    let stream = open(proxy, plan, &mut random).map_err(|error| format!("{error:?}"))?;
    let ours = Side::client(plan).talk(stream)?;
    // A client that resets at once may be gone before its server is dialled, and then the server never hears of it.
    let may_be_gone = plan.ending == Ending::ClientResets;
    let patience = if may_be_gone { HEARSAY } else { STEP_MAX };
    match reported.recv_timeout(patience) {
        Ok(theirs) => Ok([ours, theirs]),
        Err(_) if may_be_gone => Ok([ours, Outcome::default()]),
        Err(error) => Err(format!("nothing of the server: {error}")),
    }
}

/// Connects, from any of this host's addresses, and sends the header, in pieces.
fn open(proxy: [SocketAddr; 2], plan: &Plan, random: &mut Random) -> TestResult<TcpStream> {
    let proxy = proxy[random.below(2) as usize];
    let socket = Socket::new(Domain::for_address(proxy), Type::STREAM, None)?;
    if proxy.is_ipv4() {
        let balancer = [127, 0, 0, 1 + random.below(200) as u8];
        socket.bind(&SockAddr::from(SocketAddr::from((balancer, 0))))?;
    }
    if random.once_in(4) {
        socket.set_recv_buffer_size(4096 << random.below(6))?;
    }
    socket.connect_timeout(&proxy.into(), STEP_MAX)?;
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    let client = plan.client.to_string();
    let destination = if plan.client.is_ipv4() {
        "203.0.113.1:443"
    } else {
        "[2001:db8:ffff::1]:443"
    };
    let header = if random.once_in(2) {
        Header::v1(&client, destination)?
    } else {
        Header::v2(&client, destination)?
    };
    let mut rest = header.bytes();
    while !rest.is_empty() {
        let whole = random.once_in(2);
        let count = 1 + random.below(rest.len() as u64) as usize;
        let (piece, behind) = rest.split_at(if whole { rest.len() } else { count });
        stream.write_all(piece)?;
        rest = behind;
        if random.once_in(3) {
            thread::sleep(random.millis(3));
        }
    }
    Ok(stream)
}

// === impl Done ===

impl Done {
    fn count(&mut self, plan: &Plan, outcomes: [Outcome; 2]) {
        self.connections += 1;
        self.resets += u64::from(plan.ending != Ending::Both);
        self.bytes += outcomes.iter().map(|it| it.received).sum::<u64>();
    }

    fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            resets: self.resets + other.resets,
            bytes: self.bytes + other.bytes,
        }
    }
}
