//! Start, serve, stop: the order in which a gateway comes up and goes down.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Sender, bounded};

use crate::auth::Auth;
use crate::base::gate::Gate;
use crate::base::{limits, room, sys, thread, time};
use crate::config::settings::{Origin, Settings, Transport};
use crate::config::{Config, process_environment};
use crate::front::desk::Desk;
use crate::front::health::Health;
use crate::front::parking::Parking;
use crate::front::replicas::Replicas;
use crate::front::sessions::Sessions;
use crate::front::sse::Sse;
use crate::front::standing::Configured;
use crate::front::stdio::Stdio;
use crate::front::streamable::Streamable;
use crate::front::subscription::Subscriptions;
use crate::front::talk::Common;
use crate::front::talks::Talks;
use crate::front::workers::Workers;
use crate::gateway::control::Control;
use crate::gateway::ending::{EndWhy, Ending};
use crate::gateway::fleet::Fleet;
use crate::gateway::front_door::FrontDoor;
use crate::gateway::health_listener::{self, HealthDoor};
use crate::gateway::health_socket::HealthSocket;
use crate::gateway::herald::Herald;
use crate::gateway::local_socket::{self, Owner};
use crate::gateway::logins;
use crate::gateway::operator::Operator;
use crate::gateway::pins::Pins;
use crate::gateway::reload::{Keeper, Loader, Reload};
use crate::gateway::router::Router;
use crate::gateway::scrape::Scrape;
use crate::gateway::sharing::Sharing;
use crate::gateway::site;
use crate::gateway::telemetry::Wishes;
use crate::gateway::tls;
use crate::gateway::witnessed;
use crate::http::{HostPolicy, Server as HttpServer, ServerOptions, Trusted};
use crate::journal::alert::Alerts;
use crate::journal::metrics;
use crate::journal::otlp::Otlp;
use crate::model::cursor::CursorKey;
use crate::model::rotating::Master;
use crate::model::task_id::TaskKey;
use crate::net::redis::Redis;
use crate::net::url::Url;
use crate::relay::view::Filter;
use crate::relay::world::{Fixed, Hub, World};
use crate::upstream::event::Event;
use crate::upstream::server::{Server, Surroundings};

/// Why a gateway does not start. Each has its exit code.
#[derive(Debug)]
pub enum StartError {
    /// 78: the settings ask for something that must not be.
    Configuration(String),
    /// 69: the address is not to be had.
    Unavailable(String),
}

impl StartError {
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Configuration(_) => 78,
            StartError::Unavailable(_) => 69,
        }
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Configuration(text) | StartError::Unavailable(text) => f.write_str(text),
        }
    }
}

pub struct Gateway {
    /// Where clients connect to, if they do.
    pub address: Option<SocketAddr>,
    /// Where it is asked to end; whoever runs it waits there.
    pub ending: Arc<Ending>,
    pub(super) settings: Settings,
    pub(super) http: Option<HttpServer>,
    pub(super) core: Core,
    pub(super) sse: Arc<Sse>,
    /// For health: the end has been asked for, although everything is still served.
    pub(super) unready: Arc<AtomicBool>,
    /// Nothing new is begun.
    pub(super) draining: Arc<AtomicBool>,
    pub(super) health_socket: Option<HealthSocket>,
    pub(super) control: Option<Control>,
    pub(super) health_listener: Option<HttpServer>,
    pub(super) herald: Option<Herald>,
    /// The client on stdin and stdout.
    pub(super) client: Option<Stdio>,
    /// Who is told of traces and metrics.
    pub(super) otlp: Option<Otlp>,
    /// What other gateways are told and say.
    pub(super) sharing: Option<Sharing>,
}

/// What there is whoever listens: servers, their world, and who is told of it.
pub(super) struct Core {
    pub(super) fleet: Arc<Fleet>,
    pub(super) hub: Arc<Hub>,
    pub(super) clients: Clients,
    pub(super) events: Sender<Event>,
    pub(super) router: Option<JoinHandle<()>>,
    pub(super) reload: Arc<Reload>,
    pub(super) alerts: Arc<Alerts>,
    pins: Arc<Pins>,
    /// How the configuration stands.
    configured: Arc<Configured>,
    wishes: Wishes,
}

/// Clients, and what they are owed.
#[derive(Clone)]
pub struct Clients {
    pub sessions: Arc<Sessions>,
    pub subscriptions: Arc<Subscriptions>,
    pub parking: Arc<Parking>,
    pub replicas: Option<Arc<Replicas>>,
}

fn cannot(error: std::io::Error) -> StartError {
    let remedy = room::remedy(&error);
    StartError::Unavailable(format!("failed to start the gateway: {error}{remedy}"))
}

impl Core {
    fn start(
        config: Config,
        loader: Option<Loader>,
        auth: Option<Arc<Auth>>,
        address: Option<SocketAddr>,
    ) -> Result<Core, StartError> {
        let settings = &config.settings;
        let alerts = Arc::new(Alerts::new(settings.egress_allow.clone()));
        // Before anything can happen.
        alerts.configure(&config);
        let no_key = || StartError::Unavailable("failed to make a key".to_owned());
        let (replicas, masters) = shared_keys(settings, address)?;
        let here = replicas.as_ref().map(|replicas| replicas.here.clone());
        let parking = Parking::new(settings.parking_timeout, here.clone()).ok_or_else(no_key)?;
        let clients = Clients {
            sessions: Arc::new(Sessions::new(here)),
            subscriptions: Arc::default(),
            parking: Arc::new(parking),
            replicas,
        };
        let (events, received) = bounded(limits::ROUTER_EVENTS);
        let starts = Arc::new(Gate::new(starts(settings)));
        let mut around = Surroundings::new(events.clone(), starts, settings);
        around.logins = logins::open(settings, address);
        let names = config.servers.iter().map(|server| server.name.as_str());
        around.neighbours.expect(names);
        let fleet = Arc::new(Fleet::new(around));
        let servers = config.servers.iter();
        let servers = servers.map(|server| fleet.prepare(server.clone(), None));
        let servers: Vec<_> = servers.collect();
        let offers = vec![None; servers.len()];
        let fixed = Arc::new(fixed(&config, servers, &masters, &clients));
        let hub = Arc::new(Hub::new(World::build(0, fixed.clone(), offers)));
        let (orders, ordered) = bounded(limits::ROUTER_ORDERS);
        let pins = Arc::new(Pins::open(&config));
        let router = Router {
            hub: hub.clone(),
            fleet: fleet.clone(),
            clients: clients.clone(),
            events: received,
            auth: auth.clone(),
            orders: ordered,
            pins: pins.clone(),
            began: Instant::now(),
            settle_by: Instant::now() + settings.sync_start_timeout,
        };
        let run = move || router.run();
        let router = thread::spawn("router", limits::STACK_WORKER_BYTES, run).map_err(cannot)?;
        fixed.servers.iter().for_each(Server::launch);
        let configured = Arc::new(Configured::default());
        let wishes = Wishes::new(&config);
        let parts = (fleet.clone(), orders, configured.clone(), wishes.clone());
        let keeper = Keeper::new(config, loader, fixed, parts, (alerts.clone(), auth));
        Ok(Core {
            fleet,
            hub,
            clients,
            events,
            router: Some(router),
            reload: Arc::new(Reload::start(keeper).map_err(cannot)?),
            alerts,
            pins,
            configured,
            wishes,
        })
    }
}

impl Gateway {
    /// Opens the listener first, then starts every server side by side. `loader` reads the
    /// configuration again when its files change; without one it stays as it is.
    pub fn start(config: Config, loader: Option<Loader>) -> Result<Gateway, StartError> {
        let settings = config.settings.clone();
        check_preset(&config)?;
        let listener = wants_listener(&settings)
            .then(|| listen(&settings))
            .transpose()?;
        let options = listener_options(&settings)?;
        let shared = shared_store(&config)?;
        let auth = authentication(&config, listener.as_ref(), shared.clone())?;
        let for_health = settings.health_listen.map(health_listener::bind);
        let for_health = for_health.transpose().map_err(StartError::Unavailable)?;
        let address = listener.as_ref().map(TcpListener::local_addr);
        let address = address.transpose().map_err(cannot)?;
        metrics::set_recording(is_measured(&settings));
        witnessed::started(&config, address);
        let core = Core::start(config, loader, auth.clone(), address)?;
        if let Some(auth) = &auth {
            auth.people.attach(core.hub.clone());
        }
        let unready = Arc::new(AtomicBool::new(false));
        let health = Arc::new(health_of(&core, &unready));
        let draining = Arc::new(AtomicBool::new(false));
        let streamable = streamable(&settings, &core, &draining);
        let sse = talks(streamable.clone());
        let serve = |listener: TcpListener| {
            let door = FrontDoor {
                policy: host_policy(&settings, listener.local_addr()?),
                body_bytes: settings.max_body_bytes,
                streamable,
                sse: sse.clone(),
                health: health.clone(),
                has_metrics: settings.enable_metrics,
                auth: auth.clone(),
                trusted: Trusted::new(&settings.trust_proxy),
            };
            HttpServer::start(listener, options, Arc::new(door))
        };
        let http = listener.map(serve).transpose().map_err(cannot)?;
        let health_listener = for_health.map(|listener| serve_health(&settings, listener, &health));
        let health_listener = health_listener.transpose().map_err(cannot)?;
        Scrape::new(&health, &core.clients, &sse, core.events.clone())
            .publish(http.as_ref(), health_listener.as_ref());
        let health_socket = open_health_socket(&settings, address, health.clone());
        let ending = Arc::<Ending>::default();
        let desk = &sse.talks.common.streamable.desk;
        let herald = Herald::start(desk, core.events.clone(), ending.clone()).map_err(cannot)?;
        let mut gateway = Gateway {
            address,
            ending,
            settings,
            http,
            core,
            sse,
            unready,
            draining,
            health_socket,
            control: None,
            health_listener,
            herald,
            client: None,
            otlp: None,
            sharing: None,
        };
        gateway.otlp = gateway.push_telemetry();
        gateway.sharing = gateway.share(shared, auth.clone())?;
        gateway.control = gateway.open_control(health, auth);
        Ok(gateway)
    }

    fn push_telemetry(&self) -> Option<Otlp> {
        let wishes = &self.core.wishes;
        wishes.start(&self.settings, Box::new(prometheus::gather))
    }

    fn share(
        &self,
        shared: Option<Arc<Redis>>,
        auth: Option<Arc<Auth>>,
    ) -> Result<Option<Sharing>, StartError> {
        let core = &self.core;
        let start = |redis| Sharing::start(redis, auth, core.hub.clone(), core.configured.clone());
        shared.map(start).transpose().map_err(cannot)
    }

    /// Without a control socket the gateway serves as well, but nobody can steer it.
    fn open_control(&self, health: Arc<Health>, auth: Option<Arc<Auth>>) -> Option<Control> {
        let owner = Owner::own(self.address.map(|address| address.port()));
        let operator = Operator {
            hub: self.core.hub.clone(),
            health,
            sessions: self.core.clients.sessions.clone(),
            started: SystemTime::now(),
            url: self.url(),
            fleet: self.core.fleet.clone(),
            pins: self.core.pins.clone(),
            events: self.core.events.clone(),
            reload: self.core.reload.clone(),
            configured: self.core.configured.clone(),
            ending: self.ending.clone(),
            auth,
        };
        let started = match local_socket::open_control(owner, &self.settings) {
            Ok(socket) => Control::start(socket?, operator).map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        let noted = |why: &String| log::warn!("no control socket: {why}");
        started.inspect_err(noted).ok()
    }

    /// SIGHUP: reads the files again, without waiting for what comes of it.
    pub fn on_reload(&self) -> impl Fn() + Send + 'static {
        let reload = self.core.reload.clone();
        move || reload.begin()
    }

    /// Where health alone is served, if that was asked for.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health_listener.as_ref().map(HttpServer::address)
    }

    /// The URL that clients on this machine use.
    pub fn url(&self) -> Option<String> {
        let address = self.address?;
        let ip = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        let own = site::own_for(&self.settings, ip, address.port())?;
        Some(format!("{own}/mcp"))
    }

    /// Serves the client behind `files`, its input and output, to the end of the gateway. The end
    /// of each of them asks for that.
    ///
    /// # Errors
    /// When the system refuses a file descriptor or a thread.
    pub fn talk(&mut self, files: (OwnedFd, OwnedFd)) -> std::io::Result<()> {
        let common = self.sse.talks.common.clone();
        let filter = self.settings.preset.clone().map(Filter::Preset);
        let ending = self.ending.clone();
        let ended = move |end| ending.ask(EndWhy::Client(end));
        self.client = Some(Stdio::start(common, filter, files, ended)?);
        Ok(())
    }
}

fn health_of(core: &Core, draining: &Arc<AtomicBool>) -> Health {
    Health {
        hub: core.hub.clone(),
        started: Instant::now(),
        started_at: time::now_rfc3339(),
        draining: draining.clone(),
        configured: core.configured.clone(),
    }
}

/// Whether somebody may want to know.
fn is_measured(settings: &Settings) -> bool {
    let is_pushed = settings.enable_otlp_metrics && settings.otlp_endpoint.is_some();
    settings.enable_metrics || is_pushed
}

/// The other replicas, and what is sealed by.
fn shared_keys(
    settings: &Settings,
    address: Option<SocketAddr>,
) -> Result<(Option<Arc<Replicas>>, Vec<Master>), StartError> {
    let port = address.map_or(settings.port, |address| address.port());
    if settings.tls.is_on() && !settings.replicas.peers.is_empty() {
        let why = "failed to start as a replica: replicas reach each other without TLS; let a \
                   proxy in front speak it (behind-tls-proxy) in place of tls-cert, or leave \
                   replica-peers out and have the load balancer keep a session at one replica";
        return Err(StartError::Configuration(why.to_owned()));
    }
    let bad = |why| StartError::Configuration(format!("failed to start as a replica: {why}"));
    let opened = Replicas::open(&settings.replicas, port).map_err(bad)?;
    Ok(match opened {
        Some((replicas, masters)) => (Some(Arc::new(replicas)), masters),
        None => {
            // A key of this process: what is sealed with it is worth nothing after a restart.
            let mut key = Master::default();
            sys::random_bytes(&mut key);
            (None, vec![key])
        }
    })
}

fn fixed(
    config: &Config,
    servers: Vec<Arc<Server>>,
    masters: &[Master],
    clients: &Clients,
) -> Fixed {
    let here = clients
        .replicas
        .as_ref()
        .map(|replicas| replicas.here.clone());
    Fixed {
        settings: Arc::new(config.settings.clone()),
        presets: Arc::new(config.presets.clone()),
        cursor_key: Arc::new(CursorKey::new(masters)),
        task_key: Arc::new(TaskKey::new(masters, here)),
        servers,
        entries: config.servers.iter().cloned().map(Arc::new).collect(),
    }
}

fn listener_options(settings: &Settings) -> Result<ServerOptions, StartError> {
    let mut options = tls::options(&settings.tls).map_err(StartError::Configuration)?;
    if !settings.replicas.peers.is_empty() {
        // All clients come from the addresses of a load balancer and of the other replicas.
        options.connections_per_address = options.connections;
    }
    Ok(options)
}

/// What several gateways share; whether it is there shows later.
fn shared_store(config: &Config) -> Result<Option<Arc<Redis>>, StartError> {
    let opened = config.store.clone().map(Redis::new).transpose();
    let refused = |why| StartError::Configuration(format!("failed to {why}"));
    opened.map(|redis| redis.map(Arc::new)).map_err(refused)
}

fn authentication(
    config: &Config,
    listener: Option<&TcpListener>,
    shared: Option<Arc<Redis>>,
) -> Result<Option<Arc<Auth>>, StartError> {
    let settings = &config.settings;
    let Some(listener) = listener.filter(|_| settings.auth.enabled) else {
        return Ok(None);
    };
    let bound = listener.local_addr().map_err(cannot)?;
    let issuer = site::issuer(settings, bound);
    let opened = issuer.and_then(|issuer| {
        Auth::open(
            settings,
            &process_environment(),
            &issuer,
            &config.auth_server,
            shared,
        )
        .map_err(|why| format!("failed to {why}"))
    });
    let refused = |why| format!("failed to start with authentication: {why}");
    let opened = opened.map_err(|why| StartError::Configuration(refused(why)));
    opened.map(Some)
}

/// Where little of a processor is ours, servers that all start at once only hold each other up.
fn starts(settings: &Settings) -> usize {
    match settings.origin("maxConcurrentStarts") {
        Origin::Default => settings.start_concurrency.min(room::bounds().starts),
        _ => settings.start_concurrency,
    }
}

fn check_preset(config: &Config) -> Result<(), StartError> {
    let Some(name) = &config.settings.preset else {
        return Ok(());
    };
    if config.settings.transport == Transport::Http {
        log::warn!("preset {name:?} is for the transport stdio; write ?preset=NAME in the URL");
        return Ok(());
    }
    if !config.presets.contains_key(name) {
        let what = format!("failed to start: preset {name:?} not found in presets.json");
        return Err(StartError::Configuration(what));
    }
    Ok(())
}

fn streamable(settings: &Settings, core: &Core, draining: &Arc<AtomicBool>) -> Arc<Streamable> {
    let clients = core.clients.clone();
    Arc::new(Streamable {
        sessions: clients.sessions,
        subscriptions: clients.subscriptions,
        parking: clients.parking,
        replicas: clients.replicas,
        desk: Desk {
            hub: core.hub.clone(),
            hold: match settings.enable_async_loading {
                true => Duration::ZERO,
                false => settings.sync_start_timeout,
            },
            draining: draining.clone(),
        },
    })
}

fn talks(streamable: Arc<Streamable>) -> Arc<Sse> {
    let workers = Workers::default();
    let common = Common {
        streamable,
        workers,
    };
    let talks = Talks::new(Arc::new(common));
    Arc::new(Sse { talks })
}

fn serve_health(
    settings: &Settings,
    listener: TcpListener,
    health: &Arc<Health>,
) -> std::io::Result<HttpServer> {
    let door = HealthDoor {
        policy: host_policy(settings, listener.local_addr()?),
        health: health.clone(),
        has_metrics: settings.enable_metrics,
    };
    health_listener::serve(listener, door)
}

fn host_policy(settings: &Settings, bound: SocketAddr) -> HostPolicy {
    let (mut allowed_hosts, mut allowed_origins) = (
        settings.allowed_hosts.clone(),
        settings.allowed_origins.clone(),
    );
    if !bound.ip().is_unspecified() {
        // An address cannot be rebound to another one as a name can.
        allowed_hosts.push(bound.ip().to_string());
    }
    // Our own pages, where clients find them. Loopback names are known without it.
    let site = settings.tls.external_url.clone();
    let site = site.or_else(|| site::own(settings, bound));
    if let Some(url) = site.and_then(|site| Url::parse(&site).ok())
        && !url.is_loopback()
    {
        allowed_hosts.extend(
            url.origin()
                .split_once("://")
                .map(|(_, host)| host.to_owned()),
        );
        allowed_origins.push(url.origin());
    }
    HostPolicy {
        allowed_hosts,
        allowed_origins,
        bound_to_loopback: bound.ip().is_loopback(),
    }
}

/// A client that started us needs none. One that is set in the file is for the gateway that runs
/// by itself from the same file.
fn wants_listener(settings: &Settings) -> bool {
    let asked = matches!(
        settings.origin("port"),
        Origin::Flag(_) | Origin::Environment(_)
    );
    settings.transport == Transport::Http || asked
}

fn listen(settings: &Settings) -> Result<TcpListener, StartError> {
    let (host, port) = (settings.host.as_str(), settings.port);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<_> = (bare, port)
        .to_socket_addrs()
        .map_err(|error| {
            StartError::Configuration(format!("failed to resolve host {host:?}: {error}"))
        })?
        .collect();
    let loopback = addresses.iter().all(|address| address.ip().is_loopback());
    let is_asked = settings.auth.enabled || settings.tls.client_ca.is_some();
    if !loopback && !is_asked && !settings.allow_unauthenticated {
        return Err(StartError::Configuration(format!(
            "failed to start: host {host:?} can be reached from other machines and nobody would \
             be asked who they are; bind 127.0.0.1, ask for tokens with --enable-auth or for \
             client certificates with --tls-client-ca, or give --allow-unauthenticated \
             (ONE_MCP_ALLOW_UNAUTHENTICATED=true) if the network is trusted"
        )));
    }
    TcpListener::bind(addresses.as_slice()).map_err(|error| {
        StartError::Unavailable(format!(
            "failed to listen on {host}:{port}: {error}; choose another with --port, 0 picks one"
        ))
    })
}

/// Not having one costs only the local health command, so it is a notice and not an error.
fn open_health_socket(
    settings: &Settings,
    address: Option<SocketAddr>,
    health: Arc<Health>,
) -> Option<HealthSocket> {
    let owner = Owner::own(address.map(|address| address.port()));
    let mut last = "no runtime or state directory is known".to_owned();
    for folder in local_socket::folders(settings.state_dir.as_deref()) {
        match HealthSocket::open(&folder, owner, health.clone()) {
            Ok(socket) => return Some(socket),
            Err(error) => last = format!("{}: {error}", folder.display()),
        }
    }
    log::info!("no health socket: {last}");
    None
}
