//! A server that has become unreachable.

use std::net::IpAddr;

use glommproxy::routing::{self, RoutePlan, RouteWarning, RoutingError};

use super::{loopback_plan, tables};
use crate::namespace::{TestResult, add_address, isolated, run};

fn plan(servers: [String; 2]) -> TestResult<RoutePlan> {
    let v4 = servers.iter().map(|it| it.parse());
    Ok(RoutePlan {
        v4: v4.collect::<Result<_, _>>()?,
        v6: Vec::new(),
        wildcard_udp: false,
        ..loopback_plan()?
    })
}

/// More often than former addresses are kept.
#[test]
fn its_rules_stay_while_others_move() -> TestResult {
    isolated(|| {
        run("ip link add link0 type veth peer name link1 && ip link set link1 up")?;
        run("ip link set link0 up && ip address add 10.9.0.1/24 dev link0")?;
        for n in 1..=12 {
            add_address(&format!("192.0.2.{n}"))?;
        }
        let moved = |n: u8| plan(["10.9.0.2:25565".to_owned(), format!("192.0.2.{n}:25565")]);
        let mut installed = routing::install(&moved(1)?)?;
        run("ip link set link0 down")?;
        for n in 2..=12 {
            installed.follow(&moved(n)?)?;
            let lost = IpAddr::from([10, 9, 0, 2]);
            assert_eq!(installed.warnings(), [RouteWarning::NoRoute(lost)]);
            let rules = run("ip rule")?;
            for rule in [
                "from 10.9.0.2 iif link0 ipproto tcp",
                &format!("from 192.0.2.{n} iif lo ipproto tcp"),
            ] {
                assert!(rules.contains(rule), "{rules}");
            }
        }
        let there = tables()?;
        let outcome = installed.follow(&plan(
            ["10.9.0.2:25565", "10.9.0.3:25565"].map(str::to_owned),
        )?);
        assert!(
            matches!(outcome, Err(RoutingError::NoRoute(it)) if it == IpAddr::from([10, 9, 0, 3])),
            "{outcome:?}"
        );
        assert_eq!(tables()?, there);
        run("ip link set link0 up")?;
        installed.follow(&moved(12)?)?;
        assert_eq!(installed.warnings(), []);
        installed.remove()?;
        assert!(!tables()?.contains("proto 77"));
        Ok(())
    })
}
