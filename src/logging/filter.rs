//! `RUST_LOG`: which lines are written, by where they come from.

use std::ffi::OsStr;

use tracing_subscriber::filter::Targets;

use crate::args::Quoted;

/// Why `RUST_LOG` cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FilterError {
    #[error("it is not in UTF-8")]
    NotText,
    /// What is between two commas is neither a level, nor the path of a module, nor both.
    #[error("it has {0}")]
    BadDirective(Quoted),
}

/// Reads directives as [`Targets`] has them, with commas between them: `debug`, `glommproxy::udp` (all its lines), or
/// `glommproxy::udp=debug`. Those for spans and fields (`[span]`, `{field}`) are refused, as no line here has a span.
/// None if there is no directive.
pub(super) fn parse(value: &OsStr) -> Result<Option<Targets>, FilterError> {
    let text = value.to_str().ok_or(FilterError::NotText)?;
    let directives: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty())
        .collect();
    if directives.is_empty() {
        return Ok(None);
    }
    let bad = |directive: &str| FilterError::BadDirective(Quoted(directive.to_owned()));
    let is_good = |directive: &str| is_plain(directive) && directive.parse::<Targets>().is_ok();
    if let Some(directive) = directives.iter().find(|directive| !is_good(directive)) {
        return Err(bad(directive));
    }
    let text = directives.join(",");
    text.parse().map(Some).map_err(|_| bad(&text))
}

/// Whether it is a path, a level, or both. [`Targets`] takes anything else for a path, which then matches nothing.
fn is_plain(directive: &str) -> bool {
    let (path, level) = match directive.split_once('=') {
        Some((path, level)) => (path, Some(level)),
        None => (directive, None),
    };
    let in_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
    !path.is_empty() && path.chars().all(in_path) && level.is_none_or(|level| !level.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    const UDP: &str = "glommproxy::udp::forward";
    const TCP: &str = "glommproxy::tcp";

    #[test]
    fn directives_say_what_is_written() {
        for (text, written, not_written) in [
            (
                "info",
                &[(UDP, Level::INFO), ("hyper", Level::ERROR)][..],
                &[(UDP, Level::DEBUG)][..],
            ),
            ("WARN", &[(UDP, Level::WARN)], &[(UDP, Level::INFO)]),
            ("4", &[(UDP, Level::DEBUG)], &[(UDP, Level::TRACE)]),
            ("off", &[], &[(UDP, Level::ERROR)]),
            (
                "glommproxy",
                &[(UDP, Level::TRACE)],
                &[("hyper", Level::ERROR)],
            ),
            (
                "glommproxy=debug",
                &[(UDP, Level::DEBUG), (TCP, Level::DEBUG)],
                &[(UDP, Level::TRACE)],
            ),
            (
                // The most specific decides, in whatever order.
                "glommproxy::udp=trace,warn,glommproxy=info",
                &[
                    (UDP, Level::TRACE),
                    (TCP, Level::INFO),
                    ("hyper", Level::WARN),
                ],
                &[(TCP, Level::DEBUG), ("hyper", Level::INFO)],
            ),
            (
                " warn , glommproxy=info,, ",
                &[(TCP, Level::INFO)],
                &[("hyper", Level::INFO)],
            ),
        ] {
            let filter = parse(OsStr::new(text));
            let Ok(Some(filter)) = filter else {
                panic!("{text:?} is {filter:?}");
            };
            for (target, level) in written {
                assert!(
                    filter.would_enable(target, level),
                    "{text:?}: {target} at {level}"
                );
            }
            for (target, level) in not_written {
                assert!(
                    !filter.would_enable(target, level),
                    "{text:?}: {target} at {level}"
                );
            }
        }
    }

    #[test]
    fn without_directives_there_is_no_filter() {
        for text in ["", " ", ",", " , "] {
            assert_eq!(parse(OsStr::new(text)), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn what_would_match_nothing_is_refused() {
        for bad in [
            "[span]",
            "glommproxy[span]=debug",
            "glommproxy[{client_addr}]=debug",
            "glommproxy=loud",
            "glommproxy=",
            "=debug",
            "a=b=c",
            "info;debug",
            "caf\u{e9}=info",
            "\u{1b}[2J",
        ] {
            let text = format!("warn,{bad}");
            let refused = FilterError::BadDirective(Quoted(bad.to_owned()));
            assert_eq!(parse(OsStr::new(&text)), Err(refused), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(parse(OsStr::from_bytes(b"\xFF")), Err(FilterError::NotText));
    }
}
