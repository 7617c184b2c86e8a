//! Credentials of a call: a bearer token in its metadata.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use muster_storage::agent::Agent;
use tonic::{Request, Status, body::Body, metadata::MetadataMap};
use tower::{Layer, Service};

use super::Api;
use crate::app::{App, Call, Caller, Error, agent_actor};

/// What a caller without a token is told.
const MISSING: &str = "a token is missing: send `authorization: Bearer <token>`";

/// The token of an `authorization` value.
pub(crate) fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.trim())
}

fn token(metadata: &MetadataMap) -> Result<&str, Error> {
    metadata
        .get("authorization")
        .and_then(|value| bearer(value.to_str().ok()?))
        .ok_or(Error::Unauthenticated(MISSING))
}

/// The call that a request belongs to.
pub(super) fn call(extensions: &http::Extensions) -> Arc<Call> {
    let known = extensions.get::<Arc<Call>>().map(Arc::clone);
    known.unwrap_or_else(|| Arc::new(Call::new("unknown".into(), String::new())))
}

/// The hash of the token of a call.
pub(super) fn token_hash(metadata: &MetadataMap) -> Result<[u8; 32], Error> {
    token(metadata).map(crate::token::hash)
}

impl Api {
    /// Who calls, and what for.
    pub(super) async fn authenticate<T>(&self, request: Request<T>) -> Result<(Caller, T), Status> {
        let call = call(request.extensions());
        let secret = token(request.metadata())?;
        let caller = self.app.authenticate(secret, call).await?;
        Ok((caller, request.into_inner()))
    }

    /// Which agent calls, and what for.
    pub(super) async fn authenticate_agent<T>(
        &self,
        request: Request<T>,
    ) -> Result<(Agent, T), Status> {
        let agent = self
            .app
            .authenticate_agent(token(request.metadata())?)
            .await?;
        call(request.extensions()).is_by(agent_actor(&agent));
        Ok((agent, request.into_inner()))
    }
}

/// Lets only calls with a good token through to a service that knows no callers.
#[derive(Debug, Clone)]
pub(super) struct RequireToken {
    app: Arc<App>,
}

impl RequireToken {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

impl<S> Layer<S> for RequireToken {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            app: Arc::clone(&self.app),
            inner,
        }
    }
}

/// A service behind [`RequireToken`].
#[derive(Debug, Clone)]
pub(super) struct Guarded<S> {
    app: Arc<App>,
    inner: S,
}

impl<S, B> Service<http::Request<B>> for Guarded<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let app = Arc::clone(&self.app);
        // The one that is ready is used, its clone waits.
        let waiting = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, waiting);
        Box::pin(async move {
            let secret = request
                .headers()
                .get(http::header::AUTHORIZATION)
                .and_then(|value| bearer(value.to_str().ok()?));
            let known = match secret {
                Some(secret) => app
                    .authenticate(secret, call(request.extensions()))
                    .await
                    .map(drop),
                None => Err(Error::Unauthenticated(MISSING)),
            };
            match known {
                Ok(()) => inner.call(request).await,
                Err(error) => Ok(Status::from(error).into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_counts() {
        assert_eq!(bearer("Bearer mst_x"), Some("mst_x"));
        assert_eq!(bearer("bearer mst_x"), Some("mst_x"));
        assert_eq!(bearer("Basic mst_x"), None);
        assert_eq!(bearer("Bearer "), None);
    }
}
