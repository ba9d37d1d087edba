//! Several datagrams in one piece: what udp(7) calls generic receive and segmentation offload.
//!
//! A piece is the payloads of datagrams that have the same addresses, one behind the other. All are of one length but the
//! last, which may be shorter. Told that length, the kernel makes the piece of datagrams that came, or datagrams of the
//! piece, and goes through its own layers once for all of them.

use super::control::{Control, Message};

/// Datagrams of one piece at most (`UDP_MAX_SEGMENTS` of linux/udp.h; 128 since Linux 6.8).
pub(super) const SEGMENTS_MAX: usize = 64;

/// Bytes of one piece at most. With the headers of Ethernet (which loopback has, too), IPv6 and UDP it must stay below
/// 65,536 (`gso_max_size` of most devices): a longer one is taken apart on the way in, and what was to be saved is not.
pub(super) const PIECE_MAX: usize = 65_535 - 14 - 40 - 8;

/// Where a datagram, or a part of it, lies in an [`Inbox`](super::Inbox).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(super) place: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// The datagrams of one place of an [`Inbox`](super::Inbox), in order.
#[derive(Clone, Debug)]
pub(crate) struct Datagrams {
    /// What has not been told yet.
    rest: Option<Span>,
    segment_len: u32,
}

// === impl Span ===

impl Span {
    /// The system call's datagram that brought this one.
    pub(crate) fn place(self) -> usize {
        self.place as usize
    }

    /// Its length in bytes.
    pub(crate) fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// The first `count` bytes; all if there are fewer.
    pub(crate) fn first(self, count: usize) -> Self {
        Self {
            end: self.behind(count).start,
            ..self
        }
    }

    /// What is behind the first `count` bytes; nothing if there are fewer.
    pub(crate) fn behind(self, count: usize) -> Self {
        let count = count.min(self.len()) as u32;
        Self {
            start: self.start + count,
            ..self
        }
    }
}

// === impl Datagrams ===

impl Datagrams {
    pub(super) fn new(whole: Span, segment_len: Option<usize>) -> Self {
        Self {
            rest: Some(whole),
            // Empty datagrams come alone.
            segment_len: segment_len.map_or(u32::MAX, |len| len.max(1) as u32),
        }
    }

    pub(super) fn none() -> Self {
        Self {
            rest: None,
            segment_len: u32::MAX,
        }
    }
}

impl Iterator for Datagrams {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let rest = self.rest?;
        let end = rest.start.saturating_add(self.segment_len);
        if end >= rest.end {
            self.rest = None;
            return Some(rest);
        }
        self.rest = Some(Span { start: end, ..rest });
        Some(Span { end, ..rest })
    }
}

/// The length of a piece's datagrams, if this message tells it.
pub(super) fn segment_len(message: Message<'_>) -> Option<usize> {
    if (message.level, message.kind) != (libc::SOL_UDP, libc::UDP_GRO) {
        return None;
    }
    usize::try_from(message.value::<libc::c_int>()?).ok()
}

/// Writes the length of a piece's datagrams for the kernel behind the first `len` bytes of `control`, and returns the
/// length of it all.
pub(super) fn push_segment_len(control: &mut Control, len: usize, segment_len: u16) -> usize {
    control.push(len, libc::SOL_UDP, libc::UDP_SEGMENT, segment_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(len: u32, segment_len: Option<usize>) -> Vec<usize> {
        let whole = Span {
            place: 3,
            start: 0,
            end: len,
        };
        let datagrams: Vec<Span> = Datagrams::new(whole, segment_len).collect();
        // One behind the other, from the first byte to the last.
        assert_eq!(datagrams.first().map(|first| first.start), Some(0));
        assert_eq!(datagrams.last().map(|last| last.end), Some(len));
        assert!(datagrams.windows(2).all(|two| two[0].end == two[1].start));
        assert!(datagrams.iter().all(|datagram| datagram.place() == 3));
        datagrams.into_iter().map(Span::len).collect()
    }

    #[test]
    fn pieces_come_apart_where_they_were_joined() {
        assert_eq!(lens(3_600, Some(1_200)), [1_200; 3]);
        assert_eq!(lens(3_601, Some(1_200)), [1_200, 1_200, 1_200, 1]);
        assert_eq!(lens(1_200, Some(1_200)), [1_200]);
        assert_eq!(lens(7, Some(1_200)), [7]);
        assert_eq!(lens(3, Some(1)), [1; 3]);
    }

    #[test]
    fn what_came_alone_stays_whole() {
        assert_eq!(lens(65_507, None), [65_507]);
        assert_eq!(lens(0, None), [0]);
        assert_eq!(lens(0, Some(0)), [0]);
        assert_eq!(lens(2, Some(0)), [1, 1], "a length that cannot be");
    }

    #[test]
    fn behind_more_than_there_is_there_is_nothing() {
        let span = Span {
            place: 0,
            start: 100,
            end: 110,
        };
        assert_eq!(span.behind(4).len(), 6);
        assert_eq!(span.behind(10).len(), 0);
        assert_eq!(span.behind(11).len(), 0);
    }
}
