//! Nothing to do costs nothing.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

/// How long to measure. This is no wait for something to happen: nothing is to happen.
const SILENCE: Duration = Duration::from_secs(3);

/// The most CPU time spent in it, in ticks of 10 ms: a proxy that spins spends 300 a thread.
const TICKS_MAX: u64 = 2;

/// User and system time of the process in ticks (proc_pid_stat(5), fields 14 and 15).
fn cpu_ticks(proxy: &Proxy) -> TestResult<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", proxy.pid().as_raw_pid()))?;
    let (_, behind_name) = stat.rsplit_once(')').ok_or("no name")?;
    let fields = behind_name.split_whitespace().skip(11).take(2);
    Ok(fields.map(str::parse::<u64>).sum::<Result<_, _>>()?)
}

#[test]
fn silence_costs_no_cpu_time() -> TestResult {
    isolated(|| {
        let udp = UdpServer::bind("127.0.0.1")?;
        let tcp = TcpServer::bind_to(udp.addr()?)?;
        let proxy = Proxy::builder()
            .and(udp.addr()?)
            .args(["-p", "both", "--listeners", "4"])
            .start()?;
        // What has been used and rests is not to cost more than what has never been.
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
        let client = Balancer::default().connect(&proxy, &header)?;
        let session = tcp.accept()?;
        client.expect_talk(&session)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?;
        balancer.send(&proxy, &header, b"ping")?;
        udp.send(udp.receive()?.from, b"pong")?;
        balancer.expect(b"pong")?;
        // Shards that were busy look a few times more before they rest.
        thread::sleep(Duration::from_millis(500));

        let before = cpu_ticks(&proxy)?;
        thread::sleep(SILENCE);
        let spent = cpu_ticks(&proxy)? - before;
        assert!(spent <= TICKS_MAX, "{spent} ticks in {SILENCE:?}");
        client.expect_talk(&session)?;
        proxy.stop()?.expect_success()
    })
}
