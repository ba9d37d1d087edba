//! Who is measured.

use std::net::SocketAddr;
use std::path::Path;

use super::args::Args;

/// The name of the way without any proxy.
const NO_PROXY: &str = "no proxy";
/// Ours, as users start it.
const OURS: &str = "glommproxy";

/// A way from the clients to the server.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// What starts it, with places to fill in.
    command: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Clients connect to the server itself: the limit of this machine.
    Direct,
    /// glommproxy with nothing but the addresses on its command line.
    Ours,
    /// glommproxy with further arguments.
    Variant,
    /// Somebody else's proxy.
    Peer,
}

// === impl Candidate ===

impl Candidate {
    /// Everybody a command line names, in the order of the tables.
    pub(crate) fn all(protocol: &str, args: &Args) -> Vec<Self> {
        let program = env!("CARGO_BIN_EXE_glommproxy");
        let ours = format!(
            "'{program}' -p {protocol} -l {{listen}} -4 {{target}} -6 {{target6}} {{allowed}}"
        );
        let direct = Self::new(NO_PROXY, Kind::Direct, "");
        let variants = args.glommproxy.iter().map(|further| {
            let name = format!("{OURS} {further}");
            Self::new(&name, Kind::Variant, &format!("{ours} {further}"))
        });
        let peers = args.peer.iter();
        let peers = peers.map(|peer| Self::new(&peer.name, Kind::Peer, &peer.command));
        [direct, Self::new(OURS, Kind::Ours, &ours)]
            .into_iter()
            .chain(variants)
            .chain(peers)
            .collect()
    }

    pub(crate) fn new(name: &str, kind: Kind, command: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            command: command.to_owned(),
        }
    }

    /// Whether it can be told whom to believe.
    pub(crate) fn takes_a_list(&self) -> bool {
        self.kind == Kind::Direct || self.command.contains("{allowed}")
    }

    /// The command as the results show it, without this machine's folders.
    pub(crate) fn shown(&self) -> String {
        let program = format!("'{}'", env!("CARGO_BIN_EXE_glommproxy"));
        self.command.replace(&program, OURS)
    }

    /// The command with its places filled in.
    pub(crate) fn command(
        &self,
        listen: SocketAddr,
        target: SocketAddr,
        allowed: Option<&Path>,
    ) -> String {
        let list = allowed.map(|file| format!("--allowed-subnets '{}'", file.display()));
        self.command
            .replace("{listen}", &listen.to_string())
            .replace("{target}", &target.to_string())
            .replace("{target6}", &format!("[::1]:{}", target.port()))
            .replace("{allowed}", &list.unwrap_or_default())
            .trim_end()
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Result;

    #[test]
    fn places_are_filled_in() -> Result {
        let peer = Candidate::new("x", Kind::Peer, "x {listen} {target} {target6} {allowed}");
        let (listen, target) = ("127.0.0.1:1".parse()?, "127.0.0.1:2".parse()?);
        assert_eq!(
            peer.command(listen, target, None),
            "x 127.0.0.1:1 127.0.0.1:2 [::1]:2"
        );
        assert_eq!(
            peer.command(listen, target, Some(Path::new("/list"))),
            "x 127.0.0.1:1 127.0.0.1:2 [::1]:2 --allowed-subnets '/list'"
        );
        assert!(peer.takes_a_list());
        Ok(())
    }
}
