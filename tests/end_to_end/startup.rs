//! What it takes to start, what stands in the way, and how it ends.

mod binding;
mod environment;
mod host;
mod idle;
mod limits;
mod placement;
mod privileges;
mod signals;
