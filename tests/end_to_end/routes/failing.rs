//! A start that fails leaves nothing behind.

use std::net::TcpListener;

use super::tables;
use crate::harness::{Balancer, Header, Proxy, TcpServer};
use crate::namespace::{TestResult, add_address, isolated};

#[test]
fn a_port_in_use() -> TestResult {
    isolated(|| {
        let before = tables()?;
        let taken = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let holder = TcpListener::bind(taken)?;
        let exit = Proxy::builder()
            .listen(&taken.to_string())
            .start_in_vain()?;
        exit.expect_failure(&["another process has the port"])?;
        assert!(
            exit.log
                .iter()
                .all(|line| line["message"] != "routes set up")
        );
        assert_eq!(tables()?, before);
        drop(holder);
        Ok(())
    })
}

#[test]
fn no_route_to_the_server() -> TestResult {
    isolated(|| {
        let before = tables()?;
        let exit = Proxy::tcp("198.51.100.7:25565".parse()?).start_in_vain()?;
        exit.expect_failure(&["there is no route from this host to the server at 198.51.100.7"])?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// On loopback it works.
#[test]
fn a_port_that_can_be_in_no_rule() -> TestResult {
    isolated(|| {
        add_address("192.0.2.7")?;
        let before = tables()?;
        let exit = Proxy::tcp("192.0.2.7:65535".parse()?).start_in_vain()?;
        exit.expect_failure(&["replies of 192.0.2.7:65535", "no rule for port 65535"])?;
        assert_eq!(tables()?, before);

        let server = TcpServer::bind_to("127.0.0.1:65535".parse()?)?;
        let proxy = Proxy::tcp(server.addr()?).args(["-p", "both"]).start()?;
        let client = Balancer::default().connect(&proxy, &Header::of("192.0.2.1:4000")?)?;
        client.expect_talk(&server.accept()?)?;
        let warned = |line: &serde_json::Value| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("does not work at 127.0.0.1:65535")
        };
        proxy.wait_for_log(warned)?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn no_cap_net_admin() -> TestResult {
    isolated(|| {
        let before = tables()?;
        let exit = Proxy::builder()
            .under(["setpriv", "--bounding-set", "-net_admin"])
            .start_in_vain()?;
        let command = "ip rule add from 127.0.0.1/8 iif lo table 123";
        exit.expect_failure(&["setting up routes needs CAP_NET_ADMIN", command])?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// From none at all to just enough for a start.
#[test]
fn too_few_descriptors() -> TestResult {
    isolated(|| {
        let before = tables()?;
        for limit in (16..).step_by(4) {
            let proxy = Proxy::builder()
                .under(["prlimit", &format!("--nofile={limit}:{limit}")])
                .args(["-p", "both", "--listeners", "3"])
                .spawn()?;
            let started = proxy.wait_for_message("ready").is_ok();
            let exit = if started {
                proxy.stop()?
            } else {
                proxy.exit()?
            };
            assert_eq!(tables()?, before, "with {limit} descriptors");
            if started {
                return exit.expect_success();
            }
            exit.expect_failure(&["files may be open"])?;
        }
        Ok(())
    })
}
