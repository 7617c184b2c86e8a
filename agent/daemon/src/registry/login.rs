//! Logins of registries, as `imagePullSecrets` hold them.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::reference::Reference;

/// A login. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

/// Logins by registry, or by registry and the beginning of a repository's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logins(BTreeMap<String, Login>);

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Login {
    /// Reads the content of a `kubernetes.io/dockerconfigjson` Secret. Entries without a login are
    /// left out.
    ///
    /// # Errors
    ///
    /// When it is not such a document.
    pub fn parse_docker_config(json: &[u8]) -> Result<Logins, serde_json::Error> {
        let config: DockerConfig = serde_json::from_slice(json)?;
        let logins = config
            .auths
            .into_iter()
            .filter_map(|(key, auth)| Some((normal(&key), auth.login()?)));
        Ok(Logins(logins.collect()))
    }

    /// The header for it.
    pub(super) fn basic(&self) -> String {
        let pair = format!("{}:{}", self.user, self.password);
        format!("Basic {}", STANDARD.encode(pair))
    }
}

impl Auth {
    fn login(self) -> Option<Login> {
        if let (Some(user), Some(password)) = (self.username, self.password) {
            return Some(Login { user, password });
        }
        let decoded = STANDARD.decode(self.auth?.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Login {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        })
    }
}

/// `https://index.docker.io/v1/` → `docker.io`.
fn normal(key: &str) -> String {
    let bare = key
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = if matches!(path, "v1" | "v2") {
        ""
    } else {
        path
    };
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    if path.is_empty() {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

impl Logins {
    /// Adds the logins of another Secret; the first one for a registry stays.
    pub fn extend(&mut self, more: Self) {
        for (key, login) in more.0 {
            self.0.entry(key).or_insert(login);
        }
    }

    /// The login for an image: that of the longest name that fits.
    pub(super) fn find(&self, reference: &Reference) -> Option<&Login> {
        let full = format!("{}/{}", reference.host, reference.repository);
        let fits = |key: &str| {
            full.strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0
            .iter()
            .filter(|(key, _)| fits(key))
            .max_by_key(|(key, _)| key.len())
            .map(|(_, login)| login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(logins: &'a Logins, image: &str) -> Option<&'a str> {
        let reference = Reference::parse(image).expect("a name");
        logins.find(&reference).map(|login| login.user.as_str())
    }

    #[test]
    fn the_most_exact_login_is_chosen() {
        let json = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "ghcr.io": {{"username": "all", "password": "p"}},
                "ghcr.io/team": {{"username": "team", "password": "p"}},
                "empty.example.com": {{}}
            }}}}"#,
            STANDARD.encode("hub:pass:word")
        );
        let logins = Login::parse_docker_config(json.as_bytes()).expect("it is one");
        assert_eq!(find(&logins, "alpine"), Some("hub"));
        assert_eq!(find(&logins, "ghcr.io/other/x"), Some("all"));
        assert_eq!(find(&logins, "ghcr.io/team/x"), Some("team"));
        assert_eq!(find(&logins, "ghcr.io/teamwork/x"), Some("all"));
        assert_eq!(find(&logins, "empty.example.com/x"), None);
        assert_eq!(find(&logins, "quay.io/x/y"), None);
    }

    #[test]
    fn a_password_may_hold_a_colon_and_is_not_shown() {
        let json = format!(
            r#"{{"auths": {{"r.io": {{"auth": "{}"}}}}}}"#,
            STANDARD.encode("u:a:b")
        );
        let logins = Login::parse_docker_config(json.as_bytes()).expect("it is one");
        let reference = Reference::parse("r.io/x").expect("a name");
        let login = logins.find(&reference).expect("a login");
        assert_eq!(login.basic(), format!("Basic {}", STANDARD.encode("u:a:b")));
        assert_eq!(format!("{login:?}"), "Login(..)");
    }
}
