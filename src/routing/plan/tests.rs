//! Plans as the commands that they come to.

use super::super::way::Link;
use super::*;

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn plan(v4: &str, v6: &str) -> Result<RoutePlan, Box<dyn std::error::Error>> {
    let targets = Targets {
        v4: v4.parse()?,
        v6: v6.parse()?,
    };
    Ok(RoutePlan::new(
        [targets],
        true,
        true,
        RouteTable::try_from(123)?,
    ))
}

#[test]
fn loopback_targets_get_what_the_go_mmproxy_readme_tells_to_type() -> TestResult {
    let mut plan = plan("127.0.0.1:25565", "[::1]:25566")?;
    plan.wildcard_udp = false;
    assert_eq!(
        plan.commands(),
        [
            "ip route add local 0.0.0.0/0 dev lo src 127.0.0.1 table 123",
            "ip rule add from 127.0.0.1/8 iif lo table 123",
            "ip -6 route add local ::/0 dev lo src ::1 table 123",
            "ip -6 rule add from ::1/128 iif lo table 123",
        ]
    );
    Ok(())
}

#[test]
fn udp_servers_on_the_wildcard_address_get_a_rule_on_their_port() -> TestResult {
    let mut plan = plan("127.0.0.2:25565", "[::1]:25566")?;
    plan.tcp = false;
    assert_eq!(
        plan.commands(),
        [
            "ip route add local 0.0.0.0/0 dev lo src 127.0.0.2 table 123",
            "ip rule add from 127.0.0.1/8 iif lo table 123",
            "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 25565 table 123",
            "ip -6 route add local ::/0 dev lo src ::1 table 123",
            "ip -6 rule add iif lo ipproto udp sport 25566 table 123 priority 1000",
            "ip -6 rule add from ::1/128 iif lo table 123",
        ]
    );
    Ok(())
}

#[test]
fn other_addresses_of_the_host_get_rules_for_the_server_port_only() -> TestResult {
    let mut plan = plan("192.0.2.7:443", "[2001:db8::7]:444")?;
    plan.v6.clear();
    assert_eq!(
        plan.commands(),
        [
            "ip route add local 0.0.0.0/0 dev lo src 192.0.2.7 table 123",
            "ip rule add from 192.0.2.7/32 iif lo ipproto tcp sport 443 table 123",
            "ip rule add from 192.0.2.7/32 iif lo ipproto udp sport 443 table 123",
            "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 443 table 123",
        ]
    );
    plan.v4.clear();
    plan.v6 = vec!["[2001:db8::7]:444".parse()?];
    plan.udp = false;
    assert_eq!(
        plan.commands(),
        [
            "ip -6 route add local ::/0 dev lo src 2001:db8::7 table 123",
            "ip -6 rule add from 2001:db8::7/128 iif lo ipproto tcp sport 444 table 123",
        ]
    );
    Ok(())
}

#[test]
fn consecutive_ports_of_a_server_share_a_rule() -> TestResult {
    let mut plan = plan("127.0.0.1:2458", "[::1]:0")?;
    for port in ["2456", "2457", "2457", "9000"] {
        plan.v4.push(format!("127.0.0.1:{port}").parse()?);
    }
    assert_eq!(
        plan.commands(),
        [
            "ip route add local 0.0.0.0/0 dev lo src 127.0.0.1 table 123",
            "ip rule add from 127.0.0.1/8 iif lo table 123",
            "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 2456-2458 table 123",
            "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 9000 table 123",
        ]
    );
    plan.v4 = vec!["192.0.2.7:443".parse()?, "192.0.2.7:444".parse()?];
    plan.udp = false;
    assert_eq!(
        plan.commands()[1..],
        ["ip rule add from 192.0.2.7/32 iif lo ipproto tcp sport 443-444 table 123"]
    );
    Ok(())
}

#[test]
fn servers_at_several_addresses_are_each_served_but_for_wildcards() -> TestResult {
    let mut plan = plan("127.0.0.1:1", "[::1]:0")?;
    plan.v4.push("192.0.2.7:2".parse()?);
    assert_eq!(
        plan.commands(),
        [
            "ip route add local 0.0.0.0/0 dev lo src 127.0.0.1 table 123",
            "ip rule add from 127.0.0.1/8 iif lo table 123",
            "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 1 table 123",
            "ip rule add from 192.0.2.7/32 iif lo ipproto tcp sport 2 table 123",
            "ip rule add from 192.0.2.7/32 iif lo ipproto udp sport 2 table 123",
        ]
    );
    let shortcoming = |plan: &RoutePlan| plan.families().next().and_then(|it| it.shortcoming);
    let several = RouteWarning::SeveralTargets {
        served: "127.0.0.1".parse()?,
        others: vec!["192.0.2.7".parse()?],
    };
    assert_eq!(shortcoming(&plan), Some(several));
    plan.wildcard_udp = false;
    assert_eq!(shortcoming(&plan), None);
    Ok(())
}

/// Here, a server that is elsewhere is the first, and yet the route supplies the address of one that is here.
#[test]
fn servers_here_and_elsewhere_get_what_each_needs() -> TestResult {
    let mut plan = plan("192.0.2.7:443", "[::1]:0")?;
    for server in [
        "192.0.2.7:444",
        "192.0.2.7:446",
        "127.0.0.1:1",
        "10.0.0.1:2",
    ] {
        plan.v4.push(server.parse()?);
    }
    let link = Way::By(Link {
        interface: "eth1".to_owned(),
        index: 7,
        source: Some("192.0.2.1".parse()?),
        router: None,
    });
    let hosts = plan.hosts(Family::V4);
    let ways = [link, Way::Here, Way::Here];
    let ways: Vec<(Host, Way)> = hosts.into_iter().zip(ways).collect();
    let family = plan.family(Family::V4, &ways).ok_or("no plan")?;
    assert_eq!(
        family.commands(),
        [
            "ip route add local 0.0.0.0/0 dev lo src 127.0.0.1 table 123",
            "ip rule add from 192.0.2.7/32 iif eth1 ipproto tcp sport 443-444 table 123",
            "ip rule add from 192.0.2.7/32 iif eth1 ipproto udp sport 443-444 table 123",
            "ip rule add from 192.0.2.7/32 iif eth1 ipproto tcp sport 446 table 123",
            "ip rule add from 192.0.2.7/32 iif eth1 ipproto udp sport 446 table 123",
            "ip rule add from 127.0.0.1/8 iif lo table 123",
            "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 1 table 123",
            "ip rule add from 10.0.0.1/32 iif lo ipproto tcp sport 2 table 123",
            "ip rule add from 10.0.0.1/32 iif lo ipproto udp sport 2 table 123",
        ]
    );
    let several = RouteWarning::SeveralTargets {
        served: "127.0.0.1".parse()?,
        others: vec!["10.0.0.1".parse()?],
    };
    assert_eq!(family.shortcoming, Some(several));
    let [elsewhere] = &family.elsewhere[..] else {
        return Err("one server is elsewhere".into());
    };
    assert_eq!(
        elsewhere.commands,
        [
            "ip route add default via 192.0.2.1 src 192.0.2.7 table 123",
            "ip rule add from 192.0.2.7 ipproto tcp sport 443-444 table 123",
            "ip rule add ipproto udp sport 443-444 table 123",
            "ip rule add from 192.0.2.7 ipproto tcp sport 446 table 123",
            "ip rule add ipproto udp sport 446 table 123",
        ]
    );
    Ok(())
}
