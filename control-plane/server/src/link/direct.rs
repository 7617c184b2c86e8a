//! Direct uploads: an agent gets a URL by which one artifact can be put into the object store without it,
//! and says when it is there. The key is doomed before it is given away, and spared in the transaction
//! that lists the artifact: whatever happens in between, nothing is left for ever.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use muster_core::id::AgentId;
use muster_proto::v1::{ArtifactFooter, ArtifactHeader};
use muster_report::HEAD;
use muster_storage::{
    artifact::Artifact,
    attempt::Status,
    blob::{BlobInfo, DIRECT_LIFETIME, Grant},
    work::NewDirect,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::upload::{Missed, Whole};
use crate::{
    app::{App, Error},
    config::{self, DirectUploads},
};

/// How long an upload may go on that began in time.
const TRANSFER: Duration = Duration::from_secs(3600);
/// How far clocks of servers may differ, and how long it may take to list what is there.
const MARGIN: Duration = Duration::from_secs(900);
/// Most bytes of certificates that are handed on.
const MOST_AUTHORITIES: usize = 512 << 10;
/// Where systems keep the certificates of authorities; `SSL_CERT_FILE` comes before them.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How artifacts go to the object store directly.
#[derive(Debug)]
pub(crate) struct Direct {
    from: u64,
    /// Certificates of authorities by which pods know the store, PEM; empty when that is not encrypted.
    authorities: Bytes,
}

/// What an agent may hand on.
#[derive(Debug)]
pub(crate) struct Given {
    /// Names it.
    pub(crate) key: String,
    /// What allows to put it.
    pub(crate) grant: Grant,
    /// Certificates of authorities, PEM.
    pub(crate) authorities: Bytes,
}

impl Direct {
    /// Reads the certificates, when the store is reached by TLS.
    pub(crate) fn load(wanted: &DirectUploads, secure: bool) -> Result<Self, config::Error> {
        let authorities = match &wanted.ca_file {
            _ if !secure => Bytes::new(),
            Some(path) => authorities(path.clone()).map_err(|error| config::Error::Value {
                name: "direct-uploads-ca-file",
                reason: format!("{}: {error}", path.display()),
            })?,
            None => trusted_here(),
        };
        Ok(Self {
            from: wanted.from,
            authorities,
        })
    }
}

fn authorities(path: PathBuf) -> io::Result<Bytes> {
    let text = fs::read(path)?;
    let bad = |words: &str| Err(io::Error::other(words));
    if text.len() > MOST_AUTHORITIES {
        return bad("has more than 512 KiB: give the store's authority alone");
    }
    if !CertificateDer::pem_slice_iter(&text).any(|found| found.is_ok()) {
        return bad("has no certificate; it must be PEM");
    }
    Ok(text.into())
}

/// What this machine trusts: pods may have nothing of the kind.
fn trusted_here() -> Bytes {
    let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = AUTHORITIES.iter().map(PathBuf::from);
    let found = given
        .into_iter()
        .chain(usual)
        .find_map(|path| authorities(path).ok());
    found.unwrap_or_else(|| {
        tracing::warn!(
            "no certificates of authorities are found here: pods know the object store by those of their images, or by --direct-uploads-ca-file"
        );
        Bytes::new()
    })
}

impl App {
    /// Begins an artifact that does not come through this server; nothing when it has to.
    pub(crate) async fn begin_direct_upload(
        &self,
        agent: AgentId,
        header: ArtifactHeader,
        footer: &ArtifactFooter,
    ) -> Result<Option<Given>, Error> {
        let size = size(footer)?;
        let (lease, stored) = self.uploading(agent, &header).await?;
        if stored.status != Status::Live {
            return Err(Error::LeaseLost { epoch: lease.epoch });
        }
        let Some(direct) = self.direct.as_ref().filter(|direct| size >= direct.from) else {
            return Ok(None);
        };
        let (most, words) = self.room(&stored, &header.path).await?;
        if size > most {
            let missed = Missed {
                agent,
                lease,
                path: header.path,
                step: header.step,
            };
            self.miss(missed, "TOO_LARGE", &words).await;
            return Err(Error::invalid("footer.size_bytes", words));
        }
        let key = self.blobs.key(&format!("artifacts/{}", stored.execution));
        let now = self.clock.now();
        let Some(grant) = self.blobs.give_out(&key, size, &footer.sha256, now)? else {
            return Ok(None);
        };
        let new = NewDirect {
            key,
            size: footer.size_bytes,
            delete_time: now
                .checked_add(DIRECT_LIFETIME + TRANSFER + MARGIN)
                .unwrap_or(now),
        };
        let limit = i64::try_from(self.config.max_artifacts_size).unwrap_or(i64::MAX);
        let work = self.store.agent(agent);
        if !work.give_out_blob(lease, &new, limit).await? {
            return Ok(None);
        }
        Ok(Some(Given {
            key: new.key,
            grant,
            authorities: direct.authorities.clone(),
        }))
    }

    /// Lists an artifact that was put into the object store, when it is what was told.
    pub(crate) async fn end_direct_upload(
        self: &Arc<Self>,
        agent: AgentId,
        header: ArtifactHeader,
        footer: &ArtifactFooter,
        key: String,
    ) -> Result<Artifact, Error> {
        let size = size(footer)?;
        let (lease, stored) = self.uploading(agent, &header).await?;
        let own = format!("artifacts/{}/", stored.execution);
        if !key.starts_with(&own) {
            return Err(Error::invalid("key", "is not one of this execution"));
        }
        let sha256 = footer.sha256.as_str();
        if !self
            .blobs
            .verify(&key, size, sha256, self.clock.now())
            .await?
        {
            // Not noted as missing: it comes by the agent.
            let words = "what was told is not in the object store: send it by the agent";
            return Err(Error::FailedPrecondition(words.to_owned()));
        }
        let wanted = size.min(HEAD as u64);
        let head = match wanted {
            0 => Bytes::new(),
            wanted => self.blobs.get_range(&key, 0..wanted).await?,
        };
        let now = self.clock.now();
        let after = now.checked_add(MARGIN).unwrap_or(now);
        let whole = Whole {
            agent,
            lease,
            header,
            blob: BlobInfo {
                key,
                size,
                sha256: sha256.to_owned(),
            },
            head: head.to_vec(),
        };
        self.list_artifact(whole, Some(after)).await
    }
}

fn size(footer: &ArtifactFooter) -> Result<u64, Error> {
    u64::try_from(footer.size_bytes)
        .map_err(|_negative| Error::invalid("footer.size_bytes", "must not be negative"))
}
