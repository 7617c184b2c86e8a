//! Image pulls that fail: for good, or for now.

/// The kind of all reasons that are about pulling.
pub(super) const PULL: &str = "image pull";

/// Words of registries and runtimes for what no later try cures.
const FINAL: [&str; 12] = [
    "not found",
    "manifest unknown",
    "name unknown",
    "unauthorized",
    "denied",
    "forbidden",
    "no match for platform",
    "no matching manifest",
    "repository does not exist",
    "invalid reference",
    "authentication required",
    "insufficient_scope",
];

/// Reasons that take turns while the same thing goes on, as one.
pub(super) fn kind(reason: &str) -> &str {
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "InvalidImageName"
        | "ErrImageNeverPull" => PULL,
        other => other,
    }
}

/// Whether the message of a failed pull says that it will always fail.
pub(super) fn is_final(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    // A name that is not found today may be found tomorrow: DNS, not the registry.
    !message.contains("no such host") && FINAL.iter().any(|word| message.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_registry_is_final_and_a_silence_is_not() {
        for text in [
            "failed to resolve reference \"r/x:1\": r/x:1: not found",
            "pull access denied, repository does not exist or may require authorization",
            "unexpected status: 401 Unauthorized",
        ] {
            assert!(is_final(text), "{text}");
        }
        for text in [
            "dial tcp: lookup registry.example.com: no such host",
            "dial tcp 10.0.0.1:5000: i/o timeout",
            "Back-off pulling image \"x\"",
            "unexpected status: 503 Service Unavailable",
            "toomanyrequests: rate limit exceeded",
        ] {
            assert!(!is_final(text), "{text}");
        }
    }
}
