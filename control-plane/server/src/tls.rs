//! Certificates: those of the administrator, or a certificate authority of the server's own.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{ServerConfig, pki_types::pem::PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate can not be made.
    #[error("the server's own certificate can not be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// Names of the files below the data directory.
const CA: &str = "tls/ca.pem";
const CA_KEY: &str = "tls/ca-key.pem";
const CERTIFICATE: &str = "tls/server.pem";
const KEY: &str = "tls/server-key.pem";

/// A certificate chain and its key.
#[derive(Debug)]
pub struct Files {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
    /// What clients must trust, when the server made it.
    pub ca: Option<PathBuf>,
}

/// Makes the server's own authority once, and at every start a certificate for `names`.
///
/// # Errors
///
/// [`Error`].
pub fn make(data_dir: &Path, names: &[String]) -> Result<Files, Error> {
    let at = |name: &str| data_dir.join(name);
    if !at(CA).exists() {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Muster server authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&key)?;
        write(&at(CA_KEY), &key.serialize_pem(), 0o600)?;
        write(&at(CA), &ca.pem(), 0o644)?;
    }
    let ca_key = KeyPair::from_pem(&read(&at(CA_KEY))?)?;
    let issuer = Issuer::from_ca_cert_pem(&read(&at(CA))?, ca_key)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = common_name("Muster server");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &issuer)?;
    write(&at(KEY), &key.serialize_pem(), 0o600)?;
    write(&at(CERTIFICATE), &certificate.pem(), 0o644)?;
    Ok(Files {
        certificate: at(CERTIFICATE),
        key: at(KEY),
        ca: Some(at(CA)),
    })
}

/// The names for which a server that listens on `address` gets a certificate.
#[must_use]
pub fn names(address: IpAddr, given: &[String]) -> Vec<String> {
    let mut names: Vec<String> = given.to_vec();
    names.extend([
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ]);
    if !address.is_unspecified() {
        names.push(address.to_string());
    }
    names.sort();
    names.dedup();
    names
}

/// Reads a chain and its key for HTTP/2 and HTTP/1.1.
///
/// # Errors
///
/// [`Error`].
pub fn load(files: &Files) -> Result<Arc<ServerConfig>, Error> {
    let content = |path: &Path, reason: &dyn std::fmt::Display| Error::Content {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| content(&files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| content(&files.key, &e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| content(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file whose mode holds from the first byte on.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&part)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&part, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_authority_stays_and_keys_are_private() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let names = names(IpAddr::from([0, 0, 0, 0]), &["muster.example".to_owned()]);
        let first = make(dir.path(), &names).expect("it can be made");
        let ca = read(&dir.path().join(CA)).expect("it is there");
        make(dir.path(), &names).expect("it can be made again");
        assert_eq!(read(&dir.path().join(CA)).expect("it is there"), ca);
        let mode = fs::metadata(&first.key)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        load(&first).expect("it can be used");
    }
}
