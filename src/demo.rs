//! `glommproxy demo`: what the proxy does, shown in a network namespace of its own.
//!
//! A server that says by which address it sees its clients; the proxy, which is this program once more, started as an
//! operator would start it; and balancers of every kind that speak for clients who do not exist. Neither the host's
//! routes nor its ports are touched, and all of it ends with the process.

mod balancer;
mod namespace;
mod proxy;
mod server;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use balancer::Way;
use proxy::Proxy;

use crate::routing::RoutingError;

/// How long a step may take. Over loopback, only one that fails takes it.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the clients say.
const GREETING: &[u8] = b"hello";

const SERVER_PORT: u16 = 25565;

/// How the proxy is started, with the server's port, and a listening port of its own.
const FLAGS: &str = "-l 0.0.0.0:25577 -4 127.0.0.1:25565 -6 [::1]:25565 -p both --setup-routes";

const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 25577);

/// Clients, of networks for documentation (RFC 5737, RFC 3849).
const CLIENTS: [(Way, IpAddr); 6] = [
    (Way::TcpV1, IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7))),
    (Way::TcpV1, IpAddr::V6(client_v6(0x7))),
    (Way::TcpV2, IpAddr::V4(Ipv4Addr::new(203, 0, 113, 8))),
    (Way::TcpV2, IpAddr::V6(client_v6(0x8))),
    (Way::UdpV2, IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9))),
    (Way::UdpV2, IpAddr::V6(client_v6(0x9))),
];

const CLIENT_PORT: u16 = 40001;

/// Why there is nothing to show. The message is one line.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Neither a network namespace nor a user namespace can be had.
    #[error(
        "the demo needs a network namespace of its own, and {reason} is in the way ({error}): run it with sudo, or change \
         that with {mend}"
    )]
    Forbidden {
        /// Who forbids it.
        reason: String,
        /// What the kernel says.
        error: String,
        /// How to allow it.
        mend: String,
    },
    /// The network in it.
    #[error(transparent)]
    Loopback(#[from] RoutingError),
    /// The server.
    #[error("cannot start the demo's server: {0}")]
    Server(io::Error),
    /// The program cannot be executed.
    #[error("cannot execute this program (/proc/self/exe): {0}")]
    Start(io::Error),
    /// The proxy did not start.
    #[error("glommproxy does not start in the demo's network: {0}")]
    Proxy(String),
}

/// What was shown: a table.
#[derive(Debug)]
pub struct Shown {
    cases: Vec<Case>,
}

/// One client.
#[derive(Debug)]
struct Case {
    way: Way,
    /// The address in the PROXY header.
    said: SocketAddr,
    /// What the server answered, which is the address it sees.
    saw: Saw,
}

#[derive(Debug)]
enum Saw {
    Answer(String),
    /// Nothing came back.
    Nothing(io::Error),
    /// The host has not got the family.
    NoFamily,
}

/// Moves this process into a namespace for good, and shows it there. To be called with no other thread running.
///
/// # Errors
///
/// Where there can be no namespace, or the proxy does not start. That a server saw the wrong address is no error, but
/// part of what is shown.
pub fn run() -> Result<Shown, DemoError> {
    namespace::enter()?;
    let v4 = server::start(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into());
    let v6 = server::start(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into());
    let (v4, v6) = (
        v4.map_err(DemoError::Server)?,
        v6.map_err(DemoError::Server)?,
    );
    let _proxy = Proxy::start(FLAGS)?;
    let cases = CLIENTS.map(|(way, client)| {
        let said = SocketAddr::new(client, CLIENT_PORT);
        let has_family = if client.is_ipv4() { v4 } else { v6 };
        let saw = match has_family.then(|| way.greet(PROXY, said)) {
            Some(Ok(answer)) => Saw::Answer(answer),
            Some(Err(error)) => Saw::Nothing(error),
            None => Saw::NoFamily,
        };
        Case { way, said, saw }
    });
    Ok(Shown {
        cases: cases.into(),
    })
}

const fn client_v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

// === impl Shown ===

impl Shown {
    /// Whether the server saw every client by the address that the client's header said.
    pub fn all_agree(&self) -> bool {
        let shown = |case: &&Case| !matches!(case.saw, Saw::NoFamily);
        self.cases.iter().any(|case| case.agrees())
            && self.cases.iter().filter(shown).all(Case::agrees)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "In a network of its own, a server on port {SERVER_PORT}, and in front of it\n\n    glommproxy {FLAGS}\n\n\
             with balancers that send it PROXY headers:\n"
        )?;
        writeln!(f, "{:<16}{:<23}server saw", "header", "client said")?;
        for case in &self.cases {
            writeln!(f, "{case}")?;
        }
        writeln!(f)?;
        if self.all_agree() {
            writeln!(
                f,
                "The server saw each client's own address, and its answers found their way back.\nNext: `glommproxy \
                 check` with the flags for your server says whether it will work there."
            )
        } else {
            writeln!(
                f,
                "The server did not see each client's own address. Next: `glommproxy check` says what is in the way."
            )
        }
    }
}

// === impl Case ===

impl Case {
    fn agrees(&self) -> bool {
        matches!(&self.saw, Saw::Answer(answer) if *answer == self.said.to_string())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16}{:<23}", self.way, self.said.to_string())?;
        match &self.saw {
            Saw::Answer(answer) => {
                let mark = if self.agrees() { "ok" } else { "WRONG" };
                write!(f, "{:<23}{mark}", answer.escape_default().to_string())
            }
            Saw::Nothing(error) => write!(f, "nothing: {error}"),
            Saw::NoFamily => f.write_str("left out: this host has no such family"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answers: [&str; 2]) -> Shown {
        let said: SocketAddr = "203.0.113.7:40001".parse().expect("an address");
        let cases = answers.map(|answer| Case {
            way: Way::TcpV1,
            said,
            saw: match answer {
                "" => Saw::Nothing(io::ErrorKind::TimedOut.into()),
                "none" => Saw::NoFamily,
                answer => Saw::Answer(answer.to_owned()),
            },
        });
        Shown {
            cases: cases.into(),
        }
    }

    #[test]
    fn it_is_no_success_unless_all_agree() {
        let right = "203.0.113.7:40001";
        for (answers, agree) in [
            ([right, right], true),
            ([right, "none"], true),
            ([right, "127.0.0.1:40001"], false),
            ([right, "203.0.113.7:40002"], false),
            ([right, ""], false),
            (["none", "none"], false),
        ] {
            assert_eq!(shown(answers).all_agree(), agree, "{answers:?}");
        }
        let text = shown([right, "127.0.0.1:40001"]).to_string();
        assert!(text.contains("127.0.0.1:40001        WRONG"), "{text}");
        assert!(text.contains("did not see"), "{text}");
    }
}
