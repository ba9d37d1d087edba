//! Values of a command line, checked: alone, and for what they mean together.

use std::path::PathBuf;

use super::frontends::{self, Ported, Span, Spans};
use super::target::{NamedTargets, Target};
use super::{
    ConfigError, DEFAULT_LISTEN, DEFAULT_TARGET_V4, DEFAULT_TARGET_V6, LogFormat, Problem,
    SourcePort, address, values,
};
use crate::addr::Frontend;
use crate::args::CommandLine;
use crate::cpus::{self, Shards};
use crate::limits::LimitSettings;

/// The values of a command line, each with the name to call it by.
pub(super) struct Check<'a>(pub(super) &'a CommandLine);

// === impl Check ===

impl Check<'_> {
    /// The value of a flag, if it was given, as `read` understands it.
    pub(super) fn of<T>(
        &self,
        long: &'static str,
        given: &Option<String>,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = given else {
            return Ok(None);
        };
        self.read(long, text, read).map(Some)
    }

    /// The words of a list flag, or its default.
    fn list<A: Ported + ToString>(
        &self,
        long: &'static str,
        given: &Option<String>,
        default: A,
        read: impl Fn(&str) -> Result<A, Problem>,
    ) -> Result<Spans<A>, ConfigError> {
        let words = match given {
            None => vec![Span::one(&default.to_string(), default)],
            Some(text) => text
                .split(',')
                .map(|word| self.read(long, word, |word| Span::read(word, &read)))
                .collect::<Result<_, _>>()?,
        };
        let origin = self.0.origin(long);
        Ok(Spans { origin, words })
    }

    fn read<T>(
        &self,
        long: &'static str,
        text: &str,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Result<T, ConfigError> {
        read(text).map_err(|problem| problem.of(self.0.origin(long), text))
    }

    pub(super) fn frontends(&self) -> Result<Vec<Frontend<NamedTargets>>, ConfigError> {
        let args = &self.0.args;
        let (v4, v6) = (self.0.origin("target-v4"), self.0.origin("target-v6"));
        frontends::frontends(
            &self.list("listen", &args.listen, DEFAULT_LISTEN, address::listen)?,
            &self.list(
                "target-v4",
                &args.target_v4,
                Target::Addr(DEFAULT_TARGET_V4),
                |text| address::target_v4(text, &v4),
            )?,
            &self.list(
                "target-v6",
                &args.target_v6,
                Target::Addr(DEFAULT_TARGET_V6),
                |text| address::target_v6(text, &v6),
            )?,
        )
    }

    /// A list that is not asked is a misunderstanding, and so is one without a name.
    pub(super) fn allowed_destinations(&self) -> Result<Option<PathBuf>, ConfigError> {
        let args = &self.0.args;
        let given = &args.allowed_destinations;
        let path = self.of("allowed-destinations", given, values::path)?;
        if path.is_some() && !args.dynamic_destination.unwrap_or(false) {
            return Err(ConfigError::DestinationsNotDynamic {
                list_origin: self.0.origin("allowed-destinations"),
            });
        }
        Ok(path)
    }

    pub(super) fn access_log_format(&self) -> Result<Option<LogFormat>, ConfigError> {
        let args = &self.0.args;
        let given = &args.access_log_format;
        let format = self.of("access-log-format", given, values::log_format)?;
        if format.is_some() && args.access_log.is_none() {
            return Err(ConfigError::NoAccessLog {
                format_origin: self.0.origin("access-log-format"),
            });
        }
        Ok(format)
    }

    pub(super) fn source_port(&self) -> Result<SourcePort, ConfigError> {
        let args = &self.0.args;
        let source_port = self.of("source-port", &args.source_port, values::source_port)?;
        match (args.force_real_client_port, source_port) {
            (Some(true), None | Some(SourcePort::Strict)) => Ok(SourcePort::Strict),
            (Some(true), Some(_)) => Err(ConfigError::SourcePortsContradict {
                forced_origin: self.0.origin("force-real-client-port"),
                source_port_origin: self.0.origin("source-port"),
            }),
            (_, source_port) => Ok(source_port.unwrap_or(SourcePort::Client)),
        }
    }

    pub(super) fn limits(&self) -> Result<LimitSettings, ConfigError> {
        let args = &self.0.args;
        let of = |long, given| Ok(self.of(long, given, values::limit)?.flatten());
        Ok(LimitSettings {
            connections: of("max-connections", &args.max_connections)?,
            connections_per_client: of(
                "max-connections-per-client",
                &args.max_connections_per_client,
            )?,
            new_per_second: of(
                "new-connections-per-second",
                &args.new_connections_per_second,
            )?,
        })
    }

    pub(super) fn shards(&self) -> Result<Shards, ConfigError> {
        let args = &self.0.args;
        let listeners = self.of("listeners", &args.listeners, values::listeners)?;
        let cpus = self.of("cpus", &args.cpus, values::cpus)?;
        let pinned = !args.no_pin.unwrap_or(false);
        let Some(cpus) = cpus else {
            return Ok(Shards::Count {
                shards: listeners.unwrap_or_else(cpus::default_shards),
                pinned,
            });
        };
        if !pinned {
            return Err(ConfigError::NoPinContradictsCpus {
                no_pin_origin: self.0.origin("no-pin"),
                cpus_origin: self.0.origin("cpus"),
            });
        }
        match listeners {
            Some(listeners) if listeners.get() != cpus.len() => {
                Err(ConfigError::ListenersContradictCpus {
                    listeners_origin: self.0.origin("listeners"),
                    listeners: listeners.get(),
                    cpus_origin: self.0.origin("cpus"),
                    cpus: cpus.len(),
                })
            }
            _ => Ok(Shards::On(cpus)),
        }
    }
}
