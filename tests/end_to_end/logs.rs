//! What is logged, in what form, and what becomes of it if nobody reads.

mod form;
mod level;
mod unread;
