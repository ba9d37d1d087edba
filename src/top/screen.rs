//! What is shown.

mod clients;

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::net::SocketAddr;

use rustix::termios::tcgetwinsize;

use super::Look;
use super::ask::Status;

/// To the upper left, and at the end of a line and of the text: away with what was there before (ECMA-48, CUP, EL, ED).
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K\n";
const END_OF_SCREEN: &str = "\x1b[J";

/// What has changed between two answers, as lines.
pub(super) fn text(admin: SocketAddr, before: &Look, now: &Look) -> String {
    let mut text = String::new();
    let passed = now.at.saturating_duration_since(before.at);
    // A text takes whatever is written to it.
    let _ = write_text(
        &mut text,
        admin,
        &before.status,
        &now.status,
        passed.as_secs_f64(),
    );
    let _ = match (&before.clients, &now.clients) {
        (Some(before), Some(now)) => clients::write(&mut text, before, now),
        _ => Ok(()),
    };
    text
}

fn write_text(
    text: &mut String,
    admin: SocketAddr,
    before: &Status,
    now: &Status,
    passed: f64,
) -> fmt::Result {
    let uptime = now.number("uptime_seconds");
    writeln!(
        text,
        "glommproxy {} at {admin}: {}, up {}",
        now.text("version"),
        now.text("state"),
        Span(uptime)
    )?;
    writeln!(text, "{} on {}\n", now.text("protocol"), now.text("listen"))?;
    writeln!(
        text,
        "{:>5} {:>6} {:>9} {:>8} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "shard",
        "busy",
        "connected",
        "new/s",
        "flows",
        "new/s",
        "up B/s",
        "down B/s",
        "up dg/s",
        "down dg/s"
    )?;
    let mut total = [0.0; 9];
    for shard in 0..now.shards() {
        let rate = |name: &str| {
            per_second(
                before.of_shard(shard, name),
                now.of_shard(shard, name),
                passed,
            )
        };
        let row = [
            100.0 * rate("busy_seconds"),
            now.of_shard(shard, "connections_open"),
            rate("connections"),
            now.of_shard(shard, "flows_open"),
            rate("flows"),
            rate("bytes_upstream"),
            rate("bytes_downstream"),
            rate("datagrams_upstream"),
            rate("datagrams_downstream"),
        ];
        for (total, number) in total.iter_mut().zip(row) {
            *total += number;
        }
        write_row(text, &shard.to_string(), row)?;
    }
    write_row(text, "all", total)?;
    write_dropped(text, before, now, passed)
}

fn write_row(text: &mut String, name: &str, row: [f64; 9]) -> fmt::Result {
    let [
        busy,
        connections,
        new_connections,
        flows,
        new_flows,
        up,
        down,
        datagrams_up,
        datagrams_down,
    ] = row;
    writeln!(
        text,
        "{name:>5} {busy:>5.1}% {:>9} {:>8} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9}",
        Short(connections),
        Short(new_connections),
        Short(flows),
        Short(new_flows),
        Short(up),
        Short(down),
        Short(datagrams_up),
        Short(datagrams_down),
    )
}

fn write_dropped(text: &mut String, before: &Status, now: &Status, passed: f64) -> fmt::Result {
    let mut seen = before.dropped().into_iter();
    let mut is_first = true;
    for (protocol, reason, count) in now.dropped() {
        let earlier = seen.find(|row| (row.0, row.1) == (protocol, reason));
        if count == 0.0 {
            continue;
        }
        if std::mem::take(&mut is_first) {
            writeln!(text, "\n{:<24} {:>9} {:>9}", "dropped", "in all", "now/s")?;
        }
        let rate = per_second(earlier.map_or(count, |row| row.2), count, passed);
        writeln!(
            text,
            "{:<24} {:>9} {:>9}",
            format!("{protocol} {reason}"),
            Short(count),
            Short(rate)
        )?;
    }
    Ok(())
}

/// How fast a number grows. After a new start of the proxy it has shrunk, which is no rate.
fn per_second(before: f64, now: f64, passed: f64) -> f64 {
    ((now - before) / passed.max(0.001)).max(0.0)
}

/// Puts a text in the place of the one before, as far as the terminal has room.
pub(super) fn show(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let size = tcgetwinsize(&stdout)
        .ok()
        .filter(|size| size.ws_row > 0 && size.ws_col > 0);
    let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
    stdout.write_all(fitted(text, rows.into(), columns.into()).as_bytes())?;
    stdout.flush()
}

/// The last row stays empty: a line's end there would move the screen.
fn fitted(text: &str, rows: usize, columns: usize) -> String {
    let mut screen = HOME.to_owned();
    for line in text.lines().take(rows.saturating_sub(1)) {
        screen.extend(line.chars().filter(|it| !it.is_control()).take(columns));
        screen.push_str(END_OF_LINE);
    }
    screen.push_str(END_OF_SCREEN);
    screen
}

/// A number in at most six characters.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")];
        let large = units.iter().find(|(from, _)| self.0 >= *from);
        let text = match large {
            Some((1e4, _)) => format!("{:.1}k", self.0 / 1e3),
            Some((from, unit)) => format!("{:.1}{unit}", self.0 / from),
            None if self.0 < 10.0 && self.0.fract() > 0.0 => format!("{:.1}", self.0),
            None => format!("{:.0}", self.0),
        };
        f.pad(&text)
    }
}

/// Seconds for people.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours, minutes) = (self.0 / 86_400, self.0 / 3600 % 24, self.0 / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{} s", self.0),
            (0, 0, _) => write!(f, "{minutes} min {} s", self.0 % 60),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, wanted) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (9.0, "9"),
            (12.3, "12"),
            (9_999.0, "9999"),
            (12_345.0, "12.3k"),
            (999_999.0, "1000.0k"),
            (1_500_000.0, "1.5M"),
            (2.5e10, "25.0G"),
            (3e12, "3.0T"),
        ] {
            assert_eq!(Short(number).to_string(), wanted);
        }
    }

    #[test]
    fn spans_are_for_people() {
        for (seconds, wanted) in [
            (59, "59 s"),
            (61, "1 min 1 s"),
            (7260, "2 h 1 min"),
            (180_000, "2 d 2 h"),
        ] {
            assert_eq!(Span(seconds).to_string(), wanted);
        }
    }

    #[test]
    fn the_screen_is_never_overrun() {
        let screen = fitted("one\ntwo is long\x1b[31m\nthree\n", 3, 5);
        assert_eq!(screen, "\x1b[Hone\x1b[K\ntwo i\x1b[K\n\x1b[J");
    }

    #[test]
    fn a_restart_is_no_rate() {
        assert!(per_second(5.0, 0.0, 1.0) == 0.0);
        assert!(per_second(5.0, 15.0, 2.0) == 5.0);
    }
}
