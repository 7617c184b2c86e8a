//! Names of the images that the cluster suite needs, from the environment.

/// Image of conductor and shim: `MUSTER_TEST_RUNNER_IMAGE`.
#[must_use]
pub fn runner() -> String {
    named("MUSTER_TEST_RUNNER_IMAGE", "muster/runner:test")
}

/// Image with git, which `deploy/build-images` makes beside the runner's.
#[must_use]
pub fn git() -> String {
    runner().replace("/runner:", "/git:")
}

/// Image of the agent: `MUSTER_TEST_AGENT_IMAGE`.
#[must_use]
pub fn agent() -> String {
    named("MUSTER_TEST_AGENT_IMAGE", "muster/agent:test")
}

/// Image of the server: `MUSTER_TEST_SERVER_IMAGE`.
#[must_use]
pub fn server() -> String {
    named("MUSTER_TEST_SERVER_IMAGE", "muster/server:test")
}

/// Any image with a shell and the usual tools: `MUSTER_TEST_SHELL_IMAGE`.
#[must_use]
pub fn shell() -> String {
    named("MUSTER_TEST_SHELL_IMAGE", "busybox:1.37")
}

/// An image with the tools of the examples that write reports: `MUSTER_TEST_TOOLS_IMAGE`. Without it
/// the images that the examples name count.
#[must_use]
pub fn tools() -> Option<String> {
    let image = std::env::var("MUSTER_TEST_TOOLS_IMAGE").ok();
    image.filter(|image| !image.is_empty())
}

/// Where the agent finds configs of images in place of the public registries, as
/// `HOST[:PORT]` of a plain HTTP registry: `MUSTER_TEST_REGISTRY`.
#[must_use]
pub fn registry() -> Option<String> {
    std::env::var("MUSTER_TEST_REGISTRY").ok()
}

fn named(variable: &str, otherwise: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| otherwise.to_owned())
}
