//! Where a server of a test keeps what it has: a folder that ends with the test, and with
//! `MUSTER_TEST_ON_SERVERS=1` a database of PostgreSQL and a folder of an object store of its own in the place
//! of SQLite and files. One suite proves both so.

use std::path::Path;

use futures::TryStreamExt as _;
use muster_server::Config;
use muster_storage::blob::{Blobs, Credentials, Options};
use muster_tests::given;

use super::postgres;

/// The folder, and what of it is elsewhere.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    servers: Option<Servers>,
}

struct Servers {
    database: String,
    blobs: String,
}

impl Home {
    /// On the servers that are given, where that is asked for.
    pub(crate) async fn new() -> Self {
        let mut home = Self::on_files();
        if std::env::var("MUSTER_TEST_ON_SERVERS").is_ok_and(|on| on == "1") {
            let database = postgres::database().await.expect("a PostgreSQL is given");
            let blobs = given::object_store().expect("it is given where it is required");
            home.servers = Some(Servers {
                database,
                blobs: blobs.expect("an object store is given"),
            });
        }
        home
    }

    /// SQLite and files, whatever is asked for: for what looks into them.
    pub(crate) fn on_files() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary directory"),
            servers: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The keys of all blobs, but those that a server tries its store out with.
    pub(crate) async fn blobs(&self) -> Vec<String> {
        let config = self.config();
        let blobs = Blobs::open(&config.blobs_url(), &config.blob_options).await;
        let blobs = blobs.expect("the store");
        let mut keys = Vec::new();
        for folder in ["logs", "artifacts"] {
            let listed = blobs.list(folder).expect("a folder");
            let listed: Vec<_> = listed.try_collect().await.expect("a list");
            keys.extend(listed.into_iter().map(|blob| blob.key));
        }
        keys.sort();
        keys
    }

    /// The settings of a server that lives here.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new(self.path().to_owned());
        config.listen.set_port(0);
        if let Some(Servers { database, blobs }) = &self.servers {
            config.database = Some(database.clone());
            config.blobs = Some(blobs.clone());
            config.blob_options = options();
        }
        config
    }
}

impl Drop for Home {
    /// Drops the database; what a test leaves in the store is little.
    fn drop(&mut self) {
        let Some(Servers { database, .. }) = self.servers.take() else {
            return;
        };
        // The runtime of the test can not be waited on from here.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .expect("a runtime")
                .block_on(postgres::drop_database(&database));
        });
        let _panicked = dropping.join();
    }
}

/// How the object store is spoken to that is given.
pub(crate) fn options() -> Options {
    let variable = |name| std::env::var(name).expect("the credential is given");
    Options {
        credentials: Some(Credentials {
            access_key_id: variable("AWS_ACCESS_KEY_ID"),
            secret_access_key: variable("AWS_SECRET_ACCESS_KEY"),
            session_token: None,
        }),
        ..Options::default()
    }
}
