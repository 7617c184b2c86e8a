//! Where conductors come in: TLS over TCP, or a Unix socket.

use std::{
    fs::{self, File, Permissions},
    io,
    net::SocketAddr,
    os::{
        fd::AsRawFd as _,
        unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
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

/// A socket file; it goes with its listener.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
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
        Ok(Self(Kind::Unix(listener, Socket(path.to_owned()))))
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
