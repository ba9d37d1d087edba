//! How the kernel's scheduler treats a thread.

use std::io;
use std::time::Duration;

/// Of those kernels that know it (linux/sched/types.h, SCHED_ATTR_SIZE_VER0): policy, flags, nice value, priority and three
/// times.
const SIZE: usize = size_of::<libc::sched_attr>();

const THIS_THREAD: libc::pid_t = 0;

/// Asks that this thread run for no longer than so at a time while others want its CPU, and in return the sooner: its share
/// of the CPU stays the same (sched(7), "EEVDF"; `sched_runtime` of ordinary threads, since Linux 6.12: older kernels take
/// no notice). Does nothing for a thread with another policy, or that asks for less already.
///
/// # Errors
///
/// As `sched_setattr(2)`: ENOSYS or EPERM under a seccomp profile.
pub(crate) fn ask_for_short_slices(slice: Duration) -> io::Result<()> {
    let mut attributes = attributes()?;
    let is_ordinary = [libc::SCHED_OTHER, libc::SCHED_BATCH]
        .iter()
        .any(|&policy| u32::try_from(policy) == Ok(attributes.sched_policy));
    let slice = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // Older kernels tell of none.
    let has_shorter = (1..=slice).contains(&attributes.sched_runtime);
    if !is_ordinary || has_shorter {
        return Ok(());
    }
    attributes.sched_runtime = slice;
    // SAFETY: the kernel reads as many bytes as the structure says of itself, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            THIS_THREAD,
            &raw const attributes,
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Those of this thread.
fn attributes() -> io::Result<libc::sched_attr> {
    // All zeros are values of its integers.
    let mut attributes = libc::sched_attr {
        size: SIZE as u32,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes at most the announced bytes, which are those of the structure; it outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            THIS_THREAD,
            &raw mut attributes,
            SIZE,
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(attributes)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::fs;
    use std::thread;

    /// What the kernel says of this thread, in nanoseconds: a file for people, of kernels with CONFIG_SCHED_DEBUG.
    fn slice() -> Option<u64> {
        let text = fs::read_to_string("/proc/thread-self/sched").ok()?;
        let line = text.lines().find(|line| line.starts_with("se.slice "))?;
        line.split(':').nth(1)?.trim().parse().ok()
    }

    #[test]
    fn slices_become_short_and_nothing_else_changes() {
        let told = thread::spawn(|| {
            let before = attributes().expect("asked");
            ask_for_short_slices(Duration::from_micros(300)).expect("an ordinary thread");
            // It has less already.
            ask_for_short_slices(Duration::from_micros(400)).expect("an ordinary thread");
            let after = attributes().expect("asked");
            assert_eq!(
                (after.sched_policy, after.sched_nice),
                (before.sched_policy, before.sched_nice)
            );
            (before.sched_runtime, after.sched_runtime, slice())
        })
        .join()
        .expect("no panic");
        // Kernels before 6.12 tell of no slices, and have none.
        if told.0 > 0 {
            assert_eq!((told.1, told.2.unwrap_or(300_000)), (300_000, 300_000));
        }
    }
}
