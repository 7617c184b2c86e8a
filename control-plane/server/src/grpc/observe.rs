//! Counts and times all calls, gives each a span, and lets refusals come into the audit log. A call whose caller went away is counted as
//! cancelled, not as good.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use muster_proto::v1::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument as _;

use crate::{
    app::{App, Call},
    http::Peer,
    metrics::{CALL_SECONDS, CALLS},
};

/// The label of a method that is not known: callers must not be able to make labels.
const UNKNOWN: &str = "unknown";

/// The header of proxies.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Observes the calls of a service.
#[derive(Debug, Clone)]
pub(super) struct Observe {
    /// `Service/Method` by path.
    methods: Arc<HashMap<String, Arc<str>>>,
    app: Arc<App>,
}

/// `Service/Method` by path.
fn methods() -> HashMap<String, Arc<str>> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let mut methods = HashMap::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}/{}", service.name(), method.name());
                methods.insert(format!("/{}.{name}", file.package()), name.into());
            }
        }
    }
    methods
}

impl Observe {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self {
            methods: Arc::new(methods()),
            app,
        }
    }
}

/// The address that a call comes from: of the connection, or what the proxy at its other end says when
/// that is trusted.
fn peer<B>(request: &http::Request<B>, trust_forwarded_for: bool) -> String {
    if trust_forwarded_for {
        let all = request.headers().get_all(FORWARDED_FOR);
        let told = all.iter().next_back().and_then(|it| it.to_str().ok());
        // Each proxy adds the address that it has seen behind those that it was told.
        let last = told.and_then(|told| told.rsplit(',').next());
        if let Some(Ok(address)) = last.map(|it| it.trim().parse::<IpAddr>()) {
            return address.to_string();
        }
    }
    let peer = request.extensions().get::<Peer>();
    peer.map_or_else(String::new, |Peer(address)| address.to_string())
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            observe: self.clone(),
            inner,
        }
    }
}

/// A service behind [`Observe`].
#[derive(Debug, Clone)]
pub(super) struct Observed<S> {
    observe: Observe,
    inner: S,
}

impl<S, B> Service<http::Request<B>> for Observed<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let method = self
            .observe
            .methods
            .get(request.uri().path())
            .map_or_else(|| UNKNOWN.into(), Arc::clone);
        let span = tracing::info_span!("call", method = &*method);
        let begun = Instant::now();
        let mut outcome = Outcome {
            method: Arc::clone(&method),
            code: Some(Code::Cancelled),
        };
        let app = Arc::clone(&self.observe.app);
        let peer = peer(&request, app.config.trust_forwarded_for);
        let call = Arc::new(Call::new(Arc::clone(&method), peer));
        request.extensions_mut().insert(Arc::clone(&call));
        let answer = self.inner.call(request);
        let observed = async move {
            let response = answer.await?;
            metrics::histogram!(CALL_SECONDS, "method" => method)
                .record(begun.elapsed().as_secs_f64());
            if let Some(status) = Status::from_header_map(response.headers()) {
                outcome.end(status.code());
                app.note_refusal(&call, status.code(), status.message())
                    .await;
            }
            Ok(response.map(|inner| Body::new(Watched { inner, outcome })))
        };
        Box::pin(observed.instrument(span))
    }
}

/// How a call ends; counted once, when it is known or dropped.
#[derive(Debug)]
struct Outcome {
    method: Arc<str>,
    /// What it is if nothing else is heard; `None` once it is counted.
    code: Option<Code>,
}

impl Outcome {
    fn end(&mut self, code: Code) {
        if self.code.is_some() {
            self.code = Some(code);
            self.count();
        }
    }

    fn count(&mut self) {
        if let Some(code) = self.code.take() {
            let method = Arc::clone(&self.method);
            metrics::counter!(CALLS, "method" => method, "code" => format!("{code:?}"))
                .increment(1);
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.count();
    }
}

/// A body whose trailers tell how the call ended.
struct Watched {
    inner: Body,
    outcome: Outcome,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.outcome.end(code(trailers));
                }
            }
            Poll::Ready(Some(Err(status))) => {
                let code = status.code();
                self.outcome.end(code);
            }
            Poll::Ready(None) => self.outcome.end(Code::Ok),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn code(trailers: &HeaderMap) -> Code {
    Status::from_header_map(trailers).map_or(Code::Ok, |status| status.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_api_has_a_label_and_nothing_else_has() {
        let methods = methods();
        let path = "/muster.v1.ExecutionService/GetExecution";
        assert_eq!(&*methods[path], "ExecutionService/GetExecution");
        assert!(!methods.contains_key("/muster.v1.ExecutionService/Nope"));
        assert!(methods.len() > 30, "{}", methods.len());
    }
}
