//! The endpoint as a web server.

use super::proxy;
use crate::harness::TcpServer;
use crate::namespace::{TestResult, isolated};

#[test]
fn every_page_has_its_type() -> TestResult {
    isolated(|| {
        let proxy = proxy(TcpServer::echo("127.0.0.1")?)?;
        let admin = proxy.admin()?;
        for (path, content_type) in [
            (
                "/metrics",
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
            ("/metrics?format=any", "application/openmetrics-text; "),
            ("/status", "application/json"),
            ("/livez", "text/plain"),
            ("/readyz", "text/plain"),
            ("/healthz", "text/plain"),
        ] {
            let answer = admin.get(path)?;
            assert_eq!(answer.status, 200, "{path}");
            let header = format!("content-type: {content_type}");
            assert!(answer.head.contains(&header), "{path}: {}", answer.head);
            assert!(!answer.body.is_empty(), "{path}");

            let head = admin.ask("HEAD", path)?;
            assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        }
        assert_eq!(admin.get("/readyz")?.body, "ready\n");
        proxy.stop()?.expect_success()
    })
}

#[test]
fn nothing_else_is_answered() -> TestResult {
    isolated(|| {
        let proxy = proxy(TcpServer::echo("127.0.0.1")?)?;
        let admin = proxy.admin()?;
        for path in ["/", "/metrics/", "/../etc/passwd", "*"] {
            assert_eq!(admin.get(path)?.status, 404, "{path}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "QUIT"] {
            for path in ["/metrics", "/nowhere"] {
                let answer = admin.ask(method, path)?;
                assert_eq!(answer.status, 405, "{method} {path}");
                assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
            }
        }
        proxy.stop()?.expect_success()
    })
}
