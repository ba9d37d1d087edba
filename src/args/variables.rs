//! Variables of the environment that are called like a flag's, and are none.
//!
//! A misspelt flag is refused. A misspelt variable cannot be: whoever sets variables for a container does not always know all
//! of them, and Kubernetes sets some by itself. So they are told of.

use std::ffi::OsString;

use super::Quoted;
use super::flags::{self, FLAGS, PREFIX};
use super::subcommand::CHECK_FLAGS;

/// So many are told of.
const TOLD_MAX: usize = 16;

/// A variable that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name.
    pub name: Quoted,
    /// What to do about it.
    pub advice: String,
}

/// Those among the names of the environment, a few at most.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<UnknownVariable> {
    let unknown = names.filter_map(|name| {
        let name = name.to_string_lossy();
        let flag = name.strip_prefix(PREFIX)?;
        (!is_known(&name) && !is_kubernetes(flag)).then(|| UnknownVariable {
            advice: advice(flag),
            name: Quoted(name.clone().into_owned()),
        })
    });
    unknown.take(TOLD_MAX).collect()
}

fn is_known(name: &str) -> bool {
    let mut flags = FLAGS.iter().chain(CHECK_FLAGS);
    flags.any(|flag| flag.variable() == name)
}

/// Whether it is for a Service called `glommproxy` (kubernetes.io, "Environment variables" of "Service").
fn is_kubernetes(flag: &str) -> bool {
    flag == "PORT" || flag.starts_with("PORT_") || flag.starts_with("SERVICE_")
}

fn advice(flag: &str) -> String {
    let name = flag.to_ascii_lowercase().replace('_', "-");
    match flags::nearest(&name).and_then(|near| flags::find(near, &[])) {
        Some(near) => format!("did you mean {}?", near.variable()),
        None => {
            "glommproxy --help lists the flags, and a variable is called as its flag is".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(names: &[&str]) -> Vec<(String, String)> {
        let found = unknown_variables(names.iter().map(OsString::from));
        let found = found.into_iter().map(|it| (it.name.0, it.advice));
        found.collect()
    }

    #[test]
    fn what_is_nearly_a_flags_is_told_with_what_was_meant() {
        for (name, meant) in [
            ("GLOMMPROXY_ALLOWED_SUBNET", "GLOMMPROXY_ALLOWED_SUBNETS"),
            // Other names of flags name no variables.
            ("GLOMMPROXY_ALLOWED_NETWORKS", "GLOMMPROXY_ALLOWED_SUBNETS"),
            ("GLOMMPROXY_IPV4", "GLOMMPROXY_TARGET_V4"),
            ("GLOMMPROXY_LISEN", "GLOMMPROXY_LISTEN"),
            ("GLOMMPROXY_listen", "GLOMMPROXY_LISTEN"),
        ] {
            let told = unknown(&[name]);
            let advice = format!("did you mean {meant}?");
            assert_eq!(told, [(name.to_owned(), advice)]);
        }
        let told = unknown(&["GLOMMPROXY_BIND_EVERYTHING"]);
        assert!(told[0].1.contains("--help"), "{told:?}");
    }

    #[test]
    fn what_means_something_or_is_not_for_us_is_not() {
        let told = unknown(&[
            "GLOMMPROXY_LISTEN",
            "GLOMMPROXY_LIVE",
            "PATH",
            "glommproxy_lisen",
            "GLOMMPROXY_PORT",
            "GLOMMPROXY_PORT_25577_UDP_ADDR",
            "GLOMMPROXY_SERVICE_HOST",
            "GLOMMPROXY_SERVICE_PORT_GAME",
        ]);
        assert_eq!(told, []);
    }

    #[test]
    fn there_is_an_end_to_them() {
        let names = (0..100).map(|n| OsString::from(format!("GLOMMPROXY_{n}")));
        assert_eq!(unknown_variables(names).len(), TOLD_MAX);
    }
}
