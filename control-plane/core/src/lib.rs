//! Ids, states, the execution state machine, policies, the order of work, what is kept, quarantine and the clock. Pure: no I/O, nothing of ours below.

pub mod clock;
pub mod execution;
pub mod id;
pub mod name;
pub mod policy;
pub mod quarantine;
pub mod retention;
pub mod schedule;
pub mod target;
pub mod test_duration;
pub mod test_history;
pub mod timer;
