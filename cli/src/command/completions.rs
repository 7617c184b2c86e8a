//! `muster completions`: scripts for shells.

use clap::Args;
use clap_complete::Shell;

use crate::{arguments::command, error::Error, exit::Exit};

const EXAMPLES: &str = "\
Examples:
  muster completions bash > ~/.local/share/bash-completion/completions/muster
  muster completions zsh > ~/.zfunc/_muster
  muster completions fish > ~/.config/fish/completions/muster.fish";

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Runs it.
pub(crate) fn execute(arguments: &Arguments) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "muster", &mut script);
    super::write(&script)?;
    Ok(Exit::Success)
}
