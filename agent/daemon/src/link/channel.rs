//! How a server is reached: addresses, TLS, keep-alive, the token.

use std::{path::Path, time::Duration};

use muster_proto::v1::agent_link_service_client::AgentLinkServiceClient;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    Error,
    config::Trust,
    context::{Bearer, Context, Uplink},
};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Most bytes of one message from the server: a welcome may carry the plans of all attempts.
const MAX_MESSAGE: usize = 64 << 20;

/// The ways to one server.
pub(super) struct Channels {
    /// For the link.
    pub(super) link: Uplink,
    /// For log and artifacts: a slow blob store never delays a lease.
    pub(super) data: Uplink,
}

/// Makes the ways to a server; they connect when they are first used.
pub(super) async fn open(context: &Context, server: &str) -> Result<Channels, Error> {
    let mut token: MetadataValue<Ascii> = format!("Bearer {}", context.config.token.expose())
        .parse()
        .map_err(|_unprintable| Error::Invalid {
            field: "token",
            reason: "it has characters that no token has".to_owned(),
        })?;
    token.set_sensitive(true);
    let endpoint = endpoint(context, server).await?;
    let client = |channel: Channel| {
        AgentLinkServiceClient::with_interceptor(channel, Bearer(token.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
    };
    Ok(Channels {
        link: client(endpoint.connect_lazy()),
        data: client(endpoint.connect_lazy()),
    })
}

async fn endpoint(context: &Context, server: &str) -> Result<Endpoint, Error> {
    let wrong = |error: &dyn std::error::Error| Error::Invalid {
        field: "server",
        reason: format!("'{server}': {error}"),
    };
    let endpoint = Endpoint::from_shared(server.to_owned())
        .and_then(|endpoint| {
            endpoint.user_agent(concat!("muster-agent/", env!("CARGO_PKG_VERSION")))
        })
        .map_err(|error| wrong(&error))?
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    if endpoint.uri().scheme_str() != Some("https") {
        return Ok(endpoint);
    }
    let tls = match &context.config.trust {
        Trust::System => ClientTlsConfig::new().with_enabled_roots(),
        Trust::CaFile(file) => authority(read(file).await?),
        Trust::Ca(pem) => authority(pem.clone().into_bytes()),
    };
    endpoint.tls_config(tls).map_err(|error| Error::Tls {
        action: "use the certificates of the authority",
        source: error.into(),
    })
}

fn authority(pem: Vec<u8>) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
}

async fn read(file: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(file).await.map_err(|source| Error::File {
        action: "read the certificates of the authority",
        path: file.to_owned(),
        source,
    })
}
