//! `--setup-routes`

use rustix::process::Signal;

use super::{expect_service, tables};
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated, run};

#[test]
fn they_are_there_while_it_runs_and_go_with_it() -> TestResult {
    isolated(|| {
        let (v4, v6) = (TcpServer::echo("127.0.0.1")?, TcpServer::echo("::1")?);
        let before = tables()?;
        for signal in [Signal::TERM, Signal::INT] {
            let proxy = Proxy::tcp(v4).and(v6).start()?;
            expect_service(&proxy)?;
            assert_ne!(tables()?, before);
            proxy.signal(signal)?;
            let exit = proxy.exit()?;
            exit.expect_success()?;
            assert!(
                exit.log
                    .iter()
                    .any(|line| line["message"] == "routes set up")
            );
            assert_eq!(tables()?, before, "after {signal:?}");
        }
        Ok(())
    })
}

#[test]
fn two_instances_leave_each_other_alone() -> TestResult {
    isolated(|| {
        let (v4, v6) = (TcpServer::echo("127.0.0.1")?, TcpServer::echo("::1")?);
        let start = || Proxy::tcp(v4).and(v6).start();
        let before = tables()?;
        let (first, second) = (start()?, start()?);
        first.stop()?.expect_success()?;
        expect_service(&second)?;
        let third = start()?;
        second.stop()?.expect_success()?;
        expect_service(&third)?;
        third.stop()?.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn those_of_a_killed_instance_are_removed_by_the_next() -> TestResult {
    isolated(|| {
        let (v4, v6) = (TcpServer::echo("127.0.0.1")?, TcpServer::echo("::1")?);
        let before = tables()?;
        let killed = Proxy::tcp(v4).and(v6).start()?;
        let with_one = tables()?;
        killed.signal(Signal::KILL)?;
        assert_eq!(killed.exit()?.code, None);
        assert_eq!(tables()?, with_one, "the dead cannot clean up");

        let next = Proxy::tcp(v4).and(v6).start()?;
        assert_eq!(tables()?, with_one, "its own, and no others");
        expect_service(&next)?;
        next.stop()?.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn they_are_in_the_table_that_was_asked_for() -> TestResult {
    isolated(|| {
        let (v4, v6) = (TcpServer::echo("127.0.0.1")?, TcpServer::echo("::1")?);
        let proxy = Proxy::tcp(v4).and(v6).args(["--table", "4321"]).start()?;
        for family in ["-4", "-6"] {
            let routes = |table: u32| run(&format!("ip {family} route show table {table} || true"));
            assert!(
                routes(4321)?.starts_with("local default dev lo"),
                "{family}"
            );
            assert_eq!(routes(123)?, "", "{family}");
        }
        expect_service(&proxy)
    })
}

#[test]
fn the_server_may_be_on_another_address_of_the_host() -> TestResult {
    isolated(|| {
        for ip in ["198.51.100.7", "2001:db8::7"] {
            add_address(ip)?;
        }
        let before = tables()?;
        let proxy = Proxy::tcp(TcpServer::echo("198.51.100.7")?)
            .and(TcpServer::echo("2001:db8::7")?)
            .start()?;
        expect_service(&proxy)?;
        proxy.stop()?.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn both_protocols_of_one_server_are_served() -> TestResult {
    isolated(|| {
        // The kernel's choice for one protocol is free for the other too, in a namespace where nobody else is.
        let udp = UdpServer::bind("0.0.0.0")?;
        let tcp = TcpServer::bind_to(udp.addr()?)?;
        let proxy = Proxy::builder()
            .and(udp.addr()?)
            .args(["-p", "both"])
            .start()?;
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
        let client = Balancer::default().connect(&proxy, &header)?;
        client.expect_talk(&tcp.accept()?)?;

        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?;
        balancer.send(&proxy, &header, b"question")?;
        let question = udp.expect("192.0.2.1:4000", b"question")?;
        udp.send(question.from, b"answer")?;
        balancer.expect(b"answer")?;
        proxy.stop()?.expect_success()
    })
}
