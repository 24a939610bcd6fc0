//! The system refuses memory, threads or room in a file: whoever needs it gets an error, nobody
//! else notices, and with the shortage its effects end.

use std::fs;
use std::net::TcpStream;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::json;

use crate::support::eventually;
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::hostile;

/// More than a libc keeps stacks of.
const CONNECTIONS: usize = 60;

/// The gateway has this limit as long as the value lives.
struct Limited {
    pid: Pid,
    resource: Resource,
    before: Rlimit,
}

impl Limited {
    fn to(rig: &Rig, resource: Resource, current: u64) -> Limited {
        let pid = Pid::from_raw(rig.pid).unwrap();
        let limit = Rlimit {
            current: Some(current),
            maximum: rustix::process::getrlimit(resource).maximum,
        };
        let before = prlimit(Some(pid), resource, limit).unwrap();
        Limited {
            pid,
            resource,
            before,
        }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = prlimit(Some(self.pid), self.resource, self.before);
    }
}

/// What it has mapped, in bytes.
fn mapped(rig: &Rig) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", rig.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

/// std gives each thread a second stack, and without one it ended the whole process.
#[test]
fn a_thread_for_which_there_is_no_memory_ends_nobody() {
    let rig = Plan::new(json!({"a": hostile(&[])})).start();
    let mut session = rig.session();
    let open = |_| TcpStream::connect(("127.0.0.1", rig.port)).ok();
    // At first there is room for a stack and nothing more, then for less and less. First stacks
    // of threads that have ended, which glibc keeps; those need no memory, and a second one does.
    for spare in [136, 132, 128, 64, 0] {
        let threads = rig.threads();
        let held: Vec<TcpStream> = (0..CONNECTIONS).filter_map(open).collect();
        eventually("all have a thread", || {
            rig.threads() >= threads + CONNECTIONS
        });
        drop(held);
        eventually("all have ended", || rig.threads() <= threads);
        let limited = Limited::to(&rig, Resource::As, mapped(&rig) + spare * 1024);
        let held: Vec<TcpStream> = (0..CONNECTIONS).filter_map(open).collect();
        let answer = session.text("a_1mcp_echo", json!({"text": "x"}));
        assert_eq!(answer, "x", "with {spare} KiB to spare");
        drop(limited);
        drop(held);
        eventually("all have ended again", || rig.threads() <= threads);
    }
    assert_eq!(rig.get("/health/live").status(), 200);
    rig.stop();
}

/// It stayed failed until somebody restarted it.
#[test]
fn a_server_that_got_no_thread_is_started_when_there_is_one() {
    let rig = Plan::new(json!({"a": hostile(&[])})).start();
    let limited = Limited::to(&rig, Resource::As, mapped(&rig));
    let file = rig.folder().join("mcp.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    for number in 0..CONNECTIONS {
        let name = format!("b{number}");
        config["mcpServers"][name] = config["mcpServers"]["a"].clone();
    }
    fs::write(&file, config.to_string()).unwrap();
    signal(rig.pid, Signal::HUP);
    eventually("one gets no thread", || {
        rig.stderr().contains("there is no thread for it")
    });
    drop(limited);
    eventually("all serve", || {
        rig.health()["servers"]["healthy"] == json!(CONNECTIONS + 1)
    });
    rig.stop();
}

/// SIGXFSZ ended the gateway.
#[test]
fn a_file_that_may_not_grow_is_as_a_full_disk() {
    let plan = Plan::new(json!({"a": hostile(&[])}));
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("shortage-file");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let log = folder.join("log");
    let rig = plan
        .args(&["--log-level", "debug", "--log-file", log.to_str().unwrap()])
        .start();
    let mut session = rig.session();
    let limited = Limited::to(&rig, Resource::Fsize, 1);
    for _ in 0..20 {
        assert_eq!(session.text("a_1mcp_echo", json!({"text": "x"})), "x");
    }
    drop(limited);
    let length = || fs::metadata(&log).unwrap().len();
    let before = length();
    eventually("the log grows again", || {
        session.text("a_1mcp_echo", json!({"text": "x"})) == "x" && length() > before
    });
    rig.stop();
}
