//! Servers that are the proxy itself.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::{Frontend, Targets};

/// The first server that is one of the listeners: it would take what it is sent for a balancer's, and drop it for want of a
/// header. Only addresses that are this host's for certain count, as a listener on a wildcard address has them all.
pub(crate) fn own_listener(
    frontends: &[Frontend],
    server: impl Fn(&Targets) -> SocketAddr,
) -> Option<SocketAddr> {
    let mut by_port: HashMap<u16, Vec<IpAddr>> = HashMap::new();
    for Frontend { listen, .. } in frontends {
        by_port
            .entry(listen.0.port())
            .or_default()
            .push(listen.0.ip());
    }
    let mut servers = frontends.iter().map(|it| server(&it.targets));
    servers.find(|server| {
        let is_here = server.ip().is_loopback() || server.ip().is_unspecified();
        let mut listeners = by_port.get(&server.port()).into_iter().flatten();
        server.port() != 0
            && listeners.any(|&ip| ip == server.ip() || ip.is_unspecified() && is_here)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::ListenAddr;

    fn frontend((listen, v4, v6): (&str, &str, &str)) -> Frontend {
        Frontend {
            listen: ListenAddr(listen.parse().expect("an address")),
            targets: Targets {
                v4: v4.parse().expect("an address"),
                v6: v6.parse().expect("an address"),
            },
        }
    }

    #[track_caller]
    fn expect(frontends: &[(&str, &str, &str)], v4: Option<&str>, v6: Option<&str>) {
        let frontends: Vec<_> = frontends.iter().copied().map(frontend).collect();
        let found = own_listener(&frontends, |it| it.v4.into());
        assert_eq!(found.map(|it| it.to_string()).as_deref(), v4);
        let found = own_listener(&frontends, |it| it.v6.into());
        assert_eq!(found.map(|it| it.to_string()).as_deref(), v6);
    }

    #[test]
    fn a_server_where_we_listen_is_found() {
        let (v4, v6) = ("127.0.0.1:443", "[::1]:443");
        expect(&[("0.0.0.0:443", v4, v6)], Some(v4), Some(v6));
        expect(&[("[::]:443", v4, v6)], Some(v4), Some(v6));
        expect(&[("127.0.0.1:443", v4, v6)], Some(v4), None);
        expect(&[("[::1]:443", v4, v6)], None, Some(v6));
        // Behind another listener.
        let (one, other) = ("127.0.0.1:1", "127.0.0.1:2");
        let frontends = [("127.0.0.1:2", one, "[::1]:0"), (one, other, "[::1]:0")];
        expect(&frontends, Some(one), None);
    }

    #[test]
    fn servers_beside_us_or_elsewhere_are_not() {
        let v6 = "[::1]:443";
        expect(&[("0.0.0.0:8443", "127.0.0.1:443", v6)], None, None);
        expect(&[("127.0.0.2:443", "127.0.0.1:443", v6)], None, None);
        // Perhaps another host.
        let elsewhere = "[2001:db8::1]:443";
        expect(&[("0.0.0.0:443", "192.0.2.1:443", elsewhere)], None, None);
        // Port 0 is no server, and as a listener any port.
        expect(&[("0.0.0.0:0", "127.0.0.1:0", "[::1]:0")], None, None);
    }
}
