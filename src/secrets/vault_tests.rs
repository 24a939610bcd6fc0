use std::time::{Duration, Instant};

use serde_json::json;

use super::{Login, Vault, VaultSpec, encode};
use crate::base::secret::Secret;
use crate::net::stop::Stop;
use crate::secrets::answer::Answer;
use crate::secrets::store::testing::Folder;

#[path = "../../tests/it/support/vault.rs"]
mod stub;

fn spec(stub: &stub::Vault, login: Login) -> VaultSpec {
    VaultSpec {
        url: stub.url(),
        mount: "secret".into(),
        path: "onemcp/{name}".into(),
        field: "value".into(),
        namespace: None,
        login,
        ca_file: None,
        timeout: Duration::from_secs(10),
        egress_allow: Vec::new(),
    }
}

fn token() -> Login {
    Login::Token(Secret::new("hvs.root".into()))
}

fn vault(spec: VaultSpec) -> Vault {
    Vault::new(spec, Stop::default())
}

fn found(text: &str) -> Answer {
    Answer::Found(text.into())
}

fn absent(answer: &Answer) -> bool {
    matches!(answer, Answer::Absent(_))
}

#[test]
fn the_field_of_the_newest_version_is_the_secret() {
    let stub = stub::Vault::start();
    stub.allow("hvs.root");
    stub.put("secret/data/onemcp/db", json!({"value": "old"}));
    stub.put(
        "secret/data/onemcp/db",
        json!({"value": "new", "port": 5432}),
    );
    stub.put("secret/data/onemcp/gone", json!({"value": "x"}));
    stub.delete("secret/data/onemcp/gone");
    let own = vault(spec(&stub, token()));
    assert_eq!(own.ask("db"), found("new"));
    assert!(absent(&own.ask("nothing")));
    assert_eq!(
        own.ask("gone"),
        Answer::Absent("its version was deleted".into())
    );
    let all = VaultSpec {
        path: "onemcp/db".into(),
        field: "{name}".into(),
        ..spec(&stub, token())
    };
    let all = vault(all);
    assert_eq!(all.ask("port"), found("5432"));
    assert_eq!(all.ask("user"), Answer::Absent("has no field user".into()));
}

#[test]
fn namespaces_and_mounts_are_kept_apart() {
    let stub = stub::Vault::start();
    stub.allow("hvs.root");
    stub.put("kv/team/data/onemcp/db", json!({"value": "root"}));
    stub.put("team|kv/team/data/onemcp/db", json!({"value": "team"}));
    let root = VaultSpec {
        mount: "/kv/team/".into(),
        ..spec(&stub, token())
    };
    let team = VaultSpec {
        namespace: Some("team/".into()),
        ..root.clone()
    };
    assert_eq!(vault(root).ask("db"), found("root"));
    assert_eq!(vault(team).ask("db"), found("team"));
}

#[test]
fn a_token_file_is_read_anew_each_time() {
    let folder = Folder::new("vault-token");
    let stub = stub::Vault::start();
    stub.put("secret/data/onemcp/db", json!({"value": "x"}));
    stub.allow("hvs.second");
    let own = vault(spec(&stub, Login::TokenFile(folder.path("token"))));
    assert!(own.ask("db").trouble().is_some());
    std::fs::write(folder.path("token"), "hvs.first\n").unwrap();
    assert!(own.ask("db").trouble().unwrap().contains("403"));
    std::fs::write(folder.path("token"), "hvs.second\n").unwrap();
    assert_eq!(own.ask("db"), found("x"));
}

#[test]
fn a_kubernetes_login_is_used_until_it_ends_or_is_revoked() {
    let folder = Folder::new("vault-kubernetes");
    std::fs::write(folder.path("jwt"), "eyJ.pod").unwrap();
    let stub = stub::Vault::start();
    stub.put("secret/data/onemcp/db", json!({"value": "x"}));
    stub.account("k8s/prod", "eyJ.pod", "onemcp");
    let login = |role: &str, mount: &str| Login::Kubernetes {
        role: role.into(),
        mount: mount.into(),
        token_file: folder.path("jwt"),
    };
    let own = vault(spec(&stub, login("onemcp", "k8s/prod")));
    assert_eq!((own.ask("db"), own.ask("db")), (found("x"), found("x")));
    assert_eq!(stub.logins(), 1);
    stub.revoke_all();
    assert_eq!(own.ask("db"), found("x"));
    assert_eq!((stub.logins(), stub.reads()), (2, 3));
    for (role, mount) in [("other", "k8s/prod"), ("onemcp", "kubernetes")] {
        let answer = vault(spec(&stub, login(role, mount))).ask("db");
        assert!(answer.trouble().is_some(), "{role} {mount}: {answer:?}");
    }
    std::fs::write(folder.path("jwt"), "eyJ.stranger").unwrap();
    let answer = vault(spec(&stub, login("onemcp", "k8s/prod"))).ask("db");
    assert!(!answer.trouble().unwrap().contains("eyJ"), "{answer:?}");
}

#[test]
fn trouble_is_told_in_time_and_without_secrets() {
    let stub = stub::Vault::start();
    stub.allow("hvs.root");
    stub.put("secret/data/onemcp/list", json!({"value": ""}));
    let quick = VaultSpec {
        timeout: Duration::from_millis(300),
        ..spec(&stub, token())
    };
    let own = vault(quick.clone());
    let trouble = |what: &str| {
        let answer = own.ask("list");
        let why = answer
            .trouble()
            .unwrap_or_else(|| panic!("{what}: {answer:?}"));
        assert!(!why.contains("hvs."), "{what}: {why}");
    };
    trouble("an empty value");
    stub.state().is_sealed = true;
    trouble("it is sealed");
    stub.state().is_sealed = false;
    stub.state().is_hanging = true;
    let began = Instant::now();
    trouble("it hangs");
    assert!(began.elapsed() < Duration::from_secs(5));
    let nobody = VaultSpec {
        url: "http://127.0.0.1:1".into(),
        ..quick.clone()
    };
    assert!(vault(nobody).ask("db").trouble().is_some());
    let metadata = VaultSpec {
        url: "http://169.254.169.254".into(),
        ..quick
    };
    assert!(vault(metadata).ask("db").trouble().is_some());
}

#[test]
fn paths_are_encoded_and_keep_their_slashes() {
    assert_eq!(encode("/a/b c/ü?x=1#y/"), "a/b%20c/%C3%BC%3Fx%3D1%23y");
}
