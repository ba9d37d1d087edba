//! Servers that are named by host.

use super::check_under;
use crate::harness::{NameServer, TcpServer};
use crate::namespace::{TestResult, isolated};

#[test]
fn a_name_that_is_found() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        names.set("game.internal", &["127.0.0.7"])?;
        let port = TcpServer::echo("127.0.0.7")?.port();
        let target = format!("game.internal:{port}");
        let flags = ["-4", &target, "-6", "[::1]:0", "--setup-routes"];
        let found = check_under(names.wrapper(), flags)?;
        found.expect("names-v4", "OK", &["game.internal is 127.0.0.7"])?;
        let server = format!("127.0.0.7:{port}: accepts connections");
        found.expect("server-v4-tcp", "OK", &[&server])?;
        found.expect("client-v4-tcp", "OK", &[&server])?;
        assert!(found.expect("names-v6", "OK", &[]).is_err());
        found.expect_success()
    })
}

#[test]
fn names_that_keep_the_proxy_from_starting() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        names.set("game.internal", &["127.0.0.7"])?;
        names.set("blocked.internal", &["0.0.0.0", "::"])?;
        let port = TcpServer::echo("127.0.0.7")?.port();
        let targets = format!("game.internal:{port},nowhere.internal:2,blocked.internal:3");
        let listen = ["-l", "127.0.0.1:1001,127.0.0.1:1002,127.0.0.1:1003"];
        let flags = ["-4", &targets, "-6", "blocked.internal:1", "--setup-routes"];
        let found = check_under(names.wrapper(), listen.into_iter().chain(flags))?;
        let wanted = [
            "-4 \"nowhere.internal:2\" cannot be looked up",
            "-4 \"blocked.internal:3\" has no IPv4 address of a server",
            "want a host name with an IPv4 address",
        ];
        found.expect("names-v4", "FAIL", &wanted)?;
        let commands = [
            "getent ahosts nowhere.internal",
            "getent ahosts blocked.internal",
        ];
        found.expect_commands("names-v4", &commands)?;
        // The others are tried all the same.
        found.expect("client-v4-tcp", "OK", &["127.0.0.7"])?;
        let wanted = ["-6 \"blocked.internal:1\" has no IPv6 address of a server"];
        found.expect("names-v6", "FAIL", &wanted)?;
        found.expect("routes-v6", "SKIP", &["it is not known where"])?;
        Ok(())
    })
}

#[test]
fn it_does_not_wait_for_ever() -> TestResult {
    isolated(|| {
        let names = NameServer::silent()?;
        let flags = ["-4", "game.internal:25565"];
        let found = check_under(names.wrapper(), flags)?;
        let wanted = ["-4 \"game.internal:25565\" was not found within 10 s"];
        found.expect("names-v4", "FAIL", &wanted)?;
        Ok(())
    })
}
