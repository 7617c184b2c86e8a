//! Generates Rust from the protos without a `protoc` binary.

use std::{env, error::Error, path::PathBuf};

const RUNNER: &str = "muster/runner/v1/runner.proto";
const API: [&str; 14] = [
    "muster/v1/agent_link_service.proto",
    "muster/v1/agent_service.proto",
    "muster/v1/artifact_service.proto",
    "muster/v1/audit_service.proto",
    "muster/v1/credential_service.proto",
    "muster/v1/execution.proto",
    "muster/v1/execution_service.proto",
    "muster/v1/log_service.proto",
    "muster/v1/project_service.proto",
    "muster/v1/queue_service.proto",
    "muster/v1/retention_service.proto",
    "muster/v1/template_service.proto",
    "muster/v1/test_service.proto",
    "muster/v1/workflow_service.proto",
];

/// Messages with what must not be shown, whose `Debug` is in `src/secret.rs`.
const SECRET: [&str; 4] = [
    ".muster.v1.BeginDirectUploadResponse",
    ".muster.v1.CreateCredentialRequest",
    ".muster.v1.UpdateCredentialRequest",
    ".muster.v1.ReadCredentialResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=muster");
    let runner = protox::compile([RUNNER], ["."])?;
    prost_build::Config::new()
        .bytes(["."])
        .skip_debug([
            ".muster.runner.v1.CredentialGiven",
            ".muster.runner.v1.DirectUpload",
        ])
        .compile_fds(runner)?;

    if env::var_os("CARGO_FEATURE_GRPC").is_some() {
        let api = protox::compile(API, ["."])?;
        let descriptor = PathBuf::from(env::var("OUT_DIR")?).join("muster.v1.bin");
        let mut config = prost_build::Config::new();
        config
            .skip_debug(SECRET)
            // It is much larger than what takes its place.
            .boxed(".muster.v1.CreateExecutionResult.result.created");
        tonic_prost_build::configure()
            .bytes(".")
            .file_descriptor_set_path(&descriptor)
            .compile_fds_with_config(api.clone(), config)?;
        std::fs::write(&descriptor, prost::Message::encode_to_vec(&api))?;
    }
    Ok(())
}
