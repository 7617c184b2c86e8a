//! The reader against a registry on loopback.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};

use super::*;

/// What a registry holds, and who asked.
struct Shelf {
    documents: HashMap<String, String>,
    /// Where tokens are, when a login is needed.
    realm: Option<String>,
    asked: Mutex<Vec<String>>,
}

async fn answer(
    State(shelf): State<Arc<Shelf>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    shelf.asked.lock().expect("no panic").push(path.clone());
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok());
    if path == "token" {
        return match shown {
            Some("Basic dTpw") => r#"{"token":"t"}"#.into_response(),
            _ => StatusCode::UNAUTHORIZED.into_response(),
        };
    }
    if let Some(realm) = shelf.realm.as_ref().filter(|_| shown != Some("Bearer t")) {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        return (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, challenge)],
        )
            .into_response();
    }
    match shelf.documents.get(&path) {
        Some(document) => document.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A registry with `a/b:1`: a list with an image for each platform.
async fn registry(login: bool) -> (String, Arc<Shelf>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let host = listener.local_addr().expect("an address").to_string();
    let mut documents = HashMap::new();
    let mut entries = Vec::new();
    for (os, architecture) in [("windows", "amd64"), ("linux", "arm64"), ("linux", "amd64")] {
        let config =
            format!(r#"{{"config":{{"Entrypoint":["/{os}"],"Cmd":["x"]}},"a":"{architecture}"}}"#);
        let config_digest = digest(config.as_bytes());
        let image = format!(r#"{{"config":{{"digest":"{config_digest}"}}}}"#);
        let image_digest = digest(image.as_bytes());
        entries.push(format!(
            r#"{{"digest":"{image_digest}","platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
        ));
        documents.insert(format!("v2/a/b/blobs/{config_digest}"), config);
        documents.insert(format!("v2/a/b/manifests/{image_digest}"), image);
    }
    let list = format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
    documents.insert("v2/a/b/manifests/1".to_owned(), list);
    let shelf = Arc::new(Shelf {
        documents,
        realm: login.then(|| format!("http://{host}/token")),
        asked: Mutex::default(),
    });
    let router = Router::new()
        .route("/{*path}", get(answer))
        .with_state(Arc::clone(&shelf));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (host, shelf)
}

fn reader(host: &str) -> Registry {
    let settings = Registries {
        insecure: BTreeSet::from([host.to_owned()]),
        mirrors: BTreeMap::from([("docker.io".to_owned(), format!("http://{host}"))]),
    };
    Registry::new(settings).expect("settings are good")
}

#[tokio::test]
async fn the_config_of_the_linux_image_is_read_and_kept() {
    let (host, shelf) = registry(false).await;
    let reader = reader(&host);
    let logins = Logins::default();
    for image in [format!("{host}/a/b:1"), "a/b:1".to_owned()] {
        let config = reader
            .image_config(&image, &logins)
            .await
            .expect("it is there");
        assert_eq!(
            (config.entrypoint, config.cmd),
            (vec!["/linux".to_owned()], vec!["x".to_owned()])
        );
    }
    let blobs = shelf
        .asked
        .lock()
        .expect("no panic")
        .iter()
        .filter(|path| path.contains("blobs"))
        .count();
    assert_eq!(blobs, 1, "the second read needs no blob");
}

#[tokio::test]
async fn a_login_is_shown_when_it_is_asked_for() {
    let (host, _shelf) = registry(true).await;
    let reader = reader(&host);
    let image = format!("{host}/a/b:1");
    let error = reader
        .image_config(&image, &Logins::default())
        .await
        .expect_err("no login");
    assert!(error.to_string().contains("login"), "{error}");
    let json = format!(r#"{{"auths":{{"{host}":{{"username":"u","password":"p"}}}}}}"#);
    let logins = Login::parse_docker_config(json.as_bytes()).expect("it is one");
    assert!(reader.image_config(&image, &logins).await.is_ok());
}

#[tokio::test]
async fn an_image_that_is_not_there_names_the_cure() {
    let (host, _shelf) = registry(false).await;
    let error = reader(&host)
        .image_config(&format!("{host}/a/b:2"), &Logins::default())
        .await
        .expect_err("it is not there");
    let text = error.to_string();
    assert!(
        text.contains("it is not there") && text.contains("'command'"),
        "{text}"
    );
}

#[tokio::test]
async fn a_registry_that_is_down_says_why() {
    let error = reader("127.0.0.1:1")
        .image_config("127.0.0.1:1/a/b:2", &Logins::default())
        .await
        .expect_err("nobody listens");
    assert!(error.to_string().contains("refused"), "{error}");
}
