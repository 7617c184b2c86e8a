//! The Secret with key and certificate of the relay: made once, so that running conductors find
//! the same relay after a restart of the agent.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::PostParams};

use super::{
    client::{Trouble, limited},
    job,
};
use crate::{Error, relay::certificate::Certificate};

const NAME: &str = "muster-agent-relay";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Reads the Secret, or makes it.
pub(super) async fn load_or_make(client: &Client, namespace: &str) -> Result<Certificate, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    if let Some(found) = load(&secrets).await? {
        return Ok(found);
    }
    let made = Certificate::generate()?;
    match limited(secrets.create(&PostParams::default(), &secret(&made))).await {
        Ok(_) => Ok(made),
        // Another process was faster.
        Err(Trouble::Exists) => load(&secrets).await?.ok_or_else(|| {
            Trouble::Passing("it vanished while it was read".into())
                .error("read the relay's Secret")
        }),
        Err(trouble) => Err(trouble.error("make the relay's Secret")),
    }
}

async fn load(secrets: &Api<Secret>) -> Result<Option<Certificate>, Error> {
    let secret = limited(secrets.get_opt(NAME))
        .await
        .map_err(|trouble| trouble.error("read the relay's Secret"))?;
    let Some(data) = secret.and_then(|secret| secret.data) else {
        return Ok(None);
    };
    let text = |key| {
        let bytes: Option<&ByteString> = data.get(key);
        bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
    };
    match (text(CERTIFICATE), text(KEY)) {
        (Some(certificate), Some(key)) => Ok(Some(Certificate { certificate, key })),
        _ => Err(Trouble::Passing(
            "it has no tls.crt and tls.key; delete it to have it made again".into(),
        )
        .error("read the relay's Secret")),
    }
}

fn secret(made: &Certificate) -> Secret {
    let mut secret = Secret::default();
    secret.metadata.name = Some(NAME.to_owned());
    let (key, value) = job::MANAGED;
    secret.metadata.labels = Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    secret.type_ = Some("kubernetes.io/tls".to_owned());
    secret.data = Some(BTreeMap::from([
        (
            CERTIFICATE.to_owned(),
            ByteString(made.certificate.clone().into_bytes()),
        ),
        (KEY.to_owned(), ByteString(made.key.clone().into_bytes())),
    ]));
    secret
}
