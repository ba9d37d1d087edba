//! Slow loris: thousands that send their header a byte at a time, and never all of it.

use std::net::TcpStream;

use super::{ADMIN, NEVER};
use crate::harness::{
    Balancer, Header, PATIENCE, Proxy, TcpServer, raise_descriptor_limit, wait_for,
};
use crate::namespace::{TestResult, isolated};

const COUNT: usize = 2000;

#[test]
fn two_thousand_dripping_headers_keep_nobody_from_being_served_and_end() -> TestResult {
    isolated(|| {
        raise_descriptor_limit(COUNT as u64 + 1000)?;
        let server = TcpServer::echo("127.0.0.1")?;
        let proxy = Proxy::tcp(server)
            .args(["--header-timeout", "3", "--connect-timeout", NEVER])
            .args(["--listeners", "1"])
            .args(ADMIN)
            .start()?;
        let admin = proxy.admin()?;
        let visit = |port: u16| -> TestResult<usize> {
            let header = Header::of(&format!("192.0.2.2:{port}"))?;
            let visitor = Balancer::default().connect(&proxy, &header)?;
            visitor.expect_echo(b"hello")?;
            proxy.socket_count()
        };
        let sockets = visit(9999)? - 2;
        proxy.wait_for_sockets(sockets)?;
        let drips = (0..COUNT)
            .map(|_| {
                let stream = TcpStream::connect_timeout(&proxy.addr(), PATIENCE)?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            })
            .collect::<TestResult<Vec<_>>>()?;
        let header = Header::of("192.0.2.1:4000")?.tlv(0xE0, &[0; 8000])?;
        let mut bytes = header.bytes().iter();
        let mut visitors = 0;
        // Each gets a byte more in each round; those that are over are over.
        wait_for(|| {
            let byte = bytes.next().ok_or("the whole header was waited for")?;
            for drip in &drips {
                let _ = std::io::Write::write(&mut &*drip, &[*byte]);
            }
            visitors += 1;
            visit(9999 + visitors)?;
            Ok((proxy.socket_count()? <= sockets + 4).then_some(()))
        })?;
        proxy.wait_for_sockets(sockets)?;
        let timed_out = "glommproxy_header_errors_total{protocol=\"tcp\",kind=\"timed_out\"}";
        admin.wait_for_metric(timed_out, &COUNT.to_string())?;
        admin.wait_for_metric("glommproxy_connections_open", "0")?;
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert_eq!(
            exit.total("connections")?,
            COUNT as u64 + u64::from(visitors) + 1
        );
        Ok(())
    })
}
