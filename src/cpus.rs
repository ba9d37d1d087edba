//! The CPUs this process may use, and which of them each shard runs on.

use rustix::thread::{CpuSet, sched_getaffinity};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::num::NonZeroUsize;

/// The most shards a process may have. Each costs a thread, rings and sockets, and no machine gains from more.
pub const SHARDS_MAX: usize = 1024;

/// The highest CPU number there can be: the kernel's interface as glibc has it counts 1024 (`CPU_SETSIZE`).
pub const CPU_MAX: usize = CpuSet::MAX_CPU - 1;

/// How many shards run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shards {
    /// So many, at most [`SHARDS_MAX`].
    Count {
        /// How many.
        shards: NonZeroUsize,
        /// Whether each is pinned to one CPU, instead of wandering as the kernel likes.
        pinned: bool,
    },
    /// One on each of these CPUs, in this order. Never empty, no CPU twice.
    On(Vec<usize>),
}

/// Why the shards cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A named CPU is not among those the process may use.
    #[error("--cpus names CPU {cpu}, which this process may not use: it may use {}", CpuList(.allowed))]
    NotAllowed {
        /// The named CPU.
        cpu: usize,
        /// Those the process may use.
        allowed: Vec<usize>,
    },
    /// The process may use no CPU at all, so there is none to pin a shard to.
    #[error("this process may use no CPU: --no-pin leaves the choice to the kernel")]
    NoCpu,
}

/// The CPUs of this thread's affinity mask, in ascending order: what `taskset`, a cpuset or Kubernetes' static CPU
/// manager leave the process.
///
/// # Errors
///
/// Those of sched_getaffinity(2): EINVAL on a machine with more than 1024 CPUs, EPERM or ENOSYS under a seccomp
/// profile.
pub fn available() -> io::Result<Vec<usize>> {
    let mask = sched_getaffinity(None)?;
    Ok((0..=CPU_MAX).filter(|&cpu| mask.is_set(cpu)).collect())
}

/// One shard per CPU the process may use, at most [`SHARDS_MAX`]. The affinity mask and the quota of the cgroup (a
/// container's CPU limit) both count; where neither can be read, one.
pub fn default_shards() -> NonZeroUsize {
    let most = NonZeroUsize::new(SHARDS_MAX).unwrap_or(NonZeroUsize::MIN);
    std::thread::available_parallelism()
        .unwrap_or(NonZeroUsize::MIN)
        .min(most)
}

/// The CPU of each shard, or `None` where it is not pinned. More shards than CPUs wrap around: `--listeners 10` on a
/// small machine works as it does with go-mmproxy.
///
/// # Errors
///
/// See [`PlacementError`].
pub fn placement(
    shards: &Shards,
    available: &[usize],
) -> Result<Vec<Option<usize>>, PlacementError> {
    // A container with a quota of one CPU sees every CPU of the host in its mask. If each sidecar there took the first
    // CPU of its mask, they would all share CPU 0 and leave the rest idle, so each starts somewhere else. The keys that
    // std draws from the system for its hash tables are random enough for that.
    let random = RandomState::new().hash_one(0);
    placement_from(
        shards,
        available,
        usize::try_from(random >> 33).unwrap_or(0),
    )
}

/// [`placement`] with the start in the mask passed in.
fn placement_from(
    shards: &Shards,
    available: &[usize],
    start: usize,
) -> Result<Vec<Option<usize>>, PlacementError> {
    match shards {
        Shards::Count {
            shards,
            pinned: false,
        } => Ok(vec![None; shards.get()]),
        Shards::Count {
            shards,
            pinned: true,
        } => pinned(shards.get(), available, start),
        Shards::On(cpus) => match cpus.iter().find(|cpu| !available.contains(cpu)) {
            Some(&cpu) => Err(PlacementError::NotAllowed {
                cpu,
                allowed: available.to_vec(),
            }),
            None => Ok(cpus.iter().copied().map(Some).collect()),
        },
    }
}

fn pinned(
    shards: usize,
    available: &[usize],
    start: usize,
) -> Result<Vec<Option<usize>>, PlacementError> {
    if available.is_empty() {
        return Err(PlacementError::NoCpu);
    }
    // When every CPU gets as many shards as every other, the start changes nothing but the numbering.
    let start = if shards.is_multiple_of(available.len()) {
        0
    } else {
        start % available.len()
    };
    Ok(available
        .iter()
        .cycle()
        .skip(start)
        .take(shards)
        .copied()
        .map(Some)
        .collect())
}

/// CPUs as ranges, `0,2-3`, in the form `--cpus` reads. Wants them in ascending order.
struct CpuList<'a>(&'a [usize]);

// === impl PlacementError ===

impl PlacementError {
    /// The flags that are right here.
    pub(crate) fn flags(&self) -> String {
        match self {
            Self::NotAllowed { allowed, .. } => format!("--cpus {}", CpuList(allowed)),
            Self::NoCpu => "--no-pin".to_owned(),
        }
    }
}

// === impl Shards ===

impl Shards {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Count { shards, .. } => shards.get(),
            Self::On(cpus) => cpus.len(),
        }
    }

    /// The CPUs, of those available, on which the kernel may put a shard that is not at home. None where the CPUs
    /// were named: there the shards are to stay.
    pub fn roams<'a>(&self, available: &'a [usize]) -> &'a [usize] {
        match self {
            Self::Count { .. } => available,
            Self::On(_) => &[],
        }
    }
}

// === impl CpuList ===

impl fmt::Display for CpuList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, range) in self.0.chunk_by(|low, high| low + 1 == *high).enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match range {
                [low, .., high] => write!(f, "{low}-{high}")?,
                _ => write!(f, "{}", range[0])?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)] // A test that cannot go on has failed.
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn count(shards: usize, pinned: bool) -> Shards {
        Shards::Count {
            shards: NonZeroUsize::new(shards).expect("the test's count"),
            pinned,
        }
    }

    #[test]
    fn the_mask_names_at_least_the_cpus_that_std_counts() {
        let cpus = available().expect("sched_getaffinity");
        assert!(
            cpus.is_sorted() && cpus.len() >= default_shards().get(),
            "{cpus:?}"
        );
    }

    #[test]
    fn fewer_shards_than_cpus_take_neighbours_from_the_start_on() {
        let mask = [0, 1, 4, 5];
        let cases = [
            (0, vec![Some(0), Some(1)]),
            (1, vec![Some(1), Some(4)]),
            (3, vec![Some(5), Some(0)]),
            (6, vec![Some(4), Some(5)]),
        ];
        for (start, want) in cases {
            assert_eq!(
                placement_from(&count(2, true), &mask, start),
                Ok(want),
                "{start}"
            );
        }
    }

    #[test]
    fn one_shard_is_not_always_on_the_first_cpu() {
        let mask: Vec<usize> = (0..64).collect();
        // 32 draws from 64 CPUs are all the same with a probability of 64^-31.
        let seen: HashSet<_> = (0..32)
            .map(|_| placement(&count(1, true), &mask).expect("a CPU is there"))
            .collect();
        assert!(seen.len() > 1, "{seen:?}");
    }

    #[test]
    fn as_many_shards_as_cpus_take_them_in_order() {
        let placed = placement_from(&count(3, true), &[2, 3, 7], 2);
        assert_eq!(placed, Ok(vec![Some(2), Some(3), Some(7)]));
    }

    #[test]
    fn more_shards_than_cpus_wrap_around_evenly() {
        let placed = placement_from(&count(10, true), &[0, 1, 2], 1).expect("wraps around");
        let on = |cpu| placed.iter().filter(|placed| **placed == Some(cpu)).count();
        assert_eq!((placed.len(), on(0), on(1), on(2)), (10, 3, 4, 3));
    }

    #[test]
    fn unpinned_shards_have_no_cpu() {
        assert_eq!(placement(&count(2, false), &[]), Ok(vec![None, None]));
    }

    #[test]
    fn pinning_needs_a_cpu() {
        assert_eq!(placement(&count(2, true), &[]), Err(PlacementError::NoCpu));
    }

    #[test]
    fn named_cpus_are_taken_as_named() {
        let placed = placement(&Shards::On(vec![3, 0]), &[0, 1, 3]);
        assert_eq!(placed, Ok(vec![Some(3), Some(0)]));
    }

    #[test]
    fn a_named_cpu_outside_the_mask_is_an_error_that_says_which_are_allowed() {
        let error = placement(&Shards::On(vec![0, 9]), &[0, 2, 3, 4, 6, 7]).expect_err("no CPU 9");
        let message = "--cpus names CPU 9, which this process may not use: it may use 0,2-4,6-7";
        assert_eq!(error.to_string(), message);
        let error = placement(&Shards::On(vec![0]), &[]).expect_err("no CPU at all");
        assert!(error.to_string().ends_with("may use none"), "{error}");
    }
}
