//! The TestWorkflow language: schema, templates, expressions and the plan compiler. Pure: no
//! I/O, no clock, nothing of ours below it.
//!
//! The way of a manifest: [`manifest::parse`] reads YAML ([`yaml`]) by a strict schema
//! ([`schema`]) into documents; [`compile::compile`] merges templates, resolves expressions
//! ([`expression`]) as far as possible and writes a [`plan::Plan`].

pub mod compile;
pub mod duration;
pub mod expression;
pub mod json_schema;
pub mod manifest;
pub mod pattern;
pub mod plan;
pub mod problem;
pub mod rerun;
pub mod schema;
pub mod strategy;
pub mod suggest;
pub mod yaml;
