//! Reads the config of an image, ENTRYPOINT and CMD, from its registry: only the manifest and the
//! small config blob, never a layer.
//!
//! Pulling images is the kubelet's business; where credentials come from is the backend's.

mod auth;
mod cache;
mod login;
mod manifest;
mod reference;
#[cfg(test)]
mod tests;

use std::{sync::Mutex, time::Duration};

use muster_proto::runner::v1::ImageConfig;
use reqwest::{
    Client, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
    redirect,
};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

pub use self::login::{Login, Logins};
use self::{
    auth::Challenge,
    cache::Cache,
    manifest::Manifest,
    reference::{Reference, Target},
};
use crate::{config::Registries, convert};

/// How long it may take to read one config.
const LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Most bytes of a manifest or a config.
const MAX_SIZE: usize = 4 << 20;
/// Manifests of manifests, at most: a list, then an image.
const MAX_DEPTH: usize = 2;
const REDIRECTS: usize = 5;

/// Why the config of an image could not be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read ENTRYPOINT and CMD of image '{image}' from its registry: {why}; give the step a 'command'"
)]
pub struct Error {
    image: String,
    why: String,
}

/// Reads configs of images.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    settings: Registries,
    cache: Mutex<Cache>,
}

impl Registry {
    /// A reader with these settings.
    ///
    /// # Errors
    ///
    /// When the certificates that this machine trusts can not be used.
    pub fn new(settings: Registries) -> Result<Self, crate::Error> {
        let client = Client::builder()
            .user_agent(concat!("muster-agent/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .timeout(LIMIT)
            .redirect(redirect::Policy::custom(follow))
            .build()
            .map_err(|source| crate::Error::Tls {
                action: "make a client for registries",
                source: source.into(),
            })?;
        Ok(Self {
            client,
            settings,
            cache: Mutex::default(),
        })
    }

    /// Reads ENTRYPOINT and CMD of `image`, with the login that fits it.
    ///
    /// # Errors
    ///
    /// When the name is none, or the registry can not be asked or does not answer well. The text
    /// names the cure.
    pub async fn image_config(&self, image: &str, logins: &Logins) -> Result<ImageConfig, Error> {
        let failed = |why: String| Error {
            image: image.to_owned(),
            why,
        };
        let reference = Reference::parse(image).map_err(failed)?;
        let base = self.base(&reference).map_err(failed)?;
        let mut session = Session {
            client: &self.client,
            base,
            reference: &reference,
            login: logins.find(&reference),
            authorization: None,
        };
        match timeout(LIMIT, self.read(&mut session)).await {
            Ok(result) => result.map_err(failed),
            Err(_elapsed) => Err(failed(format!("no answer within {} s", LIMIT.as_secs()))),
        }
    }

    /// Where the registry of an image is asked.
    fn base(&self, reference: &Reference) -> Result<Url, String> {
        let host = &reference.host;
        let mirrors = &self.settings.mirrors;
        let text = match mirrors.get(host).or_else(|| mirrors.get("*")) {
            Some(mirror) => mirror.trim_end_matches('/').to_owned(),
            None if self.settings.insecure.contains(host) => format!("http://{host}"),
            None => format!("https://{}", reference.api_host()),
        };
        Url::parse(&text).map_err(|error| format!("'{text}' is not a URL: {error}"))
    }

    async fn read(&self, session: &mut Session<'_>) -> Result<ImageConfig, String> {
        let mut target = session.reference.target.clone();
        for _ in 0..MAX_DEPTH {
            let bytes = session.manifest(&target).await?;
            let digest = digest(&bytes);
            if let Some(known) = self.cached(&digest) {
                return Ok(known);
            }
            match Manifest::parse(&bytes)? {
                Manifest::List(platforms) => target = Target::Digest(platforms.choose()?),
                Manifest::Image { config } => {
                    let blob = session.blob(&config).await?;
                    let config = manifest::config(&blob)?;
                    self.keep(digest, config.clone());
                    return Ok(config);
                }
            }
        }
        Err("its manifest is a list of lists".to_owned())
    }

    fn cached(&self, digest: &str) -> Option<ImageConfig> {
        let mut cache = self
            .cache
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        cache.get(digest)
    }

    fn keep(&self, digest: String, config: ImageConfig) {
        let mut cache = self
            .cache
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        cache.put(digest, config);
    }
}

/// Redirects are for blobs; they never leave TLS.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_secure = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS || (was_secure && attempt.url().scheme() != "https") {
        return attempt.stop();
    }
    attempt.follow()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", convert::hex(&Sha256::digest(bytes)))
}

/// The calls for one image.
struct Session<'a> {
    client: &'a Client,
    base: Url,
    reference: &'a Reference,
    login: Option<&'a Login>,
    authorization: Option<HeaderValue>,
}

impl Session<'_> {
    async fn manifest(&mut self, target: &Target) -> Result<Vec<u8>, String> {
        let url = format!("manifests/{}", target.as_str());
        let bytes = self.get(&url, manifest::ACCEPTED).await?;
        match target {
            Target::Digest(wanted) if digest(&bytes) != *wanted => {
                Err("the manifest has another digest than it should".to_owned())
            }
            _ => Ok(bytes),
        }
    }

    async fn blob(&mut self, wanted: &str) -> Result<Vec<u8>, String> {
        let bytes = self.get(&format!("blobs/{wanted}"), "*/*").await?;
        if digest(&bytes) == wanted {
            return Ok(bytes);
        }
        Err("the config has another digest than it should".to_owned())
    }

    /// Gets a document; shows the login when it is asked for it.
    async fn get(&mut self, path: &str, accept: &'static str) -> Result<Vec<u8>, String> {
        let path = format!("v2/{}/{path}", self.reference.repository);
        let base = self.base.as_str().trim_end_matches('/');
        let url = format!("{base}/{path}");
        let response = self.send(&url, accept).await?;
        let response = if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = Challenge::from_response(&response)?;
            self.authorization = Some(self.authorize(&challenge).await?);
            self.send(&url, accept).await?
        } else {
            response
        };
        let status = response.status();
        if status.is_success() {
            return body(response).await;
        }
        Err(match status {
            StatusCode::NOT_FOUND => "it is not there".to_owned(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "the login of the pod's imagePullSecrets is missing or not accepted".to_owned()
            }
            StatusCode::TOO_MANY_REQUESTS => "too many requests to that registry".to_owned(),
            _ => format!("the registry answered {status}"),
        })
    }

    async fn send(&self, url: &str, accept: &'static str) -> Result<Response, String> {
        let mut request: RequestBuilder = self.client.get(url).header(ACCEPT, accept);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.send().await.map_err(|error| describe(&error))
    }

    /// Gets what the registry asked for.
    async fn authorize(&self, challenge: &Challenge) -> Result<HeaderValue, String> {
        let value = match challenge {
            Challenge::Basic => match self.login {
                Some(login) => login.basic(),
                None => {
                    return Err(
                        "the registry asks for a login; give the pod imagePullSecrets".to_owned(),
                    );
                }
            },
            Challenge::Bearer { .. } => {
                let url = challenge.token_url(&self.reference.repository, self.base.scheme())?;
                let mut request = self.client.get(url);
                if let Some(login) = self.login {
                    request = request.header(AUTHORIZATION, login.basic());
                }
                let response = request.send().await.map_err(|error| describe(&error))?;
                if !response.status().is_success() {
                    return Err(format!(
                        "the login is missing or not accepted ({})",
                        response.status()
                    ));
                }
                auth::bearer(&body(response).await?)?
            }
        };
        let mut header = HeaderValue::from_str(&value)
            .map_err(|_unprintable| "the registry gave a token that can not be sent".to_owned())?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// Reads a body that is not too long.
async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| describe(&error))? {
        if bytes.len() + chunk.len() > MAX_SIZE {
            return Err(format!("the answer is longer than {MAX_SIZE} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The innermost cause says most: `connection refused` and not `error sending request`.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}
