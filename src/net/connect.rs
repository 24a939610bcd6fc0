//! ureq's connector: from the host of a URL to an open socket, through the rules of `egress`.
//! What was resolved here, and passed, is what is connected to: nothing can change in between.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, Either, NextTimeout, Transport};

use crate::base::limits;
use crate::base::time::rounded;
use crate::net::egress::Egress;
use crate::net::error::Cause;
use crate::net::lookup::addresses;
use crate::net::socket::{Socket, poll_until};
use crate::net::wait;

/// Finds nothing: ureq resolves before it looks into its pool, which would cost every request
/// a lookup. The connector resolves when a connection is really made.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

#[derive(Debug, Clone)]
pub(super) struct Dialer {
    pub egress: Egress,
    pub has_proxy: bool,
    /// A socket of this host that is connected to, whatever the URL says.
    pub local: Option<PathBuf>,
}

impl<In: Transport> Connector<In> for Dialer {
    type Out = Either<In, Socket>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        if let Some(tunnel) = chained {
            return Ok(Some(Either::A(tunnel)));
        }
        // ureq asks for the connection to the proxy itself without naming a proxy. Which one
        // is asked was the operator's decision.
        let is_proxy = self.has_proxy && details.config.proxy().is_none();
        let by_operator = Egress::default();
        let egress = if is_proxy { &by_operator } else { &self.egress };
        let stream = match &self.local {
            Some(path) => dial_local(path),
            None => dial(details.uri, egress),
        };
        let stream = stream.map_err(wait::fail)?;
        let is_tls = details.uri.scheme_str() == Some("https");
        let greeted_by = is_tls.then(|| Instant::now() + limits::NET_CONNECT);
        let socket = Socket::new(stream, wait::stop(), greeted_by);
        Ok(Some(Either::B(socket)))
    }
}

pub(super) fn dial(uri: &Uri, egress: &Egress) -> Result<Arc<TcpStream>, Cause> {
    let nowhere = || Cause::Lookup("it names no host".to_owned());
    let host = uri.host().ok_or_else(nowhere)?;
    let usual = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let most = Instant::now() + limits::NET_CONNECT;
    let until = wait::end_of_wait().0.map_or(most, |until| until.min(most));
    let found = addresses(host, uri.port_u16().unwrap_or(usual), until)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut refusal = None;
    let mut good = Vec::new();
    for address in found {
        match egress.check(bare, address.ip()) {
            Ok(()) => good.push(address),
            Err(why) => refusal = Some(why),
        }
    }
    if let (true, Some(refusal)) = (good.is_empty(), refusal) {
        return Err(Cause::Refused(refusal));
    }
    first_that_connects(&good, until)
}

/// What is done with a stream here (poll, send, recv, shutdown) is the same for sockets of a host,
/// so that it passes for one of TCP.
fn dial_local(path: &Path) -> Result<Arc<TcpStream>, Cause> {
    let failed = |error: Errno| Cause::Connect(std::io::Error::from(error).to_string());
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = AddressFamily::UNIX;
    let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(failed)?;
    let stream = Arc::new(TcpStream::from(socket));
    if wait::hold(&stream).is_err() {
        return Err(Cause::Stopped);
    }
    // It is connected at once or not at all.
    connect(&stream, &address).map_err(failed)?;
    Ok(stream)
}

/// One after the other, each with its part of the time that is left.
fn first_that_connects(good: &[SocketAddr], until: Instant) -> Result<Arc<TcpStream>, Cause> {
    let mut cause = Cause::Connect("it has no address".to_owned());
    for (at, address) in good.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let others = u32::try_from(good.len() - at).unwrap_or(u32::MAX);
        let part = (left / others).max(limits::NET_CONNECT_EACH).min(left);
        match connect_one(*address, part) {
            Ok(stream) => return Ok(stream),
            Err(Cause::Stopped) => return Err(Cause::Stopped),
            Err(other) => cause = other,
        }
    }
    Err(cause)
}

fn connect_one(address: SocketAddr, time: Duration) -> Result<Arc<TcpStream>, Cause> {
    let failed = |error: Errno| Cause::Connect(std::io::Error::from(error).to_string());
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(failed)?;
    let stream = Arc::new(TcpStream::from(socket));
    if wait::hold(&stream).is_err() {
        return Err(Cause::Stopped);
    }
    match connect(&stream, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            // Shutting down a socket before its connect has no effect, hence the question.
            if wait::is_stopped() {
                return Err(Cause::Stopped);
            }
            let until = Some(Instant::now() + time);
            let ready = poll_until(&stream, PollFlags::OUT, until).map_err(failed)?;
            if wait::is_stopped() {
                return Err(Cause::Stopped);
            }
            if !ready {
                let detail = format!("no connection within {}", rounded(time));
                return Err(Cause::Connect(detail));
            }
            sockopt::socket_error(&stream)
                .map_err(failed)?
                .map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    tune(&stream).map_err(failed)?;
    Ok(stream)
}

/// Small messages leave at once, and a peer that vanished is found out.
pub(super) fn tune(stream: &TcpStream) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(stream, true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, limits::NET_PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, limits::NET_PROBE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, limits::NET_PROBES)
}
