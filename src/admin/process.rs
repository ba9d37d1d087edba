//! What the kernel knows of this process (proc(5)).

use std::fs;
use std::io;

/// How many files are open, this look at them not counted.
pub(super) fn open_files() -> io::Result<u64> {
    let entries = fs::read_dir("/proc/self/fd")?.count() as u64;
    Ok(entries.saturating_sub(1))
}

/// Memory in use, in bytes.
///
/// # Errors
///
/// If `/proc` is not there, or does not say.
pub(super) fn resident_bytes() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    kibibytes
        .and_then(|number| number.trim().parse::<u64>().ok())
        .map(|kibibytes| kibibytes << 10)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_in_use() {
        // The test runner prints somewhere, and is somewhere.
        let before = open_files().expect("files");
        assert!((2..100_000).contains(&before), "{before}");
        let resident = resident_bytes().expect("memory");
        assert!((1 << 18..1 << 34).contains(&resident), "{resident}");
    }
}
