//! The wire: generated messages, clients and servers.
//!
//! [`v1`] is the public interface of the control plane (feature `grpc`), [`runner`] what agent,
//! conductor and shim say to each other. Nothing here is written by hand but this file, and
//! `secret` for what must not be shown.

mod secret;

/// `muster.v1`: for clients and agents.
#[cfg(feature = "grpc")]
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::doc_markdown,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("muster.v1");

    /// The encoded `FileDescriptorSet` of this package, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/muster.v1.bin"));
}

/// What agent, conductor and shim say to each other.
pub mod runner {
    /// `muster.runner.v1`.
    #[expect(clippy::doc_markdown, reason = "generated")]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/muster.runner.v1.rs"));

        /// The version that this program speaks.
        pub const PROTOCOL: u32 = 1;

        /// What names of variables begin with that bring values of whole Secrets a second time, so
        /// that they can be told from others; an index and a `_` follow.
        pub const SECRET_PREFIX: &str = "MUSTER_SECRET_";
        /// Longest frame on a connection, in bytes.
        pub const MAX_FRAME: usize = 1 << 20;
        /// Longest frame from the agent, which brings the plan.
        pub const MAX_FRAME_OF_AGENT: usize = 4 << 20;
        /// Most log bytes in one message.
        pub const MAX_LOG_DATA: usize = 64 << 10;
        /// Most artifact bytes in one message.
        pub const MAX_ARTIFACT_DATA: usize = 256 << 10;
    }
}
