//! UDP on one shard.

pub mod flow;
pub(crate) mod steer;
