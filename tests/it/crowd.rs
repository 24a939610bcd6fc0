//! Many clients come at once and leave again.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::support::eventually;
use crate::support::rig::{Plan, Rig};

const CROWD: usize = 400;

fn rss_kib(rig: &Rig) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", rig.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// Most of it stayed until as many came again.
#[test]
fn what_a_crowd_used_is_given_back() {
    let rig = Plan::new(json!({})).start();
    let before = rss_kib(&rig);
    let ask = |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).unwrap();
        let request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.repeat(10).as_bytes()).unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
        stream
    };
    let crowd: Vec<TcpStream> = (0..CROWD).map(ask).collect();
    let peak = rss_kib(&rig);
    drop(crowd);
    eventually("it is given back", || {
        rss_kib(&rig) <= before + (peak - before) / 2
    });
    rig.stop();
}
