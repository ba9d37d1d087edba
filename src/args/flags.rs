//! The table of all flags: their spellings and whether a value follows. Defaults and limits are the configuration's.

/// What the variables of the environment begin with that stand in for flags.
pub(super) const PREFIX: &str = "GLOMMPROXY_";

/// A flag and what may follow it.
#[derive(Debug)]
pub(crate) struct Flag {
    /// The name without dashes that everything else uses.
    pub(crate) long: &'static str,
    /// The other names: go-mmproxy's, Cloudflare mmproxy's and mmproxy-rs'.
    pub(crate) others: &'static [&'static str],
    /// What may follow.
    pub(crate) takes: Takes,
}

/// What may follow a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A value, always.
    Value,
    /// As a value, which may be given several times: all of them count, as if typed with commas between.
    List,
    /// A value, or nothing when the next argument is a flag or there is none: then this text is the value.
    ValueOr(&'static str),
    /// Nothing, or `=true` and `=false`.
    Switch,
}

impl Flag {
    pub(super) const fn valued(long: &'static str, others: &'static [&'static str]) -> Self {
        Self {
            long,
            others,
            takes: Takes::Value,
        }
    }

    const fn list(long: &'static str, others: &'static [&'static str]) -> Self {
        Self {
            long,
            others,
            takes: Takes::List,
        }
    }

    pub(super) const fn switch(long: &'static str, others: &'static [&'static str]) -> Self {
        Self {
            long,
            others,
            takes: Takes::Switch,
        }
    }

    /// All names of the flag, the long one first.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.long).chain(self.others.iter().copied())
    }

    /// The environment variable that stands in for the flag.
    pub(crate) fn variable(&self) -> String {
        let name = self.long.to_ascii_uppercase().replace('-', "_");
        format!("{PREFIX}{name}")
    }
}

/// Every flag but the two that only print something.
///
/// No name may be `port`, nor begin with `port-` or `service-`: Kubernetes sets `GLOMMPROXY_PORT` and its like in every
/// container of a namespace that has a Service called `glommproxy`.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::list("listen", &["l", "listen-addr"]),
    Flag::list("target-v4", &["4", "ipv4"]),
    Flag::list("target-v6", &["6", "ipv6"]),
    Flag::valued("protocol", &["p"]),
    Flag::valued("allowed-subnets", &["a", "allowed-networks"]),
    Flag::valued("denied-clients", &[]),
    Flag::switch("keep-denied", &[]),
    Flag::valued("max-connections", &[]),
    Flag::valued("max-connections-per-client", &[]),
    Flag::valued("new-connections-per-second", &[]),
    Flag::valued("idle-timeout", &[]),
    Flag::valued("close-after", &["c"]),
    Flag::valued("drain-timeout", &[]),
    Flag::switch("takeover", &[]),
    Flag::valued("listeners", &[]),
    Flag::valued("mark", &["m"]),
    // go-mmproxy's `-v` takes a number, Cloudflare's `-v` and `--verbose` take nothing. No command line that works with
    // go-mmproxy has a flag, or nothing, behind `-v`, so there it means what Cloudflare's users mean: all there is.
    Flag {
        long: "verbose",
        others: &["v"],
        takes: Takes::ValueOr("2"),
    },
    Flag::valued("cpus", &[]),
    Flag::switch("no-pin", &[]),
    Flag::valued("header-timeout", &[]),
    Flag::valued("connect-timeout", &[]),
    Flag::valued("max-flows", &[]),
    Flag::switch("listen-transparent", &[]),
    Flag::switch("dynamic-destination", &[]),
    Flag::valued("allowed-destinations", &[]),
    Flag::valued("udp-header", &[]),
    Flag::switch("setup-routes", &[]),
    Flag::switch("no-wildcard-udp", &[]),
    Flag::valued("table", &["t"]),
    Flag::valued("log-format", &[]),
    Flag::valued("access-log", &[]),
    Flag::valued("access-log-format", &[]),
    Flag::valued("admin", &[]),
    Flag::switch("quiet", &["q"]),
    Flag::switch("no-sandbox", &["do-not-sandbox", "N"]),
    Flag::valued("source-port", &[]),
    Flag::switch("force-real-client-port", &["P"]),
    Flag::switch("require-crc32c", &[]),
    Flag::switch("allow-loopback-clients", &[]),
];

/// The names that print the help text.
pub(crate) const HELP: &[&str] = &["help", "h"];

/// The names that print the version.
pub(crate) const VERSION: &[&str] = &["version", "V"];

/// The flag of this name (without dashes), among all of the proxy and those a subcommand has of its own.
pub(crate) fn find(name: &str, own: &'static [Flag]) -> Option<&'static Flag> {
    FLAGS
        .iter()
        .chain(own)
        .find(|flag| flag.names().any(|known| known == name))
}

/// Whether any flag, those that print included, has this name (without dashes).
pub(crate) fn is_known(name: &str, own: &'static [Flag]) -> bool {
    HELP.contains(&name) || VERSION.contains(&name) || find(name, own).is_some()
}

/// The known name nearest to a mistyped one, if one is near enough to be meant.
pub(crate) fn nearest(mistyped: &str) -> Option<&'static str> {
    // Every letter is one step from every other, so a single letter is only ever taken for its other case.
    let steps_max = match mistyped.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    // The distance of a long argument to every name costs its length each time, and no long argument is near a name.
    if mistyped.len() > 64 {
        return None;
    }
    let lower = mistyped.to_ascii_lowercase();
    FLAGS
        .iter()
        .flat_map(Flag::names)
        .chain(HELP.iter().copied())
        .chain(VERSION.iter().copied())
        .map(|name| (distance(&lower, &name.to_ascii_lowercase()), name))
        .filter(|&(steps, _)| steps <= steps_max)
        .min_by_key(|&(steps, _)| steps)
        .map(|(_, name)| name)
}

/// How many letters must be put in, taken out or replaced to turn one text into the other (Levenshtein).
pub(super) fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (taken, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = taken + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_name_is_given_twice() {
        let mut seen = HashSet::new();
        let printing = HELP.iter().chain(VERSION).copied();
        for name in FLAGS.iter().flat_map(Flag::names).chain(printing) {
            assert!(seen.insert(name), "{name} is the name of two flags");
        }
    }

    #[test]
    fn no_variable_clashes_with_those_kubernetes_sets_for_a_service() {
        for flag in FLAGS {
            let name = flag.long;
            let clashes =
                name == "port" || name.starts_with("port-") || name.starts_with("service-");
            assert!(!clashes, "{name}");
        }
    }

    #[test]
    fn variables_are_spelled_from_the_long_name() {
        let variable = find("a", &[]).map(Flag::variable);
        assert_eq!(variable.as_deref(), Some("GLOMMPROXY_ALLOWED_SUBNETS"));
    }

    #[test]
    fn suggests_what_was_probably_meant() {
        let cases = [
            ("allowed-subnet", Some("allowed-subnets")),
            ("allowed_subnets", Some("allowed-subnets")),
            ("alowed-network", Some("allowed-networks")),
            ("listner", Some("listen")),
            ("listnrs", Some("listeners")),
            ("LISTEN", Some("listen")),
            ("protcol", Some("protocol")),
            ("marc", Some("mark")),
            ("L", Some("l")),
            ("H", Some("h")),
            ("x", None),
            ("zz", None),
            ("bind-everything", None),
            ("", None),
        ];
        for (mistyped, want) in cases {
            assert_eq!(nearest(mistyped), want, "{mistyped}");
        }
    }

    #[test]
    fn distance_counts_single_letters() {
        assert_eq!(distance("", "mark"), 4);
        assert_eq!(distance("mark", "mark"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
