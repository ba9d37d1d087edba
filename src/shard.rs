//! One shard: a glommio executor with listeners, flows and connections of its own.

pub(crate) mod deadline;
pub(crate) mod lists;
pub(crate) mod readiness;
