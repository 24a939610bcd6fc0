//! Servers found in a cluster and at a container engine: what comes, changes and goes there does
//! so here, whatever the other side does meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Mode};
use crate::support::engine::Engine;
use crate::support::eventually;
use crate::support::remote::HttpFixture;
use crate::support::rig::{Plan, Rig};
use crate::support::tls::Pki;

struct Site {
    pki: Pki,
    cluster: Cluster,
    rig: Rig,
}

/// A gateway that looks into the namespace `mcp`, with what `more` says.
fn site(more: Value, prepare: impl FnOnce(&Cluster)) -> Site {
    let pki = Pki::new().with("server", 30);
    let cluster = Cluster::start(&pki, "server", "token-one-0001");
    prepare(&cluster);
    let token = token_file(&pki);
    fs::write(&token, "token-one-0001\n").unwrap();
    let mut source = json!({
        "type": "kubernetes", "namespace": "mcp", "tags": ["cluster"],
        "server": format!("https://127.0.0.1:{}", cluster.port),
        "tokenFile": token, "caFile": pki.ca(),
    });
    for (key, value) in more.as_object().unwrap() {
        source[key] = value.clone();
    }
    let rig = Plan::new(json!({})).set("discovery", json!({"k8s": source}));
    let rig = rig.start();
    Site { pki, cluster, rig }
}

fn token_file(pki: &Pki) -> PathBuf {
    pki.0.join("token")
}

fn source(rig: &Rig) -> Value {
    rig.health()["configuration"]["discovery"][0].clone()
}

fn names(rig: &Rig) -> BTreeSet<String> {
    let health = rig.health();
    let details = health["servers"]["details"].as_array().unwrap().clone();
    let names = details.iter().map(|one| one["name"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn awaits(rig: &Rig, expect: &[&str]) {
    let expect = set(expect);
    eventually(&format!("{expect:?} are there"), || names(rig) == expect);
}

fn refused(rig: &Rig) -> String {
    source(rig)["refused"].to_string()
}

#[test]
fn services_come_change_and_go() {
    let all = ["a", "b", "c", "d", "e", "f", "g"];
    let site = site(json!({}), |cluster| {
        all.iter()
            .for_each(|name| cluster.enable(&format!("mcp/{name}")));
        cluster.enable("other/x");
        cluster.put(
            "mcp/plain",
            json!({}),
            json!({}),
            json!({"ports": [{"port": 80}]}),
        );
    });
    let Site { cluster, rig, .. } = &site;
    awaits(rig, &all);
    assert_eq!(cluster.state().lists, 1, "in pages");
    assert_eq!(cluster.state().pages_given, 3);
    all[2..]
        .iter()
        .for_each(|name| cluster.delete(&format!("mcp/{name}")));
    awaits(rig, &["a", "b"]);
    cluster.enable("other/y");
    cluster.enable("mcp/h");
    awaits(rig, &["a", "b", "h"]);

    // Another name; no label any more; two with one name; what may lead anywhere.
    let enabled = json!({"onemcp.io/enable": "true"});
    let ports = json!({"ports": [{"port": 80}]});
    let named = json!({"onemcp.io/name": "best", "onemcp.io/path": "/sse",
        "onemcp.io/type": "sse", "onemcp.io/tags": "blue, green"});
    cluster.put("mcp/a", enabled.clone(), named, ports.clone());
    cluster.put("mcp/b", json!({}), json!({}), ports.clone());
    awaits(rig, &["best", "h"]);
    assert_eq!(
        rig.server("best")["tags"],
        json!(["blue", "green", "cluster"])
    );
    let thief = json!({"onemcp.io/name": "best"});
    cluster.put("mcp/thief", enabled.clone(), thief, ports.clone());
    let outside = json!({"type": "ExternalName", "externalName": "example.com",
        "ports": [{"port": 80}]});
    cluster.put("mcp/outside", enabled.clone(), json!({}), outside);
    let harm = json!({"onemcp.io/path": "@example.com/", "onemcp.io/command": "sh"});
    cluster.put("mcp/harm", enabled, harm, ports);
    eventually("all three are told of", || {
        let told = refused(rig);
        ["mcp/thief", "mcp/outside", "mcp/harm"]
            .iter()
            .all(|key| told.contains(key))
    });
    assert_eq!(names(rig), set(&["best", "h"]));
    assert_eq!(cluster.state().lists, 1, "all this was watched");
    assert_eq!(cluster.state().wrong, BTreeSet::new());
    site.rig.stop();
}

#[test]
fn a_watch_is_taken_up_where_it_stood() {
    let site = site(json!({}), |cluster| cluster.enable("mcp/a"));
    let Site { cluster, rig, .. } = &site;
    awaits(rig, &["a"]);
    eventually("it is watched", || cluster.state().watches == 1);
    for round in 1..4 {
        cluster.cut();
        let name = format!("n{round}");
        cluster.enable(&format!("mcp/{name}"));
        eventually("what came meanwhile is seen", || names(rig).contains(&name));
    }
    assert_eq!(cluster.state().lists, 1);

    // What was forgotten is listed, whichever way that is told.
    for (round, is_late) in [(2, false), (3, true)] {
        cluster.state().is_told_late = is_late;
        cluster.delete(&format!("mcp/n{round}"));
        cluster.forget();
        cluster.cut();
        eventually("all is listed anew", || cluster.state().lists == round);
        let name = format!("n{round}");
        eventually("what went meanwhile is gone", || {
            !names(rig).contains(&name)
        });
    }
    assert_eq!(source(rig)["failures"], 0);
    site.rig.stop();
}

#[test]
fn a_token_that_is_replaced_is_used_and_a_bad_one_costs_nothing() {
    let site = site(json!({}), |cluster| cluster.enable("mcp/a"));
    let Site { cluster, rig, pki } = &site;
    awaits(rig, &["a"]);
    let rotate = |token: &str| {
        let beside = pki.0.join("token.new");
        fs::write(&beside, token).unwrap();
        fs::rename(beside, token_file(pki)).unwrap();
    };
    cluster.state().token = "token-two-0002".into();
    rotate("token-two-0002");
    cluster.cut();
    cluster.enable("mcp/b");
    awaits(rig, &["a", "b"]);
    assert_eq!(source(rig)["failures"], 0);

    cluster.state().token = "token-three-0003".into();
    cluster.cut();
    eventually("it is refused", || source(rig)["ok"] == false);
    let error = source(rig)["error"].to_string();
    assert!(
        error.contains("401") && !error.contains("token-"),
        "{error}"
    );
    assert_eq!(names(rig), set(&["a", "b"]));
    rotate("token-three-0003");
    cluster.delete("mcp/a");
    awaits(rig, &["b"]);
    assert_eq!(source(rig)["ok"], true);
    assert!(!rig.stderr().contains("token-t"));
    site.rig.stop();
}

#[test]
fn an_api_server_in_trouble_loses_nothing() {
    let site = site(json!({}), |cluster| cluster.enable("mcp/a"));
    let Site { cluster, rig, .. } = &site;
    awaits(rig, &["a"]);
    let mut last = "a".to_owned();
    for (round, mode) in [
        Mode::Garbage,
        Mode::Endless,
        Mode::Status(503),
        Mode::Status(403),
    ]
    .into_iter()
    .enumerate()
    {
        cluster.set(mode);
        eventually(&format!("{mode:?} is told"), || source(rig)["ok"] == false);
        assert_eq!(names(rig), set(&[&last]), "{mode:?}");
        cluster.delete(&format!("mcp/{last}"));
        last = format!("n{round}");
        cluster.enable(&format!("mcp/{last}"));
        cluster.set(Mode::Good);
        awaits(rig, &[&last]);
        assert_eq!(source(rig)["ok"], true);
    }
    // Watches that end at once are no trouble, and no storm.
    let before = cluster.state().watches;
    cluster.set(Mode::Short);
    eventually("it is watched again", || {
        cluster.state().watches >= before + 3
    });
    assert_eq!(source(rig)["ok"], true);
    cluster.set(Mode::Hangs);
    assert_eq!(names(rig), set(&[&last]));
    // The end of the gateway does not wait for it.
    site.rig.stop();
}

#[test]
fn large_services_come_on_smaller_pages() {
    let names = ["a", "b", "c"];
    let site = site(json!({}), |cluster| {
        let spec = json!({"ports": [{"port": 8080}]});
        let note = json!({"note": "x".repeat(3 * 1024 * 1024)});
        for name in names {
            let labels = json!({"onemcp.io/enable": "true"});
            cluster.put(&format!("mcp/{name}"), labels, note.clone(), spec.clone());
        }
    });
    awaits(&site.rig, &names);
    assert_eq!(source(&site.rig)["failures"], 0);
    site.rig.stop();
}

#[test]
fn all_namespaces_need_longer_names() {
    let more = json!({"namespace": "*", "clusterDomain": "cluster.local"});
    let site = site(more, |cluster| {
        cluster.enable("mcp/a");
        cluster.enable("other/a");
        let labels = json!({"onemcp.io/enable": "true"});
        let wish = json!({"onemcp.io/name": "mcp.a"});
        cluster.put("other/b", labels, wish, json!({"ports": [{"port": 8080}]}));
    });
    awaits(&site.rig, &["mcp.a", "other.a", "other.mcp.a"]);
    site.rig.stop();
}

#[test]
fn whoever_is_no_api_server_gets_no_token() {
    let pki = Pki::new().with("server", 30);
    let other = Pki::new();
    let cluster = Cluster::start(&pki, "server", "token-one-0001");
    cluster.enable("mcp/a");
    let token = token_file(&pki);
    fs::write(&token, "token-one-0001\n").unwrap();
    let source = json!({"k8s": {"type": "kubernetes", "namespace": "mcp",
        "server": format!("https://127.0.0.1:{}", cluster.port),
        "tokenFile": token, "caFile": other.ca()}});
    let rig = Plan::new(json!({})).set("discovery", source).start();
    eventually("it is not trusted", || {
        let error = self::source(&rig)["error"].to_string();
        error.contains("TLS")
    });
    assert_eq!(cluster.state().lists, 0);
    rig.stop();
}

#[test]
fn a_thousand_events_of_a_cluster_leave_what_is_there() {
    let site = site(json!({}), |_| {});
    let Site { cluster, rig, .. } = &site;
    eventually("it is watched", || cluster.state().watches == 1);
    cluster.enable("mcp/first");
    awaits(rig, &["first"]);
    let (threads, files) = (rig.threads(), rig.files());
    for round in 0..500 {
        cluster.enable(&format!("mcp/n{}", round % 20));
        if round % 100 == 50 {
            cluster.cut();
        }
        cluster.delete(&format!("mcp/n{}", (round + 7) % 20));
    }
    (0..20).for_each(|one| cluster.delete(&format!("mcp/n{one}")));
    awaits(rig, &["first"]);
    assert_eq!(cluster.state().lists, 1);
    eventually("nothing is left of them", || {
        rig.threads() <= threads + 2 && rig.files() <= files + 4
    });
    site.rig.stop();
}

fn docker(socket: &Path) -> Plan {
    let source = json!({"engine": {"type": "docker", "socket": socket, "tags": ["box"],
        "allow": ["127.0.0.0/8"]}});
    Plan::new(json!({})).set("discovery", source)
}

fn socket(name: &str) -> PathBuf {
    let name = format!("onemcp-engine-{}-{name}.sock", std::process::id());
    std::env::temp_dir().join(name)
}

#[test]
fn containers_come_and_go_with_their_engine() {
    let fixture = HttpFixture::start(&[]);
    let path = socket("docker");
    for is_late in [false, true] {
        let engine = Engine::start(&path);
        engine.state().is_late = is_late;
        let rig = docker(&path).start();
        eventually("it is listened to", || engine.state().listeners == 1);
        let enabled = json!({"onemcp.enable": "true", "onemcp.name": "best"});
        engine.run("plain", fixture.port, json!({}));
        engine.run("web", fixture.port, enabled.clone());
        awaits(&rig, &["best"]);
        eventually("it serves", || rig.server("best")["status"] == "connected");
        let mut session = rig.session();
        let text = session.text("best_1mcp_echo", json!({"text": "x"}));
        assert_eq!(text, "x");
        engine.run("late", fixture.port, enabled.clone());
        eventually("the second of its name is not taken", || {
            refused(&rig).contains("late")
        });
        engine.end("web");
        eventually("now it is", || refused(&rig) == "[]");
        awaits(&rig, &["best"]);

        // Without an engine all stays, and is right again with the next one.
        drop(engine);
        eventually("it is missed", || source(&rig)["ok"] == false);
        assert_eq!(names(&rig), set(&["best"]));
        let engine = Engine::start(&path);
        engine.run("other", fixture.port, json!({"onemcp.enable": "true"}));
        awaits(&rig, &["other"]);
        engine.state().is_odd = true;
        let state = engine.state();
        engine.tell(state, "start");
        eventually("it talks nonsense", || source(&rig)["ok"] == false);
        assert_eq!(names(&rig), set(&["other"]));
        engine.state().is_odd = false;
        engine.end("other");
        awaits(&rig, &[]);
        rig.stop();
    }
}

#[test]
fn many_events_are_few_looks() {
    let path = socket("many");
    let engine = Engine::start(&path);
    let rig = docker(&path).start();
    eventually("it is listened to", || engine.state().listeners == 1);
    for round in 0..500 {
        let name = format!("n{}", round % 20);
        engine.run(&name, 9, json!({"onemcp.enable": "true"}));
        engine.end(&name);
    }
    engine.run("last", 9, json!({"onemcp.enable": "true"}));
    awaits(&rig, &["last"]);
    let lists = engine.state().lists;
    assert!(lists < 100, "{lists}");
    rig.stop();
}
