//! A real store for tests: redis-server (or valkey-server) of this machine, on a loopback port,
//! without files. It ends with its owner. Tests of the library use it, too.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct RedisServer {
    pub(crate) port: u16,
    child: Child,
}

impl RedisServer {
    /// `None` where none is installed: then there is nothing to test against.
    pub(crate) fn start(options: &[&str]) -> Option<RedisServer> {
        RedisServer::start_at(free_port(), options)
    }

    /// At a port that was in use by one that is gone.
    pub(crate) fn start_at(port: u16, options: &[&str]) -> Option<RedisServer> {
        let usual = ["--bind", "127.0.0.1", "--save", ""];
        RedisServer::start_with(&usual, port, options)
    }

    pub(crate) fn start_with(usual: &[&str], port: u16, options: &[&str]) -> Option<RedisServer> {
        let at = port.to_string();
        let mut started = ["redis-server", "valkey-server"]
            .into_iter()
            .filter_map(|program| {
                let mut command = Command::new(program);
                command.args(usual).args(["--port", &at]).args(options);
                command.current_dir(std::env::temp_dir());
                command.stdin(Stdio::null()).stdout(Stdio::null());
                command.stderr(Stdio::null()).spawn().ok()
            });
        let Some(child) = started.next() else {
            eprintln!("skipped: redis-server is not installed");
            return None;
        };
        let server = RedisServer { port, child };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
