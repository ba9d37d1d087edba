//! Rules and routes in a real kernel: that they bring replies back, that they go when they should, and that nobody
//! else's do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use glommproxy::routing::{
    self, Family, RouteCheck, RoutePlan, RouteTable, RouteWarning, RoutingError,
};

#[path = "routing/check.rs"]
mod check;
#[path = "routing/holder.rs"]
mod holder;
#[path = "routing/last_port.rs"]
mod last_port;
#[path = "harness/namespace.rs"]
mod namespace;
#[path = "routing/put_back.rs"]
mod put_back;
#[path = "routing/traffic.rs"]
mod traffic;
#[path = "routing/unreachable.rs"]
mod unreachable;

use holder::{Holder, hold, is_holder, tables};
use namespace::{TestResult, add_address, isolated, run};

/// Nobody listens there in a fresh namespace; only rules carry these numbers.
const TARGET_V4: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 25565);
const TARGET_V6: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 25566, 0, 0);

#[test]
fn removing_leaves_no_trace() -> TestResult {
    isolated(|| {
        let before = tables()?;
        let installed = routing::install(&loopback_plan()?)?;
        assert_eq!(installed.warnings(), []);
        assert_eq!(installed.skipped(), []);
        assert_eq!(
            our_lines()?,
            6,
            "a route, a rule for loopback and one for UDP, twice"
        );
        installed.remove()?;
        assert_eq!(tables()?, before);

        drop(routing::install(&loopback_plan()?)?);
        assert_eq!(tables()?, before, "dropping removes too");
        Ok(())
    })
}

#[test]
fn removing_what_the_administrator_removed_is_fine() -> TestResult {
    isolated(|| {
        let before = tables()?;
        let installed = routing::install(&loopback_plan()?)?;
        run("ip rule del priority 900 && ip route flush table 123 && ip -6 route flush table 123")?;
        installed.remove()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// To the kernel, a rule to remove that has no source matches rules that have one.
#[test]
fn rules_of_others_that_resemble_ours_stay() -> TestResult {
    isolated(|| {
        for family in ["-4", "-6"] {
            let source = if family == "-4" {
                "192.0.2.9"
            } else {
                "2001:db8::9"
            };
            run(&format!(
                "ip {family} rule add from {source} iif lo ipproto udp sport 25566 table 123 priority 900"
            ))?;
        }
        run("ip rule add from 127.0.0.1/8 iif lo table 123 priority 900")?;
        run("ip route add local default dev lo src 127.0.0.1 table 123 metric 900")?;
        let before = tables()?;
        let installed = routing::install(&loopback_plan()?)?;
        assert_eq!(installed.warnings(), []);
        installed.remove()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn two_instances_go_in_either_order() -> TestResult {
    isolated(|| {
        let before = tables()?;
        for first_goes_first in [true, false] {
            let first = routing::install(&loopback_plan()?)?;
            let with_first = tables()?;
            let second = routing::install(&loopback_plan()?)?;
            assert_eq!(our_lines()?, 12);
            let (goes, stays) = if first_goes_first {
                (first, second)
            } else {
                (second, first)
            };
            goes.remove()?;
            assert_eq!(our_lines()?, 6);
            assert_eq!(tables()? == with_first, !first_goes_first);
            assert_eq!(routing::check(&loopback_plan()?)?, RouteCheck::default());
            stays.remove()?;
            assert_eq!(tables()?, before);
        }
        Ok(())
    })
}

#[test]
fn instances_started_at_once_all_succeed() -> TestResult {
    isolated(|| {
        if is_holder() {
            return hold(&loopback_plan()?);
        }
        let before = tables()?;
        let mut holders = (0..4)
            .map(|_| Holder::start())
            .collect::<Result<Vec<_>, _>>()?;
        holders.iter_mut().try_for_each(Holder::wait_ready)?;
        assert_eq!(our_lines()?, 4 * 6);
        for holder in holders {
            holder.finish()?;
        }
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn leftovers_of_killed_instances_are_removed_and_nothing_else() -> TestResult {
    isolated(|| {
        let mut other_plan = loopback_plan()?;
        other_plan.table = RouteTable::try_from(4_000_000_000)?;
        other_plan.v6 = vec!["[2001:db8::7]:25566".parse()?];
        if is_holder() {
            return hold(&other_plan);
        }
        add_other_addresses()?;
        // The administrator's own, one with a priority of ours.
        run("ip rule add from 192.0.2.1 table 7 priority 900 && ip -6 rule add from ::1 table 7")?;
        run("ip route add local default dev lo table 7 metric 900")?;
        let before = tables()?;

        let mut holders = (0..3)
            .map(|_| Holder::start())
            .collect::<Result<Vec<_>, _>>()?;
        holders.iter_mut().try_for_each(Holder::wait_ready)?;
        let survivor = holders.pop().ok_or("no holder")?;
        holders.into_iter().try_for_each(Holder::kill)?;
        assert_eq!(our_lines()?, 3 * 7, "the dead cannot clean up");

        let installed = routing::install(&loopback_plan()?)?;
        assert_eq!(our_lines()?, 7 + 6, "the survivor's and ours");
        installed.remove()?;
        assert_eq!(our_lines()?, 7, "the survivor's");
        survivor.finish()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn a_rule_of_higher_priority_is_noticed() -> TestResult {
    isolated(|| {
        let mut plan = loopback_plan()?;
        plan.udp = false;
        plan.v6.clear();
        run("ip rule add from 127.0.0.1 blackhole priority 5")?;
        let installed = routing::install(&plan)?;
        assert!(matches!(
            installed.warnings(),
            [RouteWarning::Overruled { .. }]
        ));
        let commands = plan.commands();
        run(&format!("{} && {} priority 6", commands[0], commands[1]))?;
        let found = routing::check(&plan)?;
        assert_eq!(found.missing, [""; 0]);
        assert!(matches!(
            found.warnings[..],
            [RouteWarning::Overruled { .. }]
        ));
        Ok(())
    })
}

#[test]
fn a_route_in_the_table_that_goes_before_ours_is_told_from_a_rule() -> TestResult {
    isolated(|| {
        run("ip link add link0 type veth peer name link1")?;
        run("ip link set link0 up && ip link set link1 up")?;
        let plan = loopback_plan()?;
        for (family, route, destination, metric) in [
            ("-4", "203.0.113.0/24 dev link0", "203.0.113.0/24", 0),
            ("-4", "blackhole default metric 5", "0.0.0.0/0", 5),
            (
                "-6",
                "2001:db8::/32 dev link0 metric 2000",
                "2001:db8::/32",
                2000,
            ),
            ("-6", "unreachable default metric 7", "::/0", 7),
        ] {
            run(&format!("ip {family} route add {route} table 123"))?;
            let expect = |warnings: &[RouteWarning]| {
                let told = |warning: &RouteWarning| {
                    let RouteWarning::RouteBefore {
                        destination: found,
                        metric: at,
                        ..
                    } = warning
                    else {
                        return false;
                    };
                    found.to_string() == destination && *at == metric
                };
                let all = !warnings.is_empty() && warnings.iter().all(told);
                assert!(all, "{route}: {warnings:?}");
            };
            let installed = routing::install(&plan)?;
            expect(installed.warnings());
            installed.remove()?;

            run(&format!("set -e; {}", plan.commands().join("; ")))?;
            // Typed, an IPv4 route has the metric 0, which nothing goes before but a narrower one.
            if (family, metric) != ("-4", 5) {
                expect(&routing::check(&plan)?.warnings);
            }
            run(&format!("ip {family} route del {route} table 123"))?;
            assert_eq!(routing::check(&plan)?, RouteCheck::default());
            let undo = plan.commands().join("; ").replace(" add ", " del ");
            run(&format!("set -e; {undo}"))?;
        }
        Ok(())
    })
}

#[test]
fn without_ipv6_only_ipv4_is_set_up() -> TestResult {
    isolated(|| {
        run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")?;
        let before = tables()?;
        let installed = routing::install(&loopback_plan()?)?;
        assert_eq!(installed.skipped(), [Family::V6]);
        assert_eq!(installed.warnings(), []);
        assert_eq!(our_lines()?, 3);
        let found = routing::check(&loopback_plan()?)?;
        assert_eq!(
            found,
            RouteCheck {
                skipped: vec![Family::V6],
                ..RouteCheck::default()
            }
        );
        installed.remove()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn without_loopback_addresses_nothing_is_set_up() -> TestResult {
    isolated(|| {
        run("ip address del 127.0.0.1/8 dev lo && ip link set lo down")?;
        let installed = routing::install(&loopback_plan()?)?;
        assert_eq!(installed.skipped(), [Family::V4, Family::V6]);
        assert_eq!(our_lines()?, 0);
        Ok(())
    })
}

#[test]
fn a_foreign_route_without_source_is_reported_and_can_be_mended() -> TestResult {
    isolated(|| {
        // Several addresses to choose from, and without a preferred one the kernel takes the wrong one.
        add_other_addresses()?;
        run("ip route add local default dev lo table 123")?;
        run("ip -6 route add local default dev lo table 123 metric 50")?;
        let installed = routing::install(&loopback_plan()?)?;
        let mends: Vec<_> = installed.warnings().iter().filter_map(mend).collect();
        assert_eq!(
            mends,
            [
                "ip route replace local 0.0.0.0/0 dev lo src 127.0.0.1 table 123",
                "ip -6 route replace local ::/0 dev lo src ::1 table 123 metric 50",
            ]
        );
        run(&mends.join(" && "))?;
        drop(installed);
        assert_eq!(routing::install(&loopback_plan()?)?.warnings(), []);
        Ok(())
    })
}

#[test]
fn two_target_addresses_in_one_table_are_reported() -> TestResult {
    isolated(|| {
        let _first = routing::install(&loopback_plan()?)?;
        let mut other = loopback_plan()?;
        other.v4 = vec!["127.0.0.2:25565".parse()?];
        let shared = RouteWarning::SharedTable {
            table: other.table,
            other: "127.0.0.1".parse()?,
        };
        assert_eq!(routing::install(&other)?.warnings(), [shared]);
        other.table = RouteTable::try_from(124)?;
        other.v4 = vec!["127.0.0.2:25567".parse()?];
        assert_eq!(routing::install(&other)?.warnings(), []);
        Ok(())
    })
}

#[test]
fn rules_of_former_addresses_stay_up_to_a_limit() -> TestResult {
    isolated(|| {
        for n in 1..=12 {
            add_address(&format!("192.0.2.{n}"))?;
            add_address(&format!("2001:db8::{n}"))?;
        }
        let before = tables()?;
        let plan_at = |n: u8| -> TestResult<RoutePlan> {
            Ok(RoutePlan {
                v4: vec![format!("192.0.2.{n}:25565").parse()?],
                v6: vec![format!("[2001:db8::{n}]:25566").parse()?],
                wildcard_udp: false,
                ..loopback_plan()?
            })
        };
        // Each has one for TCP and one for UDP.
        let addresses = || -> TestResult<Vec<u8>> {
            let rules = run("ip rule")?;
            let is_there = |n: &u8| rules.contains(&format!("from 192.0.2.{n} iif lo ipproto udp"));
            Ok((1..=12).filter(is_there).collect())
        };
        let mut installed = routing::install(&plan_at(1)?)?;
        for n in 2..=12 {
            installed.follow(&plan_at(n)?)?;
            assert_eq!(installed.warnings(), []);
            assert_eq!(
                addresses()?,
                (n.saturating_sub(8).max(1)..=n).collect::<Vec<u8>>()
            );
        }
        assert_eq!(our_lines()?, 2 * (9 * 2 + 1));
        for (family, source) in [("-4", "src 192.0.2.12 "), ("-6", "src 2001:db8::12 ")] {
            let routes = run(&format!("ip {family} route show table 123"))?;
            assert!(
                routes.lines().count() == 1 && routes.contains(source),
                "{routes}"
            );
        }

        installed.follow(&plan_at(5)?)?;
        assert_eq!(
            addresses()?,
            (5..=12).collect::<Vec<u8>>(),
            "it is there already"
        );
        let with_former = tables()?;
        let outcome = installed.follow(&RoutePlan {
            v4: vec!["198.51.100.7:25565".parse()?],
            ..plan_at(5)?
        });
        assert!(
            matches!(outcome, Err(RoutingError::NoRoute(_))),
            "{outcome:?}"
        );
        assert_eq!(tables()?, with_former);
        installed.remove()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn a_target_without_a_route_to_it_is_refused() -> TestResult {
    isolated(|| {
        let before = tables()?;
        let mut plan = loopback_plan()?;
        plan.v4 = vec!["192.0.2.7:25565".parse()?];
        let ip = IpAddr::from([192, 0, 2, 7]);
        let outcome = routing::install(&plan);
        assert!(matches!(outcome, Err(RoutingError::NoRoute(it)) if it == ip));
        assert_eq!(tables()?, before);
        let found = routing::check(&plan)?;
        assert_eq!(found.warnings, [RouteWarning::NoRoute(ip)]);
        assert_eq!(
            found.missing.len(),
            2,
            "the other family is checked all the same"
        );
        Ok(())
    })
}

#[test]
fn without_the_capability_the_commands_are_told() -> TestResult {
    isolated(|| {
        let plan = loopback_plan()?;
        if is_holder() {
            let outcome = routing::install(&plan).map(drop);
            assert!(
                matches!(outcome, Err(RoutingError::NotPermitted { .. })),
                "{outcome:?}"
            );
            let text = outcome.map_err(|e| e.to_string()).err().unwrap_or_default();
            assert!(text.contains("CAP_NET_ADMIN") && text.contains(&plan.commands().join(" && ")));
            assert_eq!(
                routing::check(&plan)?.missing.len(),
                4,
                "looking needs no capability"
            );
            return Ok(());
        }
        let before = tables()?;
        let without = ["setpriv", "--bounding-set", "-net_admin"];
        let output = Holder::start_under(&without)?.finish()?;
        assert!(output.contains("1 passed"), "{output}");
        assert_eq!(tables()?, before);
        Ok(())
    })
}

fn loopback_plan() -> TestResult<RoutePlan> {
    Ok(RoutePlan {
        v4: vec![TARGET_V4],
        v6: vec![TARGET_V6],
        tcp: true,
        udp: true,
        wildcard_udp: true,
        unnamed: Vec::new(),
        table: RouteTable::try_from(123)?,
        mark: None,
    })
}

/// How many rules and routes carry our tag.
fn our_lines() -> TestResult<usize> {
    Ok(tables()?
        .lines()
        .filter(|line| line.contains("proto 77"))
        .count())
}

fn mend(warning: &RouteWarning) -> Option<&str> {
    match warning {
        RouteWarning::ForeignRoute { mend, .. } => Some(mend),
        _ => None,
    }
}

fn add_other_addresses() -> TestResult {
    add_address("192.0.2.7")?;
    add_address("2001:db8::7")
}
