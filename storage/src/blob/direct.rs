//! Direct uploads: one blob, of one size and content, is put into the store by who has a signed URL and no
//! credentials. Who may have one is not decided here.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector as _, HttpRequest, HttpResponse, ReqwestConnector},
    path::Path,
    signer::{HeaderName, HeaderValue, Method, Url},
};
use sha2::{Digest as _, Sha256};

use super::{Blobs, hexadecimal, place, sign::Signer};
use crate::{
    Error,
    error::{Away, Source},
};

/// How long a signed URL is accepted.
pub const DIRECT_LIFETIME: Duration = Duration::from_secs(900);
/// Largest blob that one request puts: what S3 takes.
pub const DIRECT_LARGEST: u64 = 5 << 30;

const LENGTH: &str = "content-length";
const CHECKSUM: &str = "x-amz-checksum-sha256";
/// Asks for the checksum of an object.
const MODE: (&str, &str) = ("x-amz-checksum-mode", "ENABLED");

/// How blobs are put directly.
#[derive(Debug, Clone, Default)]
pub struct DirectOptions {
    /// The store's endpoint as those see it who put blobs, when it is another one than the server's own:
    /// `https://host:port`.
    pub endpoint: Option<String>,
}

/// What allows to put one blob. Whoever has it can, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// Where to put it, by an HTTP PUT.
    pub url: String,
    /// Headers that must be sent, with these values.
    pub headers: Vec<(&'static str, String)>,
    /// No PUT is accepted that begins later.
    pub expire_time: Timestamp,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("expire_time", &self.expire_time)
            .finish_non_exhaustive()
    }
}

/// The way around the server into a bucket.
#[derive(Debug, Clone)]
pub(super) struct Door {
    signer: Signer,
    /// The bucket as the server sees it.
    inside: Url,
    /// The bucket as others see it.
    outside: Url,
    client: HttpClient,
}

impl Door {
    pub(super) fn open(
        signer: Signer,
        [inside, outside]: [&str; 2],
        client: &ClientOptions,
    ) -> Result<Self, Source> {
        Ok(Self {
            signer,
            inside: bucket(inside)?,
            outside: bucket(outside)?,
            client: ReqwestConnector::default().connect(client)?,
        })
    }

    /// One request, with a body and these headers, of which `signed` are signed.
    async fn send(
        &self,
        (method, path): (Method, &Path),
        signed: &[(&'static str, &str)],
        sent: &[(&'static str, &str)],
        body: &'static [u8],
        now: Timestamp,
    ) -> Result<HttpResponse, Source> {
        let url = object(&self.inside, path);
        let url = self
            .signer
            .sign(&method, &url, signed, now, DIRECT_LIFETIME);
        let mut request = HttpRequest::new(Bytes::from_static(body).into());
        *request.method_mut() = method;
        *request.uri_mut() = url.parse()?;
        for (name, value) in sent {
            let name = HeaderName::from_static(name);
            request
                .headers_mut()
                .insert(name, HeaderValue::from_str(value)?);
        }
        // Its text would have the URL.
        let answer = self.client.execute(request).await;
        answer.map_err(|error| format!("no answer: {:?}", error.kind()).into())
    }
}

/// A bucket, which must be at an address of HTTP.
fn bucket(text: &str) -> Result<Url, Source> {
    let url = Url::parse(text)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("an endpoint is http:// or https:// and a host".into());
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err("an endpoint has neither user, query nor fragment".into());
    }
    Ok(url)
}

/// A blob's own URL, escaped as it is signed: a prefix may have what URLs let be and signatures do not.
fn object(bucket: &Url, path: &Path) -> Url {
    let mut whole = bucket.path().trim_end_matches('/').to_owned();
    for part in path.parts() {
        whole.push('/');
        whole += &super::sign::escape(part.as_ref());
    }
    let mut url = bucket.clone();
    url.set_path(&whole);
    url
}

impl Blobs {
    /// Whether blobs can be put directly, and then whether by an encrypted connection.
    #[must_use]
    pub fn direct(&self) -> Option<bool> {
        let door = self.door.as_ref()?;
        Some(door.outside.scheme() == "https")
    }

    /// Allows to put a blob of this size and SHA-256, in lower-case hexadecimal, and nothing else. Nothing
    /// when that is not possible: it is too large, or the store can not.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a key or a SHA-256 that is none.
    pub fn give_out(
        &self,
        key: &str,
        size: u64,
        sha256: &str,
        now: Timestamp,
    ) -> Result<Option<Grant>, Error> {
        let Some(door) = self.door.as_ref().filter(|_| size <= DIRECT_LARGEST) else {
            return Ok(None);
        };
        let path = self.path(key)?;
        let digest = digest(sha256).ok_or_else(|| {
            Error::invalid("sha256", "must be 64 digits of lower-case hexadecimal")
        })?;
        let url = object(&door.outside, &path);
        let (length, checksum) = (size.to_string(), STANDARD.encode(digest));
        let signed = [(LENGTH, length.as_str()), (CHECKSUM, checksum.as_str())];
        let url = door
            .signer
            .sign(&Method::PUT, &url, &signed, now, DIRECT_LIFETIME);
        let lifetime = SignedDuration::try_from(DIRECT_LIFETIME).unwrap_or_default();
        Ok(Some(Grant {
            url,
            headers: vec![(LENGTH, length), (CHECKSUM, checksum)],
            expire_time: now.checked_add(lifetime).unwrap_or(now),
        }))
    }

    /// Whether a blob that others have put is there, with this size and SHA-256. A store that tells the
    /// SHA-256 has checked it, see [`Blobs::check_direct`]; from any other one the blob is read.
    ///
    /// # Errors
    ///
    /// [`Error::StoreAway`] when the store can not be reached.
    pub async fn verify(
        &self,
        key: &str,
        size: u64,
        sha256: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let failed = |source: Source| Error::StoreAway {
            why: Away::Unreachable,
            operation: "verify_blob",
            source,
        };
        let path = self.path(key)?;
        if let Some(door) = &self.door {
            let about = (Method::HEAD, &path);
            let answer = door.send(about, &[MODE], &[MODE], b"", now).await;
            let answer = answer.map_err(failed)?;
            let status = answer.status().as_u16();
            if status == 404 {
                return Ok(false);
            }
            if status != 200 {
                return Err(failed(format!("the store answers {status}").into()));
            }
            let told = |name| {
                let value = answer.headers().get(name);
                value.and_then(|value| value.to_str().ok())
            };
            if told(LENGTH).and_then(|told| told.parse().ok()) != Some(size) {
                return Ok(false);
            }
            if let Some(told) = told(CHECKSUM) {
                let wanted = digest(sha256).map(|digest| STANDARD.encode(digest));
                return Ok(wanted.is_some_and(|wanted| wanted == told));
            }
        }
        self.read_back(key, size, sha256).await
    }

    /// Reads a whole blob, and compares.
    async fn read_back(&self, key: &str, size: u64, sha256: &str) -> Result<bool, Error> {
        let mut stream = match self.stream(key, 0).await {
            Ok(stream) => stream,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        let (mut read, mut hash) = (0, Sha256::new());
        while let Some(data) = stream.try_next().await? {
            read += data.len() as u64;
            hash.update(&data);
        }
        Ok(read == size && hexadecimal(hash.finalize().as_ref()) == sha256)
    }

    /// Tries direct uploads out, for the start of a server: the store must refuse what was not signed.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`], when it does not.
    pub async fn check_direct(&self, now: Timestamp) -> Result<(), Error> {
        let Some(door) = &self.door else {
            let reason = "direct uploads need an S3-compatible store; leave --direct-uploads away";
            return Err(place::refuse(&self.place, reason, None));
        };
        let keys = [(); 3].map(|()| self.key("check"));
        let tried = self.try_direct(door, &keys, now).await;
        for key in &keys {
            if let Err(error) = self.delete(key).await {
                tracing::warn!(key, %error, "a blob of a check stays until the sweep");
            }
        }
        tried
    }

    async fn try_direct(
        &self,
        door: &Door,
        [right, wrong, bare]: &[String; 3],
        now: Timestamp,
    ) -> Result<(), Error> {
        const CONTENT: &[u8] = b"muster";
        let checksum = STANDARD.encode(Sha256::digest(CONTENT));
        let signed = [(LENGTH, "6"), (CHECKSUM, checksum.as_str())];
        let put = async |key: &str, sent: &[(&'static str, &str)], body| {
            let path = self.path(key)?;
            let answer = door.send((Method::PUT, &path), &signed, sent, body, now);
            let answer = answer.await.map_err(|error| {
                let reason =
                    "direct uploads can not be tried out; check the endpoint and the network";
                place::refuse(&self.place, reason, Some(error))
            })?;
            match answer.status().as_u16() {
                200..300 => Ok(true),
                // It has looked at the request, and does not take it.
                400..=403 | 411 | 412 => Ok(false),
                status => {
                    let reason = format!(
                        "direct uploads can not be tried out, the store answered {status}; start again when it works"
                    );
                    Err(place::refuse(&self.place, &reason, None))
                }
            }
        };
        let refuse = |reason: &str| Err(place::refuse(&self.place, reason, None));
        if !put(right, &signed, CONTENT).await? {
            return refuse(
                "the store does not take what is put by a signed URL; leave --direct-uploads away, or \
                 check its region and clock",
            );
        }
        if put(wrong, &signed, b"mustar").await? {
            return refuse(
                "the store does not compare content with x-amz-checksum-sha256: anybody with a URL could \
                 replace what was put; leave --direct-uploads away",
            );
        }
        if put(bare, &signed[..1], CONTENT).await? {
            return refuse(
                "the store does not insist on signed headers; leave --direct-uploads away",
            );
        }
        let sha256 = hexadecimal(Sha256::digest(CONTENT).as_ref());
        if !self.verify(right, 6, &sha256, now).await? {
            return refuse("what was put by a signed URL is not what the store has");
        }
        Ok(())
    }
}

/// The bytes of a SHA-256 in lower-case hexadecimal.
fn digest(sha256: &str) -> Option<[u8; 32]> {
    let digits = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if sha256.len() != 64 || !sha256.as_bytes().iter().all(digits) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(sha256.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_digits() {
        assert_eq!(digest(&"0f".repeat(32)), Some([15; 32]));
        for bad in [
            "",
            "0f",
            &"0F".repeat(32),
            &"0g".repeat(32),
            &"0f".repeat(33),
        ] {
            assert_eq!(digest(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_blob_is_below_its_bucket_and_prefix() {
        let url = |at: &str| {
            let bucket = bucket(at).expect("a bucket");
            let path = Path::parse("pre fix/artifacts/a/b").expect("a path");
            object(&bucket, &path).to_string()
        };
        assert_eq!(
            url("http://h:1/bucket"),
            "http://h:1/bucket/pre%20fix/artifacts/a/b"
        );
        assert_eq!(url("https://b.h/"), "https://b.h/pre%20fix/artifacts/a/b");
        let below = bucket("https://b.h/").expect("a bucket");
        let path = Path::parse("env=prod/a+b/(c)").expect("a path");
        assert_eq!(
            object(&below, &path).as_str(),
            "https://b.h/env%3Dprod/a%2Bb/%28c%29",
            "escaped as it is signed"
        );
        for bad in ["ftp://h", "h:1", "https://u@h", "https://h?x", "nothing"] {
            assert!(bucket(bad).is_err(), "{bad}");
        }
    }
}
