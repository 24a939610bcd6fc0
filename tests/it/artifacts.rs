//! What is handed out beside the binary: generated files are current, images and units say what
//! the command line understands. What needs other programs is shown by `scripts/ship.sh`.

use std::path::Path;
use std::process::Command;

use onemcp::cli::args::{Command as Asked, parse};
use onemcp::config::settings::SETTINGS;

use crate::repo::{read, root};
use crate::support::servers::example;

const MANUAL: [&str; 4] = ["onemcp.1", "onemcp.bash", "_onemcp", "onemcp.fish"];
const DOCKERFILES: [&str; 3] = ["Dockerfile", "Dockerfile.busybox", "Dockerfile.node"];

/// Named so that `UPDATE=1 cargo test --test it docs` writes them with the tables of the pages.
#[test]
fn docs_for_shells_and_man_are_current() {
    let kept = root().join("deploy/manual");
    let update = std::env::var_os("UPDATE").is_some();
    let fresh = root().join("target/manual-of-tests");
    let into = if update { &kept } else { &fresh };
    std::fs::create_dir_all(into).unwrap();
    let written = Command::new(example("manual")).arg(into).status();
    assert!(written.unwrap().success());
    for name in MANUAL {
        let same =
            std::fs::read(into.join(name)).unwrap() == std::fs::read(kept.join(name)).unwrap();
        assert!(
            same,
            "{name} is not current; run UPDATE=1 cargo test --test it docs"
        );
    }
}

#[test]
fn each_completion_names_every_flag_and_command() {
    for name in MANUAL {
        let text = read(&format!("deploy/manual/{name}")).replace("\\-", "-");
        for row in SETTINGS {
            let (bash, fish) = (format!("--{}", row.flag), format!("-l {}", row.flag));
            assert!(
                text.contains(&bash) || text.contains(&fish),
                "{name}: {bash}"
            );
        }
        for word in onemcp::cli::args::COMMANDS {
            assert!(text.contains(word), "{name}: {word}");
        }
    }
}

#[test]
fn bash_completes_commands_verbs_flags_and_words() {
    let script = root().join("deploy/manual/onemcp.bash");
    let cases = [
        (&["sta"][..], "status"),
        (&["secret", "ro"], "rotate"),
        (&["serve", "--allow-un"], "--allow-unauthenticated"),
        (&["--log-format", "j"], "json"),
        (&["audit", "verify", "--he"], "--head"),
    ];
    for (words, wanted) in cases {
        assert!(
            bash_offers(&script, words).contains(&wanted.to_owned()),
            "{words:?}"
        );
    }
}

fn bash_offers(script: &Path, words: &[&str]) -> Vec<String> {
    const ASK: &str = ". \"$0\"; COMP_WORDS=(onemcp \"$@\"); COMP_CWORD=$#; _onemcp; \
                       printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    let asked = bash
        .arg("-c")
        .arg(ASK)
        .arg(script)
        .args(words)
        .output()
        .unwrap();
    let text = String::from_utf8(asked.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Variables would win over the flags of who runs the image.
#[test]
fn images_set_no_variable_of_the_gateway() {
    let files = DOCKERFILES.map(|name| format!("deploy/docker/{name}"));
    for file in files
        .iter()
        .map(String::as_str)
        .chain(["deploy/docker/image.py"])
    {
        let text = read(file);
        assert!(!text.contains("ONE_MCP_"), "{file}");
        for row in SETTINGS {
            assert!(!text.contains(row.env), "{file}: {}", row.env);
        }
    }
}

#[test]
fn images_serve_as_nobody_and_the_last_flag_wins() {
    for name in ["Dockerfile", "Dockerfile.node"] {
        let text = read(&format!("deploy/docker/{name}"));
        assert!(text.contains("\nUSER 65532:65532\n"), "{name}");
        assert!(
            text.contains("\nENTRYPOINT [\"/onemcp\", \"--host\", \"0.0.0.0\"]\n"),
            "{name}"
        );
        assert!(text.contains(" CMD [\"/onemcp\", \"health\"]\n"), "{name}");
    }
    let image = read("deploy/docker/image.py");
    assert!(image.contains("\"Entrypoint\": [\"/onemcp\", \"--host\", \"0.0.0.0\"]"));
    let words = ["--host", "0.0.0.0", "--host", "127.0.0.1", "health"];
    let asked = parse(words).unwrap();
    assert!(matches!(asked.command, Asked::Health(_)));
    assert!(format!("{:?}", asked.flags).contains("127.0.0.1"));
    assert!(!format!("{:?}", asked.flags).contains("0.0.0.0"));
}

/// The words of the unit are ones that the gateway takes, and it ends in the unit's time.
#[test]
fn the_unit_says_what_the_gateway_understands() {
    let unit = read("deploy/systemd/onemcp.service");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.strip_prefix('='))
            .unwrap()
            .to_owned()
    };
    let start = value("ExecStart");
    let asked = parse(start.split(' ').skip(1)).unwrap();
    assert_eq!(asked.command, Asked::Serve);
    assert_eq!(value("Type"), "notify");
    assert!(value("TimeoutStopSec").parse::<u64>().unwrap() > 30);
}

/// Whoever pipes it into a shell should be able to read it first.
#[test]
fn the_installer_can_be_read_in_one_screen() {
    assert!(read("deploy/install.sh").lines().count() <= 66);
}
