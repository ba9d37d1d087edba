//! Port 65535, which no rule can be for.

use glommproxy::routing::{self, RouteWarning, RoutingError};

use crate::holder::tables;
use crate::namespace::{TestResult, isolated, run};
use crate::{add_other_addresses, loopback_plan};

/// `fib_rule_port_range_valid` in the kernel.
#[test]
fn port_65535_is_served_as_far_as_that_goes_without_a_rule_for_it() -> TestResult {
    isolated(|| {
        add_other_addresses()?;
        let before = tables()?;
        let mut plan = loopback_plan()?;
        plan.v4 = vec!["127.0.0.1:65534".parse()?, "127.0.0.1:65535".parse()?];
        plan.v6 = vec!["[::1]:65535".parse()?];
        let warnings = [
            RouteWarning::WildcardPort("127.0.0.1:65535".parse()?),
            RouteWarning::WildcardPort("[::1]:65535".parse()?),
        ];
        let installed = routing::install(&plan)?;
        assert_eq!(installed.warnings(), warnings);
        installed.remove()?;
        run(&format!("set -e; {}", plan.commands().join("; ")))?;
        let found = routing::check(&plan)?;
        assert_eq!(
            (found.missing, found.missing_for_wildcard_udp),
            (vec![], vec![])
        );
        assert_eq!(found.warnings, warnings);
        let undo = plan.commands().join("; ").replace(" add ", " del ");
        run(&format!("set -e; {undo}"))?;

        // Any other address needs a rule for the port.
        let server = "192.0.2.7:65535".parse()?;
        plan.v4.push(server);
        plan.wildcard_udp = false;
        let outcome = routing::install(&plan);
        assert!(matches!(outcome, Err(RoutingError::PortInNoRule(it)) if it == server.into()));
        assert_eq!(tables()?, before);
        let found = routing::check(&plan)?;
        assert_eq!(found.warnings, [RouteWarning::PortInNoRule(server.into())]);
        assert_eq!(found.missing.len(), 4, "the loopback addresses' commands");
        Ok(())
    })
}
