//! Reads what the server says in a refusal: its message, and the fields that it names in
//! `google.rpc.BadRequest`.

use prost::Message as _;
use tonic::{Code, Status};

use super::Error;
use crate::terminal::escape;

/// Type of the detail that names fields.
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

/// One field that is wrong.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Violation {
    /// Path of the field.
    #[prost(string, tag = "1")]
    pub(crate) field: String,
    /// What is wrong, and the cure.
    #[prost(string, tag = "2")]
    pub(crate) description: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<Violation>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// Turns a refusal into an error for people.
pub(crate) fn refusal(status: &Status) -> Error {
    let violations = violations(status.details());
    // The message repeats what the fields say.
    let message = match violations.as_slice() {
        [] => escape::visible_lines(status.message()),
        [one] if one.field.is_empty() => one.description.clone(),
        [one] => format!("{}: {}", one.field, one.description),
        _ => "the server refuses the request".to_owned(),
    };
    let message = match status.code() {
        Code::PermissionDenied => format!("the token does not allow this: {message}"),
        Code::Unimplemented => {
            format!(
                "the server does not know this call; it may be older than this program ({message})"
            )
        }
        Code::Unknown | Code::Internal | Code::DataLoss if message.is_empty() => {
            format!("the server failed ({:?})", status.code())
        }
        _ if message.is_empty() => format!("the server refuses ({:?})", status.code()),
        _ => message,
    };
    Error::Refused {
        message,
        usage: matches!(status.code(), Code::InvalidArgument | Code::OutOfRange),
        missing: status.code() == Code::NotFound,
        violations,
    }
}

/// The fields that a refusal names; none when it names none or can not be read.
fn violations(details: &[u8]) -> Vec<Violation> {
    let Ok(status) = RpcStatus::decode(details) else {
        return Vec::new();
    };
    let found = status
        .details
        .iter()
        .filter(|detail| detail.type_url == BAD_REQUEST)
        .filter_map(|detail| BadRequest::decode(detail.value.as_slice()).ok());
    found
        .flat_map(|bad| bad.field_violations)
        .map(|violation| Violation {
            field: escape::visible(&violation.field),
            description: escape::visible(&violation.description),
        })
        .collect()
}

/// One indented line for each field, unless the only one is in the message already.
pub(super) fn lines(violations: &[Violation]) -> String {
    if violations.len() == 1 {
        return String::new();
    }
    let lines = violations
        .iter()
        .map(|violation| format!("\n  {}: {}", violation.field, violation.description));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_refusal_are_listed() {
        let violation = |field: &str| Violation {
            field: field.into(),
            description: "has no value\u{7}".into(),
        };
        let bad = BadRequest {
            field_violations: vec![violation("config.url"), violation("config.x")],
        };
        let detail = prost_types::Any {
            type_url: BAD_REQUEST.into(),
            value: bad.encode_to_vec(),
        };
        let details = RpcStatus {
            details: vec![detail],
        };
        let status = Status::with_details(
            Code::InvalidArgument,
            "config.url: has no value",
            details.encode_to_vec().into(),
        );
        let error = refusal(&status);
        assert_eq!(
            error.to_string(),
            "the server refuses the request\n  config.url: has no value^G\n  config.x: has no value^G"
        );
        assert_eq!(error.exit(), crate::exit::Exit::Usage);
    }

    #[test]
    fn details_that_can_not_be_read_are_left_out() {
        assert!(violations(b"\xff\xff").is_empty());
    }
}
