//! Who comes after whom.
//!
//! What one leaves behind, such as what the kernel still clears away of it, the next has to bear. So nobody comes after the
//! same one twice before all others have gone before it: the balanced Latin squares of E. J. Williams, "Experimental designs
//! balanced for the estimation of residual effects of treatments" (1949).

/// The order of so many in a round, from 0 each. Over as many rounds everybody comes after every other once; over twice as
/// many, twice, if their number is odd.
pub(super) fn order(count: usize, round: usize) -> Vec<usize> {
    // Each step is another one: +1, -2, +3 ...
    let zigzag = (0..count).map(|turn| {
        let half = turn.div_ceil(2);
        let place = if turn % 2 == 1 { half } else { count - half };
        (place + round) % count
    });
    if count % 2 == 1 && round % 2 == 1 {
        zigzag.rev().collect()
    } else {
        zigzag.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each came after each within so many rounds.
    fn successions(count: usize, rounds: usize) -> Vec<Vec<usize>> {
        let mut successions = vec![vec![0; count]; count];
        for round in 0..rounds {
            let order = order(count, round);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..count), "{order:?}");
            for pair in order.windows(2) {
                successions[pair[0]][pair[1]] += 1;
            }
        }
        successions
    }

    #[test]
    fn everybody_comes_after_every_other_equally_often() {
        for count in 1..9 {
            let (rounds, often) = if count % 2 == 0 {
                (count, 1)
            } else {
                (2 * count, 2)
            };
            for (before, successions) in successions(count, rounds).into_iter().enumerate() {
                for (after, times) in successions.into_iter().enumerate() {
                    let expected = if before == after { 0 } else { often };
                    assert_eq!(times, expected, "{after} after {before} of {count}");
                }
            }
        }
    }

    #[test]
    fn nobody_comes_after_the_same_one_twice_in_few_rounds() {
        for count in 2..9 {
            let most = successions(count, count).into_iter().flatten().max();
            assert!(most <= Some(if count % 2 == 0 { 1 } else { 2 }), "{count}");
        }
    }
}
