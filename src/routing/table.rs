//! Which routing table is ours.

use std::fmt;

/// The number of a routing table for us: any but `unspec` (0), `default` (253), `main` (254) and `local` (255), where a
/// local default route would cut the host off (`/usr/include/linux/rtnetlink.h`, `RT_TABLE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteTable(u32);

/// The table number is one of the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "routing table {0} belongs to the host; choose a table number other than 0 and 253 to 255, such as 123"
)]
pub struct ReservedTable(u32);

// === impl RouteTable ===

impl RouteTable {
    /// The one go-mmproxy's README uses.
    pub const DEFAULT: Self = Self(123);

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for RouteTable {
    type Error = ReservedTable;

    fn try_from(number: u32) -> Result<Self, ReservedTable> {
        match number {
            0 | 253..=255 => Err(ReservedTable(number)),
            _ => Ok(Self(number)),
        }
    }
}

impl fmt::Display for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_host_are_refused() {
        for number in [0, 253, 254, 255] {
            assert_eq!(RouteTable::try_from(number), Err(ReservedTable(number)));
        }
        for number in [1, 123, 252, 256, u32::MAX] {
            assert_eq!(
                RouteTable::try_from(number).map(RouteTable::number),
                Ok(number)
            );
        }
    }
}
