//! From a URL to an object store.

use std::{
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder,
    local::LocalFileSystem, path::Path,
};

use super::{Credentials, Options, direct::Door, sign::Signer};
use crate::{Error, error::Source};

/// S3 wants parts of 5 MiB or more, all of the same size, and at most 10,000 of them.
pub(super) const S3_PART: usize = 5 * 1024 * 1024;
pub(super) const S3_PARTS: u64 = 10_000;
const LOCAL_PART: usize = 1024 * 1024;

pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) place: String,
    pub(super) prefix: Path,
    pub(super) part_size: usize,
    /// The directory of a store that is one.
    pub(super) folder: Option<PathBuf>,
    /// The way around the server, when that is wanted.
    pub(super) door: Option<Door>,
}

pub(super) async fn open(url: &str, options: &Options) -> Result<Opened, Error> {
    if let Some(path) = url.strip_prefix("file://") {
        return local(FilePath::new(path)).await;
    }
    if let Some(rest) = url.strip_prefix("s3://") {
        return s3(rest, options);
    }
    let reason = "not a blob URL; use file:///absolute/directory or s3://bucket?endpoint=…";
    Err(refuse("blobs", reason, None))
}

async fn local(path: &FilePath) -> Result<Opened, Error> {
    let place = format!("file://{}", path.display());
    if !path.is_absolute() {
        let reason = "the directory is not absolute; write file:/// and the whole path";
        return Err(refuse(&place, reason, None));
    }
    let failed = |source: Source| {
        let reason = "the directory can not be made or used; make it writable for this user";
        refuse(&place, reason, Some(source))
    };
    tokio::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .await
        .map_err(|error| failed(error.into()))?;
    let store = LocalFileSystem::new_with_prefix(path)
        .map_err(|error| failed(error.into()))?
        // A blob that a row names must survive a loss of power.
        .with_fsync(true);
    Ok(Opened {
        store: Arc::new(store),
        place,
        prefix: Path::default(),
        part_size: LOCAL_PART,
        folder: Some(path.to_owned()),
        door: None,
    })
}

fn s3(rest: &str, options: &Options) -> Result<Opened, Error> {
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = address.split_once('/').unwrap_or((address, ""));
    let place = format!("s3://{address}");
    let refuse = |reason: &str, source| refuse(&place, reason, source);
    if bucket.is_empty() {
        return Err(refuse("the bucket is missing; write s3://bucket", None));
    }
    let Some(credentials) = &options.credentials else {
        let reason = "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
        return Err(refuse(reason, None));
    };
    let prefix = Path::parse(prefix)
        .map_err(|error| refuse("the prefix can not be used as a path", Some(error.into())))?;
    let client = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        // Of one request: a part of 5 MiB must be through by then.
        .with_timeout(Duration::from_secs(60));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_access_key_id(&credentials.access_key_id)
        .with_secret_access_key(&credentials.secret_access_key)
        .with_client_options(client.clone())
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 4,
            retry_timeout: Duration::from_secs(15),
        });
    if let Some(token) = &credentials.session_token {
        builder = builder.with_token(token);
    }
    let mut allow_http = false;
    let mut at = At::new(bucket);
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = decode(value);
        match key {
            "endpoint" => {
                builder = builder.with_endpoint(&value);
                at.endpoint = Some(value);
            }
            "region" => at.region = value,
            "allow_http" => allow_http = value == "true",
            "virtual_hosted" => at.virtual_hosted = value == "true",
            other => {
                let reason = format!(
                    "unknown parameter '{other}'; there are endpoint, region, allow_http and virtual_hosted"
                );
                return Err(refuse(&reason, None));
            }
        }
    }
    let plain = |endpoint: &String| endpoint.starts_with("http://");
    let given = options
        .direct
        .as_ref()
        .and_then(|direct| direct.endpoint.as_ref());
    if !allow_http && (at.endpoint.as_ref().is_some_and(plain) || given.is_some_and(plain)) {
        let reason = "the endpoint is not encrypted; use https, or add allow_http=true knowingly";
        return Err(refuse(reason, None));
    }
    let store = builder
        .with_region(&at.region)
        .with_virtual_hosted_style_request(at.virtual_hosted)
        .with_allow_http(allow_http)
        .build()
        .map_err(|error| refuse("the URL can not be used", Some(error.into())))?;
    let door = options.direct.as_ref().map(|_| {
        let client = client.with_allow_http(allow_http);
        at.door(given, credentials, &client)
    });
    let door = door.transpose().map_err(|error| {
        let reason = "direct uploads can not be used; check the endpoint for them";
        refuse(reason, Some(error))
    })?;
    Ok(Opened {
        store: Arc::new(store),
        place,
        prefix,
        part_size: S3_PART,
        folder: None,
        door,
    })
}

/// Where a bucket is.
struct At<'a> {
    bucket: &'a str,
    endpoint: Option<String>,
    region: String,
    virtual_hosted: bool,
}

impl<'a> At<'a> {
    fn new(bucket: &'a str) -> Self {
        Self {
            bucket,
            endpoint: None,
            region: "us-east-1".to_owned(),
            virtual_hosted: false,
        }
    }

    /// The bucket's URL at an endpoint. One that is virtually hosted is in the endpoint already.
    fn url(&self, endpoint: Option<&String>) -> String {
        let (bucket, region) = (self.bucket, &self.region);
        match (endpoint, self.virtual_hosted) {
            (Some(endpoint), true) => endpoint.clone(),
            (Some(endpoint), false) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
            (None, true) => format!("https://{bucket}.s3.{region}.amazonaws.com"),
            (None, false) => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        }
    }

    fn door(
        &self,
        outside: Option<&String>,
        credentials: &Credentials,
        client: &ClientOptions,
    ) -> Result<Door, Source> {
        let signer = Signer {
            credentials: credentials.clone(),
            region: self.region.clone(),
        };
        let own = self.endpoint.as_ref();
        let urls = [self.url(own), self.url(outside.or(own))];
        Door::open(signer, [&urls[0], &urls[1]], client)
    }
}

pub(super) fn refuse(place: &str, reason: &str, source: Option<Source>) -> Error {
    Error::Configuration {
        place: place.to_owned(),
        reason: reason.to_owned(),
        source,
    }
}

/// Resolves `%2F` and the like; what is no such thing stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(url: &str) -> String {
        let options = Options {
            credentials: Some(Credentials::default()),
            ..Options::default()
        };
        let rest = url.strip_prefix("s3://").expect("an S3 URL");
        match s3(rest, &options) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_plain_endpoint_is_used_only_knowingly() {
        assert!(reason("s3://b?endpoint=http://h:1").contains("allow_http=true"));
        assert_eq!(reason("s3://b?endpoint=http://h:1&allow_http=true"), "");
        assert_eq!(reason("s3://b?endpoint=https%3A%2F%2Fh%3A1"), "");
    }

    #[test]
    fn an_unknown_parameter_is_named() {
        assert!(reason("s3://b?regoin=x").contains("'regoin'"));
    }

    #[test]
    fn escapes_are_resolved_and_anything_else_stays() {
        assert_eq!(decode("a%2Fb%zz%"), "a/b%zz%");
    }
}
