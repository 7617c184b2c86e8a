//! A PostgreSQL server of one test alone, which that test kills, fills and makes read-only. Not the one
//! that others use: a full disk keeps all its databases from being made and dropped.

use std::{
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::{command::run, disk::Disk, given, port, wait};

/// A PostgreSQL server with a database on a small disk.
#[derive(Debug)]
pub struct Server {
    /// The database.
    pub url: String,
    /// Where it is.
    pub disk: Disk,
    process: Option<Child>,
    port: u16,
    data: PathBuf,
    programs: PathBuf,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts one with so many bytes for its database. Nothing, and a word about it, where PostgreSQL
    /// is not installed or this user can not mount.
    ///
    /// # Errors
    ///
    /// When it does not start, or where servers and mounts are required.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub async fn start(bytes: u64) -> anyhow::Result<Option<Self>> {
        let Some(programs) = programs() else {
            ensure!(
                !given::is_required(),
                "PostgreSQL is not installed, but servers are required"
            );
            eprintln!("skipped: PostgreSQL is not installed");
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open)?;
        let (disk, data) = (folder.path().join("disk"), folder.path().join("data"));
        let Some(disk) = Disk::mount(&disk, bytes)? else {
            return Ok(None);
        };
        let space = disk.path().join("space");
        for owned in [&data, &space] {
            let options = ["-d", "-o", "postgres", "-g", "postgres", "-m", "0700"];
            run(Command::new("install").args(options).arg(owned))?;
        }
        let options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"];
        run(as_postgres(&programs.join("initdb"), &data).args(options))?;
        let port = port::free(Ipv4Addr::LOCALHOST.into())?;
        let mut server = Self {
            url: url(port, "postgres"),
            disk,
            process: None,
            port,
            data,
            programs,
            _folder: folder,
        };
        server.start_again().await?;
        let make = format!("CREATE TABLESPACE small LOCATION '{}'", space.display());
        execute(&server.url, &make).await?;
        execute(&server.url, "CREATE DATABASE muster TABLESPACE small").await?;
        server.url = url(port, "muster");
        Ok(Some(server))
    }

    /// Kills it, as a crash does.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Starts it where it does not run, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let any = url(self.port, "postgres");
        wait::until("PostgreSQL answers", async || {
            let mut process = match self.process.take() {
                Some(process) => process,
                None => self.spawn()?,
            };
            // It does not start beside what is left of the one that was killed.
            if process.try_wait()?.is_some() {
                return Ok(None);
            }
            self.process = Some(process);
            Ok(PgConnection::connect(&any).await.ok().map(drop))
        })
        .await
    }

    /// Lets its database take no changes, or take them again.
    ///
    /// # Errors
    ///
    /// As of [`make_read_only`].
    pub async fn make_read_only(&self, read_only: bool) -> anyhow::Result<()> {
        make_read_only(&url(self.port, "postgres"), "muster", read_only).await
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let sockets = format!("unix_socket_directories={}", self.data.display());
        as_postgres(&self.programs.join("postgres"), &self.data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", &format!("port={}", self.port), "-c", &sockets])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting PostgreSQL")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill().ok();
    }
}

/// Does one thing on a database.
///
/// # Errors
///
/// When it is not done.
pub async fn execute(url: &str, statement: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let statement = AssertSqlSafe(statement.to_owned());
    connection.execute(statement).await?;
    connection.close().await?;
    Ok(())
}

/// Lets a database of a server take no changes, or take them again, for connections that are there
/// too: they are ended, as by a server that became a standby.
///
/// # Errors
///
/// When the server refuses.
pub async fn make_read_only(server: &str, name: &str, read_only: bool) -> anyhow::Result<()> {
    let value = if read_only { "on" } else { "off" };
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    execute(server, &set).await?;
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    execute(server, &end).await
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{database}")
}

/// Where the newest PostgreSQL of this machine has its programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    programs.filter(|bin| bin.join("initdb").exists()).max()
}

/// A program of PostgreSQL, which does not run as root.
fn as_postgres(program: &Path, data: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "postgres", "--regid", "postgres"])
        .arg("--clear-groups")
        .arg(program)
        .arg("-D")
        .arg(data)
        .current_dir(data);
    command
}
