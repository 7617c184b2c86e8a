//! URIs of repositories and archives, and the credentials that stand in them.

use std::fmt::Write as _;

/// A URI, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Uri {
    /// Without credentials of HTTP.
    pub(super) plain: String,
    /// `https://host:port`; none when it is not HTTP.
    pub(super) origin: Option<String>,
    user: String,
    password: String,
}

/// What git may be told to fetch from: neither programs nor options nor files of the machine.
const SCHEMES: [&str; 4] = ["https", "http", "ssh", "git"];

impl Uri {
    /// Takes a URI apart.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let refuse = |why: &str| {
            let cure = "https://, http://, ssh://, git:// and user@host:path are allowed";
            Err(format!("the URI {why}; {cure}"))
        };
        if text.is_empty() {
            return refuse("is empty");
        }
        if text.starts_with('-') || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return refuse("has characters that no URI has");
        }
        let mut uri = Self {
            plain: text.to_owned(),
            origin: None,
            user: String::new(),
            password: String::new(),
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            // host:path, as ssh has it.
            let host = text
                .split_once(':')
                .map(|(host, path)| (host, !path.starts_with(':')));
            return match host {
                Some((host, true)) if !host.is_empty() && !host.contains('/') => Ok(uri),
                _ => refuse("is neither a URL nor user@host:path"),
            };
        };
        let scheme = scheme.to_ascii_lowercase();
        if !SCHEMES.contains(&scheme.as_str()) {
            return refuse("has another scheme");
        }
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let (info, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if host.is_empty() || host.starts_with('-') {
            return refuse("has no host");
        }
        if scheme == "https" || scheme == "http" {
            let (user, password) = info.split_once(':').unwrap_or((info, ""));
            uri.user = decode(user);
            uri.password = decode(password);
            uri.origin = Some(format!("{scheme}://{host}"));
            uri.plain = String::new();
            // Writing to a text can not fail.
            let _written = write!(uri.plain, "{scheme}://{host}{path}");
        }
        Ok(uri)
    }

    /// Whether nobody on the way can read along.
    pub(super) fn is_secure(&self) -> bool {
        self.origin
            .as_ref()
            .is_some_and(|origin| origin.starts_with("https:"))
    }

    /// For people: neither user nor query, which may be credentials.
    pub(super) fn shown(&self) -> String {
        let text = self.plain.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), text),
        };
        let end = if scheme.is_empty() { ':' } else { '/' };
        let (authority, path) = rest.split_at(rest.find(end).unwrap_or(rest.len()));
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        format!("{scheme}{host}{path}")
    }

    /// Query and fragment, and the password of a user other than one of HTTP: what is to be masked
    /// where others show the URI.
    pub(super) fn secrets(&self) -> Vec<String> {
        let query = self.plain.split_once(['?', '#']).map(|(_, query)| query);
        let rest = self.plain.split_once("://").map(|(_, rest)| rest);
        let authority = rest.and_then(|rest| rest.split('/').next());
        let user = authority
            .and_then(|text| text.rsplit_once('@'))
            .map(|(user, _)| user);
        let password = user
            .and_then(|user| user.split_once(':'))
            .map(|(_, password)| password);
        [query, password]
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect()
    }

    /// Where a redirect leads.
    pub(super) fn join(&self, location: &str) -> String {
        let origin = self.origin.as_deref().unwrap_or_default();
        if location.contains("://") {
            return location.to_owned();
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = origin.split("//").next().unwrap_or_default();
            return format!("{scheme}//{rest}");
        }
        if location.starts_with('/') {
            return format!("{origin}{location}");
        }
        let path = self.plain.get(origin.len()..).unwrap_or_default();
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{origin}{folder}/{location}")
    }

    /// User and password: those given win over those of the URI.
    pub(super) fn credentials(&self, username: &str, token: &str) -> (String, String) {
        let or = |given: &str, own: &str| match given {
            "" => own.to_owned(),
            given => given.to_owned(),
        };
        (or(username, &self.user), or(token, &self.password))
    }
}

/// Text with `%41` put back as `A`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_the_uri() {
        let uri = Uri::parse("HTTPS://me:p%40ss@host:8443/a/b.git").unwrap();
        assert_eq!(uri.plain, "https://host:8443/a/b.git");
        assert_eq!(uri.origin.as_deref(), Some("https://host:8443"));
        assert_eq!(uri.credentials("", ""), ("me".into(), "p@ss".into()));
        assert_eq!(uri.credentials("you", "t"), ("you".into(), "t".into()));
    }

    #[test]
    fn neither_user_nor_query_is_shown() {
        for (text, shown) in [
            (
                "https://me:pass@host:1/a@b.tgz?X-Sig=s#f",
                "https://host:1/a@b.tgz",
            ),
            ("https://host?sig=a/b", "https://host"),
            ("ssh://git:pass@host:22/a/b.git", "ssh://host:22/a/b.git"),
            ("git@host:a/b@c.git", "host:a/b@c.git"),
        ] {
            assert_eq!(Uri::parse(text).unwrap().shown(), shown);
        }
        let secrets = |text| Uri::parse(text).unwrap().secrets();
        assert_eq!(secrets("https://host/a?sig=x&y=z"), ["sig=x&y=z"]);
        assert_eq!(secrets("ssh://git:pass@host/a"), ["pass"]);
        assert!(secrets("git@host:a").is_empty());
    }

    #[test]
    fn redirects_are_followed_from_where_they_were_met() {
        let uri = Uri::parse("https://host:1/a/b?x=/y").unwrap();
        for (location, url) in [
            ("http://other/c", "http://other/c"),
            ("//other/c", "https://other/c"),
            ("/c", "https://host:1/c"),
            ("c", "https://host:1/a/c"),
        ] {
            assert_eq!(uri.join(location), url);
        }
    }

    #[test]
    fn ssh_keeps_its_user() {
        for text in ["git@host:a/b.git", "ssh://git@host:22/a/b.git"] {
            let uri = Uri::parse(text).unwrap();
            assert_eq!((uri.plain.as_str(), uri.origin), (text, None));
        }
    }

    #[test]
    fn programs_options_and_files_are_refused() {
        for text in [
            "",
            "-u",
            "ext::sh -c x",
            "ext::x",
            "file:///etc",
            "/etc",
            "./a:b",
            "https:///x",
            "ssh://-oProxyCommand=x/y",
            "https://a b/",
        ] {
            assert!(Uri::parse(text).is_err(), "{text}");
        }
    }
}
