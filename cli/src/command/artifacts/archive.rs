//! Brings artifacts as one archive, made by the server while it is received: whole or not there at all.

use std::path::Path;

use clap::ValueEnum;
use muster_proto::v1::{ArchiveArtifactsRequest, archive_artifacts_request};

use super::part::Destination;
use crate::{arguments::Global, client::Client, error::Error, terminal::measure};

/// Permission bits of an archive.
const MODE: u32 = 0o644;

/// Form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A tar
    Tar,
    /// A gzipped tar
    #[value(name = "tar.gz", alias = "tgz")]
    TarGz,
    /// A zip
    Zip,
}

impl Format {
    /// The form that a file's name asks for.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when it asks for none.
    pub(super) fn of_name(name: &Path) -> Result<Self, Error> {
        let text = name.to_string_lossy().to_ascii_lowercase();
        if text == "-" || text.ends_with(".tar") {
            Ok(Self::Tar)
        } else if text.ends_with(".tar.gz") || text.ends_with(".tgz") {
            Ok(Self::TarGz)
        } else if text.ends_with(".zip") {
            Ok(Self::Zip)
        } else {
            Err(Error::Usage(format!(
                "--archive {}: the name tells no form; let it end in .tar, .tar.gz or .zip, or add --format",
                name.display()
            )))
        }
    }
}

/// Receives the archive of what `patterns` mean into `name`, `-` for standard output. Returns its size
/// in bytes.
///
/// # Errors
///
/// When it does not come to its end; no file of that name is made or changed then.
pub(super) async fn archive(
    client: &Client,
    execution: &str,
    patterns: &[String],
    (name, format): (&Path, Format),
    global: &Global,
) -> Result<u64, Error> {
    let format = match format {
        Format::Tar => archive_artifacts_request::Format::Tar,
        Format::TarGz => archive_artifacts_request::Format::TarGz,
        Format::Zip => archive_artifacts_request::Format::Zip,
    };
    let request = ArchiveArtifactsRequest {
        parent: execution.to_owned(),
        patterns: patterns.to_vec(),
        format: format.into(),
    };
    let response = client
        .call(async || client.artifacts().archive_artifacts(request.clone()).await)
        .await?;
    let mut stream = response;
    let mut destination = Destination::open(name)?;
    let mut size = 0;
    while let Some(message) = stream
        .message()
        .await
        .map_err(|status| client.error(&status))?
    {
        size += message.data.len() as u64;
        destination.write(&message.data)?;
    }
    destination.finish(MODE)?;
    let shown = measure::size(i64::try_from(size).unwrap_or(i64::MAX));
    super::super::note(global, &format!("{shown} in {}", name.display()));
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_form() {
        let of = |name: &str| Format::of_name(Path::new(name)).ok();
        assert_eq!(of("a.tar"), Some(Format::Tar));
        assert_eq!(of("-"), Some(Format::Tar));
        assert_eq!(of("x/A.TAR.GZ"), Some(Format::TarGz));
        assert_eq!(of("a.tgz"), Some(Format::TarGz));
        assert_eq!(of("a.zip"), Some(Format::Zip));
        assert_eq!(of("a.rar"), None);
    }
}
