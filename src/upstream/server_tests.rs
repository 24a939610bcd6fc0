//! The life of a server as others see it, with real processes: small scripts, each made for one
//! way to live.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::base::gate::Gate;
use crate::base::limits;
use crate::config::server::{ProcessSpec, ServerConfig, ServerState};
use crate::config::settings::Settings;
use crate::mcp::error::Reason;
use crate::model::backoff::RestartPolicy;
use crate::upstream::call::{Mailbox, Reply};
use crate::upstream::server::{Server, State, Status, Surroundings};

/// A server of the session era without lists. What comes before the loop says how it starts;
/// `$1` is a folder. A request "slow" is never answered.
const LOOP: &str = r#"
    while IFS= read -r line; do
        id=${line#*'"id":'}; id=${id%%,*}
        case $line in
        *'"initialize"'*)
            info='"capabilities":{},"serverInfo":{"name":"s","version":"1"}'
            revision='"protocolVersion":"2025-11-25"'
            echo '{"jsonrpc":"2.0","id":'"$id"',"result":{'"$revision,$info}}" ;;
        *'"ping"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{}}' ;;
        *'"server/discover"'*)
            error='"error":{"code":-32601,"message":"no"}'
            echo '{"jsonrpc":"2.0","id":'"$id,$error}" ;;
        esac
    done"#;

/// Ends at once unless the file "good" is there.
const PICKY: &str = "[ -e $1/good ] || exit 3";

struct Place {
    folder: PathBuf,
    around: Surroundings,
    servers: Vec<Arc<Server>>,
}

impl Place {
    fn new(name: &str) -> Place {
        let name = format!("server-tests-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        let (router, events) = bounded(limits::ROUTER_EVENTS);
        // Nobody looks at them. What is sent to nobody is lost, and that is well.
        drop(events);
        let starts = Arc::new(Gate::new(5));
        let around = Surroundings::new(router, starts, &Settings::default());
        Place {
            folder,
            around,
            servers: Vec::new(),
        }
    }

    fn start(&mut self, config: ServerConfig) -> Arc<Server> {
        let (slot, around) = (self.servers.len(), self.around.clone());
        let server = Server::start(slot, config, around).expect("a server");
        self.servers.push(server.clone());
        server
    }

    fn config(&self, name: &str, before: &str) -> ServerConfig {
        let folder = self.folder.to_str().expect("a name").to_owned();
        let process = ProcessSpec {
            program: "/bin/sh".to_owned(),
            args: ["-c", &format!("{before}\n{LOOP}"), "sh", &folder]
                .map(str::to_owned)
                .to_vec(),
            env: Vec::new(),
            cwd: None,
        };
        ServerConfig::shared(name, process)
    }

    fn touch(&self, file: &str) {
        std::fs::write(self.folder.join(file), "").expect("a file");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.servers.iter().for_each(|server| server.stop());
        self.servers.iter().for_each(|server| server.join());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[track_caller]
fn becomes(server: &Server, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = server.status();
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "not {what}: {status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn is_ready(server: &Server) -> Status {
    becomes(server, "ready", |status| status.state == State::Ready)
}

fn policy(max: Option<u32>, delay_ms: u64) -> RestartPolicy {
    RestartPolicy {
        max,
        delay: Some(Duration::from_millis(delay_ms)),
        ..RestartPolicy::default()
    }
}

#[test]
fn a_restart_ends_the_process_and_its_calls() {
    let mut place = Place::new("ready");
    let server = place.start(place.config("s", ""));
    let before = is_ready(&server);
    let (link, mail) = (server.shared_link().expect("a link"), Mailbox::new(1));
    let call = link.request("slow", "{}", mail.sender()).expect("a call");
    server.restart().expect("a restart");
    assert_eq!(server.status().state, State::Loading);
    let answer = mail.wait(Instant::now() + Duration::from_secs(10));
    let answer = answer.expect("an answer");
    let Reply::Failed(error) = answer.reply else {
        panic!("{:?}", answer.reply);
    };
    assert_eq!(answer.call, call);
    let data = error.data.unwrap_or_default();
    assert!(data.contains(Reason::Restarting.as_str()), "{data}");
    let after = is_ready(&server);
    assert_ne!(after.pid, before.pid);
    assert_eq!((after.restarts, after.last_error), (1, None));
}

#[test]
fn a_restart_helps_a_start_that_hangs() {
    let mut place = Place::new("loading");
    let hangs = "[ -e $1/good ] || { : > $1/begun; exec sleep 600; }";
    let server = place.start(place.config("s", hangs));
    becomes(&server, "begun", |_| place.folder.join("begun").exists());
    assert_eq!(server.status().state, State::Loading);
    place.touch("good");
    server.restart().expect("a restart");
    is_ready(&server);
}

#[test]
fn a_restart_waits_for_no_delay_and_helps_where_nothing_else_does() {
    let stay_down = RestartPolicy {
        on_exit: false,
        ..RestartPolicy::default()
    };
    for (name, restart, state, is_given_up) in [
        ("delay", policy(None, 600_000), State::Failed, false),
        ("loop", policy(Some(1), 10), State::CrashLoop, true),
        ("down", stay_down, State::Failed, true),
    ] {
        let mut place = Place::new(name);
        let server = place.start(ServerConfig {
            restart,
            ..place.config("s", PICKY)
        });
        let status = becomes(&server, "down", |status| {
            status.state == state && (status.retry_at.is_some() || status.is_given_up)
        });
        assert_eq!(status.is_given_up, is_given_up, "{name}");
        assert_eq!(status.retry_at.is_none(), is_given_up, "{name}");
        assert_eq!(status.has_nothing_to_offer(), is_given_up, "{name}");
        let error = status.last_error.unwrap_or_default();
        assert!(error.contains("code 3"), "{name}: {error}");
        assert_eq!(error.contains("onemcp restart s"), is_given_up, "{error}");
        place.touch("good");
        server.restart().expect("a restart");
        let status = is_ready(&server);
        assert!(!status.is_given_up && status.last_error.is_none());
    }
}

#[test]
fn what_cannot_be_started_is_not_restarted() {
    let mut place = Place::new("refused");
    for (state, word) in [
        (ServerState::Disabled, "disabled"),
        (ServerState::Invalid("bad url".to_owned()), "bad url"),
    ] {
        let server = place.start(ServerConfig {
            state,
            ..place.config(word, "")
        });
        let error = server.restart().expect_err("a refusal");
        assert!(error.contains(word), "{error}");
    }
    let server = place.start(place.config("s", ""));
    server.stop();
    assert!(server.restart().is_err());
}

#[test]
fn restarts_are_counted_and_have_an_end() {
    let mut place = Place::new("counted");
    let server = place.start(ServerConfig {
        restart: policy(Some(3), 10),
        ..place.config("s", ": > $1/$$; exit 4")
    });
    let status = becomes(&server, "given up", |status| status.is_given_up);
    assert_eq!((status.state, status.restarts), (State::CrashLoop, 3));
    // Each try may start it twice: once more without our first word.
    let starts = std::fs::read_dir(&place.folder).expect("a folder").count();
    assert!((4..=8).contains(&starts), "{starts} starts");
}

#[test]
fn a_server_starts_when_what_it_needs_is_ready() {
    let mut place = Place::new("needs");
    place.around.neighbours.expect(["app", "db"].into_iter());
    let needy = |place: &Place, name: &str, needs: &str| ServerConfig {
        depends_on: vec![needs.to_owned()],
        ..place.config(name, "")
    };
    let app = place.start(needy(&place, "app", "db"));
    let alone = place.start(needy(&place, "alone", "nobody"));
    is_ready(&alone);
    let waits = |status: &Status| status.waiting_for.as_deref() == Some("db");
    let status = becomes(&app, "waiting", waits);
    assert_eq!((status.state, status.last_error), (State::Pending, None));
    let db = place.start(ServerConfig {
        restart: policy(Some(0), 600_000),
        ..place.config("db", PICKY)
    });
    // Nobody is held for a server whose dependency is down.
    let status = becomes(&app, "failed", |status| status.state == State::Failed);
    assert!(waits(&status) && !status.is_given_up && status.pid.is_none());
    let error = status.last_error.unwrap_or_default();
    assert!(
        error.contains("\"db\"") && error.contains("code 3"),
        "{error}"
    );
    place.touch("good");
    db.restart().expect("a restart");
    let status = is_ready(&app);
    assert_eq!((status.waiting_for, status.last_error), (None, None));
}
