//! Any words as the command line, and as the environment. What holds:
//!
//! - There is no panic.
//! - What is refused is refused in one line: not empty, every character of it printable, and not longer than a screen.
//! - What is accepted is within the limits that the configuration promises, and what is printed is text.
//!
//! The words are apart by NUL bytes, which no argument can hold. Words such as `GLOMMPROXY_LISTEN=…` are the environment.

#![cfg_attr(not(test), no_main)]

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use glommproxy::config::{Config, Startup, load};

#[cfg(not(test))]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));

/// The most characters of a message. Foreign text is cut at 80 characters, each escaped by up to 10, and few messages
/// show two such texts.
const MESSAGE_LEN_MAX: usize = 2500;
const FRONTENDS_MAX: usize = 4096;

pub(crate) fn check(data: &[u8]) {
    let mut variables = HashMap::new();
    let mut arguments = Vec::new();
    for word in data.split(|&byte| byte == 0) {
        let equals = word.iter().position(|&byte| byte == b'=');
        match equals.filter(|_| word.starts_with(b"GLOMMPROXY_")) {
            Some(at) => {
                variables.insert(&word[..at], &word[at + 1..]);
            }
            None => arguments.push(OsStr::from_bytes(word).to_owned()),
        }
    }

    let variable = |name: &str| -> Option<OsString> {
        let value = variables.get(name.as_bytes())?;
        Some(OsStr::from_bytes(value).to_owned())
    };
    match load(arguments, variable) {
        Ok(Startup::Run(config) | Startup::Check { config, .. }) => check_config(&config),
        Ok(Startup::AskReady(admin) | Startup::Top { admin, .. }) => assert_ne!(admin.port(), 0),
        Ok(Startup::Demo) => {}
        Ok(Startup::Print(text)) => assert!(text.ends_with('\n') && text.is_ascii()),
        Err(error) => check_message(&error.to_string()),
    }
}

fn check_config(config: &Config) {
    assert!((1..=FRONTENDS_MAX).contains(&config.frontends.len()));
    let timeouts = [config.header_timeout, config.connect_timeout];
    assert!(timeouts.iter().all(|timeout| !timeout.is_zero()));
    assert!(config.idle_timeout.is_none_or(|timeout| !timeout.is_zero()));
    assert!(config.max_flows > 0);
    assert!(config.dynamic_destination || config.allowed_destinations.is_none());
    assert!(config.protocols.tcp() || config.protocols.udp());

    // No two listen on the same address and port; port 0 is any port.
    let mut listens: Vec<_> = config
        .frontends
        .iter()
        .map(|frontend| frontend.listen.0)
        .filter(|listen| listen.port() != 0)
        .collect();
    assert!(listens.iter().all(|listen| match listen.ip() {
        std::net::IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
        std::net::IpAddr::V4(_) => true,
    }));
    listens.sort_unstable();
    assert!(listens.windows(2).all(|pair| pair[0] != pair[1]));
}

fn check_message(message: &str) {
    assert!(!message.is_empty());
    assert!(message.chars().count() <= MESSAGE_LEN_MAX, "{message:?}");
    let is_printable = |c: char| c.escape_debug().eq([c]) || matches!(c, '"' | '\'' | '\\');
    assert!(message.chars().all(is_printable), "{message:?}");
}
