//! The TestWorkflow language: schema, templates, expressions and the plan compiler. Pure: no
//! I/O, no clock, nothing of ours below it.

pub mod plan;
