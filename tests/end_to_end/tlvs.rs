//! What a header tells beside its addresses: the checksum that may be asked for, and what the log shows.

mod checksum;
mod shown;
