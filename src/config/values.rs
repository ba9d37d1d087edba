//! Numbers, words and lists, each with its limits.

#[cfg(test)]
mod tests;

use super::{LogFormat, Problem, Protocols, SourcePort, UdpHeader, Verbosity};
use crate::access_log::Destination;
use crate::args::go_syntax::{self, NotAnInteger};
use crate::cpus::{CPU_MAX, SHARDS_MAX};
use crate::routing::RouteTable;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The longest `--close-after`, in seconds: 68 years, for those who write a large number to mean never.
const CLOSE_AFTER_SECS_MAX: i64 = i32::MAX as i64;

/// The longest time limit of a connection's start: a day.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// The shortest: below a millisecond nobody would get in.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The longest time that a connection may be idle: as `--close-after`.
const IDLE_MAX: Duration = Duration::from_secs(CLOSE_AFTER_SECS_MAX.unsigned_abs());

/// The shortest: below a tenth of a second, connections that are in use would end.
const IDLE_MIN: Duration = Duration::from_millis(100);

/// The highest limit of connections, or of new ones in a second: there is no difference to none.
const LIMIT_MAX: i64 = 1 << 24;

/// The most UDP flows: each is an open file, and far fewer than these are all a Linux process may have.
const FLOWS_MAX: i64 = 1 << 24;

/// `--protocol`
pub(super) fn protocols(text: &str) -> Result<Protocols, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocols::Tcp),
        "udp" => Ok(Protocols::Udp),
        "both" => Ok(Protocols::Both),
        _ => Err(Problem::new("is no protocol", "tcp, udp or both")),
    }
}

/// The name of a file.
pub(super) fn path(text: &str) -> Result<PathBuf, Problem> {
    if text.is_empty() {
        return Err(Problem::new("is empty", "the name of a file"));
    }
    Ok(PathBuf::from(text))
}

/// `--access-log`
pub(super) fn access_log(text: &str) -> Result<Destination, Problem> {
    match text {
        "" => Err(Problem::new(
            "is empty",
            "the name of a file, or - for stdout",
        )),
        "-" => Ok(Destination::Stdout),
        path => Ok(Destination::File(PathBuf::from(path))),
    }
}

/// `--udp-header`
pub(super) fn udp_header(text: &str) -> Result<UdpHeader, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "v2" => Ok(UdpHeader::V2),
        "v2-first" => Ok(UdpHeader::V2First),
        "spp" => Ok(UdpHeader::Spp),
        _ => Err(Problem::new("is no header of UDP", "v2, v2-first or spp")),
    }
}

/// `--log-format`
pub(super) fn log_format(text: &str) -> Result<LogFormat, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Problem::new("is no log format", "text or json")),
    }
}

/// `--source-port`
pub(super) fn source_port(text: &str) -> Result<SourcePort, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "client" => Ok(SourcePort::Client),
        "any" => Ok(SourcePort::Any),
        "strict" => Ok(SourcePort::Strict),
        _ => Err(Problem::new(
            "is no way to choose a port",
            "client, any or strict",
        )),
    }
}

/// `--verbose`. go-mmproxy takes any number from 0 up and makes no difference above 2.
pub(super) fn verbosity(text: &str) -> Result<Verbosity, Problem> {
    match number(text, 0..=i64::MAX, "0, 1 or 2")? {
        0 => Ok(Verbosity::Quiet),
        1 => Ok(Verbosity::Errors),
        _ => Ok(Verbosity::All),
    }
}

/// `--close-after`
pub(super) fn close_after(text: &str) -> Result<Duration, Problem> {
    let range = 0..=CLOSE_AFTER_SECS_MAX;
    let wanted = format!("seconds from 0 to {CLOSE_AFTER_SECS_MAX}, such as 60");
    Ok(Duration::from_secs(
        number(text, range, &wanted)?.unsigned_abs(),
    ))
}

/// `--mark`
pub(super) fn mark(text: &str) -> Result<Option<NonZeroU32>, Problem> {
    Ok(NonZeroU32::new(number_u32(
        text,
        "a number from 0 to 4294967295, 0 for no mark",
    )?))
}

/// `--table`
pub(super) fn table(text: &str) -> Result<RouteTable, Problem> {
    let wanted = "a number from 1 to 4294967295 without 253 to 255, such as 123";
    let problem = |problem: &str| Problem::new(problem, wanted);
    // The names are those of rtnetlink(7). Our routes catch everything, so in a table that is always asked they would
    // cut the host off.
    let table = number_u32(text, wanted)?;
    RouteTable::try_from(table).map_err(|_| match table {
        0 => problem("means no table in particular"),
        253 => problem("is the kernel's default table"),
        254 => problem("is the kernel's main table, which holds the host's own routes"),
        _ => problem("is the kernel's local table, which holds the host's own addresses"),
    })
}

/// `--listeners`
pub(super) fn listeners(text: &str) -> Result<NonZeroUsize, Problem> {
    let wanted = format!("a number from 1 to {SHARDS_MAX}");
    let shards = usize::try_from(number(text, 1..=SHARDS_MAX as i64, &wanted)?).ok();
    shards
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| Problem::new("is out of range", wanted))
}

/// `--max-flows`
pub(super) fn max_flows(text: &str) -> Result<usize, Problem> {
    let wanted = format!("a number from 1 to {FLOWS_MAX}");
    let flows = number(text, 1..=FLOWS_MAX, &wanted)?;
    usize::try_from(flows).map_err(|_| Problem::new("is out of range", wanted))
}

/// `--max-connections` and other limits that 0 switches off.
pub(super) fn limit(text: &str) -> Result<Option<NonZeroU32>, Problem> {
    let wanted = format!("a number from 0 to {LIMIT_MAX}, 0 for no limit");
    let limit = number(text, 0..=LIMIT_MAX, &wanted)?;
    let limit = u32::try_from(limit).map_err(|_| Problem::new("is out of range", wanted))?;
    Ok(NonZeroU32::new(limit))
}

/// `--denied-clients`. No name is no file: what would quietly turn nobody away is a slip.
pub(super) fn file(text: &str) -> Result<PathBuf, Problem> {
    if text.is_empty() {
        return Err(Problem::new("names no file", "the path of one"));
    }
    Ok(PathBuf::from(text))
}

/// `--header-timeout` and `--connect-timeout`.
pub(super) fn timeout(text: &str) -> Result<Duration, Problem> {
    let wanted = "seconds from 0.001 to 86400, such as 5 or 0.5";
    seconds(text, wanted)?
        .filter(|duration| (TIMEOUT_MIN..=TIMEOUT_MAX).contains(duration))
        .ok_or_else(|| Problem::new("is out of range", wanted))
}

/// `--idle-timeout`
pub(super) fn idle_timeout(text: &str) -> Result<Option<Duration>, Problem> {
    let wanted = format!("seconds from 0.1 to {CLOSE_AFTER_SECS_MAX}, such as 600, or 0 for never");
    match seconds(text, &wanted)? {
        Some(Duration::ZERO) => Ok(None),
        Some(duration) if (IDLE_MIN..=IDLE_MAX).contains(&duration) => Ok(Some(duration)),
        _ => Err(Problem::new("is out of range", wanted)),
    }
}

/// `--drain-timeout`
pub(super) fn drain_timeout(text: &str) -> Result<Duration, Problem> {
    let wanted = "seconds from 0 to 86400, such as 25 or 0.5; 0 ends everything at once";
    seconds(text, wanted)?
        .filter(|duration| *duration <= TIMEOUT_MAX)
        .ok_or_else(|| Problem::new("is out of range", wanted))
}

/// Seconds, whole (as any number here) or with a decimal point. None if they are out of every range.
fn seconds(text: &str, wanted: &str) -> Result<Option<Duration>, Problem> {
    match go_syntax::integer(text) {
        Ok(seconds) => Ok(u64::try_from(seconds).ok().map(Duration::from_secs)),
        Err(NotAnInteger::Range) => Ok(None),
        Err(NotAnInteger::Syntax) => decimal_seconds(text)
            .map(Some)
            .ok_or_else(|| Problem::new("is no number of seconds", wanted)),
    }
}

/// `--cpus`: numbers and ranges between commas, as taskset(1) and cpuset(7) write them.
pub(super) fn cpus(text: &str) -> Result<Vec<usize>, Problem> {
    let problem = |problem: String| Problem::new(problem, "CPU numbers and ranges, such as 0,2-3");
    let mut cpus = Vec::new();
    for item in text.split(',') {
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        let (Some(low), Some(high)) = (cpu(low), cpu(high)) else {
            return Err(problem("is no list of CPUs".to_owned()));
        };
        if low > high {
            return Err(problem(format!(
                "has the range {low}-{high}, which is the wrong way round"
            )));
        }
        if high > CPU_MAX {
            return Err(problem(format!(
                "names CPU {high}, and the highest there can be is {CPU_MAX}"
            )));
        }
        for cpu in low..=high {
            if cpus.contains(&cpu) {
                return Err(problem(format!("names CPU {cpu} twice")));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

fn cpu(text: &str) -> Option<usize> {
    let text = text.trim();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Reads `5.25` exactly, to the nanosecond; no exponents, no signs, no infinities.
fn decimal_seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return None;
    }
    // Too many digits to fit are no less a number: the caller finds the result out of range.
    let seconds = if whole.is_empty() {
        0
    } else {
        whole.parse().unwrap_or(u64::MAX)
    };
    let nanos = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |nanos: u32, digit| nanos * 10 + u32::from(digit - b'0'));
    Some(Duration::new(seconds, nanos))
}

fn number_u32(text: &str, wanted: &str) -> Result<u32, Problem> {
    let value = number(text, 0..=i64::from(u32::MAX), wanted)?;
    u32::try_from(value).map_err(|_| Problem::new("is out of range", wanted))
}

fn number(text: &str, range: RangeInclusive<i64>, wanted: &str) -> Result<i64, Problem> {
    match go_syntax::integer(text) {
        Ok(value) if range.contains(&value) => Ok(value),
        Ok(_) | Err(NotAnInteger::Range) => Err(Problem::new("is out of range", wanted)),
        Err(NotAnInteger::Syntax) => Err(Problem::new("is no whole number", wanted)),
    }
}
