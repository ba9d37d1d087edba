//! What can be wrong with a command line.

use super::NamedPorts;
use crate::args::{ArgsError, Origin, Quoted};

/// Why the program cannot start as it was told. The message is one line for stderr; the exit code is 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The command line or the environment cannot be read.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// A value is wrong, or two contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// What is wrong with the values given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value cannot be used.
    #[error("{origin} {value} {problem}: want {wanted}")]
    BadValue {
        /// The flag, as it was typed, or the variable.
        origin: Origin,
        /// The value.
        value: Quoted,
        /// What is wrong with it, as the end of a sentence.
        problem: String,
        /// What would be right.
        wanted: String,
    },
    /// Neither one target for all listening addresses nor one for each.
    #[error(
        "{listen_origin} names {listens} to listen on, and {target_origin} names {targets}: give one {target_origin} for \
         all of them, or one for each, in the same order"
    )]
    UnpairedTargets {
        /// The flag or variable of the listening addresses.
        listen_origin: Origin,
        /// How many there are.
        listens: usize,
        /// The flag or variable of the targets.
        target_origin: Origin,
        /// How many there are.
        targets: usize,
    },
    /// A range of ports has a range of another length for its targets.
    #[error("{listen} and {target}: give ranges of the same length, or one target port for all")]
    UnequalRanges {
        /// The listening address.
        listen: Box<NamedPorts>,
        /// The target.
        target: Box<NamedPorts>,
    },
    /// Two listening addresses have a port in common.
    #[error(
        "{origin} {first} and {second} overlap at port {port}: a wildcard address is all addresses, IPv4 and IPv6; \
         name each port once"
    )]
    Overlap {
        /// The flag or variable.
        origin: Origin,
        /// The word given first.
        first: Quoted,
        /// The one that overlaps it.
        second: Quoted,
        /// The lowest port they share.
        port: u16,
    },
    /// More listening ports than there may be.
    #[error(
        "{listen_origin} names {ports} ports, and 4096 is the most: let the kernel redirect them to one, with \
         --listen-transparent"
    )]
    TooManyPorts {
        /// The flag or variable.
        listen_origin: Origin,
        /// How many it names.
        ports: usize,
    },
    /// More host names than are looked up.
    #[error(
        "{target_origin} names {names} hosts, and 256 are the most: give their addresses, or run several glommproxies"
    )]
    TooManyNames {
        /// The flag or variable.
        target_origin: Origin,
        /// How many it names.
        names: usize,
    },
    /// `--allowed-destinations` without `--dynamic-destination`.
    #[error(
        "{list_origin} is for destinations that PROXY headers name, and they are not read without \
         --dynamic-destination: add that, or remove {list_origin}"
    )]
    DestinationsNotDynamic {
        /// The flag or variable of the list.
        list_origin: Origin,
    },
    /// `--access-log-format` without `--access-log`.
    #[error(
        "{format_origin} is for the access log, and there is none without --access-log: add that, or remove \
         {format_origin}"
    )]
    NoAccessLog {
        /// The flag or variable of the format.
        format_origin: Origin,
    },
    /// `--listeners` and `--cpus` ask for different numbers of shards.
    #[error(
        "{listeners_origin} asks for {listeners} listeners, but {cpus_origin} names CPUs for {cpus}: remove one of them"
    )]
    ListenersContradictCpus {
        /// The flag or variable of the number.
        listeners_origin: Origin,
        /// The number.
        listeners: usize,
        /// The flag or variable of the CPUs.
        cpus_origin: Origin,
        /// How many CPUs it names.
        cpus: usize,
    },
    /// `--force-real-client-port` and `--source-port` contradict each other.
    #[error(
        "{forced_origin} contradicts {source_port_origin}, which allows other ports than the client's: remove one of them"
    )]
    SourcePortsContradict {
        /// The switch or variable that means `strict`.
        forced_origin: Origin,
        /// The flag or variable that says something else.
        source_port_origin: Origin,
    },
    /// `--no-pin` and `--cpus` contradict each other.
    #[error(
        "{no_pin_origin} contradicts {cpus_origin}, which names the CPUs to pin to: remove one of them"
    )]
    NoPinContradictsCpus {
        /// The switch or variable that forbids pinning.
        no_pin_origin: Origin,
        /// The flag or variable of the CPUs.
        cpus_origin: Origin,
    },
}
