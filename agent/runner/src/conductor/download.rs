//! Downloading by HTTP: one request at a time, redirects followed, certificates checked. What
//! becomes of the bytes is not here.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::uri::Uri;

/// Most redirects that are followed: what browsers and curl are content with.
const MAX_REDIRECTS: usize = 10;
/// How long a server may take to be reached and to begin its answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where systems keep the certificates of authorities; `SSL_CERT_FILE` comes before them.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why nothing comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Another try may help.
    #[error("{0}")]
    Passing(String),
    /// Another try is of no use.
    #[error("{0}")]
    Final(String),
}

fn passing(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Passing(format!("{what}: {error}"))
}

/// Asks for a URL and gives the answer, whose body is still to be read.
pub(super) async fn get(url: &str) -> Result<Response<Incoming>, Error> {
    let mut uri = Uri::parse(url).map_err(Error::Final)?;
    let first = uri.origin.clone();
    let authorization = basic(&uri);
    for _ in 0..=MAX_REDIRECTS {
        // Credentials are for the server that they were given for.
        let authorization = authorization.as_deref().filter(|_| uri.origin == first);
        let asked = ask(&uri.plain, authorization);
        let answer = timeout(PATIENCE, asked).await;
        let answer = answer.map_err(|_elapsed| {
            Error::Passing(format!("no answer within {} seconds", PATIENCE.as_secs()))
        })??;
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let location = answer.headers().get(header::LOCATION);
        let Some(location) = location.filter(|_| status.is_redirection()) else {
            let text = format!("the server answers {status}");
            let again = status.is_server_error()
                || matches!(
                    status,
                    StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                );
            return Err(if again {
                Error::Passing(text)
            } else {
                Error::Final(text)
            });
        };
        let location = location
            .to_str()
            .map_err(|error| passing("a redirect", error))?;
        let next = Uri::parse(&uri.join(location)).map_err(Error::Final)?;
        if uri.is_secure() && !next.is_secure() {
            let text = "the server redirects from https to http";
            return Err(Error::Final(text.to_owned()));
        }
        if next.origin.is_none() {
            let text = "the server redirects to what is neither http nor https";
            return Err(Error::Final(text.to_owned()));
        }
        uri = next;
    }
    let text = format!("more than {MAX_REDIRECTS} redirects");
    Err(Error::Final(text))
}

fn basic(uri: &Uri) -> Option<String> {
    let (user, password) = uri.credentials("", "");
    let given = !(user.is_empty() && password.is_empty());
    given.then(|| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// Where a URL leads.
pub(super) struct Place<'a> {
    /// Name or address, as the URL has it.
    pub(super) host: &'a str,
    /// The same without the brackets of an address.
    pub(super) bare: &'a str,
    pub(super) authority: &'a str,
    pub(super) port: u16,
    /// Only over TLS.
    pub(super) secure: bool,
    pub(super) path: &'a str,
}

impl<'a> Place<'a> {
    /// None when the URL has no host.
    pub(super) fn of(url: &'a http::Uri) -> Option<Self> {
        let secure = url.scheme_str() == Some("https");
        let host = url.host()?;
        Some(Self {
            host,
            bare: host.trim_start_matches('[').trim_end_matches(']'),
            authority: url.authority()?.as_str(),
            port: url.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            secure,
            path: url.path_and_query().map_or("/", |path| path.as_str()),
        })
    }

    /// A request for it, but for its body.
    pub(super) fn request(&self, method: Method) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(self.path)
            .header(header::HOST, self.authority)
            .header(
                header::USER_AGENT,
                concat!("muster/", env!("CARGO_PKG_VERSION")),
            )
    }
}

async fn ask(url: &str, authorization: Option<&str>) -> Result<Response<Incoming>, Error> {
    let url: http::Uri = url
        .parse()
        .map_err(|error| Error::Final(format!("the URL: {error}")))?;
    let Some(place) = Place::of(&url) else {
        return Err(Error::Final("the URL has no host".to_owned()));
    };
    let mut request = place.request(Method::GET).header(header::ACCEPT, "*/*");
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| Error::Final(format!("the URL: {error}")))?;
    let stream = TcpStream::connect((place.bare, place.port))
        .await
        .map_err(|error| passing("the server can not be reached", error))?;
    if !place.secure {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(place.bare.to_owned())
        .map_err(|error| Error::Final(format!("the URL: {error}")))?;
    let stream = TlsConnector::from(trust()?)
        .connect(name, stream)
        .await
        .map_err(|error| passing("no secure connection", error))?;
    exchange(stream, request).await
}

async fn exchange(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, Error> {
    let broken = |error| passing("the connection broke", error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends when the body was read or dropped.
    drop(tokio::task::spawn_local(connection));
    sender.send_request(request).await.map_err(broken)
}

/// The authorities that this machine trusts.
pub(super) fn trust() -> Result<Arc<ClientConfig>, Error> {
    let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = AUTHORITIES.iter().map(PathBuf::from);
    let text = given
        .into_iter()
        .chain(usual)
        .find_map(|path| fs::read(path).ok())
        .ok_or_else(|| {
            Error::Final(
                "there are no certificates of authorities here; set SSL_CERT_FILE".to_owned(),
            )
        })?;
    trust_in(&text)
}

/// These authorities, PEM, and no others.
pub(super) fn trust_in(text: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    // Old authorities that this program does not understand are no reason to fail.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text).flatten());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Final(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
