//! Credentials: values go in, and come out to nobody but the agent that runs an attempt whose plan
//! names them.

use std::path::Path;

use muster_core::clock::Clock;
use muster_proto::v1::{
    Assignment, CreateCredentialRequest, CreateExecutionRequest, Credential,
    DeleteCredentialRequest, GetCredentialRequest, InlineWorkflow, ListCredentialsRequest,
    ReadCredentialRequest, UpdateCredentialRequest, create_execution_request::Source, token::Role,
};
use muster_server::{Config, Server, runtime::Error};
use tonic::{Code, Status};

use super::{
    agent::Agent,
    fixture::{Clients, Fixture, run},
};

const VALUE: &str = "hunter2-hunter2";
const NAME: &str = "projects/default/credentials/token";

const ASKING: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: asking}
spec:
  steps:
  - shell: login {{ credential('token') }} {{ credential('missing') }}
";

fn create(parent: &str) -> CreateCredentialRequest {
    CreateCredentialRequest {
        parent: parent.to_owned(),
        request_id: uuid::Uuid::now_v7().to_string(),
        credential_id: "token".to_owned(),
        value: VALUE.to_owned(),
        description: "for tests".to_owned(),
    }
}

fn update(value: &str) -> UpdateCredentialRequest {
    UpdateCredentialRequest {
        name: NAME.to_owned(),
        value: value.to_owned(),
        ..UpdateCredentialRequest::default()
    }
}

async fn store(clients: &mut Clients) -> Credential {
    let made = clients
        .credentials
        .create_credential(create("projects/default"));
    let made = made.await.expect("it is stored").into_inner();
    made.credential.expect("it is told")
}

/// An agent that runs [`ASKING`].
async fn asking(fixture: &Fixture) -> (Agent, Assignment) {
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(fixture, &token, Vec::new()).await;
    let request = CreateExecutionRequest {
        source: Some(Source::Inline(InlineWorkflow {
            manifest: ASKING.to_owned(),
            workflow: String::new(),
        })),
        ..run()
    };
    fixture.admin().await.create(request).await;
    let work = agent.work().await;
    (agent, work)
}

fn wish(work: &Assignment, name: &str) -> ReadCredentialRequest {
    ReadCredentialRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        credential: name.to_owned(),
    }
}

async fn read(agent: &mut Agent, wish: ReadCredentialRequest) -> Result<String, Status> {
    let read = agent.clients.link.read_credential(wish).await;
    read.map(|read| read.into_inner().value)
}

#[tokio::test]
async fn a_value_goes_in_and_only_the_attempt_that_names_it_gets_it() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let made = store(&mut admin).await;
    assert_eq!((made.name.as_str(), made.revision), (NAME, 1));
    let (mut agent, work) = asking(&fixture).await;
    assert_eq!(
        read(&mut agent, wish(&work, "token")).await.expect("given"),
        VALUE
    );
    let replaced = admin.credentials.update_credential(update("another"));
    let replaced = replaced.await.expect("replaced").into_inner().credential;
    let replaced = replaced.expect("it is told");
    assert_eq!(replaced.description, "for tests", "it is kept");
    assert_eq!(
        read(&mut agent, wish(&work, "token")).await.expect("given"),
        "another"
    );
}

#[tokio::test]
async fn no_other_attempt_epoch_name_or_project_gets_it() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    store(&mut admin).await;
    let other = CreateCredentialRequest {
        credential_id: "other".to_owned(),
        ..create("projects/default")
    };
    admin
        .credentials
        .create_credential(other)
        .await
        .expect("it is stored");
    let (mut agent, work) = asking(&fixture).await;
    let token = fixture.agent("west").await;
    let (mut west, _) = Agent::connect(&fixture, &token, Vec::new()).await;

    let refused = read(&mut west, wish(&work, "token")).await;
    assert_eq!(refused.expect_err("not its own").code(), Code::NotFound);
    let mut old = wish(&work, "token");
    old.epoch -= 1;
    let refused = read(&mut agent, old).await;
    assert_eq!(refused.expect_err("an old epoch").code(), Code::Aborted);
    // It is there, and the plan does not name it.
    let refused = read(&mut agent, wish(&work, "other")).await;
    let refused = refused.expect_err("not named");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("does not name"), "{refused}");
    // The plan names it, and it is not there.
    let refused = read(&mut agent, wish(&work, "missing")).await;
    let refused = refused.expect_err("not there");
    assert_eq!(refused.code(), Code::NotFound);
    assert!(
        refused.message().contains("muster credentials set missing"),
        "{refused}"
    );
    // People have no way to a value at all.
    let refused = admin.link.read_credential(wish(&work, "token")).await;
    assert_eq!(refused.expect_err("no agent").code(), Code::Unauthenticated);

    agent.complete(&work, b"").await;
    let refused = read(&mut agent, wish(&work, "token")).await;
    let code = refused.expect_err("it has ended").code();
    assert!(matches!(code, Code::Aborted | Code::NotFound), "{code:?}");
}

#[tokio::test]
async fn a_credential_of_another_project_is_another_one() {
    let fixture = Fixture::start().await;
    let mut foreign = fixture.member_of_new_project("other").await;
    let made = foreign
        .credentials
        .create_credential(create("projects/other"))
        .await;
    made.expect("it is stored");
    let (mut agent, work) = asking(&fixture).await;
    let refused = read(&mut agent, wish(&work, "token")).await;
    assert_eq!(refused.expect_err("not here").code(), Code::NotFound);
}

#[tokio::test]
async fn a_viewer_does_not_even_see_the_names() {
    let fixture = Fixture::start().await;
    let token = fixture.token_of_new_project("other", Role::Viewer).await;
    let mut viewer = fixture.clients(&token).await;
    let list = ListCredentialsRequest {
        parent: "projects/other".to_owned(),
        ..ListCredentialsRequest::default()
    };
    let refused = viewer.credentials.list_credentials(list).await;
    assert_eq!(
        refused.expect_err("it may only look").code(),
        Code::PermissionDenied
    );
    let refused = viewer
        .credentials
        .create_credential(create("projects/other"))
        .await;
    assert_eq!(
        refused.expect_err("it may only look").code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn changes_are_safe_to_repeat_and_guarded_by_the_etag() {
    let fixture = Fixture::start().await;
    let mut clients = fixture.admin().await.credentials;
    let request = create("projects/default");
    let first = clients.create_credential(request.clone()).await;
    let first = first.expect("stored").into_inner();
    let again = clients.create_credential(request.clone()).await;
    assert_eq!(again.expect("the same").into_inner(), first);
    let other = CreateCredentialRequest {
        value: "another".to_owned(),
        ..request
    };
    let refused = clients.create_credential(other).await;
    assert_eq!(
        refused.expect_err("another value").code(),
        Code::InvalidArgument
    );
    let etag = first.credential.expect("it is told").etag;
    let on_top = UpdateCredentialRequest {
        etag,
        ..update("second")
    };
    let updated = clients.update_credential(on_top.clone()).await;
    updated.expect("it was the newest");
    let refused = clients.update_credential(on_top).await;
    assert_eq!(refused.expect_err("it was not").code(), Code::Aborted);

    let name = || NAME.replace("token", "fresh");
    let missing = UpdateCredentialRequest {
        name: name(),
        ..update("x")
    };
    let refused = clients.update_credential(missing.clone()).await;
    assert_eq!(refused.expect_err("not there").code(), Code::NotFound);
    let allowed = UpdateCredentialRequest {
        allow_missing: true,
        ..missing
    };
    clients.update_credential(allowed).await.expect("stored");
    let list = ListCredentialsRequest {
        parent: "projects/default".to_owned(),
        page_size: 1,
        ..ListCredentialsRequest::default()
    };
    let page = clients.list_credentials(list).await.expect("a page");
    let page = page.into_inner();
    assert_eq!(page.credentials[0].name, name());
    assert!(!page.next_page_token.is_empty());
    let delete = DeleteCredentialRequest {
        name: name(),
        ..DeleteCredentialRequest::default()
    };
    clients.delete_credential(delete).await.expect("deleted");
    let get = GetCredentialRequest { name: name() };
    let gone = clients.get_credential(get).await;
    assert_eq!(gone.expect_err("it is gone").code(), Code::NotFound);
}

/// Every file below a directory that has these bytes.
fn holding(dir: &Path, text: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            holding(&path, text, found);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        if bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
}

#[tokio::test]
async fn a_value_stands_nowhere_in_the_data_and_outlives_a_restart() {
    let fixture = Fixture::start_on_files().await;
    store(&mut fixture.admin().await).await;
    let mut found = Vec::new();
    holding(fixture.dir.path(), "for tests", &mut found);
    assert!(!found.is_empty(), "the description is in the database");
    found.clear();
    holding(fixture.dir.path(), VALUE, &mut found);
    assert!(found.is_empty(), "{found:?}");
    let fixture = fixture.restart().await;
    let (mut agent, work) = asking(&fixture).await;
    let value = read(&mut agent, wish(&work, "token")).await;
    assert_eq!(value.expect("given"), VALUE);
}

#[tokio::test]
async fn another_key_opens_nothing_and_says_so() {
    let fixture = Fixture::start_on_files().await;
    store(&mut fixture.admin().await).await;
    let Fixture { dir, server, admin } = fixture;
    server.stop().await;
    // The data without its key: a new one would open nothing.
    std::fs::rename(
        dir.path().join("credential-key"),
        dir.path().join("kept-elsewhere"),
    )
    .expect("it was made");
    let mut config = Config::new(dir.path().to_owned());
    config.listen.set_port(0);
    let refused = Server::start(config.clone(), Clock::system(), None).await;
    let refused = refused.map(drop).expect_err("no key");
    assert!(matches!(refused, Error::Vault(_)), "{refused:?}");
    let refused = refused.to_string();
    assert!(
        refused.contains("1 credentials") && refused.contains("--credential-key-file"),
        "{refused}"
    );

    // One that was given knowingly is taken.
    let key = dir.path().join("another");
    std::fs::write(&key, "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n").expect("written");
    config.credential_key_file = Some(key);
    let server = Server::start(config, Clock::system(), None).await;
    let server = server.expect("it starts");
    let fixture = Fixture { dir, server, admin };
    let (mut agent, work) = asking(&fixture).await;
    let refused = read(&mut agent, wish(&work, "token")).await;
    let refused = refused.expect_err("another key");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("--credential-key-file"),
        "{refused}"
    );
    let set = fixture
        .admin()
        .await
        .credentials
        .update_credential(update("again"))
        .await;
    set.expect("it can be set again");
    let value = read(&mut agent, wish(&work, "token")).await;
    assert_eq!(value.expect("given"), "again");
}
