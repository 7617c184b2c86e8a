//! URLs that allow one request to an S3-compatible store: AWS Signature Version 4 in the query. Unlike
//! what `object_store` signs, the length of the body is bound too. What is signed for whom is not here.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{Timestamp, tz::TimeZone};
use object_store::signer::{Method, Url};
use sha2::{Digest as _, Sha256};

use super::{Credentials, hexadecimal};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The body is bound by its checksum, which is a header.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// What signs.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) credentials: Credentials,
    pub(super) region: String,
}

impl Signer {
    /// Signs a request with these headers, whose names are in lower case, beside `host`. It is accepted
    /// from `now` on, as long as `lifetime`; only with all of these headers, and no other value of them.
    pub(super) fn sign(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(&str, &str)],
        now: Timestamp,
        lifetime: Duration,
    ) -> String {
        let host = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let mut headers: Vec<(&str, &str)> = headers.to_vec();
        headers.push(("host", &host));
        headers.sort_unstable();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let utc = now.to_zoned(TimeZone::UTC);
        let (time, day) = (
            utc.strftime("%Y%m%dT%H%M%SZ").to_string(),
            utc.strftime("%Y%m%d").to_string(),
        );
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let id = format!("{}/{scope}", self.credentials.access_key_id);
        let lifetime = lifetime.as_secs().to_string();
        let mut query = vec![
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &id),
            ("X-Amz-Date", &time),
            ("X-Amz-Expires", &lifetime),
            ("X-Amz-SignedHeaders", &names),
        ];
        if let Some(token) = &self.credentials.session_token {
            query.push(("X-Amz-Security-Token", token));
        }
        query.sort_unstable();
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        let query = query.join("&");
        let mut asked = format!("{method}\n{}\n{query}\n", url.path());
        for (name, value) in &headers {
            asked += &format!("{name}:{}\n", value.trim());
        }
        asked += &format!("\n{names}\n{UNSIGNED}");
        let digest = hexadecimal(Sha256::digest(asked.as_bytes()).as_ref());
        let text = format!("{ALGORITHM}\n{time}\n{scope}\n{digest}");
        let mut key = format!("AWS4{}", self.credentials.secret_access_key).into_bytes();
        for part in [day.as_str(), &self.region, "s3", "aws4_request"] {
            key = code(&key, part.as_bytes());
        }
        let signature = hexadecimal(&code(&key, text.as_bytes()));
        format!("{}?{query}&X-Amz-Signature={signature}", url.as_str())
    }
}

fn code(key: &[u8], data: &[u8]) -> Vec<u8> {
    // A key of any length is taken.
    let Ok(mut code) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    code.update(data);
    code.finalize().into_bytes().to_vec()
}

/// Escapes all but what RFC 3986 reserves for nothing.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => escaped += &format!("%{other:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(session_token: Option<&str>) -> Signer {
        Signer {
            credentials: Credentials {
                access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
                secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
                session_token: session_token.map(str::to_owned),
            },
            region: "us-east-1".to_owned(),
        }
    }

    fn signature(token: Option<&str>, headers: &[(&str, &str)]) -> String {
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/test.txt").expect("a URL");
        let now = "2013-05-24T00:00:00Z".parse().expect("a time");
        let day = Duration::from_secs(86400);
        signer(token).sign(&Method::GET, &url, headers, now, day)
    }

    #[test]
    fn the_example_of_the_documentation_of_s3_gets_its_signature() {
        let signed = signature(None, &[]);
        assert_eq!(
            signed,
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn headers_and_a_session_are_signed_too() {
        let plain = signature(None, &[("content-length", "5")]);
        assert!(
            plain.contains("SignedHeaders=content-length%3Bhost&"),
            "{plain}"
        );
        let other = signature(None, &[("content-length", "6")]);
        assert_ne!(plain, other);
        let session = signature(Some("a/b+c="), &[("content-length", "5")]);
        assert!(
            session.contains("&X-Amz-Security-Token=a%2Fb%2Bc%3D&"),
            "{session}"
        );
    }

    #[test]
    fn what_signs_is_not_shown() {
        let shown = format!("{:?}", signer(Some("session")));
        assert!(
            !shown.contains("wJal") && !shown.contains("\"session"),
            "{shown}"
        );
    }
}
