//! Where conductors come in: TLS over TCP, or a Unix socket.

use std::{
    fs::{self, File, Permissions},
    io,
    net::{IpAddr, SocketAddr},
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            net::UnixListener as StdListener,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::{certificate::Certificate, frame::Stream};
use crate::Error;

/// Where conductors come in.
pub(crate) struct Listener(Kind);

enum Kind {
    Tls(TcpListener, TlsAcceptor),
    Unix(UnixListener, Socket),
}

/// A socket file; it goes with its listener, unless a newer process has put its own there.
struct Socket {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Socket {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity(path),
        }
    }
}

/// Which file is at a path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path) != self.identity {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "cannot remove the socket");
        }
    }
}

impl Listener {
    /// Listens on an address, with a certificate.
    pub(crate) async fn tls(address: SocketAddr, certificate: &Certificate) -> Result<Self, Error> {
        let config = certificate.server_config()?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen {
                address: address.to_string(),
                source,
            })?;
        Ok(Self(Kind::Tls(
            listener,
            TlsAcceptor::from(Arc::new(config)),
        )))
    }

    /// Listens at a path, in the place of what is there. Only this user may connect.
    pub(crate) fn unix(path: &Path) -> Result<Self, Error> {
        let listener = bind(path).map_err(|source| Error::Listen {
            address: path.display().to_string(),
            source,
        })?;
        Ok(Self(Kind::Unix(listener, Socket::new(path))))
    }

    /// The next connection, before any handshake.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.0 {
            Kind::Tls(listener, acceptor) => {
                let (stream, _address) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, acceptor.clone()))
            }
            Kind::Unix(listener, _socket) => {
                let (stream, _address) = listener.accept().await?;
                Ok(Accepted::Unix(stream))
            }
        }
    }
}

/// A socket path may be longer than the kernel takes: go by way of the open directory.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let directory = File::open(path.parent().ok_or_else(invalid)?)?;
    let name = path.file_name().ok_or_else(invalid)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    let listener = StdListener::bind(short)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// A connection before its handshake.
pub(super) enum Accepted {
    Tcp(TcpStream, TlsAcceptor),
    Unix(UnixStream),
}

impl Accepted {
    /// Where it comes from; nothing on this machine, where the socket's file says who may.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(stream, _) => stream.peer_addr().ok().map(|address| address.ip()),
            Self::Unix(_) => None,
        }
    }

    /// Makes the connection private.
    pub(super) async fn secure(self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(stream, acceptor) => {
                stream.set_nodelay(true)?;
                notice_loss(&stream)?;
                Ok(Box::new(acceptor.accept(stream).await?))
            }
            Self::Unix(stream) => Ok(Box::new(stream)),
        }
    }
}

/// A peer whose machine is gone is noticed within half a minute.
fn notice_loss(stream: &TcpStream) -> io::Result<()> {
    use std::time::Duration;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, 30_000)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, RootCertStore};
    use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    use tokio_rustls::TlsConnector;

    use super::{super::certificate::NAME, *};

    /// Whether somebody who trusts `trusted` alone gets in.
    async fn connects(trusted: &Certificate, shown: &Certificate, name: &'static str) -> bool {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::tls(any, shown).await.expect("loopback");
        let Kind::Tls(socket, _) = &listener.0 else {
            panic!("it is TLS");
        };
        let address = socket.local_addr().expect("an address");
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(trusted.certificate.as_bytes()).expect("PEM");
        roots.add(der).expect("a certificate");
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connect = async {
            let stream = TcpStream::connect(address).await.expect("it listens");
            let name = ServerName::try_from(name).expect("a name");
            let connector = TlsConnector::from(Arc::new(config));
            connector.connect(name, stream).await
        };
        let accept = async { listener.accept().await.expect("somebody").secure().await };
        let (near, far) = tokio::join!(connect, accept);
        near.is_ok() && far.is_ok()
    }

    #[tokio::test]
    async fn conductors_know_the_relay_by_its_certificate_alone() {
        let own = Certificate::generate().expect("keys can be made");
        let other = Certificate::generate().expect("keys can be made");
        assert!(connects(&own, &own, NAME).await);
        assert!(!connects(&other, &own, NAME).await);
        assert!(!connects(&own, &own, "example.com").await);
    }

    #[tokio::test]
    async fn a_socket_with_a_long_path_works_and_goes_with_its_listener() {
        let root = tempfile::tempdir().expect("a directory");
        let deep = root.path().join("d".repeat(120));
        fs::create_dir(&deep).expect("it is writable");
        let path = deep.join("agent.sock");
        let listener = Listener::unix(&path).expect("it listens");
        let mode = fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }
}
