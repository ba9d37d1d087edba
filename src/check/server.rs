//! Whether the servers can be reached: from this host, and from a client somewhere on the Internet.

mod judged;

use std::net::{IpAddr, SocketAddr};

use socket2::Type;

use self::judged::Judged;
use super::commands::sockets;
use super::probe::{self, ANSWER_MAX, Attempt, Outcome};
use super::routes::{Held, Reach};
use super::{Row, Verdict, dialer, is_afterthought, number};
use crate::addr::spans;
use crate::config::{Config, Protocols};
use crate::coordinator::Resolved;
use crate::routing::{Family, ServerElsewhere};

/// The most servers of a family and protocol that are tried, of thousands of ports there may be.
const SERVERS_MAX: usize = 64;

/// Shows what a firewall does.
const RULESET: &str = "nft list ruleset";

/// The servers of one family and protocol.
struct Servers {
    family: Family,
    kind: Type,
    targets: Vec<SocketAddr>,
    /// What is known of those on other hosts.
    elsewhere: Vec<ServerElsewhere>,
    /// How many there are beside them.
    left_out: usize,
    /// From where they can be tried.
    reach: Reach,
}

/// What came of trying servers from a client's address.
struct ClientOutcomes {
    client: IpAddr,
    /// One for each server.
    outcomes: Vec<Outcome>,
}

/// For TCP a row for our own address and one for a client's; for UDP one for both.
pub(super) fn rows(config: &Config, resolved: &Resolved, held: &Held, may_spoof: bool) -> Vec<Row> {
    let protocols = [
        (Type::STREAM, config.protocols.tcp()),
        (Type::DGRAM, config.protocols.udp()),
    ];
    let mut all = Vec::new();
    for family in [Family::V4, Family::V6] {
        for (kind, _) in protocols.into_iter().filter(|(_, on)| *on) {
            all.extend(Servers::of(resolved, held, family, kind, may_spoof));
        }
    }
    let attempts: Vec<Attempt> = all.iter().flat_map(Servers::attempts).collect();
    let mut outcomes = probe::all(&dialer(config), &attempts).into_iter();
    let mut rows = Vec::new();
    for servers in &all {
        if servers.reach == Reach::Nobody {
            rows.extend(servers.skipped());
            continue;
        }
        let count = servers.targets.len();
        let plain: Vec<Outcome> = outcomes.by_ref().take(count).collect();
        let as_client = match servers.reach {
            Reach::Client(client) => Ok(ClientOutcomes {
                client,
                outcomes: outcomes.by_ref().take(count).collect(),
            }),
            Reach::HostOnly(why) => Err(why),
            Reach::Nobody => continue,
        };
        rows.extend(servers.judge(config, &plain, as_client));
    }
    rows
}

// === impl Servers ===

impl Servers {
    /// None without a server.
    fn of(
        resolved: &Resolved,
        held: &Held,
        family: Family,
        kind: Type,
        may_spoof: bool,
    ) -> Option<Self> {
        let mut targets: Vec<SocketAddr> = Vec::new();
        for frontend in &resolved.frontends {
            let target: SocketAddr = match family {
                Family::V4 => frontend.targets.v4.into(),
                Family::V6 => frontend.targets.v6.into(),
            };
            if target.port() != 0 && !targets.contains(&target) {
                targets.push(target);
            }
        }
        let left_out = targets.len().saturating_sub(SERVERS_MAX);
        targets.truncate(SERVERS_MAX);
        let reach = match held.reach(family) {
            Reach::Client(_) | Reach::HostOnly(_) if !may_spoof => {
                Reach::HostOnly("this process may not take a client's address")
            }
            reach => reach,
        };
        (!targets.is_empty()).then(|| Self {
            family,
            kind,
            targets,
            elsewhere: held.elsewhere().cloned().collect(),
            left_out,
            reach,
        })
    }

    fn attempts(&self) -> Vec<Attempt> {
        let from = |client| {
            self.targets.iter().map(move |&target| Attempt {
                kind: self.kind,
                target,
                client,
            })
        };
        match self.reach {
            Reach::Client(client) => from(None).chain(from(Some(client))).collect(),
            Reach::HostOnly(_) => from(None).collect(),
            Reach::Nobody => Vec::new(),
        }
    }

    /// The name of a row.
    fn subject(&self, from: &str) -> String {
        let protocol = if self.kind == Type::STREAM {
            "tcp"
        } else {
            "udp"
        };
        format!("{from}-v{}-{protocol}", number(self.family))
    }

    /// The rows of servers that cannot be tried.
    fn skipped(&self) -> Vec<Row> {
        let subjects: &[&str] = if self.kind == Type::STREAM {
            &["server", "client"]
        } else {
            &["client"]
        };
        let why = format!("this host has no IPv{}", number(self.family));
        let rows = subjects.iter();
        rows.map(|from| Row::new(&self.subject(from), Verdict::Skip, &why))
            .collect()
    }

    fn judge(
        &self,
        config: &Config,
        plain: &[Outcome],
        as_client: Result<ClientOutcomes, &'static str>,
    ) -> Vec<Row> {
        let plain = || self.targets.iter().copied().zip(plain);
        let refused = self.refused(config);
        if self.kind == Type::STREAM {
            let own = plain().map(|(target, it)| self.judged_plain(target, it, &refused));
            let own = self.row(config, &self.subject("server"), own.collect());
            let subject = self.subject("client");
            let client = match as_client {
                Err(why) => Row::new(&subject, Verdict::Skip, why),
                Ok(ClientOutcomes { client, outcomes }) => {
                    let pairs = plain().zip(&outcomes);
                    let all = pairs
                        .map(|((target, own), it)| self.judged_tcp_client(target, client, own, it));
                    self.row(config, &subject, all.collect())
                }
            };
            return vec![own, client];
        }
        let all = plain().enumerate().map(|(at, (target, own))| {
            let client = as_client.as_ref().map_err(|why| *why);
            let client = client.map(|it| (it.client, &it.outcomes[at]));
            self.judged_udp(target, own, client, &refused)
        });
        vec![self.row(config, &self.subject("client"), all.collect())]
    }

    /// What to say if nobody listens.
    fn refused(&self, config: &Config) -> String {
        let number = number(self.family);
        let without_udp = match (self.kind, config.protocols) {
            (Type::DGRAM, Protocols::Both) => ", or leave UDP out with -p tcp",
            _ => "",
        };
        format!(
            "nobody listens there: start the server, or name its address with -{number} (port 0 if there is \
             none){without_udp}"
        )
    }

    /// One row for all, about the worst of them.
    fn row(&self, config: &Config, subject: &str, judged: Vec<Judged>) -> Row {
        let worst = judged.iter().map(|it| it.verdict).max();
        let worst = worst.unwrap_or(Verdict::Skip);
        let mut groups: Vec<(String, Vec<SocketAddr>)> = Vec::new();
        let mut commands: Vec<String> = Vec::new();
        for it in judged.into_iter().filter(|it| it.verdict == worst) {
            match groups.iter_mut().find(|(known, _)| *known == it.text) {
                Some((_, targets)) => targets.push(it.target),
                None => {
                    groups.push((it.text, vec![it.target]));
                    // That of the first of them shows what it is like.
                    commands.extend(it.command);
                }
            }
        }
        let groups = groups.into_iter();
        let texts: Vec<String> = groups
            .map(|(text, targets)| format!("{}: {text}", spans(targets)))
            .collect();
        let mut finding = texts.join("; ");
        if self.left_out > 0 {
            let (first, more) = (self.targets.len(), self.left_out);
            finding.push_str(&format!(
                " (of the first {first}; {more} more were not tried)"
            ));
        }
        let excuse = excuse(config, self.family).filter(|_| worst == Verdict::Fail);
        if let Some(excuse) = excuse {
            finding.push_str(excuse);
            return Row::new(subject, Verdict::Warn, finding);
        }
        Row::new(subject, worst, finding).mended_by(commands)
    }

    fn judged_plain(&self, target: SocketAddr, outcome: &Outcome, refused: &str) -> Judged {
        match outcome {
            Outcome::Reached => Judged::new(target, Verdict::Ok, "accepts connections"),
            Outcome::Refused => Judged::failed(target, refused, self.listeners(target)),
            Outcome::Silent => {
                let conclusion =
                    format!(": look for a firewall (`{RULESET}`), or a server that is stuck");
                Judged::failed(target, silent("it does not accept", &conclusion), RULESET)
            }
            Outcome::Failed(why) => Judged::failed(target, why, way_to(target)),
        }
    }

    fn judged_tcp_client(
        &self,
        target: SocketAddr,
        client: IpAddr,
        own: &Outcome,
        outcome: &Outcome,
    ) -> Judged {
        match outcome {
            Outcome::Reached => {
                let text = format!("accepts connections from {client}");
                Judged::new(target, Verdict::Ok, text)
            }
            _ if *own != Outcome::Reached => {
                let text = "it cannot be reached from this host, either";
                Judged::new(target, Verdict::Skip, text)
            }
            Outcome::Refused => {
                let text =
                    format!("accepts us, and refuses {client}: look for a firewall (`{RULESET}`)");
                Judged::failed(target, text, RULESET)
            }
            Outcome::Silent => self.astray(target, client),
            Outcome::Failed(why) => {
                let text = format!("accepts us, but not {client}: {why}");
                Judged::failed(target, text, way_to(target))
            }
        }
    }

    fn judged_udp(
        &self,
        target: SocketAddr,
        own: &Outcome,
        client: Result<(IpAddr, &Outcome), &'static str>,
        refused: &str,
    ) -> Judged {
        match (own, client) {
            (Outcome::Refused, _) | (_, Ok((_, Outcome::Refused))) => {
                Judged::failed(target, refused, self.listeners(target))
            }
            (Outcome::Failed(why), _) | (_, Ok((_, Outcome::Failed(why)))) => {
                Judged::failed(target, why, way_to(target))
            }
            (_, Err(why)) => Judged::new(target, Verdict::Skip, why),
            (_, Ok((from, Outcome::Reached))) => {
                Judged::new(target, Verdict::Ok, format!("answers {from}"))
            }
            (Outcome::Reached, Ok((from, Outcome::Silent))) => self.astray(target, from),
            (Outcome::Silent, Ok((_, Outcome::Silent))) => {
                let way_back = self.way_back(target).map(|it| format!("; {it}"));
                let conclusion = format!(
                    ": cannot tell, as few game servers answer that; see whether a client of theirs gets through{}",
                    way_back.unwrap_or_default()
                );
                let text = silent("sent an empty datagram", &conclusion);
                Judged::new(target, Verdict::Warn, text)
            }
        }
    }

    /// What to say if a server answers this host but not a client.
    fn astray(&self, target: SocketAddr, client: IpAddr) -> Judged {
        let seconds = ANSWER_MAX.as_secs();
        let lost = format!("answers us, but no answer to {client} comes back within {seconds} s");
        match self.way_back(target) {
            Some(way_back) => {
                let text = format!("{lost}: {way_back}; or look there for a firewall");
                let command = format!("ip route get {client} from {}", target.ip());
                Judged::failed(target, text, self.on_its_host(target, command))
            }
            None => {
                let text = format!(
                    "{lost}: look for a firewall (`{RULESET}`, rp_filter) or a rule that takes it elsewhere (`ip rule`)"
                );
                Judged::failed(target, text, RULESET)
            }
        }
    }

    /// The command that shows who listens at the server's port.
    fn listeners(&self, target: SocketAddr) -> String {
        self.on_its_host(target, sockets(target.port(), self.kind))
    }

    /// A command where the server is.
    fn on_its_host(&self, target: SocketAddr, command: String) -> String {
        let ip = target.ip();
        if self.elsewhere.iter().any(|it| it.target == ip) {
            format!("ssh {ip} {command}")
        } else {
            command
        }
    }

    /// What has to be so on a server's own host, if that is not this one.
    fn way_back(&self, target: SocketAddr) -> Option<String> {
        let mut elsewhere = self.elsewhere.iter();
        let server = elsewhere.find(|it| it.target == target.ip())?;
        Some(match (server.router, server.commands.as_slice()) {
            (Some(router), _) => format!(
                "it is on another host, behind {router}, and both must route its answers to clients to this host"
            ),
            (None, []) => {
                "it is on another host, which must route its answers to clients to this one"
                    .to_owned()
            }
            (None, commands) => format!(
                "it is on another host, which must route its answers to clients to this one, by its default route or by \
                 these commands there: {}",
                commands.join("; ")
            ),
        })
    }
}

/// Why a server that cannot be reached does not keep the proxy from its work.
fn excuse(config: &Config, family: Family) -> Option<&'static str> {
    if is_afterthought(config, family) {
        return Some("; nobody named it");
    }
    let dynamic = config.dynamic_destination;
    dynamic
        .then_some("; with --dynamic-destination nothing but headers without a client leads there")
}

/// The command that shows the way to a server.
fn way_to(target: SocketAddr) -> String {
    format!("ip route get {}", target.ip())
}

fn silent(what: &str, conclusion: &str) -> String {
    format!(
        "{what}, no answer within {} s{conclusion}",
        ANSWER_MAX.as_secs()
    )
}
