//! The client: one request out, one response back, on the thread of the caller. A response is
//! read as it comes; reading it to its end gives the connection back to the pool.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::header::{CONTENT_TYPE, LOCATION};
use ureq::http::request::Builder;
use ureq::http::{self, HeaderMap};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector};
use ureq::{Agent, Body, BodyReader, Proxy, ProxyProtocol};

use crate::base::limits;
use crate::net::connect::{Dialer, NoResolver};
use crate::net::egress::Egress;
use crate::net::error::{BadRedirect, Cause, NetError};
use crate::net::proxy::ProxyChoice;
use crate::net::stop::Stop;
use crate::net::url::Url;
use crate::net::wait::{self, Wait};

#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// Certificates (PEM) to trust instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
    pub proxy: ProxyChoice,
    pub egress: Egress,
}

/// A pool of connections and the rules for all requests over it. Clones share both.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    egress: Arc<Egress>,
    keeps_redirects: bool,
}

/// ureq looks for connections that are too old only at the next request. So all of them go at
/// once, with their agent, when there is none.
struct Pool {
    config: Config,
    dialer: Dialer,
    idle: Mutex<Idle>,
}

struct Idle {
    agent: Agent,
    /// The last request, if one was sent by this agent.
    used: Option<Instant>,
}

impl Pool {
    fn new(config: Config, dialer: Dialer) -> Pool {
        let agent = agent(&config, &dialer);
        let idle = Mutex::new(Idle { agent, used: None });
        Pool {
            config,
            dialer,
            idle,
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn agent(&self) -> Agent {
        let mut idle = self.idle();
        idle.used = Some(Instant::now());
        idle.agent.clone()
    }

    fn tend(&self) {
        let mut idle = self.idle();
        if idle
            .used
            .is_some_and(|used| used.elapsed() > limits::NET_IDLE)
        {
            idle.agent = agent(&self.config, &self.dialer);
            idle.used = None;
        }
    }
}

fn agent(config: &Config, dialer: &Dialer) -> Agent {
    let connector = ().chain(ConnectProxyConnector::default());
    let connector = connector.chain(dialer.clone());
    let connector = connector.chain(RustlsConnector::default());
    Agent::with_parts(config.clone(), connector, NoResolver)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Delete,
}

#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: Method,
    /// Absolute, `http` or `https`.
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    /// Sent with POST only.
    pub body: &'a [u8],
    /// From now until the response head is complete, redirects included.
    pub head_timeout: Duration,
    /// The longest silence inside the body; `None` waits as long as the connection lives.
    pub idle_timeout: Option<Duration>,
}

pub struct Response {
    url: Url,
    status: u16,
    headers: HeaderMap,
    body: BodyReader<'static>,
    stop: Stop,
    idle_timeout: Option<Duration>,
    deadline: Option<Instant>,
}

impl Client {
    /// # Errors
    /// When the certificates or the proxy cannot be used.
    pub fn new(options: &ClientOptions) -> Result<Client, NetError> {
        Client::make(options, None)
    }

    /// One that speaks to a socket of this host only; the host of a URL is just a word then.
    ///
    /// # Errors
    /// As `new`.
    pub fn local(path: PathBuf) -> Result<Client, NetError> {
        Client::make(&ClientOptions::default(), Some(path))
    }

    fn make(options: &ClientOptions, local: Option<PathBuf>) -> Result<Client, NetError> {
        let roots = match &options.ca_file {
            Some(path) => RootCerts::Specific(read_certificates(path)?),
            None => RootCerts::WebPki,
        };
        let proxy = read_proxy(&options.proxy)?;
        let egress = options.egress.clone();
        let dialer = Dialer {
            egress,
            has_proxy: proxy.is_some(),
            local,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("onemcp/", env!("CARGO_PKG_VERSION")))
            .accept("")
            .accept_encoding("")
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .max_response_header_size(limits::NET_HEAD_BYTES)
            .input_buffer_size(limits::NET_INPUT_BYTES)
            .output_buffer_size(limits::NET_OUTPUT_BYTES)
            .max_idle_connections(limits::NET_IDLE_CONNECTIONS)
            .max_idle_connections_per_host(limits::NET_IDLE_CONNECTIONS)
            .max_idle_age(limits::NET_IDLE)
            .build();
        Ok(Client {
            pool: Arc::new(Pool::new(config, dialer)),
            egress: Arc::new(options.egress.clone()),
            keeps_redirects: false,
        })
    }

    /// From now on it gives a redirect as the answer that it is, instead of following it.
    #[must_use]
    pub fn keeping_redirects(mut self) -> Client {
        self.keeps_redirects = true;
        self
    }

    /// Closes connections that nobody has wanted for a while.
    pub fn tend(&self) {
        self.pool.tend();
    }

    /// Sends the request and waits for the response head. Redirects within the origin are
    /// followed if the method stays the same.
    ///
    /// # Errors
    /// Why there is no response. A status is no error, whatever it says.
    pub fn send(&self, request: &Request<'_>, stop: &Stop) -> Result<Response, NetError> {
        let until = Instant::now() + request.head_timeout;
        let mut url = Url::parse(request.url).map_err(NetError::Url)?;
        for followed in 0.. {
            let mut response = self.send_to(&url, request, until, stop)?;
            let next = match self.keeps_redirects {
                true => None,
                false => target(&response, request.method, followed)?,
            };
            let Some(next) = next else {
                response.deadline = None;
                return Ok(response);
            };
            // Only a body that was read leaves a connection behind that can be used again.
            drop(response.read_to_end(limits::NET_REDIRECT_BODY_BYTES));
            url = next;
        }
        Err(NetError::Stopped)
    }

    fn send_to(
        &self,
        url: &Url,
        request: &Request<'_>,
        until: Instant,
        stop: &Stop,
    ) -> Result<Response, NetError> {
        if stop.is_stopped() {
            return Err(NetError::Stopped);
        }
        let refused = |refusal| NetError::Refused {
            origin: url.origin(),
            refusal,
        };
        self.egress.check_url(url).map_err(refused)?;
        let builder = head(url, request)?;
        let wait = Wait {
            stop: stop.clone(),
            until: Some(until),
            ..Wait::default()
        };
        let (outcome, wait) = wait::on(wait, || run(&self.pool.agent(), builder, request));
        let failure = |error| translate(error, &wait, url, request.head_timeout);
        let (parts, body) = outcome.map_err(failure)?.into_parts();
        Ok(Response {
            url: url.clone(),
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.into_reader(),
            stop: stop.clone(),
            idle_timeout: request.idle_timeout,
            deadline: Some(until),
        })
    }
}

fn head(url: &Url, request: &Request<'_>) -> Result<Builder, NetError> {
    let method = match request.method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Delete => http::Method::DELETE,
    };
    let mut builder = http::Request::builder().method(method).uri(url.whole());
    for (name, value) in request.headers {
        builder = builder.header(*name, *value);
        if builder.headers_ref().is_none() {
            return Err(NetError::Header(name.escape_debug().to_string()));
        }
    }
    Ok(builder)
}

fn run(
    agent: &Agent,
    head: Builder,
    request: &Request<'_>,
) -> Result<http::Response<Body>, ureq::Error> {
    match request.method {
        Method::Post => agent.run(head.body(request.body)?),
        Method::Get | Method::Delete => agent.run(head.body(())?),
    }
}

/// Where the response sends us, if it does.
fn target(response: &Response, method: Method, followed: usize) -> Result<Option<Url>, NetError> {
    let status = response.status;
    let keeps_method = match status {
        307 | 308 => method != Method::Delete,
        301..=303 => method == Method::Get,
        _ => return Ok(None),
    };
    let from = &response.url;
    let to = response
        .header(LOCATION.as_str())
        .and_then(|to| from.join(to).ok());
    let bad = |why| {
        let to = to
            .as_ref()
            .map_or_else(|| "nowhere".to_owned(), Url::origin);
        NetError::Redirect {
            from: from.origin(),
            to,
            status,
            why,
        }
    };
    match &to {
        None => Err(bad(BadRedirect::Target)),
        Some(to) if !to.same_origin(from) => Err(bad(BadRedirect::OtherOrigin)),
        Some(_) if !keeps_method => Err(bad(BadRedirect::Method)),
        Some(_) if followed >= limits::NET_REDIRECTS => Err(bad(BadRedirect::TooMany)),
        Some(to) => Ok(Some(to.clone())),
    }
}

/// What ended a wait of ours says more than what ureq made of it.
fn translate(error: ureq::Error, wait: &Wait, url: &Url, after: Duration) -> NetError {
    let origin = url.origin();
    let lost = |origin: String, detail: String| NetError::Lost {
        origin,
        detail,
        is_stale: wait.reused && !wait.received,
    };
    match &wait.cause {
        Some(Cause::Stopped) => return NetError::Stopped,
        Some(Cause::Deadline) => return NetError::Deadline { origin, after },
        Some(Cause::Idle) => return NetError::Silent { origin },
        Some(Cause::Refused(refusal)) => {
            return NetError::Refused {
                origin,
                refusal: *refusal,
            };
        }
        Some(Cause::Lookup(detail)) => {
            return NetError::Lookup {
                origin,
                detail: detail.clone(),
            };
        }
        Some(Cause::Connect(detail)) => {
            return NetError::Connect {
                origin,
                detail: detail.clone(),
            };
        }
        Some(Cause::Lost(detail)) => return lost(origin, detail.clone()),
        None => {}
    }
    match error {
        // rustls reports through an I/O error of this kind.
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            NetError::Tls {
                origin,
                detail: error.to_string(),
            }
        }
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => lost(
            origin,
            "the server closed it before the answer was complete".to_owned(),
        ),
        ureq::Error::Io(error) => lost(origin, error.to_string()),
        ureq::Error::Tls(what) => NetError::Tls {
            origin,
            detail: what.to_owned(),
        },
        ureq::Error::Rustls(error) => NetError::Tls {
            origin,
            detail: error.to_string(),
        },
        ureq::Error::ConnectProxyFailed(detail) => NetError::Connect { origin, detail },
        ureq::Error::Http(_) => NetError::Header("of the request".to_owned()),
        ureq::Error::BadUri(_) => NetError::Url(crate::net::url::UrlError::NotAbsolute),
        error => NetError::Protocol {
            origin,
            detail: error.to_string(),
        },
    }
}

impl Response {
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The URL that answered, after redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The first header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers of this name as one, as RFC 9110 reads them.
    pub fn header_list(&self, name: &str) -> Option<String> {
        let values = self.headers.get_all(name).iter();
        let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The media type without its parameters, in lower case; empty when there is none.
    pub fn media_type(&self) -> String {
        let text = self.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        let bare = text.split(';').next().unwrap_or_default();
        bare.trim().to_ascii_lowercase()
    }

    /// From now on the whole body must be there by then, however lively it drips.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Waits for the next bytes of the body; 0 is its end.
    ///
    /// # Errors
    /// When it ended too early, fell silent, or was stopped.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, NetError> {
        if self.stop.is_stopped() {
            return Err(NetError::Stopped);
        }
        let wait = Wait {
            stop: self.stop.clone(),
            until: self.deadline,
            idle: self.idle_timeout,
            received: true,
            ..Wait::default()
        };
        let (outcome, wait) = wait::on(wait, || self.body.read(buffer));
        let error = match (outcome, &wait.cause) {
            (Ok(count), None) => return Ok(count),
            (_, Some(Cause::Deadline)) => {
                let origin = self.url.origin();
                return Err(NetError::Silent { origin });
            }
            // Where only the end of the connection ends a body, ureq takes any end for it.
            (Ok(_), Some(_)) => ureq::Error::ConnectionFailed,
            (Err(error), _) => error.downcast().unwrap_or_else(ureq::Error::Io),
        };
        Err(translate(error, &wait, &self.url, Duration::ZERO))
    }

    /// The rest of the body.
    ///
    /// # Errors
    /// As `read`, and when it is longer than that.
    pub fn read_to_end(&mut self, limit_bytes: usize) -> Result<Vec<u8>, NetError> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = self.read(&mut buffer)?;
            if count == 0 {
                return Ok(bytes);
            }
            if bytes.len() + count > limit_bytes {
                let origin = self.url.origin();
                return Err(NetError::TooLarge {
                    origin,
                    limit_bytes,
                });
            }
            bytes.extend_from_slice(&buffer[..count]);
        }
    }
}

pub(super) fn read_certificates(
    path: &Path,
) -> Result<Arc<Vec<ureq::tls::Certificate<'static>>>, NetError> {
    let failed = |detail: String| NetError::CaFile {
        path: path.to_owned(),
        detail,
    };
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut pem = Vec::new();
    let read = file.take(limits::NET_CA_BYTES).read_to_end(&mut pem);
    read.map_err(|error| failed(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(one) = item.map_err(|error| failed(error.to_string()))? {
            certificates.push(one);
        }
    }
    if certificates.is_empty() {
        return Err(failed("there is none in it; it must be PEM".to_owned()));
    }
    Ok(Arc::new(certificates))
}

fn read_proxy(choice: &ProxyChoice) -> Result<Option<Proxy>, NetError> {
    let proxy = match choice {
        ProxyChoice::None => return Ok(None),
        ProxyChoice::Environment => Proxy::try_from_env(),
        ProxyChoice::Url(url) => {
            let proxy = Proxy::new(url.expose());
            Some(proxy.map_err(|_| NetError::Proxy("its URL cannot be read"))?)
        }
    };
    let usable =
        |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    match proxy {
        Some(proxy) if !usable(&proxy) => Err(NetError::Proxy("only HTTP proxies can be asked")),
        other => Ok(other),
    }
}
