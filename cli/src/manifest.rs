//! Manifest files on this machine: reads them, and finds what is wrong with them before anything
//! is started. What they mean is `muster_spec`'s business.

mod finding;

use std::{io::Read as _, path::Path};

use muster_spec::{
    manifest::{Document, NotChosen, Parsed, choose, items_of_list, parse, parse_each},
    problem::{Problem, Problems},
    yaml::Limits,
};

use crate::error::{Error, status::Violation};

pub(crate) use finding::Finding;

/// Longest manifest, as the server has it.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// A file and its text.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// Its name for messages; `standard input` for `-`.
    pub(crate) file: String,
    /// Its text.
    pub(crate) text: String,
}

impl Manifest {
    /// Reads a file, or standard input for `-`; or says why it can not be read.
    pub(crate) fn read(path: &Path) -> Result<Self, Box<Finding>> {
        let is_stdin = path == Path::new("-");
        let file = match is_stdin {
            true => "standard input".to_owned(),
            false => path.display().to_string(),
        };
        let bytes = match is_stdin {
            true => read_limited(std::io::stdin()),
            false => std::fs::File::open(path).and_then(read_limited),
        };
        let wrong = |message: &str| Box::new(Finding::of_file(&file, message));
        let bytes = bytes.map_err(|error| wrong(&format!("can not be read: {error}")))?;
        if bytes.len() > MAX_BYTES {
            let message = format!("is larger than {MAX_BYTES} bytes, the most that is allowed");
            return Err(wrong(&message));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { file, text }),
            Err(error) => {
                let before = error
                    .as_bytes()
                    .iter()
                    .take(error.utf8_error().valid_up_to());
                let line = before.filter(|byte| **byte == b'\n').count() + 1;
                let mut finding = wrong("is not UTF-8 text");
                finding.line = line;
                Err(finding)
            }
        }
    }

    /// Reads its documents one by one, and says what is wrong with the others.
    pub(crate) fn parse_each(&self) -> Parsed {
        parse_each(&self.text, Limits::default())
    }

    /// Reads its documents.
    pub(crate) fn documents(&self) -> Result<Vec<Document>, Error> {
        parse(&self.text, Limits::default()).map_err(|problems| self.refused(problems))
    }

    /// What is run of it: the only workflow or request, or that of `name`. Tells what it passes
    /// over.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<Vec<String>, Error> {
        let documents = self.documents()?;
        let passed = self.passed_over(&documents);
        choose(documents, name).map_err(|error| {
            let cure = match error {
                NotChosen::Several { .. } => "; give one with --name",
                NotChosen::Nothing(_) | NotChosen::Unknown { .. } => "",
            };
            Error::Usage(format!("{}: {error}{cure}", self.file))
        })?;
        Ok(passed)
    }

    /// What is said of documents of kinds that are not supported yet.
    fn passed_over(&self, documents: &[Document]) -> Vec<String> {
        let foreign = documents.iter().filter_map(|document| match document {
            Document::Foreign(foreign) => Some(self.finding(&foreign.problem).to_string()),
            Document::Workflow(_) | Document::Template(_) | Document::Request(_) => None,
        });
        foreign.collect()
    }

    /// What is said of documents that are not stored.
    pub(crate) fn not_stored(&self) -> Result<Vec<String>, Error> {
        let documents = self.documents()?;
        let mut lines = self.passed_over(&documents);
        for document in &documents {
            if let Document::Request(request) = document {
                let mut problem = Problem::new(
                    &request.place(),
                    format!(
                        "{} '{}' asks for a run and is not stored",
                        document.kind(),
                        document.name()
                    ),
                );
                problem.cure = Some(format!("`muster run {}` runs it", self.file));
                lines.push(self.finding(&problem).to_string());
            }
        }
        Ok(lines)
    }

    /// The text of each document of `kind`, with its name.
    pub(crate) fn texts(&self, kind: &str) -> Result<Vec<(String, String)>, Error> {
        // The whole file first: its problems have the right lines.
        self.documents()?;
        let mut texts = Vec::new();
        let mut parts = Vec::new();
        for text in split(&self.text) {
            let items = items_of_list(&text, Limits::default());
            match items.map_err(|problems| self.refused(problems))? {
                Some(items) => parts.extend(items),
                None => parts.push(text),
            }
        }
        for text in parts {
            let documents =
                parse(&text, Limits::default()).map_err(|problems| self.refused(problems))?;
            for document in documents.iter().filter(|document| document.kind() == kind) {
                texts.push((document.name().to_owned(), text.clone()));
            }
        }
        Ok(texts)
    }

    /// The error for what `muster_spec` found.
    fn refused(&self, problems: Problems) -> Error {
        Error::Manifest {
            subject: self.file.clone(),
            problems: problems
                .into_iter()
                .map(|problem| self.finding(&problem))
                .collect(),
        }
    }

    /// The error for what the server found: places in the file where it names them.
    pub(crate) fn place(&self, error: Error) -> Error {
        place_in(&self.file, error)
    }

    /// A finding in this file.
    pub(crate) fn finding(&self, problem: &Problem) -> Finding {
        Finding::new(&self.file, problem)
    }
}

/// The error for what the server found in a manifest: places where it names them. `subject` is a
/// file, or `workflow/NAME` for a stored one.
pub(crate) fn place_in(subject: &str, error: Error) -> Error {
    match error {
        Error::Refused {
            usage: true,
            violations,
            ..
        } if !violations.is_empty() => Error::Manifest {
            subject: subject.to_owned(),
            problems: violations
                .iter()
                .map(|violation| of_violation(subject, violation))
                .collect(),
        },
        other => other,
    }
}

/// What the server says of one field, which is text by then.
fn of_violation(subject: &str, violation: &Violation) -> Finding {
    let Violation { field, description } = violation;
    let (line, column, rest) = place_of(description).unwrap_or((0, 0, description));
    let (document, path, message) = match rest.split_once(&format!("{field}: ")) {
        Some((before, message)) if !field.is_empty() => {
            (before.trim_end_matches([',', ' ']), field.as_str(), message)
        }
        // Some descriptions begin with a path that is not the field.
        _ if line > 0 || description.contains(field.as_str()) => ("", "", rest),
        _ => ("", field.as_str(), rest),
    };
    Finding {
        line,
        column,
        document: document.to_owned(),
        path: path.to_owned(),
        ..Finding::of_file(subject, message)
    }
}

/// Splits off the place of `line 3, column 5, rest`, as `muster_spec` writes it.
fn place_of(text: &str) -> Option<(usize, usize, &str)> {
    let (line, rest) = text.strip_prefix("line ")?.split_once(", column ")?;
    let end = rest.find(|character: char| !character.is_ascii_digit())?;
    let (column, rest) = rest.split_at_checked(end)?;
    let rest = rest.trim_start_matches([',', ':', ' ']);
    Some((line.parse().ok()?, column.parse().ok()?, rest))
}

/// Nothing was started, so it counts as a wrong command line, not as a failed test.
impl From<Box<Finding>> for Error {
    fn from(finding: Box<Finding>) -> Self {
        Self::Manifest {
            subject: finding.file.clone(),
            problems: vec![*finding],
        }
    }
}

/// The documents of a file as texts: a line that begins with `---` is a border wherever it
/// stands, by the rules of YAML even within a block of text.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let mark = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if mark.is_some() {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
        }
    }
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    documents.retain(|document| !document.lines().all(blank));
    documents
}

fn read_limited(reader: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_at_their_marks_only() {
        let parts = split("# head\n---\na: 1\n--- # next\nb: |\n  ---\n---\n# nothing\n");
        assert_eq!(parts, ["a: 1\n", "b: |\n  ---\n"]);
    }

    #[test]
    fn the_place_of_a_problem_is_found_in_its_text() {
        assert_eq!(
            place_of("line 3, column 5, spec.x: unknown"),
            Some((3, 5, "spec.x: unknown"))
        );
        assert_eq!(place_of("line 3 is bad"), None);
    }
}
