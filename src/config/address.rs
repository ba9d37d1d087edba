//! Addresses as go-mmproxy's users write them: Go's `netip.ParseAddrPort`, and host names for those of a fork of it that
//! resolves names. `localhost` is not looked up: it means what it always means.

use super::Problem;
use super::target::{Target, TargetName, host_name_problem};
use crate::args::Origin;
use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address to listen on. Port 0 lets the kernel choose.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Problem> {
    let wanted = "an IP address and port, such as 0.0.0.0:8443 or [::]:8443";
    let addr = own(text).map_err(|problem| Problem::new(problem, wanted))?;
    // Go listens on ::ffff:1.2.3.4 with an IPv4 socket.
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => Ok(SocketAddr::new(ip.into(), addr.port())),
        IpAddr::V6(_) => Ok(addr),
    }
}

/// An address to serve the admin endpoint at. Port 0 lets the kernel choose.
pub(super) fn admin(text: &str) -> Result<SocketAddr, Problem> {
    let wanted = "an IP address and port, such as 127.0.0.1:9101";
    let addr = own(text).map_err(|problem| Problem::new(problem, wanted))?;
    // As headers' destinations are compared with it.
    Ok(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
}

/// An address of this host, which is no matter of names.
fn own(text: &str) -> Result<SocketAddr, String> {
    match address(text, Ipv4Addr::LOCALHOST.into())? {
        Found::Addr(addr) => Ok(addr),
        Found::Name(..) => Err("has a host name, which is not looked up".to_owned()),
    }
}

/// The server's address for IPv4 clients. Port 0 says that there is none, as go-mmproxy's users write it.
pub(super) fn target_v4(text: &str, origin: &Origin) -> Result<Target<SocketAddrV4>, Problem> {
    let problem = |problem: String| {
        Problem::new(
            problem,
            "an IPv4 address or a host name, and a port, such as 127.0.0.1:443",
        )
    };
    match address(text, Ipv4Addr::LOCALHOST.into()).map_err(problem)? {
        Found::Addr(SocketAddr::V6(_)) => {
            Err(problem("is an IPv6 address, as -6 takes".to_owned()))
        }
        Found::Addr(SocketAddr::V4(addr)) => Ok(Target::Addr(addr)),
        Found::Name(host, port) => named(host, port, origin).map_err(problem),
    }
}

/// The server's address for IPv6 clients; port 0 as for IPv4.
pub(super) fn target_v6(text: &str, origin: &Origin) -> Result<Target<SocketAddrV6>, Problem> {
    let problem = |problem: String| {
        Problem::new(
            problem,
            "an IPv6 address or a host name, and a port, such as [::1]:443",
        )
    };
    match address(text, Ipv6Addr::LOCALHOST.into()).map_err(problem)? {
        Found::Addr(SocketAddr::V4(_)) => {
            Err(problem("is an IPv4 address, as -4 takes".to_owned()))
        }
        Found::Addr(SocketAddr::V6(addr)) if addr.ip().to_ipv4_mapped().is_some() => {
            // IPv6 clients cannot be spoofed towards it: the socket would speak IPv4.
            Err(problem(
                "is a v4-mapped address, which is IPv4 in disguise".to_owned(),
            ))
        }
        Found::Addr(SocketAddr::V6(addr)) => Ok(Target::Addr(addr)),
        Found::Name(host, port) => named(host, port, origin).map_err(problem),
    }
}

/// What stands before a port, with the port.
enum Found<'a> {
    Addr(SocketAddr),
    Name(&'a str, u16),
}

fn named<A>(host: &str, port: u16, origin: &Origin) -> Result<Target<A>, String> {
    if port == 0 {
        return Err("names a host, and port 0, which says that there is no server".to_owned());
    }
    Ok(Target::Name(TargetName {
        host: host.to_owned(),
        port,
        origin: origin.clone(),
    }))
}

/// Reads `ADDRESS:PORT` or `NAME:PORT`, or says what is wrong with it as the end of a sentence.
fn address(text: &str, localhost: IpAddr) -> Result<Found<'_>, String> {
    let (host, port) = split_port(text)?;
    let port = port_number(port)?;
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(Found::Addr(SocketAddr::new(localhost, port)));
    }
    if let Some(host) = host.strip_prefix('[') {
        let host = host.strip_suffix(']').ok_or("has no closing bracket")?;
        if host.parse::<Ipv4Addr>().is_ok() {
            return Err("has an IPv4 address in brackets".to_owned());
        }
        let (ip, scope) = scoped(host)?;
        return Ok(Found::Addr(SocketAddrV6::new(ip, port, 0, scope).into()));
    }
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => Ok(Found::Addr(SocketAddrV4::new(ip, port).into())),
        Ok(IpAddr::V6(_)) => Err("has an IPv6 address without brackets".to_owned()),
        // What is left of an IPv6 address before its last colon.
        Err(_) if host.contains(':') => Err("is no IP address".to_owned()),
        Err(_) => match host_name_problem(host) {
            None => Ok(Found::Name(host, port)),
            Some(problem) => Err(problem.to_owned()),
        },
    }
}

fn split_port(text: &str) -> Result<(&str, &str), String> {
    // Behind the last colon of a bare IPv6 address may be a port or not, and a port is not the worst that is missing.
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err("has an IPv6 address without brackets".to_owned());
    }
    let without_port = text.ends_with(']');
    match text.rsplit_once(':') {
        Some(("", _)) => Err("has no address before the port".to_owned()),
        Some(split) if !without_port => Ok(split),
        _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err("has no address before the port".to_owned())
        }
        _ if text.is_empty() => Err("is empty".to_owned()),
        _ => Err("has no port".to_owned()),
    }
}

/// A port as Go reads it: digits only, leading zeros allowed.
fn port_number(text: &str) -> Result<u16, String> {
    // `parse` alone would take "+443".
    if text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(port) = text.parse()
    {
        return Ok(port);
    }
    Err("has no port number from 0 to 65535 behind the last colon".to_owned())
}

/// An IPv6 address with or without a zone, as address and scope.
fn scoped(host: &str) -> Result<(Ipv6Addr, u32), String> {
    let (ip, zone) = match host.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (host, None),
    };
    let ip = ip
        .parse()
        .map_err(|_| "has no IPv6 address in its brackets".to_owned())?;
    let scope = match zone {
        Some(zone) => interface_index(zone)
            .ok_or("names a network interface behind the % that this host does not have")?,
        None => 0,
    };
    Ok((ip, scope))
}

/// The index of a network interface given by name or, failing that, by number, as in Go.
fn interface_index(zone: &str) -> Option<u32> {
    // The kernel answers for this process' network namespace; /sys may show another one's.
    let by_name = socket(AddressFamily::INET6, SocketType::DGRAM, None)
        .or_else(|_| socket(AddressFamily::INET, SocketType::DGRAM, None))
        .and_then(|socket| netdevice::name_to_index(socket, zone));
    by_name
        .ok()
        .or_else(|| zone.parse().ok())
        .filter(|&index| index != 0)
}

#[cfg(test)]
#[allow(clippy::expect_used)] // A test that cannot go on has failed.
mod tests {
    use super::*;

    /// What goes in, and what comes out; the address as text.
    fn check<A: ToString>(
        read: fn(&str) -> Result<A, Problem>,
        cases: &[(&str, Result<&str, &str>)],
    ) {
        for (text, want) in cases {
            match (read(text).map(|addr| addr.to_string()), want) {
                (Ok(addr), Ok(want)) => assert_eq!(addr, *want, "{text}"),
                (Err(Problem { problem, .. }), Err(want)) => {
                    assert!(
                        problem.contains(want),
                        "{text}: {problem:?} does not say {want:?}"
                    );
                }
                (got, want) => panic!("{text}: {got:?} instead of {want:?}"),
            }
        }
    }

    /// Or a header that names 127.0.0.1 would lead there.
    #[test]
    fn the_admin_address_is_told_as_headers_destinations_are() {
        let told = admin("[::ffff:127.0.0.1]:9101").ok();
        assert_eq!(told, Some(([127, 0, 0, 1], 9101).into()));
    }

    #[test]
    fn listen_addresses() {
        check(
            listen,
            &[
                ("0.0.0.0:8443", Ok("0.0.0.0:8443")),
                ("127.0.0.1:0", Ok("127.0.0.1:0")),
                ("127.0.0.1:000443", Ok("127.0.0.1:443")),
                ("[::]:8443", Ok("[::]:8443")),
                ("[2001:DB8::1]:65535", Ok("[2001:db8::1]:65535")),
                ("[::1.2.3.4]:1", Ok("[::102:304]:1")),
                ("[::ffff:1.2.3.4]:80", Ok("1.2.3.4:80")),
                ("[fe80::1%lo]:80", Ok("[fe80::1%1]:80")),
                ("[fe80::1%7]:80", Ok("[fe80::1%7]:80")),
                ("localhost:80", Ok("127.0.0.1:80")),
                ("LocalHost:80", Ok("127.0.0.1:80")),
                ("", Err("is empty")),
                (":", Err("no address")),
                (":8443", Err("no address")),
                ("8443", Err("no address")),
                ("0.0.0.0", Err("no port")),
                ("::", Err("without brackets")),
                ("::1", Err("without brackets")),
                ("[::1]", Err("no port")),
                ("localhost", Err("no port")),
                ("0.0.0.0:", Err("no port number")),
                ("0.0.0.0:65536", Err("no port number")),
                ("0.0.0.0:99999999999999999999", Err("no port number")),
                ("0.0.0.0:+80", Err("no port number")),
                ("0.0.0.0:-1", Err("no port number")),
                ("0.0.0.0:http", Err("no port number")),
                ("0.0.0.0:0x50", Err("no port number")),
                ("0.0.0.0: 80", Err("no port number")),
                (" 0.0.0.0:80", Err("no IP address")),
                ("0.0.0:80", Err("no IP address")),
                ("127.0.0.01:80", Err("no IP address")),
                ("256.0.0.1:80", Err("no IP address")),
                ("fe80::1:80", Err("without brackets")),
                ("fe80::1:65535", Err("without brackets")),
                ("1:2:3:4:5:6:7:8:80", Err("without brackets")),
                ("[127.0.0.1]:80", Err("in brackets")),
                ("[::1:80", Err("closing bracket")),
                ("[]:80", Err("no IPv6 address")),
                ("[::1::]:80", Err("no IPv6 address")),
                ("[fe80::1%]:80", Err("interface")),
                ("[fe80::1%0]:80", Err("interface")),
                ("[fe80::1%no-such-interface-anywhere]:80", Err("interface")),
                ("[fe80::1%../lo]:80", Err("interface")),
                ("example.com:80", Err("host name")),
                ("eth0:80", Err("host name")),
            ],
        );
    }

    fn v4(text: &str) -> Result<Target<SocketAddrV4>, Problem> {
        target_v4(text, &Origin::Flag("-4".to_owned()))
    }

    fn v6(text: &str) -> Result<Target<SocketAddrV6>, Problem> {
        target_v6(text, &Origin::Flag("-6".to_owned()))
    }

    #[test]
    fn targets_for_ipv4() {
        check(
            v4,
            &[
                ("127.0.0.1:443", Ok("127.0.0.1:443")),
                ("localhost:25565", Ok("127.0.0.1:25565")),
                ("[::1]:443", Err("IPv6 address")),
                ("[::ffff:127.0.0.1]:443", Err("IPv6 address")),
                ("127.0.0.1:0", Ok("127.0.0.1:0")),
                ("game.example:443", Ok("game.example:443")),
            ],
        );
    }

    #[test]
    fn targets_for_ipv6() {
        check(
            v6,
            &[
                ("[::1]:443", Ok("[::1]:443")),
                ("localhost:25565", Ok("[::1]:25565")),
                ("[fe80::1%lo]:443", Ok("[fe80::1%1]:443")),
                ("127.0.0.1:443", Err("IPv4 address")),
                ("[::ffff:127.0.0.1]:443", Err("v4-mapped")),
                ("[::1]:0", Ok("[::1]:0")),
                ("game.example:443", Ok("game.example:443")),
            ],
        );
    }

    #[test]
    fn host_names() {
        let long =
            |labels: usize| format!("{}com:1", format!("{}.", "a".repeat(62)).repeat(labels));
        let names = [
            "game:1",
            "Game-Server_2.internal:25565",
            "game.example.com.:1",
            "_minecraft.example:1",
            "7days:26900",
            "10.0.0.1.nip.io:1",
            "xn--bcher-kva.example:1",
            "eth0:80",
            "0x7g:1",
            &long(3),
        ];
        for text in names {
            let target = v4(text);
            assert!(matches!(&target, Ok(Target::Name(_))), "{text}: {target:?}");
            assert_eq!(target.expect("a name").to_string(), text);
            assert!(listen(text).is_err_and(|it| it.problem.contains("not looked up")));
        }
        check(
            v4,
            &[
                ("game:0", Err("port 0")),
                ("game", Err("no port")),
                ("127.1:80", Err("no IP address")),
                ("0x7f.0x1:80", Err("no IP address")),
                ("game.1:80", Err("no IP address")),
                ("game..internal:80", Err("neither")),
                (".game:80", Err("neither")),
                ("game..:80", Err("neither")),
                ("-game:80", Err("neither")),
                ("game server:80", Err("neither")),
                ("game/path:80", Err("neither")),
                ("http://game:80", Err("no IP address")),
                ("bücher.example:80", Err("not ASCII")),
                (&long(4), Err("neither")),
                (&format!("{}:1", "a".repeat(64)), Err("neither")),
            ],
        );
    }
}
