//! Ids, states, the execution state machine and the clock. Pure: no I/O, nothing of ours below.

pub mod clock;
pub mod execution;
pub mod id;
pub mod name;
