//! Shell commands that mend what was found, or show what is wrong.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use socket2::Type;

use crate::config::Config;

/// Ports from here on are for everybody (`net.ipv4.ip_unprivileged_port_start`, unless it was changed).
const UNPRIVILEGED_PORT: u16 = 1024;

/// Gives the program what it needs with these flags. That is one command for all of them, as setcap(8) takes away what
/// it does not name.
pub(super) fn grant(config: &Config) -> String {
    let listens = config.frontends.iter().map(|frontend| frontend.listen.0);
    let mut ports = listens.chain(config.admin).map(|addr| addr.port());
    let binds = ports.any(|port| (1..UNPRIVILEGED_PORT).contains(&port));
    grant_capabilities(binds)
}

/// As [`grant`], and the ports below 1024 in any case.
pub(super) fn grant_ports() -> String {
    grant_capabilities(true)
}

fn grant_capabilities(binds: bool) -> String {
    let binds = if binds { ",cap_net_bind_service" } else { "" };
    let program = std::env::current_exe();
    let program = program.map_or("glommproxy".to_owned(), |path| quoted_path(&path));
    format!("sudo setcap cap_net_admin,cap_net_raw{binds}+ep {program}")
}

/// What mends it, or shows what is wrong, if an address cannot be listened on for this reason.
pub(super) fn to_listen(addr: SocketAddr, kind: Type, reason: ErrorKind) -> String {
    match reason {
        ErrorKind::AddrInUse => sockets(addr.port(), kind),
        ErrorKind::PermissionDenied => grant_ports(),
        _ => "ip address".to_owned(),
    }
}

/// Shows who listens on a port. Of processes of other users only root hears.
pub(super) fn sockets(port: u16, kind: Type) -> String {
    let protocol = if kind == Type::STREAM { 't' } else { 'u' };
    format!("sudo ss -l{protocol}np sport = :{port}")
}

/// A path as a shell takes it.
pub(super) fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_more_into_them() {
        for (word, wanted) in [
            ("/etc/glommproxy/list-1.txt", "/etc/glommproxy/list-1.txt"),
            ("two words", "'two words'"),
            ("$(reboot)", "'$(reboot)'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), wanted);
        }
    }
}
