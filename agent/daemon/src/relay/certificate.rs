//! Key and certificate of the relay. Conductors trust this certificate alone, so it is its own
//! authority; where it is kept is the backend's business.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::Error;

/// The name in the certificate, which conductors ask for.
pub(crate) const NAME: &str = "muster-relay";

/// Key and certificate, as PEM.
#[derive(Clone)]
pub(crate) struct Certificate {
    /// Public.
    pub(crate) certificate: String,
    /// Secret.
    pub(crate) key: String,
}

impl Certificate {
    /// Makes a new key and a certificate for it. It has no end: whoever wants another one deletes
    /// the old one.
    pub(crate) fn generate() -> Result<Self, Error> {
        let failed = |source: rcgen::Error| Error::Tls {
            action: "make a certificate for the relay",
            source: source.into(),
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).map_err(failed)?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2999, 12, 31);
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The side of the relay.
    pub(super) fn server_config(&self) -> Result<ServerConfig, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Tls {
            action: "use the certificate of the relay; delete the Secret to have a new one made",
            source,
        };
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(error.into()))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| failed(error.into()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| failed(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_certificate_serves() {
        let certificate = Certificate::generate().expect("keys can be made");
        assert!(certificate.server_config().is_ok());
    }

    #[test]
    fn a_damaged_one_names_the_cure() {
        let certificate = Certificate {
            certificate: "x".to_owned(),
            key: "y".to_owned(),
        };
        let error = certificate.server_config().expect_err("it is damaged");
        assert!(error.to_string().contains("delete the Secret"), "{error}");
    }
}
