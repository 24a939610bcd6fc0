use std::path::Path;

use super::{sealed, spec};
use crate::config::Environment;
use crate::config::config_toml;
use crate::config::document::Lines;
use crate::config::settings::{FileValues, Flags, Settings, resolve};
use crate::secrets::spec::Source;
use crate::secrets::vault::Login;

fn environment() -> Environment {
    let variables = [
        ("PATH", "/bin"),
        ("HOME", "/home/me"),
        ("TOKEN", "hunter2"),
        ("VAULT_ADDR", "https://vault.example.com:8200/"),
        ("ONE_MCP_SECRETS_KEY", "hunter3"),
    ];
    let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    owned.into()
}

fn settings(flags: &[(&'static str, &str)]) -> (Settings, Vec<String>) {
    let mut given = Flags::default();
    for (flag, value) in flags {
        given.set(flag, (*value).to_owned());
    }
    let mut problems = Vec::new();
    let settings = resolve(
        &FileValues::default(),
        &given,
        &environment(),
        &mut problems,
    );
    (settings, problems.iter().map(ToString::to_string).collect())
}

fn sources(providers: &str) -> (Vec<Source>, Vec<String>) {
    let (settings, problems) = settings(&[("secrets-providers", providers)]);
    assert!(problems.is_empty(), "{providers}: {problems:?}");
    let environment = environment();
    let mut problems = Vec::new();
    let folder = Path::new("/etc/onemcp");
    let spec = spec(&settings, &environment, &environment, folder, &mut problems);
    (
        spec.sources,
        problems.iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn the_usual_order_is_folders_environment_sealed_file() {
    let (settings, _) = settings(&[("secrets-dir", "/own")]);
    let environment = environment();
    let spec = spec(
        &settings,
        &environment,
        &environment,
        Path::new("/"),
        &mut Vec::new(),
    );
    let names: Vec<String> = spec.sources.iter().map(|one| format!("{one:?}")).collect();
    assert!(
        names[0].contains("/own") && names[1].contains("/run/secrets"),
        "{names:?}"
    );
    assert_eq!(spec.sources[2], Source::Environment);
    assert!(
        names[3].contains("/home/me/.local/state/onemcp/secrets.sealed"),
        "{names:?}"
    );
    assert!(!names.concat().contains("hunter"), "{names:?}");
}

#[test]
fn every_kind_of_provider_is_read_and_filled_in() {
    let text = r#"["environment", {"directory": "run"}, {"sealed": "s", "keyFile": "/k"},
        {"command": ["op", "read", "op://prod/{name}/${HOME}"], "env": {"T": "${TOKEN}"},
         "timeout": 1500},
        {"vault": "${VAULT_ADDR}", "mount": "kv", "namespace": "team", "tokenFile": "/t"},
        {"vault": "http://127.0.0.1:8200", "kubernetes": {"role": "r"}}]"#;
    let (sources, problems) = sources(text);
    assert_eq!(problems, [""; 0]);
    let [_, directory, sealed, command, vault, kubernetes] = sources.as_slice() else {
        panic!("{sources:?}");
    };
    assert_eq!(*directory, Source::Directory("/etc/onemcp/run".into()));
    assert!(matches!(sealed, Source::Sealed { file, .. } if file.ends_with("onemcp/s")));
    let Source::Command(command) = command else {
        panic!("{command:?}");
    };
    assert_eq!(command.words, ["op", "read", "op://prod/{name}//home/me"]);
    let names: Vec<&str> = command.env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["HOME", "PATH", "T"]);
    assert_eq!(command.timeout.as_millis(), 1500);
    let Source::Vault(vault) = vault else {
        panic!("{vault:?}");
    };
    assert_eq!(vault.url, "https://vault.example.com:8200");
    assert_eq!(vault.login, Login::TokenFile("/t".into()));
    let Source::Vault(kubernetes) = kubernetes else {
        panic!("{kubernetes:?}");
    };
    assert!(matches!(&kubernetes.login, Login::Kubernetes { mount, .. } if mount == "kubernetes"));
}

/// Whoever starts the gateway from another folder gets the same secrets.
#[test]
fn relative_programs_begin_at_the_folder_of_the_file_and_bare_names_do_not() {
    for (program, expect) in [
        ("./tell", "/etc/onemcp/./tell"),
        ("bin/tell", "/etc/onemcp/bin/tell"),
        ("/bin/tell", "/bin/tell"),
        ("tell", "tell"),
    ] {
        let (sources, problems) = sources(&format!(r#"[{{"command": ["{program}", "./x"]}}]"#));
        assert_eq!(problems, [""; 0]);
        let [Source::Command(command)] = sources.as_slice() else {
            panic!("{sources:?}");
        };
        assert_eq!(command.words, [expect, "./x"]);
        assert_eq!(command.label(), format!("command {expect}"));
    }
}

#[test]
fn relative_paths_of_settings_begin_at_the_file_that_says_them() {
    let text = "[secrets]\ndirectory = \"sec\"\nfile = \"sealed\"\nkeyFile = \"key\"\n";
    let lines = Lines::new("/etc/onemcp/config.toml", text);
    let file = config_toml::read(&lines, text, &mut Vec::new());
    let here = std::env::current_dir().unwrap();
    let check = |flags: &Flags, folder: &Path| {
        let environment = environment();
        let mut problems = Vec::new();
        let settings = resolve(&file, flags, &environment, &mut problems);
        let elsewhere = Path::new("/srv");
        let spec = spec(
            &settings,
            &environment,
            &environment,
            elsewhere,
            &mut problems,
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(spec.sources[0], Source::Directory(folder.join("sec")));
        let (file, key) = sealed(&settings, &environment).unwrap();
        assert_eq!(file, folder.join("sealed"));
        assert_eq!(key.file, Some(folder.join("key")));
    };
    let mut flags = Flags::default();
    check(&flags, Path::new("/etc/onemcp"));
    for (flag, path) in [
        ("secrets-dir", "sec"),
        ("secrets-file", "sealed"),
        ("secrets-key-file", "key"),
    ] {
        flags.set(flag, path.to_owned());
    }
    check(&flags, &here);
}

#[test]
fn mistakes_are_told_with_their_place_and_without_values() {
    let check = |providers: &str, expect: &str| {
        let (_, problems) = settings(&[("secrets-providers", providers)]);
        let told = problems.concat();
        assert!(told.contains(expect), "{providers}: {told}");
        assert!(!told.contains("hunter"), "{told}");
    };
    check(r#"{"command": ["x"]}"#, "expected an array");
    check(r#"["hunter2"]"#, "is no provider of secrets");
    check(r#"["environment", {"comand": ["x"]}]"#, "1:17");
    check(
        r#"[{"command": ["x"], "vault": "https://v"}]"#,
        "what kind of provider",
    );
    check(r#"[{"command": []}]"#, "holds 0 words");
    check(r#"[{"command": "x"}]"#, "expected an array");
    check(r#"[{"command": ["x"], "timeout": 0}]"#, "out of range");
    check(r#"[{"command": ["x"], "shell": true}]"#, "unknown key");
    check(r#"[{"vault": "vault:8200"}]"#, "https://vault:8200");
    check(
        r#"[{"vault": "https://v", "kubernetes": {}}]"#,
        "has no role",
    );
    check(
        r#"[{"vault": "https://v", "tokenfile": "/t"}]"#,
        "tokenFile",
    );
    check(r#"[{"directory": ""}]"#, "is empty");
}

#[test]
fn what_cannot_be_filled_in_is_a_problem_of_the_setting() {
    let check = |providers: &str, expect: &str| {
        let (_, problems) = sources(providers);
        assert!(
            problems.concat().contains(expect),
            "{providers}: {problems:?}"
        );
    };
    check(r#"[{"vault": "${NOPE}"}]"#, "NOPE is not set");
    check(r#"[{"command": ["x", "${SECRET:a}"]}]"#, "variables only");
    check(
        r#"[{"command": ["x", "${ONE_MCP_SECRETS_KEY}"]}]"#,
        "is not set",
    );
    check(r#"[{"vault": "http://vault.example.com"}]"#, "in the clear");
}
