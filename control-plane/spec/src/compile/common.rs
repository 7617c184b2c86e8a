//! What a workflow compiles to that asks for nothing of its execution: the same for all of them, but
//! for what the plan's context says they are called. Compiled and written once, and put together for
//! each.

use serde_json::Value;

use super::{Compiled, ExecutionInfo, scope};
use crate::plan::Plan;

/// A compiled workflow that other executions with the same input may have.
#[derive(Debug)]
pub struct Common {
    compiled: Compiled,
    /// The plan as JSON, cut where something is an execution's own.
    pieces: Vec<Piece>,
}

/// A part of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// The same for all.
    Text(String),
    Own(Own),
}

/// What is an execution's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Id,
    Name,
    Number,
    ScheduledAt,
}

impl Own {
    const ALL: [Self; 4] = [Self::Id, Self::Name, Self::Number, Self::ScheduledAt];

    /// What stands for it between two marks.
    const fn word(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Name => "name",
            Self::Number => "number",
            Self::ScheduledAt => "scheduledAt",
        }
    }

    fn marked(self, mark: &str) -> String {
        format!("{mark}{}{mark}", self.word())
    }
}

impl Common {
    /// Takes what was compiled for one execution; gives it back when the workflow has asked for what
    /// is the execution's own.
    ///
    /// # Errors
    ///
    /// What it was given.
    pub fn new(compiled: Compiled) -> Result<Self, Box<Compiled>> {
        // What can not be written now can not be written later either, and is told then.
        match compiled.common.then(|| pieces(&compiled.plan)) {
            Some(Ok(pieces)) => Ok(Self { compiled, pieces }),
            Some(Err(_)) | None => Err(Box::new(compiled)),
        }
    }

    /// What it was compiled to. The plan's context has the values of the first execution.
    #[must_use]
    pub const fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// The plan of an execution, as JSON: what compiling the workflow for it gives, written. Of
    /// `execution` its variables and tags must be those of the first one.
    ///
    /// # Errors
    ///
    /// When it can not be written.
    pub fn plan(&self, execution: &ExecutionInfo) -> Result<Vec<u8>, serde_json::Error> {
        let mut plan = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => plan.extend_from_slice(text.as_bytes()),
                Piece::Own(own) => match own {
                    Own::Id => serde_json::to_writer(&mut plan, &execution.id)?,
                    Own::Name => serde_json::to_writer(&mut plan, &execution.name)?,
                    Own::Number => serde_json::to_writer(&mut plan, &execution.number)?,
                    Own::ScheduledAt => serde_json::to_writer(&mut plan, &execution.scheduled_at)?,
                },
            }
        }
        Ok(plan)
    }
}

/// Writes a plan with marks in the places of what is an execution's own, and cuts it there.
fn pieces(plan: &Plan) -> Result<Vec<Piece>, serde_json::Error> {
    let mark = mark(&serde_json::to_string(plan)?);
    let mut plan = plan.clone();
    let marks = ExecutionInfo {
        id: Own::Id.marked(&mark),
        name: Own::Name.marked(&mark),
        scheduled_at: Own::ScheduledAt.marked(&mark),
        ..ExecutionInfo::default()
    };
    scope::set_execution(&mut plan.context, &marks);
    if let Some(execution) = plan.context.get_mut("execution") {
        execution["number"] = Value::String(Own::Number.marked(&mark));
    }
    let text = serde_json::to_string(&plan)?;
    let mut pieces = Vec::new();
    // Every second part stands between two marks, within quotation marks of its own.
    for (index, part) in text.split(&mark).enumerate() {
        let own = Own::ALL.into_iter().find(|own| own.word() == part);
        pieces.push(match own.filter(|_| index % 2 == 1) {
            Some(own) => Piece::Own(own),
            None => {
                let part = part.strip_prefix('"').filter(|_| index > 0).unwrap_or(part);
                Piece::Text(part.strip_suffix('"').unwrap_or(part).to_owned())
            }
        });
    }
    Ok(pieces)
}

/// Something that JSON writes as it is, and that the text does not have.
fn mark(text: &str) -> String {
    let mut mark = "\u{e000}".to_owned();
    while text.contains(&mark) {
        mark.push('\u{e001}');
    }
    mark
}
