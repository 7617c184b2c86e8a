//! Where a command works: a server, or this machine's own data. Flags win over the environment,
//! the environment over the current context; the token of a context goes to its server alone.

use std::path::{Path, PathBuf};

use crate::{
    arguments::Global,
    client::Client,
    context::{self, Context, Contexts, LOCAL},
    embedded::ControlPlane,
    error::Error,
};

/// Project without any setting.
const DEFAULT_PROJECT: &str = "default";

/// Where a command works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A server.
    Server(Remote),
    /// This machine's own data.
    Local,
}

/// How to reach a server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Its address.
    pub(crate) url: String,
    /// The credential.
    pub(crate) token: Option<String>,
    /// PEM certificates to trust in place of the system's.
    pub(crate) authority: Option<Vec<u8>>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A connection, and the control plane behind it where that is in this process.
#[derive(Debug)]
pub(crate) struct Session {
    /// The connection.
    pub(crate) client: Client,
    local: Option<ControlPlane>,
}

impl Session {
    /// Connects to the server, or opens this machine's own data.
    pub(crate) async fn open(global: &Global) -> Result<Self, Error> {
        Self::open_with(global, None).await
    }

    /// As [`Session::open`]; what runs on this machine is put over a global template.
    pub(crate) async fn open_with(
        global: &Global,
        global_template: Option<String>,
    ) -> Result<Self, Error> {
        match place(global)? {
            Place::Server(remote) => {
                let client = Client::connect(&remote, &project(global)?).await?;
                Ok(Self {
                    client,
                    local: None,
                })
            }
            Place::Local => {
                let local = ControlPlane::open(&data_dir(global)?, global_template).await?;
                let client = local.client(&project(global)?).await?;
                Ok(Self {
                    client,
                    local: Some(local),
                })
            }
        }
    }

    /// The control plane, when it is in this process.
    pub(crate) const fn local(&self) -> Option<&ControlPlane> {
        self.local.as_ref()
    }

    /// Ends the control plane of this process.
    pub(crate) async fn close(self) {
        drop(self.client);
        if let Some(local) = self.local {
            local.close().await;
        }
    }
}

/// Decides where a command works.
pub(crate) fn place(global: &Global) -> Result<Place, Error> {
    let environment = |name: &str| variable(name);
    let chosen = chosen_context(global)?;
    let server = match (&global.server, &global.context) {
        (Some(url), _) => Some((url.clone(), None)),
        (None, Some(_)) => chosen.map(|context| (context.server.clone(), Some(context))),
        (None, None) => match environment("MUSTER_SERVER") {
            Some(url) => Some((url, None)),
            None => chosen.map(|context| (context.server.clone(), Some(context))),
        },
    };
    let Some((url, context)) = server else {
        return Ok(Place::Local);
    };
    let token = match token(global)? {
        Some(token) => Some(token),
        None => context.as_ref().map_or(Ok(None), token_of)?,
    };
    let authority = global
        .ca_file
        .clone()
        .or_else(|| environment("MUSTER_CA_FILE").map(PathBuf::from))
        .or_else(|| context.and_then(|context| context.ca_file));
    let authority = match authority {
        Some(path) => Some(std::fs::read(&path).map_err(Error::file("read", &path))?),
        None => None,
    };
    Ok(Place::Server(Remote {
        url,
        token,
        authority,
    }))
}

/// The token of flags or environment, without regard to contexts.
pub(crate) fn token(global: &Global) -> Result<Option<String>, Error> {
    if let Some(token) = &global.token {
        return Ok(Some(token.clone()));
    }
    if let Some(path) = &global.token_file {
        return read_token(path).map(Some);
    }
    if let Some(token) = variable("MUSTER_TOKEN") {
        return Ok(Some(token));
    }
    match variable("MUSTER_TOKEN_FILE") {
        Some(path) => read_token(Path::new(&path)).map(Some),
        None => Ok(None),
    }
}

/// The project of flags, environment or context.
pub(crate) fn project(global: &Global) -> Result<String, Error> {
    if let Some(project) = &global.project {
        return Ok(project.clone());
    }
    if let Some(project) = variable("MUSTER_PROJECT") {
        return Ok(project);
    }
    let context = match global.server {
        Some(_) => None,
        None => chosen_context(global)?,
    };
    let project = context.and_then(|context| context.project);
    Ok(project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned()))
}

/// Folder of this machine's own data.
pub(crate) fn data_dir(global: &Global) -> Result<PathBuf, Error> {
    let path = global
        .data_dir
        .clone()
        .or_else(|| variable("MUSTER_DATA_DIR").map(PathBuf::from))
        .or_else(|| {
            user_folder("XDG_DATA_HOME", ".local/share").map(|folder| folder.join("muster"))
        })
        .ok_or_else(|| Error::Usage("HOME is not set; give --data-dir".to_owned()))?;
    std::path::absolute(&path).map_err(Error::file("use", &path))
}

/// A folder of the user by the XDG rules: the variable when it is absolute, else below HOME.
pub(crate) fn user_folder(name: &str, below_home: &str) -> Option<PathBuf> {
    let set = variable(name).map(PathBuf::from);
    set.filter(|path| path.is_absolute()).or_else(|| {
        let home = variable("HOME").map(PathBuf::from)?;
        home.is_absolute().then(|| home.join(below_home))
    })
}

fn chosen_context(global: &Global) -> Result<Option<Context>, Error> {
    let named = global
        .context
        .clone()
        .or_else(|| variable("MUSTER_CONTEXT"));
    if named.as_deref() == Some(LOCAL) {
        return Ok(None);
    }
    let Ok(path) = context::path() else {
        return match named {
            Some(_) => context::path().map(|_| None),
            None => Ok(None),
        };
    };
    let contexts = Contexts::load(&path)?;
    let Some(name) = named.or(contexts.current) else {
        return Ok(None);
    };
    match contexts.contexts.get(&name) {
        Some(context) => Ok(Some(context.clone())),
        None => Err(Error::Usage(format!(
            "there is no context '{name}'; `muster context ls` lists them, `muster context set {name} --server URL` makes it"
        ))),
    }
}

fn token_of(context: &Context) -> Result<Option<String>, Error> {
    match (&context.token, &context.token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(path)) => read_token(path).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_token(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read the token from", path))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Error::Usage(format!("{} holds no token", path.display())));
    }
    Ok(token.to_owned())
}

/// A variable of the environment that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
