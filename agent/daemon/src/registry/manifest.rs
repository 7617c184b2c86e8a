//! Documents of a registry: lists of images, images, their configs.

use muster_proto::runner::v1::ImageConfig;
use serde::Deserialize;

/// Kinds of manifests that are understood.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Manifest {
    /// One image for each platform.
    List(Platforms),
    /// One image.
    Image {
        /// Digest of its config.
        config: String,
    },
}

/// Digests by platform.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Platforms(Vec<(String, String, String)>);

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Entry>,
    config: Option<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize, Default)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl Manifest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| format!("its manifest is not readable: {error}"))?;
        if let Some(config) = document.config {
            return Ok(Self::Image {
                config: config.digest,
            });
        }
        let platforms = document.manifests.into_iter().map(|entry| {
            let platform = entry.platform.unwrap_or_default();
            (platform.os, platform.architecture, entry.digest)
        });
        Ok(Self::List(Platforms(platforms.collect())))
    }
}

impl Platforms {
    /// The image for this machine's architecture, or any for Linux: ENTRYPOINT and CMD are the
    /// same for all, in practice.
    pub(super) fn choose(self) -> Result<String, String> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let linux = || self.0.iter().filter(|(os, _, _)| os == "linux");
        linux()
            .find(|(_, found, _)| found == architecture)
            .or_else(|| linux().next())
            .map(|(_, _, digest)| digest.clone())
            .ok_or_else(|| "it is not for Linux".to_owned())
    }
}

#[derive(Deserialize)]
struct Blob {
    #[serde(default)]
    config: Option<Settings>,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(rename = "Entrypoint")]
    entrypoint: Option<Vec<String>>,
    #[serde(rename = "Cmd")]
    cmd: Option<Vec<String>>,
}

/// Reads a config.
pub(super) fn config(bytes: &[u8]) -> Result<ImageConfig, String> {
    let blob: Blob = serde_json::from_slice(bytes)
        .map_err(|error| format!("its config is not readable: {error}"))?;
    let settings = blob.config.unwrap_or(Settings {
        entrypoint: None,
        cmd: None,
    });
    Ok(ImageConfig {
        entrypoint: settings.entrypoint.unwrap_or_default(),
        cmd: settings.cmd.unwrap_or_default(),
        error: String::new(),
    })
}
