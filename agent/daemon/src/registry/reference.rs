//! Names of images, as container runtimes read them.

/// The registry that a name without one means.
const DEFAULT: &str = "docker.io";

/// A name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// `docker.io`, `registry.example.com:5000`.
    pub(super) host: String,
    /// `library/alpine`.
    pub(super) repository: String,
    /// Which one of it.
    pub(super) target: Target,
}

/// A tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `latest`.
    Tag(String),
    /// `sha256:…`.
    Digest(String),
}

impl Target {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Tag(text) | Self::Digest(text) => text,
        }
    }
}

impl Reference {
    /// Reads a name.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "that is not the name of an image".to_owned();
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path),
            _ => (DEFAULT, rest),
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        let host = if host == "index.docker.io" {
            DEFAULT
        } else {
            host
        };
        let repository = if host == DEFAULT && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        let target = match (digest, tag) {
            (Some(digest), _) if is_digest(digest) => Target::Digest(digest.to_owned()),
            (Some(_), _) => return Err(wrong()),
            (None, Some(tag)) if is_tag(tag) => Target::Tag(tag.to_owned()),
            (None, Some(_)) => return Err(wrong()),
            (None, None) => Target::Tag("latest".to_owned()),
        };
        if !repository.split('/').all(is_component) || !is_authority(host) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            repository,
            target,
        })
    }

    /// The host that answers for the registry.
    pub(super) fn api_host(&self) -> &str {
        if self.host == DEFAULT {
            "registry-1.docker.io"
        } else {
            &self.host
        }
    }
}

fn is_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':'])
}

fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':' | b'[' | b']'))
}

fn is_component(text: &str) -> bool {
    !text.is_empty()
        && !text.contains("..")
        && text.bytes().all(|c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'_')
        })
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(String, String, String)> {
        let reference = Reference::parse(text).ok()?;
        let target = reference.target.as_str().to_owned();
        Some((reference.host, reference.repository, target))
    }

    #[test]
    fn names_are_read_as_runtimes_read_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let both = format!("ghcr.io/a/b:1@{digest}");
        for (text, host, repository, target) in [
            ("alpine", "docker.io", "library/alpine", "latest"),
            ("alpine:3.22", "docker.io", "library/alpine", "3.22"),
            ("grafana/k6", "docker.io", "grafana/k6", "latest"),
            ("localhost/x", "localhost", "x", "latest"),
            ("r.example.com:5000/a/b:1", "r.example.com:5000", "a/b", "1"),
            (both.as_str(), "ghcr.io", "a/b", digest.as_str()),
        ] {
            let expected = (host.to_owned(), repository.to_owned(), target.to_owned());
            assert_eq!(parts(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_asks_nobody() {
        for text in [
            "",
            "A",
            "a b",
            "a/../b",
            "a@sha256:1",
            "http://x/y",
            "x.y/a?b",
            "user@host.com/a",
        ] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
