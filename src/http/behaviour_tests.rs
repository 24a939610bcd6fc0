//! The listener over time: deadlines, caps, streams, failing handlers, and its end.

use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::base::limits::HEALTH_FIRST_BYTE;
use crate::http::ServerOptions;
use crate::http::testing::{PATIENCE, Site};

const SHORT: Duration = Duration::from_millis(150);

fn quick() -> ServerOptions {
    ServerOptions {
        head_deadline: SHORT,
        body_deadline: SHORT,
        write_deadline: SHORT,
        keep_alive_idle: SHORT,
        ..ServerOptions::default()
    }
}

fn site() -> Site {
    Site::start(ServerOptions::default())
}

#[test]
fn one_connection_serves_many_requests() {
    let site = site();
    let mut client = site.client();
    for at in 0..500 {
        let body = format!("{{\"id\":{at}}}");
        let answer = client.ask("POST /mcp", body.as_bytes());
        assert_eq!((answer.status, answer.body), (200, body.into_bytes()));
        assert!(answer.head.contains("\r\nDate: "));
    }
    assert_eq!(site.server.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let site = site();
    let mut client = site.client();
    let request = |at| {
        let body = format!("{at:05}");
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n{body}")
    };
    client.send((0..400).map(request).collect::<String>());
    for at in 0..400 {
        assert_eq!(client.answer(false).body, format!("{at:05}").into_bytes());
    }
}

#[test]
fn large_bodies_pass_both_ways_and_the_next_request_is_kept() {
    let site = site();
    let mut client = site.client();
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    for _ in 0..2 {
        let mut writer = client.socket.try_clone().unwrap();
        let mut bytes = format!(
            "POST /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(
            b"POST /big HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for piece in body.chunks(70_001) {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\nGET /canary HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes));
        assert!(client.answer(false).body == body);
        assert!(client.answer(false).body == body);
        assert_eq!(client.answer(false).status, 200);
        sending.join().unwrap().unwrap();
    }
}

#[test]
fn answers_in_parts_without_body_and_twice() {
    let site = site();
    let mut client = site.client();
    let answer = client.ask("POST /parts", b"bcd");
    assert!(
        answer.has("X-Parts: 3") && answer.has("Content-Length: 5004"),
        "{}",
        answer.head
    );
    assert!(answer.body.starts_with(b"abcdzz"));
    let answer = client.ask("POST /nothing", b"");
    assert_eq!(answer.status, 204);
    assert!(!answer.head.contains("Content-Length"));
    client.request("HEAD /parts", b"bcd");
    assert!(client.answer(true).has("Content-Length: 5004"));
    assert_eq!(client.ask("POST /twice", b"").body, b"first");
    assert_eq!(
        client.ask("POST /", b"still in step").body,
        b"still in step"
    );
    let answer = client.ask("POST /close", b"");
    assert!(answer.has("Connection: close"));
    assert!(client.is_closed());
}

#[test]
fn expect_is_honoured_only_for_an_admitted_body() {
    let site = site();
    let head = |path| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
             Content-Length: 3\r\n\r\n"
        )
    };
    let mut client = site.client();
    client.send(head("/"));
    assert_eq!(client.answer(false).status, 100);
    client.send(b"abc");
    assert_eq!(client.answer(false).body, b"abc");
    // Whoever is told who answers is told so before he sends anything.
    client.send(head("/big"));
    let invited = client.answer(false);
    assert!(invited.status == 100 && invited.has("X-Mark: m"));
    client.send(b"abc");
    assert!(client.answer(false).has("X-Mark: m"));
    client.send(head("/deny"));
    let answer = client.answer(false);
    assert_eq!(answer.status, 401);
    assert!(answer.has("WWW-Authenticate: Bearer"));
    assert!(client.is_closed());
}

#[test]
fn an_early_answer_survives_the_unread_body() {
    let site = site();
    let mut client = site.client();
    client.request("POST /deny", &[b'x'; 60_000]);
    let answers = client.answers(false);
    assert_eq!(answers.len(), 1);
    assert_eq!(
        (answers[0].status, &answers[0].body[..]),
        (401, &b"no\n"[..])
    );
}

#[test]
fn a_slow_head_and_a_slow_body_are_cut_at_absolute_deadlines() {
    let site = Site::start(quick());
    let starts = [
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: y\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3;",
    ];
    for start in starts {
        let mut client = site.client();
        let begun = Instant::now();
        client.send(start);
        let mut writer = client.socket.try_clone().unwrap();
        // One byte again and again must not move the deadline.
        let (stop, stopped) = crossbeam_channel::bounded::<()>(1);
        let trickle = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(20)).is_err()
                && std::io::Write::write_all(&mut writer, b"a").is_ok()
            {}
        });
        let answers = client.answers(false);
        assert_eq!(
            answers.iter().map(|a| a.status).collect::<Vec<_>>(),
            [408],
            "{start:?}"
        );
        assert!(
            begun.elapsed() >= SHORT && begun.elapsed() < PATIENCE / 2,
            "{start:?}"
        );
        drop(client);
        stop.send(()).unwrap();
        trickle.join().unwrap();
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let site = Site::start(quick());
    let mut client = site.client();
    assert!(client.is_closed());
    let mut client = site.client();
    assert_eq!(client.ask("GET /", b"").status, 200);
    assert!(client.is_closed());
    site.wait_connections(0);
}

#[test]
fn requests_that_end_early_are_answered_once() {
    let site = site();
    for start in ["GE", "GET / HTTP/1.1\r\nHost: l", "\r"] {
        let mut client = site.client();
        client.send(start);
        client.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.answers(false)[0].status, 400, "{start:?}");
    }
    let mut client = site.client();
    client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc");
    client.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answers(false)[0].status, 400);
    let mut client = site.client();
    client.request("POST /", b"whole");
    client.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answers(false)[0].body, b"whole");
}

#[test]
fn beyond_the_cap_only_health_is_served() {
    let options = ServerOptions {
        connections: 2,
        health_connections: 1,
        health_turn: Duration::MAX,
        ..Default::default()
    };
    let site = Site::start(options);
    let mut held = [site.client(), site.client()];
    held.iter_mut()
        .for_each(|client| assert_eq!(client.ask("GET /", b"").status, 200));

    let mut client = site.client();
    let answer = client.ask("GET /health/live", b"");
    assert_eq!(answer.status, 200);
    assert!(answer.has("Connection: close"));
    drop(client);
    site.wait_connections(2);
    let mut client = site.client();
    let answer = client.ask("GET /mcp", b"");
    assert_eq!(answer.status, 503);
    assert!(answer.has("Retry-After: 1") && answer.has("Connection: close"));
    drop(client);
    site.wait_connections(2);

    let mut in_health_slot = site.client();
    in_health_slot.send("GET /health HTTP/1.1\r\n");
    site.wait_connections(3);
    let mut client = site.client();
    let answer = client.ask("GET /health", b"");
    assert_eq!(answer.status, 503);
    assert!(answer.has("Retry-After: 1") && answer.has("Connection: close"));
    assert!(client.is_closed());
    in_health_slot.send("Host: localhost\r\n\r\n");
    assert_eq!(in_health_slot.answers(false)[0].status, 200);

    drop(held);
    drop(in_health_slot);
    site.wait_connections(0);
    let mut client = site.client();
    assert_eq!(client.ask("GET /mcp", b"").status, 200);
    assert_eq!(client.ask("GET /mcp", b"").status, 200);
}

#[test]
fn who_holds_a_health_slot_gives_way_to_who_asks() {
    let options = ServerOptions {
        connections: 1,
        health_connections: 2,
        health_turn: Duration::ZERO,
        ..Default::default()
    };
    let site = Site::start(options);
    let mut held = site.client();
    assert_eq!(held.ask("GET /", b"").status, 200);
    let mut silent = [site.client(), site.client()];
    site.wait_connections(3);
    for _ in 0..8 {
        assert_eq!(site.client().ask("GET /health/live", b"").status, 200);
    }
    silent
        .iter_mut()
        .for_each(|client| assert!(client.is_closed()));
    assert_eq!(held.ask("GET /", b"").status, 200);
    drop(held);
    site.wait_connections(0);
    assert_eq!(site.client().ask("GET /mcp", b"").status, 200);
}

/// In a flood of connections every slot was young and silent, and probes were refused.
#[test]
fn who_asks_gets_the_health_slot_of_who_is_silent() {
    let options = ServerOptions {
        connections: 1,
        health_connections: 2,
        health_turn: Duration::MAX,
        ..Default::default()
    };
    let site = Site::start(options);
    let mut held = site.client();
    assert_eq!(held.ask("GET /", b"").status, 200);
    let silent = [site.client(), site.client()];
    site.wait_connections(3);
    // The first tries may come before those two are seen to wait, or before their own question.
    let until = Instant::now() + HEALTH_FIRST_BYTE / 2;
    while site.client().ask("GET /health/live", b"").status != 200 {
        assert!(Instant::now() < until, "refused for the sake of the silent");
    }
    drop(silent);
    assert_eq!(held.ask("GET /", b"").status, 200);
}

#[test]
fn one_address_cannot_take_all_connections() {
    let options = ServerOptions {
        connections_per_address: 1,
        loopback_exempt: false,
        ..Default::default()
    };
    let site = Site::start(options);
    let mut first = site.client();
    assert_eq!(first.ask("GET /", b"").status, 200);
    assert_eq!(site.client().ask("GET /", b"").status, 503);
    assert_eq!(site.client().ask("GET /health", b"").status, 200);
    assert_eq!(first.ask("GET /", b"").status, 200);
    drop(first);
    site.wait_connections(0);
    assert_eq!(site.client().ask("GET /", b"").status, 200);
}

#[test]
fn resets_leave_nothing_behind() {
    let site = site();
    for at in 0..200 {
        let mut client = site.client();
        match at % 3 {
            0 => client.send("GET / HT"),
            1 => client.request("POST /parts", b"x"),
            _ => {}
        }
        set_socket_linger(&client.socket, Some(Duration::ZERO)).unwrap();
    }
    site.wait_connections(0);
    assert_eq!(site.client().ask("GET /", b"").status, 200);
}

#[test]
fn a_failing_handler_costs_one_connection() {
    let site = site();
    for path in ["/panic", "/panic-admit", "/silent"] {
        let mut client = site.client();
        client.request(&format!("POST {path}"), b"x");
        client.request("GET /canary", b"");
        let answers = client.answers(false);
        assert_eq!(
            answers.iter().map(|a| a.status).collect::<Vec<_>>(),
            [500],
            "{path}"
        );
    }
    let mut client = site.client();
    client.request("GET /panic-stream", b"");
    let answers = client.answers(false);
    assert_eq!((answers.len(), answers[0].status), (1, 200));
    assert!(!answers[0].complete);
    assert_eq!(answers[0].body, b"some");
    assert!(site.echo.canaries.lock().unwrap().is_empty());
    site.wait_connections(0);
}

#[test]
fn streams_are_chunked_and_leave_the_connection_usable() {
    let site = site();
    let mut client = site.client();
    for _ in 0..2 {
        let answer = client.ask("POST /stream", b"abcdefgh");
        assert!(answer.complete && answer.has("Content-Type: text/event-stream"));
        assert_eq!(answer.body, b"abcdefgh");
    }
    client.request("HEAD /stream", b"abc");
    assert_eq!(client.answer(true).status, 200);
    assert_eq!(client.ask("POST /", b"next").body, b"next");
    let mut client = site.client();
    client.send("POST /stream HTTP/1.0\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd");
    let answers = client.answers(false);
    assert_eq!(answers[0].body, b"abcd");
    assert!(answers[0].has("Connection: close") && !answers[0].head.contains("chunked"));
}

#[test]
fn a_stream_notices_that_its_client_is_gone() {
    let site = site();
    for how in [
        "close",
        "half close",
        "reset",
        "half close behind a pipelined request",
    ] {
        let mut client = site.client();
        client.request("GET /gone", b"");
        assert_eq!(site.event(), "streaming", "{how}");
        match how {
            "half close" => client.socket.shutdown(Shutdown::Write).unwrap(),
            "reset" => set_socket_linger(&client.socket, Some(Duration::ZERO)).unwrap(),
            "close" => {}
            _ => {
                client.request("GET /canary", b"");
                client.socket.shutdown(Shutdown::Write).unwrap();
            }
        }
        if matches!(how, "close" | "reset") {
            drop(client);
        }
        assert_eq!(site.event(), "gone", "{how}");
    }
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let site = Site::start(quick());
    let mut client = site.client();
    client.request("GET /flood", b"");
    assert_eq!(site.event(), "cut");
    site.wait_connections(0);
}

#[test]
fn the_end_spares_running_requests() {
    let site = site();
    let mut idle = site.client();
    assert_eq!(idle.ask("GET /", b"").status, 200);
    let mut running = site.client();
    running.request("GET /wait", b"");
    assert_eq!(site.event(), "waiting");

    site.server.stop_accepting();
    assert!(TcpStream::connect(site.server.address()).is_err());
    site.server.close_idle();
    assert!(idle.is_closed());
    assert!(!site.server.wait_empty(Instant::now()));

    site.gate.send(()).unwrap();
    let answer = running.answer(false);
    assert_eq!((answer.status, &answer.body[..]), (200, &b"waited"[..]));
    assert!(answer.has("Connection: close"));
    assert!(running.is_closed());
    drop(running);
    assert!(site.server.wait_empty(Instant::now() + PATIENCE));
    site.server.join(Instant::now() + Duration::from_secs(2));
}

#[test]
fn before_the_end_each_connection_is_good_for_one_more_request() {
    let site = site();
    let mut idle = site.client();
    assert_eq!(idle.ask("GET /", b"").status, 200);
    site.server.close_after_answers();
    let mut new = site.client();
    for client in [&mut idle, &mut new] {
        let answer = client.ask("GET /", b"");
        assert!(answer.status == 200 && answer.has("Connection: close"));
        assert!(client.is_closed());
    }
    drop((idle, new));
    assert!(site.server.wait_empty(Instant::now() + PATIENCE));
}

#[test]
fn abort_cuts_streams() {
    let site = site();
    let mut client = site.client();
    client.request("GET /gone", b"");
    assert_eq!(site.event(), "streaming");
    site.server.abort();
    assert_eq!(site.event(), "gone");
    assert!(!client.answer(false).complete);
    assert!(site.server.wait_empty(Instant::now() + PATIENCE));
    site.server.join(Instant::now() + Duration::from_secs(2));
}
