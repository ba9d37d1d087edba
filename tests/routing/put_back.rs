//! What somebody else has removed is put back.

use glommproxy::routing::{self, RoutePlan};

use super::{loopback_plan, our_lines, tables};
use crate::namespace::{TestResult, add_address, isolated, run};

/// The order of rules with one priority does not matter.
fn sorted_tables() -> TestResult<Vec<String>> {
    let mut lines: Vec<String> = tables()?.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    Ok(lines)
}

/// A plan for servers on addresses of this host other than loopback.
fn other_plan(n: u8) -> TestResult<RoutePlan> {
    Ok(RoutePlan {
        v4: vec![format!("192.0.2.{n}:25565").parse()?],
        v6: vec![format!("[2001:db8::{n}]:25566").parse()?],
        ..loopback_plan()?
    })
}

/// The kernel takes an IPv6 rule without a source for one with a source.
#[test]
fn each_rule_and_each_route_is_put_back_alone() -> TestResult {
    isolated(|| {
        for n in 1..=2 {
            add_address(&format!("192.0.2.{n}"))?;
            add_address(&format!("2001:db8::{n}"))?;
        }
        for plan in [loopback_plan()?, other_plan(1)?] {
            let before = tables()?;
            let mut installed = routing::install(&plan)?;
            let with = sorted_tables()?;
            let ours = our_lines()?;
            assert_eq!(installed.put_back()?, 0);
            for family in ["-4", "-6"] {
                let rules = run(&format!("ip {family} rule"))?;
                let rules = rules.lines().filter_map(|it| it.strip_prefix("900:"));
                let rules = rules.map(|it| format!("rule del priority 900 {}", it.trim()));
                let route = "route flush table 123".to_owned();
                for removal in rules.chain([route]) {
                    run(&format!("ip {family} {}", removal.replace("proto 77", "")))?;
                    assert!(our_lines()? < ours, "{removal}");
                    let count = installed.put_back()?;
                    assert!(count > 0, "{removal}");
                    assert_eq!(sorted_tables()?, with, "{removal}");
                    assert_eq!(installed.follow(&plan)?, 0);
                    assert_eq!(installed.put_back()?, 0);
                }
            }
            installed.remove()?;
            assert_eq!(tables()?, before);
        }
        Ok(())
    })
}

/// Connections to the former address are open yet.
#[test]
fn rules_of_former_addresses_are_put_back_too() -> TestResult {
    isolated(|| {
        for n in 1..=2 {
            add_address(&format!("192.0.2.{n}"))?;
            add_address(&format!("2001:db8::{n}"))?;
        }
        let before = tables()?;
        let mut installed = routing::install(&other_plan(1)?)?;
        assert!(installed.follow(&other_plan(2)?)? > 0);
        let (with, ours) = (sorted_tables()?, our_lines()?);
        run(
            "for family in -4 -6; do while ip $family rule del priority 900 2> /dev/null; do :; done; \
             ip $family route flush table 123; done",
        )?;
        assert_eq!(installed.put_back()?, ours);
        assert_eq!(sorted_tables()?, with);
        installed.remove()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// The same plan again is no move, and takes no former address's place.
#[test]
fn looking_again_forgets_nothing() -> TestResult {
    isolated(|| {
        for n in 1..=2 {
            add_address(&format!("192.0.2.{n}"))?;
            add_address(&format!("2001:db8::{n}"))?;
        }
        let mut installed = routing::install(&other_plan(1)?)?;
        installed.follow(&other_plan(2)?)?;
        let with = tables()?;
        for _ in 0..20 {
            assert_eq!(installed.put_back()?, 0);
            assert_eq!(installed.follow(&other_plan(2)?)?, 0);
        }
        assert_eq!(tables()?, with);
        installed.remove().map_err(Into::into)
    })
}
