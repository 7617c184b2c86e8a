//! Plain HTTP beside gRPC: health for load balancers, metrics for Prometheus.

use std::sync::Arc;

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{HeaderMap, StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    app::{App, Call},
    grpc,
};

#[derive(Clone)]
struct Pages {
    app: Arc<App>,
    metrics: Option<PrometheusHandle>,
}

/// All routes of the port.
///
/// # Errors
///
/// When the descriptor of the services can not be read.
pub(crate) async fn router(
    app: &Arc<App>,
    metrics: Option<PrometheusHandle>,
) -> Result<Router, tonic_reflection::server::Error> {
    let pages = Pages {
        app: Arc::clone(app),
        metrics,
    };
    let plain = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(pages);
    Ok(grpc::routes(app).await?.merge(plain))
}

/// Whether this server can serve calls: the database answers and it is not stopping.
async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    if pages.app.link.drain.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    match pages.app.store.ping().await {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(error) => {
            tracing::warn!(%error, "the database does not answer");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the database does not answer\n",
            )
        }
    }
}

/// Metrics name no tenant, but need a token like everything else; a viewer's is enough.
async fn show_metrics(State(pages): State<Pages>, headers: HeaderMap) -> axum::response::Response {
    let secret = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| grpc::bearer(value.to_str().ok()?));
    let caller = match secret {
        Some(secret) => {
            let call = Arc::new(Call::new("metrics".into(), String::new()));
            pages.app.authenticate(secret, call).await.ok()
        }
        None => None,
    };
    if caller.is_none() {
        let text = "send `authorization: Bearer <token>`\n";
        return (StatusCode::UNAUTHORIZED, text).into_response();
    }
    match &pages.metrics {
        Some(metrics) => metrics.render().into_response(),
        None => (StatusCode::NOT_FOUND, "this server keeps no metrics\n").into_response(),
    }
}
