//! The program's own log, on standard error: quiet for commands of users, informative for daemons.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::arguments::{Form, Global};

/// Who logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Somebody typed a command and wants its output.
    User,
    /// A daemon; its log is read later.
    Operator,
}

/// Installs the log. `MUSTER_LOG` (as `muster_server=debug,warn`) wins over `--verbose`.
pub(crate) fn install(global: &Global, audience: Audience) {
    let level = match (audience, global.verbose) {
        (Audience::User, 0) => LevelFilter::ERROR,
        (Audience::User, 1) | (Audience::Operator, 0) => LevelFilter::INFO,
        (Audience::User, 2) | (Audience::Operator, 1) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // Server and agent may be parts of this process; their warnings are not for its user.
    let words = std::env::var("MUSTER_LOG").unwrap_or_else(|_unset| match level {
        LevelFilter::ERROR => "muster::command=warn".to_owned(),
        _ => String::new(),
    });
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .parse_lossy(words);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(global.stderr().color)
        .with_writer(std::io::stderr);
    // Fails only when a log is installed already.
    match global.log_format {
        Form::Text => drop(builder.try_init()),
        Form::Json => drop(builder.json().try_init()),
    }
}
