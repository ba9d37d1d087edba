//! Flags from the environment.

use crate::harness::{Balancer, Header, Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

fn log_field<'a>(line: &'a serde_json::Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_default()
}

#[test]
fn the_environment_configures_everything() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let proxy = Proxy::builder()
            .bare()
            .env("GLOMMPROXY_LISTEN", "127.0.0.1:25577")
            .env("GLOMMPROXY_TARGET_V4", server.to_string())
            .env("GLOMMPROXY_PROTOCOL", "both")
            .env("GLOMMPROXY_LISTENERS", "3")
            .env("GLOMMPROXY_SETUP_ROUTES", "true")
            .env("GLOMMPROXY_LOG_FORMAT", "json")
            .start()?;
        let ready = proxy.wait_for_message("ready")?;
        assert_eq!(log_field(&ready, "listen_addr"), "127.0.0.1:25577");
        assert_eq!(log_field(&ready, "target_v4"), server.to_string());
        assert_eq!(log_field(&ready, "target_v6"), "[::1]:443");
        assert_eq!(ready["shards"], 3);
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
        let client = Balancer::default().connect(&proxy, &header)?;
        client.expect_echo(b"hello")?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn the_command_line_wins() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .env("GLOMMPROXY_LISTEN", "127.0.0.1:25577")
            .env("GLOMMPROXY_LISTENERS", "nonsense")
            .args(["--listeners", "2"])
            .start()?;
        assert_ne!(proxy.addr().port(), 25577);
        assert_eq!(proxy.wait_for_message("ready")?["shards"], 2);
        Ok(())
    })
}

/// Not refused, as Kubernetes sets some by itself; but a list of balancers that is not there opens the proxy to everybody.
#[test]
fn a_misspelt_variable_is_told() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .env("GLOMMPROXY_ALLOWED_SUBNET", "balancers.txt")
            .env("GLOMMPROXY_SERVICE_HOST", "192.0.2.1")
            .start()?;
        let warning = proxy.wait_for_log(|line| !line["variable"].is_null())?;
        assert_eq!(warning["level"], "WARN");
        assert_eq!(
            log_field(&warning, "variable"),
            "\"GLOMMPROXY_ALLOWED_SUBNET\""
        );
        assert!(
            log_field(&warning, "message").ends_with("did you mean GLOMMPROXY_ALLOWED_SUBNETS?")
        );
        let lines = proxy.log();
        let told = lines.iter().filter(|line| !line["variable"].is_null());
        assert_eq!(told.count(), 1);
        Ok(())
    })
}

/// One that listens where it sends to drops everything, and its log would blame the balancer.
#[test]
fn a_server_that_is_the_proxy_itself_is_told() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .listen("0.0.0.0:25565")
            .args(["-4", "127.0.0.1:25565"])
            .start()?;
        let warning = proxy.wait_for_log(|line| !line["server"].is_null())?;
        assert_eq!(log_field(&warning, "server"), "127.0.0.1:25565");
        assert_eq!(log_field(&warning, "flag"), "-4");
        Ok(())
    })
}

#[test]
fn a_bad_variable_is_told_by_its_name() -> TestResult {
    isolated(|| {
        let exit = Proxy::builder()
            .env("GLOMMPROXY_LISTENERS", "nonsense")
            .start_in_vain()?;
        exit.expect_failure(&["GLOMMPROXY_LISTENERS \"nonsense\""])
    })
}
