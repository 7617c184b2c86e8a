//! Servers that a run of the tests is given by variables, and is skipped without.

use anyhow::{Context as _, ensure};

use crate::proxy::Proxy;

/// Where blobs go, a URL for `Blobs`.
const OBJECT_STORE: &str = "MUSTER_TEST_S3";
/// Set to 1 for sizes and times as people name them: a gigabyte of log, a hundred pods, five minutes.
const FULL_VARIABLE: &str = "MUSTER_TEST_FULL";

/// The value of a variable that names a server; nothing, and a word about it, when it is not set.
///
/// # Errors
///
/// When it is not set and `MUSTER_TEST_REQUIRE_SERVERS` is 1.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn server(variable: &str) -> anyhow::Result<Option<String>> {
    let server = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if server.is_none() {
        ensure!(
            !is_required(),
            "{variable} is not set, but servers are required"
        );
        eprintln!("skipped: {variable} is not set");
    }
    Ok(server)
}

/// One of two sizes: the one that takes minutes where it is asked for.
#[must_use]
pub fn size(short: u32, full: u32) -> u32 {
    match std::env::var(FULL_VARIABLE).as_deref() {
        Ok("1") => full,
        _ => short,
    }
}

/// Whether a test that lacks a server must fail.
#[must_use]
pub fn is_required() -> bool {
    std::env::var("MUSTER_TEST_REQUIRE_SERVERS").is_ok_and(|on| on == "1")
}

/// A folder of its own in the object store that is given; nothing when none is given.
///
/// # Errors
///
/// As of [`server`].
pub fn object_store() -> anyhow::Result<Option<String>> {
    let url = server(OBJECT_STORE)?;
    Ok(url.map(|url| in_folder(&url)))
}

/// The URL of a new folder.
fn in_folder(url: &str) -> String {
    let (bucket, query) = url.split_once('?').unwrap_or((url, ""));
    format!(
        "{}/{}?{query}",
        bucket.trim_end_matches('/'),
        uuid::Uuid::now_v7().simple()
    )
}

/// A folder of its own in the object store that is given, behind a wire; nothing when none is given.
///
/// # Errors
///
/// As of [`server`], and when its URL is not that of a plain endpoint at an address.
pub async fn object_store_behind_a_wire() -> anyhow::Result<Option<(Proxy, String)>> {
    let Some(url) = server(OBJECT_STORE)? else {
        return Ok(None);
    };
    let (before, rest) = url
        .split_once("endpoint=http://")
        .context("a plain endpoint")?;
    let (address, after) = rest.split_once('&').context("more parameters")?;
    let proxy = Proxy::before(address.parse()?).await?;
    let url = format!("{before}endpoint=http://{}&{after}", proxy.address);
    Ok(Some((proxy, in_folder(&url))))
}
