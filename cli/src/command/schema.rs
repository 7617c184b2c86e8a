//! `muster schema`: the JSON Schema of manifests, for editors.

use clap::Args;
use muster_spec::json_schema;

use crate::{error::Error, exit::Exit};

const EXAMPLES: &str = "\
Examples:
  muster schema > muster.schema.json
  muster schema --kind TestWorkflow

Editors with the YAML language server use it by a line at the top of a manifest:
  # yaml-language-server: $schema=./muster.schema.json";

/// Print the JSON Schema of manifests, for editors
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Only documents of this kind
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(json_schema::kinds()))]
    kind: Option<String>,
}

/// Runs it.
pub(crate) fn execute(arguments: &Arguments) -> Result<Exit, Error> {
    let schema = json_schema::schema(arguments.kind.as_deref());
    super::print(&format!("{schema:#}\n"))?;
    Ok(Exit::Success)
}
