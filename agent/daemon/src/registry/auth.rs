//! What a registry asks for before it answers.

use reqwest::{Response, Url, header::WWW_AUTHENTICATE};
use serde::Deserialize;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The login itself.
    Basic,
    /// A token from somewhere else.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    pub(super) fn from_response(response: &Response) -> Result<Self, String> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
        headers
            .filter_map(|header| header.to_str().ok())
            .find_map(Self::parse)
            .ok_or_else(|| "the registry asks for a login in a way that is not known".to_owned())
    }

    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let get = |wanted: &str| {
            let found = parameters.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        Some(Self::Bearer {
            realm: get("realm")?,
            service: get("service"),
            scope: get("scope"),
        })
    }

    /// Where a token is, for reading one repository. A login is not shown to a place without TLS
    /// when the registry itself has TLS.
    pub(super) fn token_url(&self, repository: &str, scheme: &str) -> Result<Url, String> {
        let Self::Bearer {
            realm,
            service,
            scope,
        } = self
        else {
            return Err("no token is needed".to_owned());
        };
        let mut url =
            Url::parse(realm).map_err(|error| format!("'{realm}' is not a URL: {error}"))?;
        if url.scheme() != "https" && scheme != "http" {
            return Err(format!("'{realm}' is not encrypted"));
        }
        let fallback = format!("repository:{repository}:pull");
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope.as_deref().unwrap_or(&fallback));
        drop(query);
        Ok(url)
    }
}

/// `name="value"` pairs with commas; values may hold commas.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        pairs.push((name, value.trim().to_owned()));
        rest = after;
    }
    pairs
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The header for the token of an answer.
pub(super) fn bearer(answer: &[u8]) -> Result<String, String> {
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|_unreadable| "the token service gave no token".to_owned())?;
    let token = answer.token.or(answer.access_token);
    token
        .map(|token| format!("Bearer {token}"))
        .ok_or_else(|| "the token service gave no token".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_with_commas_in_its_values_is_read() {
        let header = r#"Bearer realm="https://auth.example.com/token",service="r",scope="repository:a:pull,push""#;
        let challenge = Challenge::parse(header).expect("it is one");
        let url = challenge.token_url("a", "https").expect("it is a URL");
        assert_eq!(
            url.as_str(),
            "https://auth.example.com/token?service=r&scope=repository%3Aa%3Apull%2Cpush"
        );
    }

    #[test]
    fn a_login_does_not_leave_tls() {
        let challenge = Challenge::parse(r#"Bearer realm="http://x/token""#).expect("it is one");
        assert!(challenge.token_url("a", "https").is_err());
        assert!(challenge.token_url("a", "http").is_ok());
    }

    #[test]
    fn other_schemes_are_told_apart() {
        assert_eq!(
            Challenge::parse("Basic realm=\"x\""),
            Some(Challenge::Basic)
        );
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=x"), None);
    }
}
