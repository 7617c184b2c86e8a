//! Messages with values of credentials, or with URLs that are as good as one: whoever logs one shows none.

/// `Debug` with these fields and without the value.
macro_rules! hide {
    ($message:ty: $name:literal, $($field:ident),*) => {
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct($name)
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    };
}

#[cfg(feature = "grpc")]
mod api {
    use crate::v1::{
        BeginDirectUploadResponse, CreateCredentialRequest, ReadCredentialResponse,
        UpdateCredentialRequest,
    };

    hide!(BeginDirectUploadResponse: "BeginDirectUploadResponse", key, expire_time);
    hide!(CreateCredentialRequest: "CreateCredentialRequest", parent, request_id, credential_id);
    hide!(UpdateCredentialRequest: "UpdateCredentialRequest", name, request_id, etag);
    hide!(ReadCredentialResponse: "ReadCredentialResponse",);
}

hide!(crate::runner::v1::CredentialGiven: "CredentialGiven", error);
hide!(crate::runner::v1::DirectUpload: "DirectUpload",);

#[cfg(all(test, feature = "grpc"))]
mod tests {
    use crate::{
        runner::v1::{AgentMessage, CredentialGiven, DirectUpload, agent_message::Message},
        v1::{
            BeginDirectUploadResponse, CreateCredentialRequest, ReadCredentialResponse,
            UpdateCredentialRequest,
        },
    };

    #[test]
    fn no_value_stands_in_debug_output() {
        let value = "hunter2".to_owned();
        let create = CreateCredentialRequest {
            value: value.clone(),
            ..CreateCredentialRequest::default()
        };
        let update = UpdateCredentialRequest {
            value: value.clone(),
            ..UpdateCredentialRequest::default()
        };
        let read = ReadCredentialResponse {
            value: value.clone(),
        };
        let given = AgentMessage {
            message: Some(Message::Credential(CredentialGiven {
                value,
                error: String::new(),
            })),
        };
        let url = "https://store/key?X-Amz-Signature=hunter2".to_owned();
        let direct = DirectUpload {
            url: url.clone(),
            ..DirectUpload::default()
        };
        let begun = BeginDirectUploadResponse {
            url,
            ..BeginDirectUploadResponse::default()
        };
        let shown = format!("{create:?} {update:?} {read:?} {given:?} {direct:?} {begun:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
