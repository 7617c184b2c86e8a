//! The port itself: health, reflection, metrics, gRPC-Web, TLS, tokens.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use muster_core::clock::Clock;
use muster_proto::v1::{
    FILE_DESCRIPTOR_SET, ListExecutionsRequest, execution_service_client::ExecutionServiceClient,
    token::Role,
};
use muster_server::{Config, Server};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{
    Code, Request,
    service::Interceptor as _,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use super::{
    fixture::{Bearer, Fixture},
    home::Home,
};

pub(crate) fn list() -> ListExecutionsRequest {
    ListExecutionsRequest {
        parent: "projects/default".to_owned(),
        ..ListExecutionsRequest::default()
    }
}

/// Sends one HTTP/1.1 request and returns the whole answer.
async fn http1(fixture: &Fixture, request: Vec<u8>) -> String {
    let mut stream = tokio::net::TcpStream::connect(fixture.server.address())
        .await
        .expect("it listens");
    stream.write_all(&request).await.expect("it takes it");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_missing_or_wrong_token_is_unauthenticated() {
    let fixture = Fixture::start().await;
    for token in ["", "mst_wrong"] {
        let mut clients = fixture.clients(token).await;
        let status = clients
            .executions
            .list_executions(list())
            .await
            .expect_err(token);
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn no_method_of_the_api_answers_without_a_good_token() {
    let fixture = Fixture::start().await;
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("it is one");
    let mut refused = 0;
    let services = files.file.iter().flat_map(|file| &file.service);
    for (service, method) in services.flat_map(|s| s.method.iter().map(move |m| (s, m))) {
        let path = format!("/muster.v1.{}/{}", service.name(), method.name());
        for token in ["", "mst_wrong", "msa_wrong"] {
            let mut grpc = tonic::client::Grpc::new(fixture.channel().await);
            grpc.ready().await.expect("it listens");
            let request = Bearer(token.to_owned()).call(Request::new(()));
            let codec = tonic_prost::ProstCodec::<(), ()>::default();
            let path = path.parse().expect("a path");
            let status = grpc.unary(request.expect("good"), path, codec).await;
            let status = status.expect_err("no token");
            assert_eq!(status.code(), Code::Unauthenticated, "{}", method.name());
            refused += 1;
        }
    }
    assert!(refused > 90, "{refused}");
}

#[tokio::test]
async fn the_token_of_an_agent_is_good_for_the_link_alone_and_that_of_a_person_is_not() {
    let fixture = Fixture::start().await;
    let agent = fixture.agent("east").await;
    let mut clients = fixture.clients(&agent).await;
    let status = clients.executions.list_executions(list()).await;
    assert_eq!(status.expect_err("an agent").code(), Code::Unauthenticated);
    let mut admin = fixture.admin().await;
    let status = admin.link.link(tokio_stream::empty()).await.map(drop);
    assert_eq!(status.expect_err("a person").code(), Code::Unauthenticated);
}

#[tokio::test]
async fn metrics_are_shown_to_a_viewer() {
    let dir = Home::new().await;
    let config = dir.config();
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new()
        .build_recorder()
        .handle();
    let server = Server::start(config, Clock::system(), Some(metrics))
        .await
        .expect("it starts");
    let admin = std::fs::read_to_string(dir.path().join("admin-token")).expect("it is there");
    let fixture = Fixture {
        dir,
        server,
        admin: admin.trim().to_owned(),
    };
    let viewer = fixture.token_of_new_project("p", Role::Viewer).await;
    let get = format!(
        "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {viewer}\r\n\r\n"
    );
    let answer = http1(&fixture, get.into_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn health_is_open_and_reflection_needs_a_token() {
    let fixture = Fixture::start().await;
    let channel = fixture.channel().await;
    let request = HealthCheckRequest::default();
    HealthClient::new(channel.clone())
        .check(request)
        .await
        .expect("health is open");
    let ask = || {
        tokio_stream::once(ServerReflectionRequest {
            message_request: Some(MessageRequest::ListServices(String::new())),
            ..ServerReflectionRequest::default()
        })
    };
    let status = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(ask())
        .await
        .expect_err("there is no token");
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut client =
        ServerReflectionClient::with_interceptor(channel, Bearer(fixture.admin.clone()));
    let mut answers = client
        .server_reflection_info(ask())
        .await
        .expect("a token")
        .into_inner();
    let answer = answers.message().await.expect("an answer").expect("one");
    assert!(format!("{answer:?}").contains("muster.v1.ExecutionService"));
}

#[tokio::test]
async fn pages_answer_over_http_1_and_metrics_need_a_token() {
    let fixture = Fixture::start().await;
    let get = |path: &str, header: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n").into_bytes()
    };
    assert!(
        http1(&fixture, get("/healthz", ""))
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        http1(&fixture, get("/readyz", ""))
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        http1(&fixture, get("/metrics", ""))
            .await
            .starts_with("HTTP/1.1 401")
    );
}

#[tokio::test]
async fn a_grpc_web_call_over_http_1_is_answered() {
    let fixture = Fixture::start().await;
    let message = list().encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    body.extend(message);
    let head = format!(
        "POST /muster.v1.ExecutionService/ListExecutions HTTP/1.1\r\nhost: x\r\n\
         {CONTENT_TYPE}: application/grpc-web+proto\r\n{AUTHORIZATION}: Bearer {}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        fixture.admin,
        body.len()
    );
    let answer = http1(&fixture, [head.into_bytes(), body].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("grpc-status:0"), "{answer}");
}

#[tokio::test]
async fn outside_loopback_the_server_makes_a_certificate_that_clients_can_verify() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(dir.path().to_owned());
    config.listen = "0.0.0.0:0".parse().expect("an address");
    let server = Server::start(config, Clock::system(), None)
        .await
        .expect("it starts");
    assert!(server.is_secure());
    let ca = std::fs::read_to_string(server.ca().expect("it made one")).expect("it is there");
    let token = std::fs::read_to_string(dir.path().join("admin-token")).expect("it is there");
    let url = format!("https://localhost:{}", server.address().port());
    let connect = async |tls: ClientTlsConfig| {
        let endpoint = Channel::from_shared(url.clone())
            .expect("a URL")
            .tls_config(tls);
        endpoint.expect("good").connect().await
    };
    let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    let channel = connect(trusting).await.expect("the certificate is good");
    let bearer = Bearer(token.trim().to_owned());
    let mut client = ExecutionServiceClient::with_interceptor(channel, bearer);
    client
        .list_executions(Request::new(list()))
        .await
        .expect("it answers");
    assert!(
        connect(ClientTlsConfig::new()).await.is_err(),
        "an unknown authority is refused"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_connection_whose_other_end_is_silent_is_closed_in_time() {
    let fixture = Fixture::start().await;
    let mut stream = tokio::net::TcpStream::connect(fixture.server.address())
        .await
        .expect("it listens");
    // The preface of HTTP/2 and empty settings; nothing is answered after that.
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
    ];
    stream
        .write_all(&preface.concat())
        .await
        .expect("it takes it");
    let mut heard = Vec::new();
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, stream.read_to_end(&mut heard))
        .await
        .expect("it is closed in time")
        .expect("in an orderly way");
    // The type of a frame is its fourth byte; 6 is PING.
    assert!(
        heard.windows(4).any(|frame| frame == [0, 0, 8, 6]),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let fixture = Fixture::start_on_files().await;
    let Fixture { dir, server, .. } = fixture;
    server.stop().await;
    let url = format!("sqlite://{}", dir.path().join("muster.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("it is there");
    sqlx::query("insert into seaql_migrations (version, applied_at) values ('m2099_future', 1)")
        .execute(&pool)
        .await
        .expect("the table is there");
    pool.close().await;
    let config = Config::new(dir.path().to_owned());
    let error = Server::start(config, Clock::system(), None)
        .await
        .expect_err("it is newer");
    assert!(error.to_string().contains("m2099_future"), "{error}");
}
