//! Against a real server where there is one, and against one that lies.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::net::redis::spec::Spec;
use crate::net::redis::testing::{RedisServer, free_port};
use crate::net::redis::{Answer, Redis, Trouble};

fn client(url: &str) -> Redis {
    Redis::new(Spec::parse(url).expect(url)).expect("a client")
}

fn text(text: &str) -> Answer {
    Answer::Text(text.to_owned())
}

/// Says this to each who connects, whatever is asked, and then nothing.
fn liar(says: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().take(20) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(says);
            kept.push(stream);
        }
    });
    port
}

#[test]
fn commands_are_answered_and_errors_say_nothing_of_what_was_sent() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let redis = client(&server.url());
    let set: [&[u8]; 3] = [b"SET", b"a", b"two\r\nlines"];
    assert_eq!(redis.ask(&set), Ok(text("OK")));
    assert_eq!(redis.ask(&[b"GET", b"a"]), Ok(text("two\r\nlines")));
    assert_eq!(redis.ask(&[b"GET", b"none"]), Ok(Answer::Nothing));
    assert_eq!(redis.ask(&[b"STRLEN", b"a"]), Ok(Answer::Number(10)));
    let both = redis.ask(&[b"MGET", b"a", b"none"]).unwrap().list();
    assert_eq!(both, [text("two\r\nlines"), Answer::Nothing]);
    let refused = redis.ask(&[b"NOSUCH", b"s3cret"]).unwrap_err();
    assert_eq!(refused, Trouble::Refused("ERR".to_owned()));
    assert_eq!(redis.trouble(), None, "one command is not the whole server");
    let large = "x".repeat(1_000_000);
    assert_eq!(redis.ask(&[b"SET", b"b", large.as_bytes()]), Ok(text("OK")));
    assert_eq!(redis.ask(&[b"GET", b"b"]), Ok(text(&large)));
}

#[test]
fn a_password_is_shown_and_a_wrong_one_is_told() {
    let Some(server) = RedisServer::start(&["--requirepass", "p@ss"]) else {
        return;
    };
    let at = format!("127.0.0.1:{}/2", server.port);
    for good in ["redis://:p%40ss@", "redis://default:p%40ss@"] {
        assert_eq!(
            client(&format!("{good}{at}")).ask(&[b"PING"]),
            Ok(text("PONG"))
        );
    }
    let wrong = client(&format!("redis://:other@{at}")).ask(&[b"PING"]);
    assert_eq!(wrong, Err(Trouble::Refused("WRONGPASS".to_owned())));
    let none = client(&format!("redis://{at}")).ask(&[b"PING"]);
    assert_eq!(none, Err(Trouble::Refused("NOAUTH".to_owned())));
}

#[test]
fn who_is_away_costs_one_wait_and_is_found_again() {
    let port = free_port();
    let redis = client(&format!("redis://127.0.0.1:{port}"));
    assert!(matches!(redis.ask(&[b"PING"]), Err(Trouble::Away(_))));
    assert!(redis.trouble().is_some());
    let Some(server) = RedisServer::start_at(port, &[]) else {
        return;
    };
    let back = |redis: &Redis| {
        let until = Instant::now() + 2 * limits::SHARED_PAUSE_MOST + limits::SHARED_WAIT;
        while redis.ask(&[b"PING"]).is_err() {
            assert!(Instant::now() < until, "not found again");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    back(&redis);
    assert_eq!(redis.trouble(), None);
    drop(server);
    let began = Instant::now();
    assert!(redis.ask(&[b"PING"]).is_err());
    let again = RedisServer::start_at(port, &[]);
    back(&redis);
    assert!(began.elapsed() < Duration::from_secs(30));
    drop(again);
}

#[test]
fn whatever_a_server_says_the_wait_and_the_memory_are_bounded() {
    for lie in [
        &b"$99999999999\r\n"[..],
        b"*2\r\n*1\r\n*1\r\n*1\r\n+x\r\n",
        b"$-7\r\n",
        b"*-9\r\n+x\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"$3\r\nabcde",
        b":12x\r\n",
        b"\r\n",
        b"+\xff\r\n",
        b"+no carriage return\n",
        b"*1000000000\r\n$1\r\n",
        b"$5\r\nab",
    ] {
        let redis = client(&format!("redis://127.0.0.1:{}", liar(lie)));
        let began = Instant::now();
        let answer = redis.ask(&[b"PING"]);
        // A list of a negative length other than -1 is empty, which harms nobody.
        let is_empty = answer
            .as_ref()
            .is_ok_and(|answer| answer.clone().list().is_empty());
        assert!(
            matches!(answer, Err(Trouble::Away(_))) || is_empty,
            "{lie:?} {answer:?}"
        );
        assert!(
            began.elapsed() < limits::SHARED_WAIT + Duration::from_secs(3),
            "{lie:?}"
        );
    }
}

#[test]
fn an_error_of_a_server_is_its_first_word_alone() {
    let port = liar(b"-ERR unknown command 'AUTH', with args beginning with: 's3cret'\r\n");
    let refused = client(&format!("redis://:s3cret@127.0.0.1:{port}")).ask(&[b"PING"]);
    assert_eq!(refused, Err(Trouble::Refused("ERR".to_owned())));
}

#[test]
fn news_are_heard() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let redis = client(&server.url());
    let mut ears = redis.subscribe("news").unwrap();
    assert_eq!(ears.hear(Instant::now()), Ok(None));
    redis.ask(&[b"PUBLISH", b"news", b"hello"]).unwrap();
    let soon = Instant::now() + Duration::from_secs(10);
    assert_eq!(ears.hear(soon), Ok(Some("hello".to_owned())));
    drop(server);
    assert!(ears.hear(soon).is_err());
}

#[test]
fn sentinels_are_asked_who_the_primary_is() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let port = free_port();
    let folder = std::env::temp_dir().join(format!("onemcp-sentinel-{port}"));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("sentinel.conf");
    let lines = format!("sentinel monitor main 127.0.0.1 {} 1\n", server.port);
    std::fs::write(&file, lines).unwrap();
    let sentinel = RedisServer::start_with(&[file.to_str().unwrap(), "--sentinel"], port, &[]);
    let gone = free_port();
    let redis = |name: &str| {
        let places = format!("127.0.0.1:{gone},127.0.0.1:{port}");
        client(&format!("redis+sentinel://{places}/{name}"))
    };
    assert_eq!(redis("main").ask(&[b"SET", b"a", b"1"]), Ok(text("OK")));
    assert_eq!(client(&server.url()).ask(&[b"GET", b"a"]), Ok(text("1")));
    assert!(matches!(
        redis("other").ask(&[b"PING"]),
        Err(Trouble::Away(_))
    ));
    drop(sentinel);
    std::fs::remove_dir_all(folder).unwrap();
}
