//! Seals the values of credentials, so that a copy of the database gives none of them away: by
//! AES-256-GCM, under a key that is in a file of its own.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hmac,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use muster_core::id::ProjectId;
use muster_storage::{Store, credential::Sealed};

/// The key's file in the data directory, when no other one is given.
const KEY_FILE: &str = "credential-key";
/// Bytes of a key.
const KEY_LENGTH: usize = 32;
/// Longest file that can be a key's, in bytes.
const LONGEST_FILE: u64 = 1024;
/// First byte of what is sealed; another one would be another form.
const VERSION: u8 = 1;
/// Bytes of a key's id; it is shown in hexadecimal.
const ID_LENGTH: usize = 8;

/// Why a server has no key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} holds no key of credentials: it must be {KEY_LENGTH} random bytes in base64, as \
         `openssl rand -base64 {KEY_LENGTH}` prints them"
    )]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// A new key would open nothing of what is stored.
    #[error(
        "{count} credentials are stored under a key that is not in {path}: give all servers of \
         this database the same file by --credential-key-file; if it is lost, give a new one and \
         set the credentials again"
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// How many there are.
        count: u64,
    },
    /// The random numbers of the system, or the cipher.
    #[error("the key can not be used: {0}")]
    Cipher(&'static str),
    /// The database can not be asked.
    #[error(transparent)]
    Storage(#[from] muster_storage::Error),
}

/// Why a value does not come out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Closed {
    /// It was sealed with another key.
    #[error(
        "is sealed with the key {sealed}, and this server has the key {own}: give all servers the \
         same --credential-key-file, or set it again"
    )]
    OtherKey {
        /// Id of that key.
        sealed: String,
        /// Id of the server's.
        own: String,
    },
    /// It was changed, or put in the place of another one.
    #[error("is damaged or was moved in the database: set it again")]
    Damaged,
}

/// Seals and opens values.
pub(crate) struct Vault {
    cipher: RandomizedNonceKey,
    marks: hmac::Key,
    id: String,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens the vault of a server: with the key of `given`, else with that of the data directory,
    /// which is made when there is none and nothing was stored yet.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub(crate) async fn open(
        given: Option<&Path>,
        data_dir: &Path,
        store: &Store,
    ) -> Result<Self, Error> {
        let own = data_dir.join(KEY_FILE);
        let path = given.unwrap_or(&own);
        if given.is_none() && !own.exists() {
            // No key has an empty id.
            let count = store.credentials_under_other_keys("").await?;
            if count > 0 {
                return Err(Error::Missing { path: own, count });
            }
            make(&own)?;
        }
        let vault = Self::new(&read(path)?)?;
        let others = store.credentials_under_other_keys(&vault.id).await?;
        if others > 0 {
            tracing::warn!(
                key = vault.id,
                credentials = others,
                "some credentials are sealed with another key and can not be used until this \
                 server has that key or they are set again"
            );
        }
        Ok(vault)
    }

    /// A vault with this key, from which one is derived for each use.
    fn new(key: &[u8; KEY_LENGTH]) -> Result<Self, Error> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derive = |label: &str| hmac::sign(&root, format!("muster {label}").as_bytes());
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, derive("credentials 1").as_ref())
            .map_err(|_unspecified| Error::Cipher("it does not fit the cipher"))?;
        let id = derive("key id");
        let id = id.as_ref().iter().take(ID_LENGTH);
        Ok(Self {
            cipher,
            marks: hmac::Key::new(hmac::HMAC_SHA256, derive("marks").as_ref()),
            id: id.map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Seals a value for one place: what is sealed opens nowhere else.
    ///
    /// # Errors
    ///
    /// [`Error::Cipher`] when the system has no random numbers.
    pub(crate) fn seal(
        &self,
        project: ProjectId,
        name: &str,
        value: &str,
    ) -> Result<Sealed, Error> {
        let mut text = value.as_bytes().to_vec();
        let nonce = self
            .cipher
            .seal_in_place_append_tag(place(project, name), &mut text)
            .map_err(|_unspecified| Error::Cipher("a value can not be sealed"))?;
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(nonce.as_ref());
        bytes.append(&mut text);
        Ok(Sealed {
            key: self.id.clone(),
            bytes,
        })
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub(crate) fn unseal(
        &self,
        project: ProjectId,
        name: &str,
        sealed: Sealed,
    ) -> Result<String, Closed> {
        if sealed.key != self.id {
            return Err(Closed::OtherKey {
                sealed: sealed.key,
                own: self.id.clone(),
            });
        }
        let Some((&VERSION, rest)) = sealed.bytes.split_first() else {
            return Err(Closed::Damaged);
        };
        let (nonce, text) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(Closed::Damaged)?;
        let mut text = text.to_vec();
        let opened = self
            .cipher
            .open_in_place(Nonce::from(nonce), place(project, name), &mut text)
            .map_err(|_unspecified| Closed::Damaged)?
            .len();
        text.truncate(opened);
        String::from_utf8(text).map_err(|_not_text| Closed::Damaged)
    }

    /// A mark by which the same value is known again, and which tells nothing to those who do not
    /// have the key: a plain hash of a short password would.
    pub(crate) fn mark(&self, value: &str) -> hmac::Tag {
        hmac::sign(&self.marks, value.as_bytes())
    }
}

/// Where a value belongs, for the cipher.
fn place(project: ProjectId, name: &str) -> Aad<Vec<u8>> {
    let mut place = project.as_uuid().as_bytes().to_vec();
    place.extend_from_slice(name.as_bytes());
    Aad::from(place)
}

fn read(path: &Path) -> Result<[u8; KEY_LENGTH], Error> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let wrong = || Error::Content {
        path: path.to_owned(),
    };
    if fs::metadata(path).map_err(failed)?.len() > LONGEST_FILE {
        return Err(wrong());
    }
    let text = fs::read(path).map_err(failed)?;
    let key = STANDARD.decode(text.trim_ascii());
    key.ok()
        .and_then(|key| key.try_into().ok())
        .ok_or_else(wrong)
}

/// Makes a key. Servers that start together on one data directory all take the first one's.
fn make(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let key: [u8; KEY_LENGTH] = rand::random();
    // Processes of two containers may have the same number.
    let part = path.with_extension(format!("{:016x}.part", rand::random::<u64>()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .map_err(failed)?;
    let written = writeln!(file, "{}", STANDARD.encode(key)).and_then(|()| file.sync_all());
    // Unlike a rename, a link takes nobody's place.
    let made = written.and_then(|()| match fs::hard_link(&part, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    });
    fs::remove_file(&part).map_err(failed)?;
    made.map_err(failed)?;
    // What is sealed with it must not outlive it.
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            fs::File::open(folder).and_then(|folder| folder.sync_all())
        }
        _ => Ok(()),
    }
    .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn vault(byte: u8) -> Vault {
        Vault::new(&[byte; KEY_LENGTH]).expect("a key")
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_alone() {
        let (vault, project) = (vault(1), ProjectId::generate());
        let sealed = vault.seal(project, "token", "hunter2").expect("sealed");
        let open = |project, name| vault.unseal(project, name, sealed.clone());
        assert_eq!(open(project, "token"), Ok("hunter2".to_owned()));
        assert_eq!(open(project, "other"), Err(Closed::Damaged));
        assert_eq!(open(ProjectId::generate(), "token"), Err(Closed::Damaged));
        let hidden = String::from_utf8_lossy(&sealed.bytes).into_owned();
        assert!(!hidden.contains("hunter2"), "{hidden}");
    }

    #[test]
    fn the_same_value_is_never_sealed_to_the_same_bytes() {
        let (vault, project) = (vault(1), ProjectId::generate());
        let seal = || vault.seal(project, "token", "x").expect("sealed").bytes;
        assert_ne!(seal(), seal());
    }

    #[test]
    fn another_key_is_told_from_damage() {
        let project = ProjectId::generate();
        let sealed = vault(1).seal(project, "token", "x").expect("sealed");
        let closed = vault(2).unseal(project, "token", sealed.clone());
        let closed = closed.expect_err("another key").to_string();
        assert!(closed.contains("--credential-key-file"), "{closed}");
        for index in 0..sealed.bytes.len() {
            let mut damaged = sealed.clone();
            damaged.bytes[index] ^= 1;
            let opened = vault(1).unseal(project, "token", damaged);
            assert_eq!(opened, Err(Closed::Damaged), "{index}");
        }
        let short = Sealed {
            bytes: vec![VERSION, 0],
            ..sealed
        };
        assert_eq!(
            vault(1).unseal(project, "token", short),
            Err(Closed::Damaged)
        );
    }

    #[test]
    fn neither_a_key_nor_a_value_stands_in_debug_output() {
        let shown = format!("{:?}", vault(7));
        assert_eq!(shown, format!("Vault {{ id: {:?}, .. }}", vault(7).id));
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(KEY_FILE);
        make(&path).expect("it is made");
        let key = read(&path).expect("a key");
        make(&path).expect("it is there");
        assert_eq!(read(&path).expect("a key"), key);
        let mode = fs::metadata(&path).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("a list").count(), 1);
    }

    #[test]
    fn a_file_with_something_else_is_refused_with_the_cure() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        for text in ["", "hunter2", "aGVsbG8=", &"A".repeat(2000)] {
            fs::write(&path, text).expect("written");
            let error = read(&path).expect_err(text).to_string();
            assert!(error.contains("openssl rand -base64 32"), "{error}");
        }
    }
}
