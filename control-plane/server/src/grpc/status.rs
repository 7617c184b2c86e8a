//! From an error of a use case to a gRPC status: the only place where that is decided. Details
//! are `google.rpc` messages (AIP-193).

use muster_proto::v1::refusal::Reason;
use muster_storage::{Away, Unwritable};
use prost::Message;
use tonic::{Code, Status};

use crate::app::{Error, Violation};

/// Domain of the reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "muster.dev";
// A status travels in headers, of which many clients take 16 KiB: the message is there twice,
// once with up to three bytes for one.
/// Longest message, in bytes.
const MAX_MESSAGE: usize = 2 << 10;
/// Most bytes of all violations.
const MAX_DETAILS: usize = 3 << 10;
/// Longest field or description of one violation.
const MAX_FIELD: usize = 512;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.ErrorInfo`, without metadata.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, reason) = match &error {
            Error::Unauthenticated(_) => (Code::Unauthenticated, "UNAUTHENTICATED"),
            Error::PermissionDenied(_) => (Code::PermissionDenied, "PERMISSION_DENIED"),
            Error::NotFound(_) => (Code::NotFound, "NOT_FOUND"),
            Error::Deleted(_) => (Code::NotFound, "DELETED"),
            Error::AlreadyExists(_) => (Code::AlreadyExists, "ALREADY_EXISTS"),
            Error::Conflict(_) => (Code::Aborted, "CONFLICT"),
            Error::Invalid(_) => (Code::InvalidArgument, "INVALID"),
            Error::FailedPrecondition(_) => (Code::FailedPrecondition, "FAILED_PRECONDITION"),
            Error::LeaseLost { .. } => (Code::Aborted, Reason::LeaseLost.as_str_name()),
            Error::LimitReached(_) => (Code::ResourceExhausted, "LIMIT_REACHED"),
            Error::DataLoss(text) => {
                tracing::error!(error = text, "the object store has lost or changed a blob");
                (Code::DataLoss, "DATA_LOSS")
            }
            Error::Unavailable(source) => {
                tracing::warn!(error = %chain(source), "a call could not be served");
                (Code::Unavailable, "UNAVAILABLE")
            }
            Error::StoreAway { why, source } => {
                tracing::warn!(error = %chain(source), "a call could not be served");
                let reason = match why {
                    Away::Unreachable => "OBJECT_STORE_AWAY",
                    Away::Refusing => "OBJECT_STORE_REFUSES",
                };
                (Code::Unavailable, reason)
            }
            Error::Unwritable { why, source } => {
                tracing::warn!(error = %chain(source), "a change could not be stored");
                let reason = match why {
                    Unwritable::Full => "DATABASE_FULL",
                    Unwritable::ReadOnly => "DATABASE_READ_ONLY",
                };
                (Code::Unavailable, reason)
            }
            Error::Stopping => (Code::Unavailable, "STOPPING"),
            Error::Internal(source) => {
                tracing::error!(error = %chain(source.as_ref()), "a call failed");
                (Code::Internal, "INTERNAL")
            }
        };
        let mut details = vec![any(
            "ErrorInfo",
            &ErrorInfo {
                reason: reason.to_owned(),
                domain: DOMAIN.to_owned(),
            },
        )];
        if let Error::Invalid(violations) = &error {
            details.push(any("BadRequest", &bad_request(violations)));
        }
        let message = cut(&error.to_string(), MAX_MESSAGE);
        let status = RpcStatus {
            code: code.into(),
            message: message.clone(),
            details,
        };
        Self::with_details(code, message, status.encode_to_vec().into())
    }
}

/// As many violations as fit in a header, and how many more there are.
fn bad_request(violations: &[Violation]) -> BadRequest {
    let mut field_violations = Vec::new();
    let mut size = 0;
    for (index, violation) in violations.iter().enumerate() {
        let shown = FieldViolation {
            field: cut(&violation.field, MAX_FIELD),
            description: cut(&violation.description, MAX_FIELD),
        };
        size += shown.encoded_len();
        if size > MAX_DETAILS {
            field_violations.push(FieldViolation {
                field: String::new(),
                description: format!("and {} more", violations.len() - index),
            });
            break;
        }
        field_violations.push(shown);
    }
    BadRequest { field_violations }
}

/// A text that is not longer than `most` bytes.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = "…";
    let kept = text.floor_char_boundary(most - end.len());
    format!("{}{end}", &text[..kept])
}

fn any(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("type.googleapis.com/google.rpc.{name}"),
        value: message.encode_to_vec(),
    }
}

/// An error with all that lies below it, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(source) = below {
        text.push_str(": ");
        text.push_str(&source.to_string());
        below = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_text_never_reaches_a_client() {
        let status = Status::from(Error::Internal("password of the database".into()));
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.message(), "internal error");
        let details = String::from_utf8_lossy(status.details()).into_owned();
        assert!(!details.contains("password"));
    }

    #[test]
    fn a_status_fits_in_the_headers_that_clients_take() {
        let violations = (0..1000).map(|number| Violation {
            field: format!("spec.steps[{number}]").repeat(40),
            description: "ä\n".repeat(400),
        });
        let status = Status::from(Error::Invalid(violations.collect()));
        let decoded = RpcStatus::decode(status.details()).expect("it is a status");
        let bad = BadRequest::decode(&*decoded.details[1].value).expect("it is a bad request");
        let last = bad.field_violations.last().expect("some are told");
        assert!(last.description.starts_with("and 99"), "{last:?}");
        let headers = status.into_http::<()>().into_parts().0.headers;
        let size: usize = headers
            .iter()
            .map(|(k, v)| k.as_str().len() + v.len() + 32)
            .sum();
        assert!(size < 15 << 10, "{size}");
    }

    #[test]
    fn every_wrong_field_is_a_violation() {
        let status = Status::from(Error::invalid("spec.steps[0]", "is wrong"));
        let decoded = RpcStatus::decode(status.details()).expect("it is a status");
        let bad = BadRequest::decode(&*decoded.details[1].value).expect("it is a bad request");
        assert_eq!(bad.field_violations[0].field, "spec.steps[0]");
    }
}
