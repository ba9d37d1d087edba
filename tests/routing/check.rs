//! What is missing is named, and what others have set up counts.

use glommproxy::routing::{self, RouteCheck, RouteTable};

use crate::namespace::{TestResult, add_address, isolated, run};
use crate::{add_other_addresses, loopback_plan};

#[test]
fn check_names_the_commands_that_are_missing() -> TestResult {
    isolated(|| {
        let plan = loopback_plan()?;
        let found = routing::check(&plan)?;
        assert_eq!(
            found.missing,
            [
                "ip route add local 0.0.0.0/0 dev lo src 127.0.0.1 table 123",
                "ip rule add from 127.0.0.1/8 iif lo table 123",
                "ip -6 route add local ::/0 dev lo src ::1 table 123",
                "ip -6 rule add from ::1/128 iif lo table 123",
            ]
        );
        assert_eq!(
            found.missing_for_wildcard_udp,
            [
                "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 25565 table 123",
                "ip -6 rule add iif lo ipproto udp sport 25566 table 123 priority 1000",
            ]
        );
        run(&found.missing[0])?;
        assert_eq!(routing::check(&plan)?.missing, found.missing[1..]);
        run(&found.missing[1])?;
        assert_eq!(routing::check(&plan)?.missing, found.missing[2..]);
        run(&found.missing[2..].join(" && "))?;
        run(&found.missing_for_wildcard_udp.join(" && "))?;
        assert_eq!(routing::check(&plan)?, RouteCheck::default());
        Ok(())
    })
}

/// The kernel is asked the way of a reply to one of these.
#[test]
fn a_host_may_have_documentation_addresses() -> TestResult {
    isolated(|| {
        for ip in [
            "203.0.113.1",
            "203.0.113.254",
            "198.51.100.1",
            "2001:db8::1",
            "2001:db8:ffff::1",
        ] {
            add_address(ip)?;
        }
        let plan = loopback_plan()?;
        assert_eq!(
            routing::check(&plan)?.missing.len(),
            4,
            "they are asked for in earnest"
        );
        run(&format!("set -e; {}", plan.commands().join("; ")))?;
        assert_eq!(routing::check(&plan)?, RouteCheck::default());
        assert_eq!(routing::install(&plan)?.warnings(), []);
        Ok(())
    })
}

#[test]
fn the_commands_work_for_another_address_of_the_host() -> TestResult {
    isolated(|| {
        add_other_addresses()?;
        let mut plan = loopback_plan()?;
        plan.v4 = vec!["192.0.2.7:25565".parse()?];
        plan.v6 = vec!["[2001:db8::7]:25565".parse()?];
        let found = routing::check(&plan)?;
        assert_eq!(
            (found.missing.len(), found.missing_for_wildcard_udp.len()),
            (6, 2)
        );
        run(&found.missing.join(" && "))?;
        run(&found.missing_for_wildcard_udp.join(" && "))?;
        assert_eq!(routing::check(&plan)?, RouteCheck::default());
        Ok(())
    })
}

#[test]
fn the_commands_work_for_ranges_of_ports() -> TestResult {
    isolated(|| {
        add_other_addresses()?;
        let mut plan = loopback_plan()?;
        plan.v4 = (0..300)
            .map(|n| format!("192.0.2.7:{}", 3000 + n).parse())
            .collect::<Result<_, _>>()?;
        plan.v6.push("[::1]:25567".parse()?);
        let found = routing::check(&plan)?;
        assert_eq!(
            found.missing_for_wildcard_udp,
            [
                "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 3000-3299 table 123",
                "ip -6 rule add iif lo ipproto udp sport 25566-25567 table 123 priority 1000",
            ]
        );
        run(&found.missing.join(" && "))?;
        // A rule that leaves out a port in the middle is not enough.
        let wildcard = &found.missing_for_wildcard_udp;
        for half in ["3000-3149", "3151-3299"] {
            run(&wildcard[0].replace("3000-3299", half))?;
        }
        assert_eq!(
            routing::check(&plan)?.missing_for_wildcard_udp,
            found.missing_for_wildcard_udp
        );
        run(&wildcard.join(" && "))?;
        assert_eq!(routing::check(&plan)?, RouteCheck::default());
        // What is there serves the tool that sets it up, too.
        assert_eq!(routing::install(&plan)?.warnings(), []);
        Ok(())
    })
}

#[test]
fn check_accepts_what_others_have_set_up() -> TestResult {
    isolated(|| {
        let mut plan = loopback_plan()?;
        plan.wildcard_udp = false;
        // As in go-mmproxy's README, but in another table than ours.
        run("ip rule add from 127.0.0.1/8 iif lo table 99")?;
        run("ip route add local 0.0.0.0/0 dev lo table 99")?;
        run(
            "ip -6 rule add from ::1/128 iif lo table 99 && ip -6 route add local ::/0 dev lo table 99",
        )?;
        assert_eq!(routing::check(&plan)?, RouteCheck::default());

        // As in Cloudflare's mmproxy: by mark.
        run("ip rule del from 127.0.0.1/8 iif lo table 99 && ip rule add fwmark 123 table 99")?;
        assert_eq!(routing::check(&plan)?.missing.len(), 2);
        plan.mark = Some(123);
        assert_eq!(routing::check(&plan)?, RouteCheck::default());

        // Without a preferred source, a server on the wildcard address has no address of its own.
        plan.table = RouteTable::try_from(99)?;
        plan.wildcard_udp = true;
        let found = routing::check(&plan)?;
        assert_eq!(found.missing, [""; 0]);
        assert_eq!(
            found.missing_for_wildcard_udp,
            [
                "ip route replace local 0.0.0.0/0 dev lo src 127.0.0.1 table 99",
                "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 25565 table 99",
                "ip -6 route replace local ::/0 dev lo src ::1 table 99",
                "ip -6 rule add iif lo ipproto udp sport 25566 table 99 priority 1000",
            ]
        );
        run(&found.missing_for_wildcard_udp.join(" && "))?;
        assert_eq!(routing::check(&plan)?, RouteCheck::default());
        Ok(())
    })
}
